//! `lvsadm trace` and `lvsadm capture`.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use lvs_common::exit::EXITS;
use lvs_director::rules::{self, Prefix};

use super::service::ServiceArgs;

/// When to end.
#[derive(Clone, Debug, Default, PartialEq, Eq, Args)]
pub struct EndArgs {
    /// End after so many packets
    #[arg(short = 'c', long, value_name = "NUMBER", value_parser = clap::value_parser!(u64).range(1..))]
    pub count: Option<u64>,
    /// End after so long: seconds, or 90s, 10m, 1h30m. Without: at an interrupt
    #[arg(long = "for", value_name = "TIME", value_parser = rules::seconds)]
    time: Option<u32>,
    /// MiB of memory for packets that are not read yet; what finds no room is counted
    #[arg(short = 'B', long, value_name = "MIB", default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub buffer: u32,
}

impl EndArgs {
    /// How long at most.
    pub fn time(&self) -> Option<Duration> {
        self.time.map(|seconds| Duration::from_secs(seconds.into()))
    }
}

/// Which packets are followed.
#[derive(Clone, Debug, PartialEq, Eq, Args)]
pub struct TraceArgs {
    /// Only packets of this service
    #[command(flatten)]
    pub service: ServiceArgs,
    /// Only packets of this client, or of clients with such addresses
    #[arg(long, value_name = "ADDRESS[/LENGTH]", value_parser = rules::client)]
    pub client: Option<Prefix>,
    /// Only packets of connections to this real server
    #[arg(short = 'r', long, value_name = "SERVER[:PORT]", value_parser = server)]
    pub real_server: Option<Server>,
    /// Only packets that leave so: a name from `lvsadm status`; may be repeated
    #[arg(long = "exit", value_name = "NAME", value_parser = exit)]
    exits: Vec<u32>,
    /// When to end.
    #[command(flatten)]
    pub end: EndArgs,
    /// As JSON, a line for each packet: see docs/reference/json.md
    #[arg(long)]
    pub json: bool,
}

/// What is written of which packets.
#[derive(Clone, Debug, PartialEq, Eq, Args)]
pub struct CaptureArgs {
    /// The file that is written, of pcapng; - is standard output
    #[arg(short = 'w', long = "write", value_name = "FILE")]
    pub file: PathBuf,
    /// Bytes of each packet that are written at most
    #[arg(short = 's', long, value_name = "BYTES", default_value_t = 65_535, value_parser = clap::value_parser!(u32).range(14..))]
    pub snaplen: u32,
    /// When to end.
    #[command(flatten)]
    pub end: EndArgs,
    /// Only packets that match, as they came or as they left: an expression of tcpdump's
    #[arg(value_name = "EXPRESSION", trailing_var_arg = true)]
    expression: Vec<String>,
}

/// A real server, with a port or without.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Server {
    /// Its address.
    pub address: IpAddr,
    /// Its port, if one is meant.
    pub port: Option<u16>,
}

fn server(text: &str) -> Result<Server, String> {
    let whole = text.parse().map(|end: SocketAddr| Server { address: end.ip(), port: Some(end.port()) });
    let bare = || text.trim_matches(['[', ']']).parse().map(|address| Server { address, port: None });
    whole.or_else(|_| bare()).map_err(|_| format!("`{text}' is no address, nor one with a port"))
}

fn exit(text: &str) -> Result<u32, String> {
    let found = EXITS.iter().position(|(name, _)| *name == text);
    found.map(|number| number as u32).ok_or_else(|| format!("there is no exit `{text}': see `lvsadm status`"))
}

impl TraceArgs {
    /// The exits that are meant, by their bits.
    pub fn exits(&self) -> u64 {
        if self.exits.is_empty() { u64::MAX } else { self.exits.iter().fold(0, |all, exit| all | 1 << exit) }
    }
}

impl CaptureArgs {
    /// The expression; empty if every packet matches.
    pub fn expression(&self) -> String {
        self.expression.join(" ")
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Trace {
        #[command(flatten)]
        arguments: TraceArgs,
    }

    #[derive(Debug, Parser)]
    struct Capture {
        #[command(flatten)]
        arguments: CaptureArgs,
    }

    fn trace(line: &str) -> Result<TraceArgs, String> {
        let read = Trace::try_parse_from(["trace"].into_iter().chain(line.split_whitespace()));
        read.map(|it| it.arguments).map_err(|error| error.to_string().lines().next().unwrap_or_default().to_owned())
    }

    #[test]
    fn packets_are_chosen_by_client_service_server_and_exit() {
        let all = trace("").unwrap();
        assert_eq!((all.exits(), all.client, all.real_server, all.end.time()), (u64::MAX, None, None, None));
        let line =
            "--client 10.0.0.0/8 -t 10.0.0.1:80 -r [2001:db8::1]:80 --exit nat --exit nat-reply --for 1m -c 3 --json";
        let some = trace(line).unwrap();
        assert_eq!((some.exits(), some.end.count, some.end.time()), (3, Some(3), Some(Duration::from_secs(60))));
        let address = "2001:db8::1".parse().unwrap();
        assert_eq!(some.real_server, Some(Server { address, port: Some(80) }));
        for text in ["2001:db8::1", "[2001:db8::1]"] {
            assert_eq!(server(text), Ok(Server { address, port: None }));
        }
        for (line, sentence) in [
            ("--exit nowhere", "there is no exit `nowhere': see `lvsadm status`"),
            ("-r nobody", "`nobody' is no address, nor one with a port"),
            ("-c 0", "0 is not in 1.."),
        ] {
            assert!(trace(line).unwrap_err().contains(sentence), "{line}: {:?}", trace(line));
        }
    }

    #[test]
    fn an_expression_is_the_rest_of_the_line() {
        let words = ["capture", "-w", "f", "-s", "96", "tcp", "port", "80", "and", "not", "-c"];
        let read = Capture::try_parse_from(words).unwrap().arguments;
        assert_eq!((read.snaplen, &*read.expression()), (96, "tcp port 80 and not -c"));
        assert!(Capture::try_parse_from(["capture", "host", "10.0.0.1"]).is_err(), "no file");
        assert_eq!(Capture::try_parse_from(["capture", "-w", "-"]).unwrap().arguments.expression(), "");
    }
}
