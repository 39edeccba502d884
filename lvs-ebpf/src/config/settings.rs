//! The settings.

use crate::maps::SETTINGS;
use lvs_common::abi::Settings;

/// The settings.
#[inline(always)]
pub fn settings() -> Option<&'static Settings> {
    SETTINGS.get(0)
}
