//! Why the data plane fails.

use crate::director::Error;

/// An error of the maps, told in one line.
pub fn failed(error: anyhow::Error) -> Error {
    Error::Other(format!("{error:#}"))
}
