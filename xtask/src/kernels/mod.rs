//! `cargo xtask test --kernel`: boots other kernels under QEMU, with the host's files, and runs tests in them.

mod guest;
mod initramfs;
mod jobs;
mod kernel;
mod package;

use anyhow::{Result, bail};

use crate::process::{announce, target_dir};
use crate::{build, setup};

/// Programs that guests need, and the Debian package of each. Only these tests install them: they take 150 MB.
const TOOLS: [(&str, &str); 5] = [
    ("qemu-system-x86_64", "qemu-system-x86"),
    ("busybox", "busybox-static"),
    ("depmod", "kmod"),
    ("xz", "xz-utils"),
    ("cpio", "cpio"),
];

/// Which kernels, and what is done in them.
pub struct Wish {
    /// Series, such as `6.1`; none for all that apt offers.
    pub series: Vec<String>,
    /// Only tests whose name contains this.
    pub filter: Option<String>,
    /// Whether the table of the verifier's work is written, not compared.
    pub record: bool,
}

/// Boots each kernel in turn and runs its tests; fails if one of them does.
pub fn run(wish: &Wish) -> Result<()> {
    build::build(&setup::prepare()?)?;
    if std::env::consts::ARCH != "x86_64" {
        bail!("guests run this machine's own programs, and the kernels that are fetched are of x86_64");
    }
    setup::tools(&TOOLS)?;
    let series = if wish.series.is_empty() { package::offered()? } else { wish.series.clone() };
    let programs = jobs::test_programs()?;
    let mut lines = Vec::new();
    let mut failed = Vec::new();
    for series in &series {
        let begin = std::time::Instant::now();
        let kernel = package::prepare(series, &target_dir().join("kernels").join(series))?;
        initramfs::make(&kernel)?;
        announce(&format!("Linux {}: booting", kernel.release));
        let job = jobs::job(&kernel, &programs, wish.filter.as_deref(), wish.record)?;
        let (passed, summary) = guest::run(&kernel, &job)?;
        if wish.record {
            jobs::keep_record(&kernel)?;
        }
        if !passed {
            failed.push(series.as_str());
        }
        lines.push(format!("Linux {}: {summary} in {} s", kernel.release, begin.elapsed().as_secs()));
    }
    lines.iter().for_each(|line| announce(line));
    if !failed.is_empty() {
        bail!("tests failed on Linux {}", failed.join(", "));
    }
    Ok(())
}
