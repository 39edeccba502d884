//! Debian's kernels: which apt offers, and one of them unpacked, not installed.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use super::kernel::Kernel;
use crate::process::{announce, output, run as run_program};
use crate::setup;

/// The oldest kernel that the programs are made for.
const OLDEST: [u32; 2] = [6, 1];

/// The series that apt offers, from the oldest that is supported on.
pub fn offered() -> Result<Vec<String>> {
    let mut series: Vec<[u32; 2]> = names()?.iter().filter_map(|name| series_of(name)).collect();
    series.sort_unstable();
    series.dedup();
    ensure!(!series.is_empty(), "apt offers no kernel from Linux {}.{} on", OLDEST[0], OLDEST[1]);
    Ok(series.into_iter().map(|[major, minor]| format!("{major}.{minor}")).collect())
}

/// Names of the plain kernels that apt offers.
fn names() -> Result<Vec<String>> {
    let search = || output(Command::new("apt-cache").args(["search", "--names-only", "^linux-image-[0-9].*-amd64$"]));
    let plain = |text: String| -> Vec<String> {
        let names = text.lines().filter_map(|line| line.split(' ').next());
        names.filter(|name| series_of(name).is_some()).map(str::to_owned).collect()
    };
    setup::apt_update()?;
    Ok(search().map(plain).unwrap_or_default())
}

/// `linux-image-6.12.117+deb12-amd64` and `linux-image-6.1.0-56-amd64` are 6.12 and 6.1; kernels for clouds, with debugging symbols and
/// the like are none.
fn series_of(name: &str) -> Option<[u32; 2]> {
    let release = name.strip_prefix("linux-image-")?.strip_suffix("-amd64")?;
    let (major, rest) = release.split_once('.')?;
    let (minor, rest) = rest.split_once('.')?;
    let flavours = ["cloud", "rt", "unsigned", "dbg"];
    let is_plain = !flavours.iter().any(|flavour| rest.contains(flavour));
    let series = [major.parse().ok()?, minor.parse().ok()?];
    (is_plain && series >= OLDEST).then_some(series)
}

/// The numbers of a name: of two kernels of a series, the greater are the newer.
fn age(name: &str) -> Vec<u64> {
    name.split(|c: char| !c.is_ascii_digit()).filter_map(|number| number.parse().ok()).collect()
}

/// Fetches and unpacks the newest kernel of a series, unless one is there already.
pub fn prepare(series: &str, folder: &Path) -> Result<Kernel> {
    if !folder.join("boot").is_dir() {
        fetch(series, folder)?;
    }
    let mut releases =
        fs::read_dir(folder.join("lib/modules"))?.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let release = releases.next().with_context(|| format!("{} has no kernel: delete it", folder.display()))?;
    Ok(Kernel { release, folder: folder.to_owned() })
}

fn fetch(series: &str, folder: &Path) -> Result<()> {
    let names = names()?;
    let wanted = |name: &&String| series_of(name).is_some_and(|[major, minor]| format!("{major}.{minor}") == series);
    let Some(name) = names.iter().filter(wanted).max_by_key(|name| age(name)) else {
        bail!("apt offers no Linux {series}; it offers {}", offered()?.join(", "));
    };
    announce(&format!("fetching {name} (about 100 MB)"));
    let draft = folder.with_extension("draft");
    let _ = fs::remove_dir_all(&draft);
    fs::create_dir_all(&draft)?;
    // apt's own user may not write here.
    let mut download = Command::new("apt-get");
    download.args(["--quiet", "-o", "APT::Sandbox::User=root", "download", name]).current_dir(&draft);
    run_program(&mut download)?;
    let mut files = fs::read_dir(&draft)?.filter_map(|entry| Some(entry.ok()?.path()));
    let file = files.find(|path| path.extension().is_some_and(|it| it == "deb")).context("apt left no package")?;
    run_program(Command::new("dpkg-deb").arg("-x").arg(&file).arg(&draft))?;
    fs::remove_file(file)?;
    if !draft.join("lib").exists() {
        std::os::unix::fs::symlink("usr/lib", draft.join("lib"))?;
    }
    let release = name.strip_prefix("linux-image-").unwrap_or(name);
    // The kernel's own IPVS stays out: tests of what programs do without it run here.
    fs::remove_dir_all(draft.join("lib/modules").join(release).join("kernel/net/netfilter/ipvs"))?;
    run_program(Command::new("depmod").arg("-b").arg(&draft).arg(release))?;
    let _ = fs::remove_dir_all(folder);
    fs::rename(draft, folder).context("cannot put the kernel in its place")
}

#[cfg(test)]
mod tests {
    use super::{age, series_of};

    #[test]
    fn plain_kernels_are_told_from_others() {
        assert_eq!(series_of("linux-image-6.12.117+deb12-amd64"), Some([6, 12]));
        assert_eq!(series_of("linux-image-6.1.0-56-amd64"), Some([6, 1]));
        for other in ["linux-image-6.1.0-56-cloud-amd64", "linux-image-6.1.0-56-rt-amd64", "linux-image-5.10.0-1-amd64"]
        {
            assert_eq!(series_of(other), None, "{other}");
        }
    }

    #[test]
    fn the_newest_has_the_greatest_numbers() {
        assert!(age("linux-image-6.1.0-56-amd64") > age("linux-image-6.1.0-9-amd64"));
    }
}
