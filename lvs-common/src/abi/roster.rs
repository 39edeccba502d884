//! Rosters: `ROSTERS`, an array of parts. A roster holds what a scheduler reads of each destination and only commands change,
//! close together and in the order of the service's list. The counts that connections change stay in `DESTS`. All numbers of
//! destinations are known beforehand, so the processor fetches many of their lines at a time.

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
