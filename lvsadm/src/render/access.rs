//! `block` and `allow`: lists of clients.

use std::fmt::Write;

use super::label::Labels;
use super::save::service_option;
use crate::grammar::Dialect;
use lvs_director::rules::{AccessEntry, AccessKind, AccessRule, ServiceKey, duration};

/// Lists of services, and of all services, with their entries.
pub type AccessLists = Vec<(Option<ServiceKey>, Vec<AccessEntry>)>;

/// What stands for a service where all are meant.
const ALL: &str = "all";
/// What stands for an end where there is none.
const FOR_GOOD: &str = "-";

/// Lists for people: a line for each entry.
pub fn access(kind: AccessKind, lists: &AccessLists) -> String {
    let mut text = String::new();
    let mut labels = Labels::numeric(Dialect::Own);
    for (service, entries) in lists {
        let service = service.map_or(ALL.to_owned(), |key| service_option(&mut labels, &key));
        for AccessEntry { rule, packets } in entries {
            if text.is_empty() {
                text = row(kind, ["SERVICE", "CLIENT", "LEFT", "PACKETS"]);
            }
            let left = rule.seconds.map_or(FOR_GOOD.to_owned(), duration);
            text += &row(kind, [&service, &rule.prefix.to_string(), &left, &packets.to_string()]);
        }
    }
    text
}

/// Clients that one line of a file has at most.
const A_LINE: usize = 64;

/// Appends the commands that put clients on a list. Those that stay for so long as others are in one line with them.
pub fn rules(
    text: &mut String,
    labels: &mut Labels<'_>,
    kind: AccessKind,
    service: Option<&ServiceKey>,
    rules: &[AccessRule],
) {
    let service = service.map(|key| format!(" {}", service_option(labels, key))).unwrap_or_default();
    for alike in rules.chunk_by(|one, other| one.seconds == other.seconds) {
        for part in alike.chunks(A_LINE) {
            let clients: Vec<String> = part.iter().map(|rule| rule.prefix.to_string()).collect();
            let time = part.first().and_then(|rule| rule.seconds);
            // An entry that has ended is one that ends at once.
            let time = time.map(|seconds| format!(" --for {}", duration(seconds.max(1)))).unwrap_or_default();
            let _ = writeln!(text, "{}{service} {}{time}", kind.name(), clients.join(" "));
        }
    }
}

/// The columns. What is allowed refuses no packet.
fn row(kind: AccessKind, columns: [&str; 4]) -> String {
    let [service, client, left, packets] = columns;
    let mut text = format!("{service:<28} {client:<40} {left:<12}");
    if kind == AccessKind::Block {
        let _ = write!(text, " {packets}");
    }
    text.truncate(text.trim_end().len());
    text.push('\n');
    text
}
