//! The connection that is being asked for: `Schedule`, `Pick` and `Open` pass it on.

use lvs_common::{
    abi::{DestId, EntryRef, ServiceId},
    sched::PickKey,
};

/// What the programs that open a connection together tell each other: a connection is decided on here, a destination
/// picked by `pick`, and the connection made by `open`.
#[repr(C)]
pub struct Request {
    pub key: PickKey,
    pub epoch: u64,
    pub service: ServiceId,
    /// The template that decides.
    pub template: EntryRef,
    pub engine: Engine,
    /// The destination, 0 while (or if) there is none.
    pub dest: DestId,
    /// 1 for IPv6.
    pub v6: u32,
    pub room: Room,
}

/// Room that the program `MakeRoom` makes in a full table.
#[derive(Clone, Copy, Default)]
#[repr(C)]
pub struct Room {
    /// How often it has made room for this packet.
    pub made: u32,
    /// 1 if the drafted connection's alias needs it, 0 if the draft itself does.
    pub for_alias: u32,
}

/// What an engine keys a template with.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Engine {
    /// Hash of the text, 0 without one.
    pub hash: u64,
    /// Where in the frame the text begins.
    pub at: u32,
    /// Its length, bytes.
    pub length: u32,
}
