//! Rules as lines of a rules file, for `save --full` and `apply --dry-run`.

use std::fmt::Write;

use lvs_common::abi::Sysctls;

use super::label::Labels;
use super::{access, save};
use crate::apply::devices;
use crate::grammar::Dialect;
use crate::grammar::flags::Form;
use lvs_director::rules::{AccessRule, Change, Rule, SYSCTLS};

/// What a file says of itself.
const HEAD: &str = "# Everything that is configured, by `lvsadm save --full', for `lvsadm apply'.\n\
                    # Each line is what one would type after `lvsadm'; the file is complete: what it does not name is gone\n\
                    # (services, destinations, marks, lists of clients), detached (devices), or at its default (settings) once it is applied.\n";

/// Appends a rule's line; a pool of local addresses has one for each of them.
fn line(text: &mut String, rule: &Rule) {
    let mut labels = Labels::numeric(Dialect::Own);
    let _ = match rule {
        Rule::Timeouts(t) => writeln!(text, "--set {} {} {}", t.tcp, t.tcp_fin, t.udp),
        Rule::Sysctl(name, value) => writeln!(text, "sysctl {name}={value}"),
        Rule::Device(name, attached) => writeln!(text, "{}", devices::line(name, *attached)),
        Rule::Mark(mark) => writeln!(text, "mark add {mark}"),
        Rule::Locals(service, addresses) => {
            addresses.iter().for_each(|address| save::local(text, &mut labels, service.as_ref(), *address));
            Ok(())
        }
        Rule::Access(kind, service, rule) => {
            access::rules(text, &mut labels, *kind, service.as_ref(), &[*rule]);
            Ok(())
        }
        Rule::Service(service) => {
            save::service(text, &mut labels, service, Form::Full);
            Ok(())
        }
        Rule::Destination(service, destination) => {
            save::destination(text, &mut labels, service, destination, Form::Full);
            Ok(())
        }
    };
}

/// Whether rules are about clients of one list.
fn is_one_list(one: &Rule, other: &Rule) -> bool {
    match (one, other) {
        (Rule::Access(kind, service, _), Rule::Access(other_kind, other, _)) => (kind, service) == (other_kind, other),
        _ => false,
    }
}

/// A whole configuration. `devices` are the lines about devices.
pub fn full(devices: &[String], rules: &[Rule]) -> String {
    let mut text = HEAD.to_owned();
    for line in devices {
        let _ = writeln!(text, "{line}");
    }
    text.push_str("sysctl --reset\nmark flush\nblock --flush --all\nallow --flush --all\n");
    let usual = Sysctls::default();
    let is_usual = |rule: &Rule| match rule {
        Rule::Sysctl(name, value) => SYSCTLS.iter().any(|s| s.name == *name && s.get(&usual) == *value),
        _ => false,
    };
    let wanted: Vec<&Rule> = rules.iter().filter(|rule| !is_usual(rule)).collect();
    for alike in wanted.chunk_by(|one, other| is_one_list(one, other)) {
        match alike {
            [Rule::Access(kind, service, _), ..] => {
                let of = |rule: &&Rule| if let Rule::Access(_, _, rule) = rule { Some(*rule) } else { None };
                let clients: Vec<AccessRule> = alike.iter().filter_map(of).collect();
                access::rules(&mut text, &mut Labels::numeric(Dialect::Own), *kind, service.as_ref(), &clients);
            }
            _ => alike.iter().for_each(|rule| line(&mut text, rule)),
        }
    }
    text
}

/// What is to be done, a line for each rule that goes (`-`) or comes (`+`).
pub fn changes(changes: &[Change]) -> String {
    let mut text = String::new();
    let mut marked = |mark: &str, rule| {
        let mut lines = String::new();
        line(&mut lines, rule);
        lines.lines().for_each(|line| text.extend([mark, line, "\n"]));
    };
    for change in changes {
        match change {
            Change::Delete(rule) => marked("- ", rule),
            Change::Add(rule) => marked("+ ", rule),
            Change::Edit { from, to } => {
                marked("- ", from);
                marked("+ ", to);
            }
        }
    }
    text
}
