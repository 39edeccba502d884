//! No scheduler: the service schedules nothing.

use super::traits::Traits;

/// What this scheduler is.
pub const TRAITS: Traits = Traits::new("none");
