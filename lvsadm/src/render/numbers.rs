//! Numbers of `--stats` and `--rate`.

use std::fmt::Write;

/// Up to where a number is divided by what, and the letter that says so.
const SCALES: [(u64, u64, &str); 5] = [
    (100_000_000, 1, ""),
    (1_000_000_000, 1_000, "K"),
    (100_000_000_000, 1_000_000, "M"),
    (100_000_000_000_000, 1_000_000_000, "G"),
    (u64::MAX, 1_000_000_000_000, "T"),
];

/// Appends a number in nine columns, scaled down and cut off where it needs more.
pub fn scaled(line: &mut String, value: u64) {
    let [.., largest] = SCALES;
    let (_, factor, letter) = SCALES.into_iter().find(|scale| value < scale.0).unwrap_or(largest);
    let _ = write!(line, "{:>width$}{letter}", value / factor, width = 9 - letter.len());
}

/// Appends a whole number in nine columns, or in more with a blank before it.
pub fn exact(line: &mut String, value: u64) {
    let _ = write!(line, " {value:>8}");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(write: fn(&mut String, u64), value: u64) -> String {
        let mut line = String::new();
        write(&mut line, value);
        line
    }

    #[test]
    fn large_numbers_are_scaled_and_cut_off() {
        for (value, expected) in [
            (0, "        0"),
            (99_999_999, " 99999999"),
            (100_000_000, "  100000K"),
            (999_999_999, "  999999K"),
            (1_000_000_000, "    1000M"),
            (99_999_999_999, "   99999M"),
            (100_000_000_000, "     100G"),
            (99_999_999_999_999, "   99999G"),
            (100_000_000_000_000, "     100T"),
            (u64::MAX, "18446744T"),
        ] {
            assert_eq!(text(scaled, value), expected);
        }
        assert_eq!(text(exact, 123_456_789_012), " 123456789012");
        assert_eq!(text(exact, 5), "        5");
    }
}
