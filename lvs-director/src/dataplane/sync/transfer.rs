//! The whole table, for backups that have just begun: IPVS has nothing of the kind.

use std::time::{Duration, Instant};

use lvs_common::abi::Announcement;

use crate::dataplane::plane::Plane;

/// Buckets of each family that are sent at a time.
const PART: u32 = 256;
/// From one part to the next, so that a backup keeps up.
const PAUSE: Duration = Duration::from_millis(5);
/// How long after one transfer the next one may begin at the earliest: backups ask more than once.
const REST: Duration = Duration::from_millis(500);
/// And as many times as long as the transfer took: whoever asks again and again cannot have the master do nothing else.
const REST_SHARE: u32 = 4;

/// A transfer, if one is under way.
#[derive(Debug, Default)]
pub struct Transfer {
    /// The next bucket.
    next: Option<u32>,
    began: Option<Instant>,
    /// When the next one may begin.
    free: Option<Instant>,
    /// Whether one is asked for.
    is_wanted: bool,
}

impl Transfer {
    /// Asks for one: it begins now, or when the one before is long enough ago.
    pub fn ask(&mut self) {
        self.is_wanted = true;
    }

    /// How long it is until [`Transfer::part`] has something to do, at most `longest`.
    pub fn pause(&self, longest: Duration) -> Duration {
        match (self.next, self.is_wanted, self.free) {
            (Some(_), ..) => PAUSE,
            (None, true, Some(free)) => free.saturating_duration_since(Instant::now()).min(longest),
            (None, true, None) => Duration::ZERO,
            (None, false, _) => longest,
        }
    }

    /// The next part of the table.
    pub fn part(&mut self, plane: &Plane) -> Vec<Announcement> {
        let (mut part, now) = (Vec::new(), Instant::now());
        if self.is_wanted && self.next.is_none() && self.free.is_none_or(|free| free <= now) {
            (self.next, self.began, self.is_wanted) = (Some(0), Some(now), false);
        }
        if let Some(from) = self.next {
            self.next = plane.told(from, PART, &mut |announcement| part.push(announcement)).then_some(from + PART);
            if self.next.is_none() {
                let took = self.began.map_or(Duration::ZERO, |began| began.elapsed());
                self.free = Some(Instant::now() + REST.max(took * REST_SHARE));
            }
        }
        part
    }
}
