//! The table of flags.

use std::fmt::Write;

use super::{commands, daemon, listing, own, server, service};
use crate::grammar::dialect::Dialect;
use crate::grammar::flag::{Flag, Form, Saved};
use lvs_director::rules::{Destination, Service};

/// The declarations. In each section of the help, flags have this order.
const GROUPS: [&[Flag]; 8] = [
    commands::FLAGS,
    service::ADDRESSES,
    service::FLAGS,
    server::FLAGS,
    listing::FLAGS,
    service::LATER,
    daemon::FLAGS,
    own::FLAGS,
];

/// All flags.
pub fn flags() -> impl Iterator<Item = &'static Flag> {
    GROUPS.iter().flat_map(|group| group.iter())
}

/// Appends the flags that make a service what it is.
pub fn saved_service(text: &mut String, service: &Service, form: Form) {
    saved(text, |flag| match flag.saved {
        Saved::Service(place, value) => Some((place, value(service, form)?)),
        _ => None,
    });
}

/// Appends the flags that make a destination what it is.
pub fn saved_destination(text: &mut String, destination: &Destination, form: Form, dialect: Dialect) {
    saved(text, |flag| match flag.saved {
        Saved::Destination(place, value) => Some((place, value(destination, form, dialect)?)),
        _ => None,
    });
}

/// Appends the flags of which `value` knows place and value, in the order of their places.
fn saved(text: &mut String, value: impl Fn(&Flag) -> Option<(u8, String)>) {
    let mut found: Vec<_> = flags().filter_map(|flag| value(flag).map(|(place, value)| (place, flag, value))).collect();
    found.sort_by_key(|&(place, ..)| place);
    for (_, flag, value) in found {
        let gap = if value.is_empty() { "" } else { " " };
        // Writing to a string does not fail.
        let _ = write!(text, " {}{gap}{value}", flag.spelled());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_that_are_one_option_agree_about_it() {
        let options: Vec<_> = flags().filter_map(|flag| flag.option).collect();
        for a in &options {
            for b in &options {
                let same_order = a.order == b.order && a.order != crate::grammar::flag::OWN;
                assert!(a == b || a.name != b.name && !same_order, "{a:?} {b:?}");
            }
        }
    }

    #[test]
    fn a_name_is_one_flags() {
        for (index, flag) in flags().enumerate() {
            for (_, other) in flags().enumerate().filter(|&(at, _)| at != index) {
                assert!(!flag.short.chars().any(|short| other.short.contains(short)), "{flag:?} {other:?}");
                assert!(flag.long != other.long || flag.option == other.option, "{flag:?} {other:?}");
            }
        }
    }
}
