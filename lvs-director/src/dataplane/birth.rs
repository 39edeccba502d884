//! What a data plane's directory says of when it was loaded, and by which build: names of directories.

use std::fs;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use super::error::{Context, Result};

/// How the names begin.
const VERSION: &str = "version-";
const SINCE: &str = "since-";
const GENERATION: &str = "generation-";

/// When and by which build the programs of a data plane were loaded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Birth {
    /// The build's version.
    pub version: String,
    /// Seconds since 1970.
    pub since: u64,
    /// How many generations there have been, this one included: see `lvsadm resize` and `lvsadm upgrade`.
    pub generation: u32,
}

impl Birth {
    /// Of a data plane that this build loads now.
    pub fn now(generation: u32) -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        Birth { version: env!("CARGO_PKG_VERSION").to_owned(), since, generation }
    }

    /// Notes it in a directory of pins.
    pub fn mark(&self, directory: &Path) -> Result<()> {
        // A BPF file system takes no points in names.
        let Birth { version, since, generation } = self;
        let version = version.replace('.', "_");
        for name in [format!("{VERSION}{version}"), format!("{SINCE}{since}"), format!("{GENERATION}{generation}")] {
            fs::create_dir(directory.join(name)).context("cannot note the version")?;
        }
        Ok(())
    }

    /// What a directory of pins says.
    pub fn read(directory: &Path) -> Result<Self> {
        let mut birth = Birth { generation: 1, ..Birth::default() };
        for entry in fs::read_dir(directory).context("cannot look into the directory of pins")? {
            let Ok(name) = entry.context("cannot look into the directory of pins")?.file_name().into_string() else {
                continue;
            };
            if let Some(version) = name.strip_prefix(VERSION) {
                birth.version = version.replace('_', ".");
            } else if let Some(since) = name.strip_prefix(SINCE) {
                birth.since = since.parse().unwrap_or_default();
            } else if let Some(generation) = name.strip_prefix(GENERATION) {
                birth.generation = generation.parse().unwrap_or(1);
            }
        }
        Ok(birth)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_noted_is_read() {
        let directory = std::env::temp_dir().join(format!("lvs-birth-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let birth = Birth::now(7);
        birth.mark(&directory).unwrap();
        let read = Birth::read(&directory);
        fs::remove_dir_all(&directory).unwrap();
        assert_eq!(read.unwrap(), birth);
    }
}
