//! The layouts of two generations.

use std::path::Path;

use super::super::error::Result;
use super::description::Description;
use super::mark;

/// See the module.
#[derive(Debug)]
pub struct Layouts {
    /// Of the generation before.
    pub from: Description,
    /// Of the next one, which this build makes.
    pub own: Description,
}

impl Layouts {
    /// From that of a directory of pins to this build's.
    pub fn from(old: &Path) -> Result<Self> {
        Ok(Layouts { from: mark::of(old)?, own: Description::own() })
    }
}
