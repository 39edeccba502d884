//! Layout of every BPF map's keys and values, one file a table.
//!
//! Both sides are built from this source, so the layout is C's (`repr(C)`) with explicit padding, and every size
//! is asserted. [`LAYOUT_VERSION`] follows from the types: pinned maps of another layout are never opened.

mod address;
pub mod bench;
mod connection;
mod destination;
mod device;
mod idle;
mod layout;
mod local;
mod mark;
mod next_hop;
mod roster;
mod service;
mod settings;
mod statistics;
pub mod sysctls;
pub mod tunnel;

pub use address::*;
pub use connection::*;
pub use destination::*;
pub use device::*;
pub use idle::*;
pub use layout::LAYOUT_VERSION;
pub use local::*;
pub use mark::*;
pub use next_hop::*;
pub use roster::*;
pub use service::*;
pub use settings::*;
pub use statistics::*;
pub use sysctls::Sysctls;

/// Index of a destination in the `DESTS` map. 0 is never a destination: it means "none".
pub type DestId = u32;

/// Index of a virtual service in the `SERVICES` map. 0 is never a service: it means "none".
pub type ServiceId = u32;

/// Which of two copies of a configuration is in force, and from when on.
///
/// Services and destinations hold two copies of what packets read. A change fills the copy that is not in force and
/// stores a switch word `(epoch << 1) | copy` naming the *next* epoch; nothing is visible until the one global epoch
/// ([`Settings::epoch`]) is advanced by a single store. One store thus switches any number of objects at once, and a
/// writer that dies before it leaves nothing behind but unused copies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(transparent)]
pub struct Switch(pub u64);

impl Switch {
    /// A switch to `copy` (0 or 1) that takes effect when the global epoch reaches `epoch`.
    pub const fn at(epoch: u64, copy: usize) -> Self {
        Switch((epoch << 1) | (copy as u64 & 1))
    }

    /// The copy in force at `epoch`: the named one once its epoch has come, the other one before.
    #[inline(always)]
    pub const fn copy(self, epoch: u64) -> usize {
        let reached = (epoch >= self.0 >> 1) as u64;
        ((self.0 & 1) ^ reached ^ 1) as usize
    }

    /// Whether the switch is still to come at `epoch`: a change that was prepared but never made.
    pub const fn pending(self, epoch: u64) -> bool {
        self.0 >> 1 > epoch
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_switch_shows_the_other_copy_until_its_epoch() {
        for copy in 0..2 {
            let switch = Switch::at(7, copy);
            assert_eq!(switch.copy(6), 1 - copy);
            assert_eq!(switch.copy(7), copy);
            assert_eq!(switch.copy(8), copy);
            assert!(switch.pending(6) && !switch.pending(7));
        }
        assert_eq!(Switch::default().copy(0), 0);
    }
}
