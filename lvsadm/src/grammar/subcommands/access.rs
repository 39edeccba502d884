//! `lvsadm block` and `lvsadm allow`.

use std::path::PathBuf;

use clap::Args;

use super::service::ServiceArgs;
use lvs_director::rules::{self, AccessChange, AccessRule, Prefix};

/// What to do with a list of clients.
#[derive(Clone, Debug, Default, PartialEq, Eq, Args)]
pub struct AccessArgs {
    /// Which service's list. Without: the list for all services
    #[command(flatten)]
    pub service: ServiceArgs,
    /// Clients: addresses, or prefixes with /LENGTH. Without any: show the lists
    #[arg(value_name = "ADDRESS[/LENGTH]", value_parser = rules::client)]
    clients: Vec<Prefix>,
    /// Put the clients on the list for so long: seconds, or 90s, 10m, 1h30m, 7d. Without: until they are deleted
    #[arg(long = "for", value_name = "TIME", value_parser = rules::seconds, requires = "clients")]
    time: Option<u32>,
    /// Take the clients off the list
    #[arg(short, long, alias = "del", requires = "clients", conflicts_with = "time")]
    delete: bool,
    /// Take all clients off the list
    #[arg(long, conflicts_with_all = ["clients", "file", "json"])]
    flush: bool,
    /// With --flush: off the lists of all services, too
    #[arg(long, requires = "flush", conflicts_with = "service")]
    all: bool,
    /// Replace the list by a file's, all at once: a client on each line, and a time after it or none; # and ; begin comments.
    /// - is standard input
    #[arg(long, value_name = "FILE", conflicts_with_all = ["clients", "json"])]
    file: Option<PathBuf>,
    /// Show the lists as JSON: see docs/reference/json.md
    #[arg(long, conflicts_with = "clients")]
    json: bool,
}

/// What the arguments ask for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AccessAction {
    /// A look at one list, or at all.
    List {
        /// As JSON.
        json: bool,
    },
    /// A change of the list.
    Change(AccessChange),
    /// The list is to be that of a file.
    File(PathBuf),
    /// No list has an entry afterwards.
    FlushAll,
}

impl AccessArgs {
    /// What they ask for.
    pub fn action(&self) -> AccessAction {
        let rule = |prefix: &Prefix| AccessRule { prefix: *prefix, seconds: self.time };
        match (&self.file, &*self.clients) {
            (Some(file), _) => AccessAction::File(file.clone()),
            (None, _) if self.all => AccessAction::FlushAll,
            (None, _) if self.flush => AccessAction::Change(AccessChange::Replace(Vec::new())),
            (None, []) => AccessAction::List { json: self.json },
            (None, clients) if self.delete => AccessAction::Change(AccessChange::Delete(clients.to_vec())),
            (None, clients) => AccessAction::Change(AccessChange::Add(clients.iter().map(rule).collect())),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    /// The words after `lvsadm block`.
    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        arguments: AccessArgs,
    }

    fn action(line: &str) -> Result<(String, AccessAction), String> {
        match Line::try_parse_from(["block"].into_iter().chain(line.split(' ').filter(|word| !word.is_empty()))) {
            Ok(Line { arguments }) => Ok((arguments.service.words().join(" "), arguments.action())),
            Err(error) => Err(error.to_string().lines().next().unwrap_or_default().to_owned()),
        }
    }

    #[test]
    fn clients_come_and_go() {
        let rule = |text: &str, seconds| AccessRule { prefix: rules::client(text).unwrap(), seconds };
        let add = |rules| Ok((String::new(), AccessAction::Change(AccessChange::Add(rules))));
        assert_eq!(action("192.0.2.1"), add(vec![rule("192.0.2.1", None)]));
        let both = vec![rule("192.0.2.0/24", Some(600)), rule("::1", Some(600))];
        assert_eq!(action("192.0.2.7/24 --for 10m ::1"), add(both));
        let prefixes = vec![rule("192.0.2.1", None).prefix];
        for option in ["--delete", "--del", "-d"] {
            let expected = AccessAction::Change(AccessChange::Delete(prefixes.clone()));
            assert_eq!(
                action(&format!("-t 192.0.2.9:80 {option} 192.0.2.1")),
                Ok(("-t 192.0.2.9:80".into(), expected))
            );
        }
        assert_eq!(action(""), Ok((String::new(), AccessAction::List { json: false })));
        assert_eq!(action("--json -f 7 -6"), Ok(("-f 7 -6".into(), AccessAction::List { json: true })));
        let flush = AccessAction::Change(AccessChange::Replace(Vec::new()));
        assert_eq!(action("--flush -u 192.0.2.9:53"), Ok(("-u 192.0.2.9:53".into(), flush)));
        assert_eq!(action("--flush --all"), Ok((String::new(), AccessAction::FlushAll)));
        assert_eq!(action("--file -"), Ok((String::new(), AccessAction::File("-".into()))));
    }

    #[test]
    fn what_makes_no_sense_is_one_sentence() {
        for (line, sentence) in [
            (
                "add 192.0.2.1",
                "error: invalid value 'add' for '[ADDRESS[/LENGTH]]...': `add' is no address, nor one with /LENGTH after it",
            ),
            (
                "192.0.2.1/40",
                "error: invalid value '192.0.2.1/40' for '[ADDRESS[/LENGTH]]...': the length of such a prefix is from 0 to 32, \
                 not `40'",
            ),
            (
                "192.0.2.1 --for 0",
                "error: invalid value '0' for '--for <TIME>': a time is from 1s on, as 90, 90s, 10m, 1h30m or 7d, not `0'",
            ),
            ("--for 10m", "error: the following required arguments were not provided:"),
            ("--delete", "error: the following required arguments were not provided:"),
            ("--flush 192.0.2.1", "error: the argument '--flush' cannot be used with '[ADDRESS[/LENGTH]]...'"),
            ("--all", "error: the following required arguments were not provided:"),
            (
                "-t 192.0.2.1:80 -u 192.0.2.1:80 ::1",
                "error: the argument '--tcp-service <SERVICE-ADDRESS>' cannot be used with '--udp-service <SERVICE-ADDRESS>'",
            ),
        ] {
            assert_eq!(action(line), Err(sentence.to_owned()), "{line}");
        }
    }
}
