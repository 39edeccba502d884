//! The switch between two copies of a configuration.

/// Which of two copies of a configuration is in force, and from when on.
///
/// Services and destinations hold two copies of what packets read. A change fills the copy that is not in force and
/// stores a switch word `(epoch << 1) | copy` naming the *next* epoch; nothing is visible until the one global epoch
/// ([`Settings::epoch`](super::Settings::epoch)) is advanced by a single store. One store thus switches any number of objects at once, and a
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
