//! Rosters: `ROSTERS`, an array of parts. The roster of a service has what a scheduler that looks at every destination
//! reads and a command can change, in the order of the service's list but close together. What connections change stays in
//! `DESTS`: as all numbers are known beforehand, the processor fetches many destinations at a time.

use super::ids::{DestId, ServiceId};

/// Entries of a part: as many as the verifier may follow, for each scheduler and one after the other.
pub const ROSTER_ENTRIES: usize = 12;

/// A destination on a roster.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct RosterEntry {
    /// Its number.
    pub id: DestId,
    /// Its weight; 0 only after the last entry: a destination that gets no new connections is not on a roster.
    pub weight: u32,
}

/// A part of a roster.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C, align(8))]
pub struct RosterPart {
    /// Index of the part that follows, 0 after the last.
    pub next: u32,
    /// The service whose roster it is, or was, a part of; 0 if of none yet.
    pub service: ServiceId,
    /// The first part of that roster.
    pub first: u32,
    /// How many parts are before this one.
    pub ordinal: u32,
    /// The destinations.
    pub entries: [RosterEntry; ROSTER_ENTRIES],
}

const _: () = assert!(size_of::<RosterPart>() == 112);
