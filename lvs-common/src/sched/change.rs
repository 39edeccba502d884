//! Changes of a service that its scheduler's state follows.

use crate::abi::DestId;

/// A change of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// The scheduler was attached: the service is new, or was given another scheduler.
    Attached,
    /// A destination was added.
    Added,
    /// A destination was edited.
    Edited,
    /// A destination was removed.
    Removed {
        /// Its number.
        dest: DestId,
        /// The destination before it on the list (the next newer one), 0 if it was the head.
        predecessor: DestId,
    },
}

/// The greatest of `weights`, and the greatest common divisor of those that are not 0 (1 if all are): what
/// [`ServiceConfig::weight_max`](crate::abi::ServiceConfig) and `weight_gcd` hold.
pub fn weights(weights: impl Iterator<Item = u32>) -> (u32, u32) {
    let (max, gcd) = weights.fold((0, 0), |(max, gcd), weight| (weight.max(max), common_divisor(gcd, weight)));
    (max, gcd.max(1))
}

/// Greatest common divisor; that of 0 and a number is the number.
const fn common_divisor(mut a: u32, mut b: u32) -> u32 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_leave_out_the_quiesced() {
        assert_eq!(weights([10, 0, 15].into_iter()), (15, 5));
        assert_eq!(weights([0, 0].into_iter()), (0, 1));
        assert_eq!(weights([].into_iter()), (0, 1));
        assert_eq!(weights([7].into_iter()), (7, 7));
    }
}
