//! An event: a sentence, and fields for programs.

use log::Level;
use lvs_common::health::Turn;

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// How much it matters.
    pub level: Level,
    /// The sentence.
    pub message: String,
    /// Fields of the journal, whose names begin with `LVS_`. A name may come more than once.
    pub fields: Vec<(&'static str, String)>,
}

/// Most events of one kind that one look makes. Hundreds of real servers may be lost at once, with the switch that they are behind.
const MOST: usize = 20;

impl Event {
    /// An event of a kind.
    pub fn new(level: Level, kind: &'static str, message: String) -> Self {
        Event { level, message, fields: vec![("LVS_EVENT", kind.to_owned())] }
    }

    /// One that is a fault, or the end of one.
    pub fn turn(turn: Turn, kind: &'static str, message: String) -> Self {
        let level = if turn == Turn::Worse { Level::Warn } else { Level::Info };
        Event::new(level, kind, message).with("LVS_TURN", if turn == Turn::Worse { "worse" } else { "better" })
    }

    /// With a field.
    pub fn with(mut self, name: &'static str, value: impl ToString) -> Self {
        self.fields.push((name, value.to_string()));
        self
    }
}

/// Events of one kind as they are written: what is beyond [`MOST`] of them is only counted.
pub fn bounded(mut events: Vec<Event>) -> Vec<Event> {
    let more = events.len().saturating_sub(MOST);
    if more != 0 {
        events.truncate(MOST);
        if let Some(last) = events.last() {
            let kind = last.fields.iter().take(1).cloned().collect();
            let (level, message) = (last.level, format!("and {more} more of this kind at the same time"));
            events.push(Event { level, message, fields: kind });
        }
    }
    events
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_a_few_events_and_a_number() {
        let events =
            |count: usize| bounded((0..count).map(|n| Event::new(Level::Warn, "drop", n.to_string())).collect());
        assert_eq!(events(MOST).len(), MOST);
        let many = events(MOST + 500);
        assert_eq!(many.len(), MOST + 1);
        assert_eq!(
            many[MOST],
            Event::new(Level::Warn, "drop", "and 500 more of this kind at the same time".to_owned())
        );
    }
}
