//! The options that name a service, for sub-commands.

use clap::{ArgGroup, Args};

use crate::grammar::command::{Command, Failure};
use crate::grammar::dialect::Dialect;
use crate::grammar::parse::parse;
use crate::names::Names;
use lvs_director::rules::ServiceKey;

/// Which service is meant, if one is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Args)]
#[command(group = ArgGroup::new("service").args(["tcp_service", "udp_service", "sctp_service", "fwmark_service"]))]
pub struct ServiceArgs {
    /// Of this TCP service, host[:port]
    #[arg(short = 't', long, value_name = "SERVICE-ADDRESS")]
    tcp_service: Option<String>,
    /// Of this UDP service, host[:port]
    #[arg(short = 'u', long, value_name = "SERVICE-ADDRESS")]
    udp_service: Option<String>,
    /// Of this SCTP service, host[:port]
    #[arg(long, value_name = "SERVICE-ADDRESS")]
    sctp_service: Option<String>,
    /// Of the service of this firewall mark
    #[arg(short = 'f', long, value_name = "FWMARK")]
    fwmark_service: Option<String>,
    /// The mark's service is for IPv6
    #[arg(short = '6', long, requires = "fwmark_service")]
    ipv6: bool,
}

impl ServiceArgs {
    /// The options as those of ipvsadm's grammar.
    pub fn words(&self) -> Vec<&str> {
        let services = [
            ("-t", &self.tcp_service),
            ("-u", &self.udp_service),
            ("--sctp-service", &self.sctp_service),
            ("-f", &self.fwmark_service),
        ];
        let mut words = Vec::new();
        for (option, value) in services {
            words.extend(value.iter().flat_map(|value| [option, value]));
        }
        words.extend(self.ipv6.then_some("-6"));
        words
    }

    /// The service, read as `-D` reads it; `None` if none is named.
    pub fn key(&self, names: &mut dyn Names) -> Result<Option<ServiceKey>, Failure> {
        let words = self.words();
        if words.is_empty() {
            return Ok(None);
        }
        match parse(&[vec!["-D"], words].concat(), Dialect::Own, names) {
            Ok(Command::DeleteService(service)) => Ok(Some(service)),
            Ok(_) | Err(Failure::NoCommand) => Failure::usage("it takes a service"),
            Err(failure) => Err(failure),
        }
    }
}
