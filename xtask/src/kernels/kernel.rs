//! A kernel on this machine, and what lies beside it.

use std::path::PathBuf;

/// A kernel that is ready to boot.
pub struct Kernel {
    /// As `uname -r` says.
    pub release: String,
    /// Where it is unpacked: `boot`, `lib/modules`, `initramfs`.
    pub folder: PathBuf,
}

impl Kernel {
    /// The image that QEMU boots.
    pub fn image(&self) -> PathBuf {
        self.folder.join("boot").join(format!("vmlinuz-{}", self.release))
    }

    /// Its modules.
    pub fn modules(&self) -> PathBuf {
        self.folder.join("lib/modules").join(&self.release)
    }

    /// The archive that the kernel begins with.
    pub fn initramfs(&self) -> PathBuf {
        self.folder.join("initramfs")
    }

    /// What the guest and the host both read and write.
    pub fn share(&self) -> PathBuf {
        self.folder.join("share")
    }
}
