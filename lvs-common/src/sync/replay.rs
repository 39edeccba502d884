//! Which numbered messages of a sender were received before.

/// The numbers of one sender's messages that were received: the highest, and which of those below it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Window {
    highest: u64,
    /// Bit `n` stands for the number that is `n` less than the highest.
    received: u128,
}

impl Window {
    /// Notes a number; `false` if it was noted before, or is so much lower than the highest that nobody knows. Numbers begin at 1.
    pub fn note(&mut self, number: u64) -> bool {
        if number > self.highest {
            let ahead = number - self.highest;
            self.received = if ahead < 128 { self.received << ahead } else { 0 };
            self.highest = number;
        }
        let behind = self.highest - number;
        if number == 0 || behind >= 128 || self.received & 1 << behind != 0 {
            return false;
        }
        self.received |= 1 << behind;
        true
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_number_is_taken_once_and_only_old_ones_are_lost(numbers in prop::collection::vec(1u64..600, 1..400)) {
            let (mut window, mut seen, mut highest) = (Window::default(), HashSet::new(), 0);
            for number in numbers {
                highest = highest.max(number);
                let is_new = seen.insert(number);
                let is_known = highest - number < 128;
                prop_assert_eq!(window.note(number), is_new && is_known);
            }
        }
    }

    #[test]
    fn the_ends_of_the_range_are_numbers_as_others() {
        let mut window = Window::default();
        assert!(!window.note(0));
        assert!(window.note(u64::MAX) && !window.note(u64::MAX) && !window.note(1));
    }
}
