//! A package's files while they are put together, and the package made of them.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::process::run as run_program;

/// Rights of files that are read, and of those that are run.
const READ: u32 = 0o644;
const RUN: u32 = 0o755;

/// See the module.
pub struct Tree {
    root: PathBuf,
    conffiles: String,
}

impl Tree {
    /// An empty one in a folder that is made anew.
    pub fn new(root: PathBuf) -> Result<Self> {
        if root.exists() {
            fs::remove_dir_all(&root).with_context(|| format!("cannot remove {}", root.display()))?;
        }
        fs::create_dir_all(root.join("DEBIAN")).with_context(|| format!("cannot create {}", root.display()))?;
        Ok(Tree { root, conffiles: String::new() })
    }

    /// Where a path of the installed system is, its folder made.
    fn place(&self, path: &str) -> Result<PathBuf> {
        let place = self.root.join(path.trim_start_matches('/'));
        let folder = place.parent().context("a path below the root")?;
        // Not by the umask: every folder is of the same rights on every machine.
        for ancestor in
            folder.ancestors().take_while(|ancestor| *ancestor != self.root).collect::<Vec<_>>().iter().rev()
        {
            if !ancestor.exists() {
                fs::create_dir(ancestor).with_context(|| format!("cannot create {}", ancestor.display()))?;
                fs::set_permissions(ancestor, Permissions::from_mode(RUN))?;
            }
        }
        Ok(place)
    }

    fn put(&self, path: &str, contents: &[u8], mode: u32) -> Result<PathBuf> {
        let place = self.place(path)?;
        fs::write(&place, contents).with_context(|| format!("cannot write {}", place.display()))?;
        fs::set_permissions(&place, Permissions::from_mode(mode))?;
        Ok(place)
    }

    /// A file that is read.
    pub fn file(&self, path: &str, contents: impl AsRef<[u8]>) -> Result<()> {
        self.put(path, contents.as_ref(), READ).map(drop)
    }

    /// A file that the administrator may change, and upgrades leave alone then.
    pub fn conffile(&mut self, path: &str, contents: impl AsRef<[u8]>) -> Result<()> {
        self.conffiles.push_str(path);
        self.conffiles.push('\n');
        self.file(path, contents)
    }

    /// A program, or a script of the package's.
    pub fn program(&self, path: &str, contents: impl AsRef<[u8]>) -> Result<()> {
        self.put(path, contents.as_ref(), RUN).map(drop)
    }

    /// A file that is kept compressed.
    pub fn compressed(&self, path: &str, contents: impl AsRef<[u8]>) -> Result<()> {
        let place = self.put(path, contents.as_ref(), READ)?;
        run_program(Command::new("gzip").args(["--best", "--no-name", "--force"]).arg(place))
    }

    /// A link.
    pub fn link(&self, path: &str, target: &str) -> Result<()> {
        let place = self.place(path)?;
        symlink(target, &place).with_context(|| format!("cannot link {}", place.display()))
    }

    /// Makes the package: `control` lacks its size, `scripts` are the maintainer's.
    pub fn build(self, control: &str, scripts: &[(&str, &str)], package: &Path) -> Result<()> {
        for (name, script) in scripts {
            self.program(&format!("DEBIAN/{name}"), script)?;
        }
        if !self.conffiles.is_empty() {
            self.file("DEBIAN/conffiles", &self.conffiles)?;
        }
        let size = size(&self.root)?.div_ceil(1024);
        self.file("DEBIAN/control", control.replace("@SIZE@", &size.to_string()))?;
        let build = ["--root-owner-group", "-Zxz", "--build"];
        run_program(Command::new("dpkg-deb").args(build).arg(&self.root).arg(package))
    }
}

/// Bytes of the files below a folder.
fn size(folder: &Path) -> Result<u64> {
    let mut sum = 0;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        sum += if kind.is_dir() { size(&entry.path())? } else { entry.metadata()?.len() };
    }
    Ok(sum)
}
