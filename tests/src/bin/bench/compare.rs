//! This run's figures beside those of an earlier one.

use crate::report::{Figure, Report};

/// By so much a figure may be worse, beside the spreads of both.
const TOLERANCE: f64 = 0.05;

/// A figure of both runs.
struct Pair<'a> {
    before: &'a Figure,
    now: &'a Figure,
}

impl Pair<'_> {
    /// How much worse it is, as a part of what it was. A figure in terms of its section's reference is compared so, as a machine's clock
    /// changes between runs.
    fn worse(&self) -> f64 {
        let (before, now) = match (self.before.ratio, self.now.ratio) {
            (Some(before), Some(now)) => (before, now),
            _ => (self.before.value, self.now.value),
        };
        // Rates are better the greater they are, costs the smaller.
        if self.now.unit.ends_with("/s") || self.now.unit.ends_with("pps") {
            before / now - 1.0
        } else {
            now / before - 1.0
        }
    }

    /// Whether that is more than chance.
    fn is_worse(&self) -> bool {
        let spreads = [self.before, self.now].map(|figure| figure.spread.unwrap_or_default());
        self.worse() > TOLERANCE + spreads.iter().sum::<f64>()
    }
}

/// Prints each figure that both runs have, and how much worse it is. How many are worse by more than chance.
pub fn compare(before: &Report, now: &Report) -> usize {
    println!("\n{:<60}{:>12}{:>12}{:>10}", "figure", "before", "now", "worse");
    let mut worse = 0;
    for figure in &now.figures {
        let is_same = |other: &&Figure| other.section == figure.section && other.name == figure.name;
        let Some(before) = before.figures.iter().find(is_same) else { continue };
        let pair = Pair { before, now: figure };
        let (name, percent) = (format!("{}: {}", figure.section, figure.name), pair.worse() * 100.0);
        let mark = if pair.is_worse() { " !" } else { "" };
        println!("{name:<60}{:>12.2}{:>12.2}{percent:>+8.1} %{mark}", before.value, figure.value);
        worse += usize::from(pair.is_worse());
    }
    worse
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figure(value: f64, unit: &str, ratio: Option<f64>, spread: Option<f64>) -> Report {
        let (section, name, unit) = ("packet".to_owned(), "nat".to_owned(), unit.to_owned());
        Report { figures: vec![Figure { section, name, value, unit, ratio, spread }] }
    }

    #[test]
    fn costs_may_not_grow_nor_rates_fall_by_more_than_chance() {
        let count = |before, now| compare(&before, &now);
        assert_eq!(count(figure(100.0, "ns", None, None), figure(104.0, "ns", None, None)), 0);
        assert_eq!(count(figure(100.0, "ns", None, None), figure(106.0, "ns", None, None)), 1);
        assert_eq!(count(figure(100.0, "ns", None, Some(0.02)), figure(106.0, "ns", None, Some(0.02))), 0);
        assert_eq!(count(figure(100.0, "k/s", None, None), figure(80.0, "k/s", None, None)), 1);
        assert_eq!(count(figure(100.0, "k/s", None, None), figure(200.0, "k/s", None, None)), 0);
    }

    #[test]
    fn what_has_a_reference_is_compared_in_its_terms() {
        let (before, now) = (figure(100.0, "ns", Some(1.0), None), figure(150.0, "ns", Some(1.0), None));
        assert_eq!(compare(&before, &now), 0);
    }

    #[test]
    fn what_only_one_run_has_is_not_compared() {
        assert_eq!(compare(&Report::default(), &figure(1.0, "ns", None, None)), 0);
    }
}
