//! What the data plane tells of its connection tables and of how it keeps them from filling up.

use lvs_common::abi::sysctls::mode;

use super::plane::Plane;
use crate::rules::{AUTOMATIC, Family, SYSCTLS};

/// How full the tables are, and what is done about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Defence {
    /// Connections and templates of each family, as of the last second.
    pub held: [(Family, u32); 2],
    /// For how many of each family there is room.
    pub room: u32,
    /// The strategies: each one's name as a setting, and its mode in a word.
    pub modes: [(&'static str, &'static str); 3],
    /// Of how many new connections one is dropped, 0 for none.
    pub drop_rate: u32,
    /// Connections and templates that `drop_entry` has taken out.
    pub taken_out: u32,
}

impl Defence {
    /// As it is now.
    pub fn of(plane: &Plane) -> Self {
        let settings = plane.settings();
        let mode_of = |name| {
            let found = SYSCTLS.iter().find(|sysctl| sysctl.name == name);
            (name, word(found.map_or(mode::OFF, |sysctl| sysctl.get(&settings.sysctls))))
        };
        Defence {
            held: [(Family::V4, settings.held[0]), (Family::V6, settings.held[1])],
            room: plane.sizes().0,
            modes: AUTOMATIC.map(mode_of),
            drop_rate: settings.drop_rate,
            taken_out: settings.taken_out,
        }
    }
}

/// The word for a strategy's mode.
fn word(value: u32) -> &'static str {
    match value {
        mode::OFF => "off",
        mode::RESTING => "resting",
        mode::WORKING => "working",
        _ => "always",
    }
}
