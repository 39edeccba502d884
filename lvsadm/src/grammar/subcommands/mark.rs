//! `lvsadm mark`.

use clap::{Args, Subcommand};

use crate::grammar::choice;
use crate::grammar::command::Failure;
use lvs_director::rules::{self, EVERY_PORT, Family, Mark, MarkChange, Prefix, Protocol, Traffic};

/// What to do with the classification rules.
#[derive(Clone, Debug, PartialEq, Eq, Subcommand)]
pub enum MarkAction {
    /// Give traffic a mark
    ///
    /// Without options it is all traffic over IPv4. Of several rules that are about a packet, the longest match decides:
    /// first by the destination's prefix, then by the source's, then by the ports (the fewest), then by the protocol.
    Add {
        /// The mark, from 1 on, decimal or hexadecimal (0x...)
        #[arg(long, value_parser = rules::mark)]
        mark: u32,
        /// Which traffic
        #[command(flatten)]
        traffic: TrafficArgs,
    },
    /// Take a rule back; it is named by the options it was added with, but for --mark
    Del {
        /// Which traffic
        #[command(flatten)]
        traffic: TrafficArgs,
    },
    /// Take all rules back
    Flush,
    /// Show the rules, as options of `mark add`, in the order in which packets are compared with them
    List {
        /// As JSON: see docs/reference/json.md
        #[arg(long)]
        json: bool,
    },
}

/// Options that say which traffic is meant.
#[derive(Clone, Debug, PartialEq, Eq, Args)]
pub struct TrafficArgs {
    /// Of this protocol. Without: of any of them
    #[arg(long, value_parser = choice::protocol())]
    protocol: Option<Protocol>,
    /// To these addresses
    #[arg(long, value_name = "ADDRESS[/LENGTH]", value_parser = Prefix::parse)]
    to: Option<Prefix>,
    /// To these ports
    #[arg(long, value_name = "PORT[-LAST]", value_parser = rules::ports)]
    dport: Option<(u16, u16)>,
    /// From these addresses
    #[arg(long, value_name = "ADDRESS[/LENGTH]", value_parser = Prefix::parse)]
    from: Option<Prefix>,
    /// Over IPv6, where no address says so
    #[arg(short = '6', long)]
    ipv6: bool,
}

impl TrafficArgs {
    /// The traffic.
    fn traffic(&self) -> Result<Traffic, Failure> {
        let said = [self.to, self.from].into_iter().flatten().map(|prefix| Family::of(prefix.address));
        let mut families = said.chain(self.ipv6.then_some(Family::V6));
        let family = families.next().unwrap_or(Family::V4);
        if families.any(|other| other != family) {
            return Failure::usage("--to, --from and -6 are of different address families");
        }
        let every = Traffic::every(family);
        Ok(Traffic {
            to: self.to.unwrap_or(every.to),
            from: self.from.unwrap_or(every.from),
            ports: self.dport.unwrap_or(EVERY_PORT),
            protocol: self.protocol,
        })
    }
}

impl MarkAction {
    /// The change it is, `None` for a look.
    pub fn change(&self) -> Result<Option<MarkChange>, Failure> {
        Ok(Some(match self {
            MarkAction::Add { mark, traffic } => MarkChange::Add(Mark { traffic: traffic.traffic()?, mark: *mark }),
            MarkAction::Del { traffic } => MarkChange::Delete(traffic.traffic()?),
            MarkAction::Flush => MarkChange::Flush,
            MarkAction::List { .. } => return Ok(None),
        }))
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    /// The words after `lvsadm mark`.
    #[derive(Parser)]
    struct Line {
        #[command(subcommand)]
        action: MarkAction,
    }

    fn change(line: &str) -> Result<Option<MarkChange>, String> {
        match Line::try_parse_from(["mark"].into_iter().chain(line.split(' '))) {
            Ok(line) => line.action.change().map_err(|failure| failure.to_string()),
            Err(error) => Err(error.to_string().lines().next().unwrap_or_default().to_owned()),
        }
    }

    #[test]
    fn what_is_shown_is_what_is_typed() {
        for line in [
            "--mark 7",
            "--mark 7 -6",
            "--mark 4294967295 --protocol tcp --to 192.0.2.10 --from 10.0.0.0/8 --dport 80-90",
            "--mark 1 --protocol sctp --to 2001:db8::/32 --dport 80",
            "--mark 1 --from 2001:db8::1",
        ] {
            let Ok(Some(MarkChange::Add(mark))) = change(&format!("add {line}")) else { panic!("{line}") };
            assert_eq!(mark.to_string(), line);
            let options = line.split_once(' ').unwrap().1.split_once(' ').map_or("", |(_, options)| options);
            let del = format!("del {options}");
            assert_eq!(change(del.trim_end()), Ok(Some(MarkChange::Delete(mark.traffic))));
        }
        assert_eq!(change("add --mark 0x10 --to 0.0.0.0/0"), change("add --mark 16 --dport 0-65535"));
        assert_eq!((change("flush"), change("list")), (Ok(Some(MarkChange::Flush)), Ok(None)));
    }

    #[test]
    fn what_makes_no_sense_is_one_sentence() {
        let mixed = "--to, --from and -6 are of different address families";
        for (line, sentence) in [
            ("add --mark 7 --to 192.0.2.1 --from ::1", mixed),
            ("del --to 192.0.2.1 -6", mixed),
            (
                "add --mark 0",
                "error: invalid value '0' for '--mark <MARK>': a mark is a number from 1 to 4294967295, not `0'",
            ),
            ("add --to 192.0.2.1", "error: the following required arguments were not provided:"),
            (
                "add --mark 1 --dport 9-8",
                "error: invalid value '9-8' for '--dport <PORT[-LAST]>': ports 9-8: the first is greater than the last",
            ),
        ] {
            assert_eq!(change(line), Err(sentence.to_owned()));
        }
    }
}
