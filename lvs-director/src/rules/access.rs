//! Lists of clients: who may not come in, and who only may.

use std::collections::BTreeMap;
use std::fmt;

use super::mark::{Prefix, TrafficError};

/// Why a text does not say which clients, or how long.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClientError {
    /// It is no prefix.
    #[error(transparent)]
    Prefix(#[from] TrafficError),
    /// It is an IPv4 address in IPv6's form.
    #[error("`{text}' is an IPv4 address to the packets that have it: write {mend}")]
    Mapped {
        /// What is written.
        text: String,
        /// What to write.
        mend: Prefix,
    },
    /// It is no duration.
    #[error("a time is from 1s on, as 90, 90s, 10m, 1h30m or 7d, not `{0}'")]
    Duration(String),
    /// It has more words than a prefix and a duration.
    #[error("a line is ADDRESS[/LENGTH] and at most a time, not `{0}'")]
    Line(String),
}

/// A list's meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum AccessKind {
    /// Whoever is on it may not come in.
    Block,
    /// If there are entries: only who is on it may.
    Allow,
}

impl AccessKind {
    /// Both, in the order in which clients are compared with them.
    pub const ALL: [AccessKind; 2] = [AccessKind::Block, AccessKind::Allow];

    /// The sub-command.
    pub fn name(self) -> &'static str {
        match self {
            AccessKind::Block => "block",
            AccessKind::Allow => "allow",
        }
    }
}

/// Clients on a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AccessRule {
    /// Their addresses.
    pub prefix: Prefix,
    /// Seconds until they are off the list; `None` if they stay. 0 is an entry that has ended.
    pub seconds: Option<u32>,
}

/// As options of `lvsadm block` or `lvsadm allow`. An entry that has ended is one that ends at once.
impl fmt::Display for AccessRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.prefix.fmt(f)?;
        match self.seconds {
            Some(seconds) => write!(f, " --for {}", duration(seconds.max(1))),
            None => Ok(()),
        }
    }
}

/// An entry as it is listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AccessEntry {
    /// Who, and for how long from now.
    pub rule: AccessRule,
    /// Packets that were refused for it.
    pub packets: u64,
}

/// A list: how long each prefix has, as [`AccessRule::seconds`].
pub type AccessList = BTreeMap<Prefix, Option<u32>>;

/// A change of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AccessChange {
    /// Entries come, in the place of those of the same prefixes.
    Add(Vec<AccessRule>),
    /// Entries go.
    Delete(Vec<Prefix>),
    /// The list is this one.
    Replace(Vec<AccessRule>),
}

impl AccessChange {
    /// Makes the change to a list, as far as there is anything to change.
    pub fn apply(&self, list: &mut AccessList) {
        match self {
            AccessChange::Delete(prefixes) => list.retain(|prefix, _| !prefixes.contains(prefix)),
            AccessChange::Add(rules) => list.extend(rules.iter().map(|rule| (rule.prefix, rule.seconds))),
            AccessChange::Replace(rules) => {
                list.clear();
                AccessChange::Add(rules.clone()).apply(list);
            }
        }
    }
}

/// Units of durations, the longest first: their letters and their seconds.
const UNITS: [(char, u32); 4] = [('d', 86_400), ('h', 3600), ('m', 60), ('s', 1)];

/// Reads a duration: seconds, or numbers with d, h, m or s after each.
pub fn seconds(text: &str) -> Result<u32, ClientError> {
    let wrong = || ClientError::Duration(text.to_owned());
    let mut sum = text.parse().ok();
    if sum.is_none() {
        let mut rest = text;
        while let Some(at) = rest.find(|c: char| !c.is_ascii_digit()) {
            let (number, unit) = rest.split_at(at);
            let letter = unit.chars().next();
            let unit = UNITS.iter().find(|(of, _)| Some(*of) == letter).ok_or_else(wrong)?.1;
            let part = number.parse::<u32>().ok().and_then(|number| number.checked_mul(unit)).ok_or_else(wrong)?;
            sum = Some(sum.unwrap_or(0u32).checked_add(part).ok_or_else(wrong)?);
            rest = &rest[at + 1..];
        }
        if !rest.is_empty() {
            return Err(wrong());
        }
    }
    sum.filter(|seconds| *seconds != 0).ok_or_else(wrong)
}

/// A duration as [`seconds`] reads it.
pub fn duration(seconds: u32) -> String {
    let mut rest = seconds;
    let mut text = String::new();
    for (letter, unit) in UNITS {
        if rest >= unit {
            text += &format!("{}{letter}", rest / unit);
            rest %= unit;
        }
    }
    if text.is_empty() { "0s".to_owned() } else { text }
}

