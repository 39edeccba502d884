//! Where events are written: the journal, with fields, if standard error is the journal's; else standard error, a line each.

use std::io::{self, IsTerminal, Write};

use log::{Level, Record};
use systemd_journal_logger::{JournalLog, connected_to_journal};

use super::event::Event;

/// See the module.
pub enum Journal {
    /// journald, by its own protocol.
    Fields(Box<JournalLog>),
    /// Lines, each after its priority as `sd-daemon(3)` has it; without that for people.
    Lines {
        /// Whether a line begins with its priority.
        prefixed: bool,
    },
}

impl Journal {
    /// Where this process's events go.
    pub fn of_process() -> Self {
        // A journal that cannot be reached would be no news on standard error, which is the journal's then.
        let journal = connected_to_journal().then(JournalLog::new).and_then(Result::ok);
        match journal {
            Some(log) => Journal::Fields(Box::new(log.with_syslog_identifier("lvsadm".to_owned()))),
            None => Journal::Lines { prefixed: !io::stderr().is_terminal() },
        }
    }

    /// Writes an event. If it cannot be written, nobody is left to hear of that.
    pub fn write(&self, event: &Event) {
        match self {
            Journal::Fields(log) => {
                let fields: Vec<(&str, &str)> = event.fields.iter().map(|(name, value)| (*name, &**value)).collect();
                let message = format_args!("{}", event.message);
                let _ = log.journal_send(
                    &Record::builder()
                        .level(event.level)
                        .target("lvsadm")
                        .key_values(&fields.as_slice())
                        .args(message)
                        .build(),
                );
            }
            Journal::Lines { prefixed } => {
                let _ = writeln!(io::stderr(), "{}", line(event, *prefixed));
            }
        }
    }
}

/// An event as a line.
fn line(event: &Event, prefixed: bool) -> String {
    let fields: String = event.fields.iter().map(|(name, value)| format!(" {name}={value}")).collect();
    let priority = if prefixed { format!("<{}>", priority(event.level)) } else { String::new() };
    format!("{priority}lvsadm: {}:{fields}", event.message)
}

/// A level's number in syslog, as the journal's entries have it.
fn priority(level: Level) -> u8 {
    match level {
        Level::Error => 3,
        Level::Warn => 4,
        Level::Info => 5,
        Level::Debug => 6,
        Level::Trace => 7,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_journal_an_event_is_a_line() {
        let event = Event::new(Level::Warn, "drop", "packets are dropped".to_owned()).with("LVS_REASON", "drop-ttl");
        assert_eq!(line(&event, true), "<4>lvsadm: packets are dropped: LVS_EVENT=drop LVS_REASON=drop-ttl");
        assert_eq!(line(&event, false), "lvsadm: packets are dropped: LVS_EVENT=drop LVS_REASON=drop-ttl");
    }
}
