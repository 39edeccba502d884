//! stub
use anyhow::Result;
pub fn run(_: &super::Packages) -> Result<()> {
    Ok(())
}