/// Reads a file of prefixes, one on a line, each with a duration after it or none. `#` and `;` begin comments. The error has all
/// mistakes, each with the number of its line.
pub fn access_file(text: &str) -> Result<Vec<AccessRule>, Vec<(usize, ClientError)>> {
    let (mut rules, mut mistakes) = (Vec::new(), Vec::new());
    for (number, line) in (1..).zip(text.lines()) {
        let said = line.split(['#', ';']).next().unwrap_or_default();
        match said.split_whitespace().collect::<Vec<_>>()[..] {
            [] => {}
            [prefix] => match client(prefix) {
                Ok(prefix) => rules.push(AccessRule { prefix, seconds: None }),
                Err(error) => mistakes.push((number, error)),
            },
            [prefix, time] => match client(prefix).and_then(|prefix| Ok((prefix, seconds(time)?))) {
                Ok((prefix, seconds)) => rules.push(AccessRule { prefix, seconds: Some(seconds) }),
                Err(error) => mistakes.push((number, error)),
            },
            _ => mistakes.push((number, ClientError::Line(said.trim().to_owned()))),
        }
    }
    if mistakes.is_empty() { Ok(rules) } else { Err(mistakes) }
}

/// Reads the prefix of clients: an address, or one with `/LENGTH`.
pub fn client(text: &str) -> Result<Prefix, ClientError> {
    let prefix = Prefix::parse(text)?;
    if let std::net::IpAddr::V6(v6) = prefix.address
        && let Some(v4) = v6.to_ipv4_mapped()
        && prefix.length >= 96
    {
        let mend = Prefix { address: v4.into(), length: prefix.length - 96 };
        return Err(ClientError::Mapped { text: text.to_owned(), mend });
    }
    Ok(prefix)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn times_are_read_and_shown() {
        for (text, expected, shown) in [
            ("90", 90, "1m30s"),
            ("10m", 600, "10m"),
            ("1h30m", 5400, "1h30m"),
            ("7d", 604_800, "7d"),
            ("1s", 1, "1s"),
            ("4294967295", u32::MAX, "49710d6h28m15s"),
        ] {
            assert_eq!(seconds(text), Ok(expected));
            assert_eq!(duration(expected), shown);
        }
        for text in ["", "0", "0s", "m", "10x", "-1", "1.5h", "10m5", "4294967296", "4294967295d", "1 h"] {
            let sentence = format!("a time is from 1s on, as 90, 90s, 10m, 1h30m or 7d, not `{text}'");
            assert_eq!(seconds(text).map_err(|error| error.to_string()), Err(sentence));
        }
    }

    proptest! {
        #[test]
        fn a_shown_time_is_the_time(time in 1u32..) {
            prop_assert_eq!(seconds(&duration(time)), Ok(time));
        }
    }

    #[test]
    fn a_file_is_taken_whole_or_not_at_all() {
        let text = "# feed\n192.0.2.0/24 ; SBL1\n\n2001:db8::1 1h30m\n 198.51.100.7\t90 # late\n";
        let rules = access_file(text).unwrap();
        let shown: Vec<String> = rules.iter().map(AccessRule::to_string).collect();
        assert_eq!(shown, ["192.0.2.0/24", "2001:db8::1 --for 1h30m", "198.51.100.7 --for 1m30s"]);
        let mistakes = access_file("192.0.2.1\nnowhere\n::1 soon\n::1 1s 2s\n::ffff:192.0.2.1/120\n").unwrap_err();
        let expected = [
            (2, "`nowhere' is no address, nor one with /LENGTH after it"),
            (3, "a time is from 1s on, as 90, 90s, 10m, 1h30m or 7d, not `soon'"),
            (4, "a line is ADDRESS[/LENGTH] and at most a time, not `::1 1s 2s'"),
            (5, "`::ffff:192.0.2.1/120' is an IPv4 address to the packets that have it: write 192.0.2.0/24"),
        ];
        let mistakes: Vec<(usize, String)> =
            mistakes.into_iter().map(|(line, error)| (line, error.to_string())).collect();
        assert_eq!(mistakes, expected.map(|(line, sentence)| (line, sentence.to_owned())));
    }

    #[test]
    fn a_change_is_made_as_far_as_there_is_something_to_change() {
        let rule = |text: &str, seconds| AccessRule { prefix: client(text).unwrap(), seconds };
        let mut list = AccessList::new();
        AccessChange::Add(vec![rule("192.0.2.1", None), rule("192.0.2.0/24", Some(5))]).apply(&mut list);
        AccessChange::Add(vec![rule("192.0.2.1", Some(7))]).apply(&mut list);
        AccessChange::Delete(vec![rule("192.0.2.0/24", None).prefix, rule("::1", None).prefix]).apply(&mut list);
        assert_eq!(list.into_iter().collect::<Vec<_>>(), [(rule("192.0.2.1", None).prefix, Some(7))]);
    }
}
