//! When connection thresholds keep new connections away from a destination. `total` is active and inactive connections
//! together; templates do not count.

/// Whether a connection that was just bound makes the destination overloaded. `total` includes it.
#[inline(always)]
pub const fn bind_overloads(total: u32, upper: u32) -> bool {
    upper != 0 && total >= upper
}

/// Whether a connection that was just unbound ends the overload. `total` no longer includes it. Without a lower
/// threshold three quarters of the upper one stand for it.
#[inline(always)]
pub const fn unbind_clears(total: u32, lower: u32, upper: u32) -> bool {
    if lower != 0 {
        total < lower
    } else if upper != 0 {
        (total as u64).wrapping_mul(4) < (upper as u64).wrapping_mul(3)
    } else {
        true
    }
}

/// Whether an edit of the upper threshold ends the overload.
pub const fn edit_clears(old_upper: u32, new_upper: u32) -> bool {
    new_upper == 0 || new_upper > old_upper
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thresholds_have_a_hysteresis() {
        assert!(bind_overloads(4, 4) && !bind_overloads(3, 4) && !bind_overloads(9, 0));
        assert!(unbind_clears(1, 2, 4) && !unbind_clears(2, 2, 4));
        assert!(unbind_clears(5, 0, 8) && !unbind_clears(6, 0, 8));
        assert!(unbind_clears(u32::MAX, 0, 0));
        assert!(edit_clears(4, 0) && edit_clears(4, 5) && !edit_clears(4, 4));
    }
}
