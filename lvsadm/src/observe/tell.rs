//! How stories are told.

use std::fmt::Write;

use super::story::Story;
use crate::render;

/// Seconds of a day.
const DAY: f64 = 86_400.0;

/// For people.
pub fn text(story: &Story) -> String {
    // Of the day, in UTC.
    let seconds = story.time % DAY;
    let (hours, minutes, rest) = (seconds / 3600.0, seconds % 3600.0 / 60.0, seconds % 60.0);
    let Story { device, tier, packet, .. } = story;
    let mut text = format!("{:02}:{:02}:{rest:09.6} {device} {tier} {packet}\n", hours as u32, minutes as u32);
    for step in &story.steps {
        let _ = writeln!(text, "  {:<12} {}", step.step, step.what);
    }
    text
}

/// For programs: a line of JSON.
pub fn json(story: &Story) -> String {
    render::json::line(story)
}
