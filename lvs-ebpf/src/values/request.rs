//! The connection that the programs which open one together work on.

use lvs_common::{
    abi::{DestId, ServiceId},
    sched::PickKey,
};

/// What the programs that open a connection together tell each other: a connection is decided on here, a destination
/// picked by `pick`, and the connection made by `open`.
#[repr(C)]
pub struct Request {
    pub key: PickKey,
    pub epoch: u64,
    pub service: ServiceId,
    /// Entry of the template that decides, plus 1; 0 for none.
    pub template: u32,
    pub engine: Engine,
    /// The destination, 0 while (or if) there is none.
    pub dest: DestId,
    /// 1 for IPv6.
    pub v6: u32,
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
