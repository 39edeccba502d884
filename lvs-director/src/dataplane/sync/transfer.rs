//! The whole table, for backups that have just begun: IPVS has nothing of the kind.

use std::time::{Duration, Instant};

use lvs_common::abi::Announcement;

use crate::dataplane::plane::Plane;

/// Buckets of each family that are sent at a time.
const PART: u32 = 256;
/// From one part to the next, so that a backup keeps up.
pub const PAUSE: Duration = Duration::from_millis(5);
/// How long after one transfer has begun the next one may: backups ask more than once.
const REST: Duration = Duration::from_secs(5);

/// A transfer, if one is under way.
#[derive(Debug, Default)]
pub struct Transfer {
    /// The next bucket.
    next: Option<u32>,
    began: Option<Instant>,
    /// Whether one is asked for.
    is_wanted: bool,
}

impl Transfer {
    /// Asks for one: it begins now, or when the last one is long enough ago.
    pub fn ask(&mut self) {
        self.is_wanted = true;
    }

    /// Whether one is under way.
    pub fn is_under_way(&self) -> bool {
        self.next.is_some()
    }

    /// The next part of the table.
    pub fn part(&mut self, plane: &Plane) -> Vec<Announcement> {
        let mut part = Vec::new();
        if self.is_wanted && self.next.is_none() && self.began.is_none_or(|began| began.elapsed() >= REST) {
            *self = Transfer { next: Some(0), began: Some(Instant::now()), is_wanted: false };
        }
        if let Some(from) = self.next {
            self.next = plane.told(from, PART, &mut |announcement| part.push(announcement)).then_some(from + PART);
        }
        part
    }
}
