//! `lvsadm drain`.

use clap::{ArgGroup, Args};

use super::service::ServiceArgs;
use crate::grammar::command::{Command, Failure};
use crate::grammar::dialect::Dialect;
use crate::grammar::parse::parse;
use crate::names::Names;
use lvs_director::rules::{DestinationKey, ServiceKey};

/// What is to be drained, a real server of a service or this director, and how.
#[derive(Clone, Debug, PartialEq, Eq, Args)]
#[command(group = ArgGroup::new("what").args(["real_server", "director"]).required(true))]
pub struct DrainArgs {
    /// The service
    #[command(flatten)]
    service: ServiceArgs,
    /// The real server, host and port
    #[arg(short = 'r', long, value_name = "SERVER-ADDRESS", requires = "service")]
    real_server: Option<String>,
    /// This director: routers send the packets for its virtual addresses to other directors of its fleet
    #[arg(long, conflicts_with = "service")]
    pub director: bool,
    /// Have this director serve again
    #[arg(long, requires = "director", conflicts_with_all = ["timeout", "real_server"])]
    pub undo: bool,
    /// Wait no longer than so many seconds. Without: until nothing is left
    #[arg(long, value_name = "SECONDS")]
    pub timeout: Option<u32>,
    /// End what is left then: the next packets of these connections belong to none
    #[arg(long, requires = "timeout", conflicts_with = "director")]
    pub reset: bool,
}

impl DrainArgs {
    /// Service and real server, read as `-d` reads them.
    pub fn keys(&self, names: &mut dyn Names) -> Result<(ServiceKey, DestinationKey), Failure> {
        let mut arguments = vec!["-d"];
        arguments.extend(self.service.words());
        arguments.extend(self.real_server.iter().flat_map(|server| ["-r", server]));
        match parse(&arguments, Dialect::Own, names) {
            Ok(Command::DeleteDestination(service, destination)) => Ok((service, destination)),
            Ok(_) | Err(Failure::NoCommand) => Failure::usage("it takes a service and a real server"),
            Err(failure) => Err(failure),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::names::NoNames;
    use lvs_director::rules::{Family, Protocol};

    /// The words after `lvsadm drain`.
    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        arguments: DrainArgs,
    }

    fn keys(line: &str) -> Result<(ServiceKey, DestinationKey), String> {
        match Line::try_parse_from(["drain"].into_iter().chain(line.split(' '))) {
            Ok(line) => line.arguments.keys(&mut NoNames).map_err(|failure| failure.to_string()),
            Err(error) => Err(error.to_string().lines().next().unwrap_or_default().to_owned()),
        }
    }

    #[test]
    fn service_and_server_are_written_as_for_rules() {
        let server = |port| DestinationKey { address: [10, 0, 0, 1].into(), port };
        let web = ServiceKey::Address { protocol: Protocol::Tcp, address: [192, 0, 2, 1].into(), port: 80 };
        assert_eq!(keys("-t 192.0.2.1:80 -r 10.0.0.1"), Ok((web, server(80))));
        assert_eq!(
            keys("--tcp-service 192.0.2.1:80 --real-server 10.0.0.1:8080 --timeout 5 --reset"),
            Ok((web, server(8080)))
        );
        let mark = ServiceKey::Fwmark { mark: 7, family: Family::V6 };
        assert_eq!(keys("-f 7 -6 -r [::1]:80").map(|keys| keys.0), Ok(mark));
    }

    #[test]
    fn what_is_missing_is_told() {
        for line in [
            "-r 10.0.0.1",
            "-t 192.0.2.1:80",
            "-t 1.1.1.1:1 -u 1.1.1.1:1 -r 10.0.0.1",
            "-t 1.1.1.1:1 -r 1.1.1.1 --reset",
            "-t 1.1.1.1:1 --director",
            "-r 1.1.1.1 --director",
            "-t 1.1.1.1:1 -r 1.1.1.1 --undo",
            "--director --undo --timeout 5",
        ] {
            assert!(keys(line).is_err_and(|error| error.starts_with("error: ")), "{line}");
        }
        assert_eq!(
            keys("-t nowhere:80 -r 10.0.0.1"),
            Err("illegal virtual server address[:port] specified".to_owned())
        );
    }
}
