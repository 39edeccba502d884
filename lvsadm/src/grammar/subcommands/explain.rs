//! `lvsadm explain`.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use clap::{ArgGroup, Args};
use lvs_director::rules::{self, Protocol};

use crate::grammar::command::Failure;

/// Which packet.
#[derive(Clone, Debug, PartialEq, Eq, Args)]
#[command(group = ArgGroup::new("packet").required(true).args(["tcp_service", "udp_service", "sctp_service", "pcap", "next"]))]
pub struct ExplainArgs {
    /// A request for a TCP connection
    #[arg(short = 't', long, num_args = 2, value_names = ["CLIENT:PORT", "SERVICE:PORT"])]
    tcp_service: Option<Vec<SocketAddr>>,
    /// A UDP datagram
    #[arg(short = 'u', long, num_args = 2, value_names = ["CLIENT:PORT", "SERVICE:PORT"])]
    udp_service: Option<Vec<SocketAddr>>,
    /// A request for an SCTP association
    #[arg(long, num_args = 2, value_names = ["CLIENT:PORT", "SERVICE:PORT"])]
    sctp_service: Option<Vec<SocketAddr>>,
    /// The packets of a file, pcap or pcapng
    #[arg(long, value_name = "FILE")]
    pub pcap: Option<PathBuf>,
    /// The next packet that comes from this address: it is waited for
    #[arg(long, value_name = "ADDRESS", conflicts_with_all = ["device", "mark"])]
    pub next: Option<IpAddr>,
    /// With --next: wait so long at most, seconds, or 90s, 10m. Without: until an interrupt
    // `requires` alone is waived where another packet of the group is named.
    #[arg(
        long = "for", value_name = "TIME", value_parser = rules::seconds, requires = "next",
        conflicts_with_all = ["tcp_service", "udp_service", "sctp_service", "pcap"]
    )]
    pub time: Option<u32>,
    /// A packet of an open TCP connection (an ACK), not a request for one
    #[arg(long, conflicts_with_all = ["udp_service", "sctp_service", "pcap", "next"])]
    pub ack: bool,
    /// The device that it comes in on. Without: the one by which the route to its source leads
    #[arg(short = 'i', long = "dev", value_name = "DEVICE")]
    pub device: Option<String>,
    /// The mark that it has when it comes in
    #[arg(long, value_parser = rules::mark)]
    pub mark: Option<u32>,
    /// As JSON: see docs/reference/json.md
    #[arg(long)]
    pub json: bool,
}

impl ExplainArgs {
    /// The packet's protocol and ends, if no file has it.
    pub fn ends(&self) -> Result<Option<(Protocol, SocketAddr, SocketAddr)>, Failure> {
        let said = [
            (Protocol::Tcp, &self.tcp_service),
            (Protocol::Udp, &self.udp_service),
            (Protocol::Sctp, &self.sctp_service),
        ];
        let found = said.into_iter().find_map(|(protocol, ends)| match ends.as_deref() {
            Some([from, to]) => Some((protocol, *from, *to)),
            _ => None,
        });
        match found {
            Some((_, from, to)) if from.is_ipv4() != to.is_ipv4() => {
                Failure::usage(format!("{from} and {to} are of different address families"))
            }
            found => Ok(found),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    /// The words after `lvsadm explain`.
    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        arguments: ExplainArgs,
    }

    fn ends(line: &str) -> Result<Option<(Protocol, SocketAddr, SocketAddr)>, String> {
        match Line::try_parse_from(["explain"].into_iter().chain(line.split_whitespace())) {
            Ok(line) => line.arguments.ends().map_err(|failure| failure.to_string()),
            Err(error) => Err(error.to_string().lines().next().unwrap_or_default().to_owned()),
        }
    }

    #[test]
    fn a_packet_has_two_ends_of_a_family_or_a_file() {
        let (from, to) = ("10.0.0.1:5".parse().unwrap(), "10.0.0.2:80".parse().unwrap());
        assert_eq!(ends("-t 10.0.0.1:5 10.0.0.2:80 --ack"), Ok(Some((Protocol::Tcp, from, to))));
        assert_eq!(ends("-u 10.0.0.1:5 10.0.0.2:80 -i eth0"), Ok(Some((Protocol::Udp, from, to))));
        assert_eq!(ends("--pcap f"), Ok(None));
        assert_eq!(ends("--next 10.0.0.1 --for 10s"), Ok(None));
        let mixed = "10.0.0.1:5 and [::1]:80 are of different address families";
        assert_eq!(ends("-t 10.0.0.1:5 [::1]:80"), Err(mixed.to_owned()));
        for line in [
            "",
            "-t 10.0.0.1:5",
            "-t 10.0.0.1 10.0.0.2:80",
            "-t 10.0.0.1:5 10.0.0.2:80 --pcap f",
            "-u 10.0.0.1:5 10.0.0.2:80 --ack",
            "--next 10.0.0.1 -i eth0",
            "--next 10.0.0.1 --pcap f",
            "--pcap f --for 10",
        ] {
            assert!(ends(line).is_err(), "{line}");
        }
    }
}
