//! Standard output.

use std::io::{self, Write};

use anyhow::{Context, Result};

/// Prints a text. A reader that has gone away is no error.
pub fn print(text: &str) -> Result<()> {
    match io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error).context("cannot write"),
        _ => Ok(()),
    }
}
