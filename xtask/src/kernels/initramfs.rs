//! What a guest begins with: a shell, `tests/guest/init`, and the modules without which it cannot read the host's files.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::kernel::Kernel;
use crate::process::{find, root, run as run_program};

/// For the host's files.
const MODULES: [&str; 4] = ["virtio_pci", "9pnet_virtio", "9p", "overlay"];

/// Makes it anew.
pub fn make(kernel: &Kernel) -> Result<()> {
    let draft = kernel.folder.join("initramfs.d");
    let _ = fs::remove_dir_all(&draft);
    for folder in ["bin", "dev", "proc", "sys", "modules", "lower", "layer", "root"] {
        fs::create_dir_all(draft.join(folder))?;
    }
    let busybox = find("busybox").context("busybox is missing")?;
    fs::copy(busybox, draft.join("bin/busybox"))?;
    fs::copy(root().join("tests/guest/init"), draft.join("init"))?;
    run_program(Command::new("chmod").arg("755").arg(draft.join("init")))?;
    let mut order = Vec::new();
    for file in in_order(&kernel.modules())? {
        order.push(unpack(&kernel.modules().join(file), &draft.join("modules"))?);
    }
    fs::write(draft.join("modules/order"), order.join("\n"))?;
    let pack = "find . | cpio --quiet --create --format=newc > ../initramfs";
    run_program(Command::new("sh").args(["-c", pack]).current_dir(&draft))?;
    fs::remove_dir_all(draft).map_err(Into::into)
}

/// Copies a module, unpacked; its name.
fn unpack(module: &Path, folder: &Path) -> Result<String> {
    let name = module.file_name().and_then(|name| name.to_str()).context("a module without a name")?;
    let Some(plain) = name.strip_suffix(".xz") else {
        fs::copy(module, folder.join(name))?;
        return Ok(name.to_owned());
    };
    let output = Command::new("xz").args(["--decompress", "--stdout"]).arg(module).output()?;
    ensure!(output.status.success(), "cannot unpack {}", module.display());
    fs::write(folder.join(plain), output.stdout)?;
    Ok(plain.to_owned())
}

/// The files of [`MODULES`] and of what they need, what is needed first. Modules that are built into the kernel have none.
fn in_order(modules: &Path) -> Result<Vec<PathBuf>> {
    let dependencies = fs::read_to_string(modules.join("modules.dep")).context("depmod left no modules.dep")?;
    let mut order = Vec::new();
    for wanted in MODULES {
        let row = dependencies.lines().filter_map(|line| line.split_once(':')).find(|(file, _)| name(file) == wanted);
        let Some((file, needed)) = row else { continue };
        // The nearest comes first.
        for file in needed.split_whitespace().rev().chain([file]) {
            if !order.contains(&PathBuf::from(file)) {
                order.push(file.into());
            }
        }
    }
    Ok(order)
}

/// `kernel/fs/9p/9p.ko.xz` is module `9p`.
fn name(file: &str) -> &str {
    let file = file.rsplit('/').next().unwrap_or(file);
    file.split_once(".ko").map_or(file, |(name, _)| name)
}
