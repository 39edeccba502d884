//! Programs, and where they send packets.

use std::cell::{Cell, RefCell};
use std::ffi::c_void;

use corosensei::Yielder;
use corosensei::stack::DefaultStack;

/// A program: it gets the context, and returns the verdict.
pub type Program = fn(*mut c_void) -> i32;

/// The hook that a program is attached to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tier {
    /// XDP.
    #[default]
    Xdp,
    /// TC.
    Tc,
}

/// Where a packet goes by `bpf_redirect`, `bpf_redirect_neigh` or `bpf_clone_redirect`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Redirect {
    /// The device.
    pub device: u32,
    /// `BPF_F_INGRESS`, or 0.
    pub flags: u64,
    /// The gateway whose MAC address the kernel fills in, and its family.
    pub neighbour: Option<(u8, [u8; 16])>,
}

/// A copy of a packet that `bpf_clone_redirect` has sent.
#[derive(Debug)]
pub struct Clone {
    /// Where to.
    pub to: Redirect,
    /// The packet.
    pub bytes: Vec<u8>,
    /// What stays with a copy that comes in again: `tc_index` and the control block.
    pub index: u16,
    /// See `index`.
    pub control: [u32; 5],
}

/// The program that runs.
#[derive(Default)]
pub struct Running {
    /// Its hook.
    pub tier: Cell<Tier>,
    /// Tail calls so far.
    pub(crate) calls: Cell<u32>,
    /// What ends the program for a tail call.
    pub(crate) yielder: Cell<Option<*const Yielder<(), Program>>>,
    /// Stacks that are free.
    pub(crate) stacks: RefCell<Vec<DefaultStack>>,
}

/// What of [`Running`] is a CPU's own: hook, tail calls, and what ends the program.
pub(crate) type State = (Tier, u32, Option<*const Yielder<(), Program>>);

impl Running {
    /// A CPU's own part.
    pub(crate) fn state(&self) -> State {
        (self.tier.get(), self.calls.get(), self.yielder.get())
    }

    /// Sets a CPU's own part.
    pub(crate) fn set_state(&self, (tier, calls, yielder): State) {
        self.tier.set(tier);
        self.calls.set(calls);
        self.yielder.set(yielder);
    }
}
