//! A guest: QEMU without KVM, one CPU, the host's files by 9p, and network devices of two drivers.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::Stdio;

use anyhow::{Context, Result, bail};

use super::kernel::Kernel;
use crate::process::as_root;
use crate::test::Summary;

/// Seconds after which a guest is taken for dead.
const PATIENCE: &str = "2400";

/// What the kernel is told. Mitigations cost time and show nothing here.
const KERNEL_ARGUMENTS: &str =
    "console=ttyS0 quiet reboot=t panic=-1 random.trust_cpu=on mitigations=off tsc=reliable clocksource=tsc";

/// Network devices come in pairs, each pair a cable, so that frames go through a driver: QEMU's name of the device, and what it may not
/// do. A driver with native XDP takes neither merged segments nor unfinished checksums from its host. `tests::topology::nics` finds them by
/// their MAC addresses, 52:54:00:DRIVER:CABLE:END.
const DRIVERS: [&str; 2] =
    ["virtio-net-pci,guest_csum=off,guest_tso4=off,guest_tso6=off,guest_ecn=off,guest_ufo=off", "e1000"];

/// How many cables there are of each driver: a director has two arms.
const CABLES: usize = 2;

/// The last line that a job writes.
pub const DONE: &str = "guest: done, programs that failed: ";

/// Boots the kernel and runs a job, a shell script. Whether all was well, and what the tests counted.
pub fn run(kernel: &Kernel, job: &str) -> Result<(bool, Summary)> {
    fs::create_dir_all(kernel.share())?;
    fs::write(kernel.share().join("job"), job)?;
    let console = kernel.folder.join("console.log");
    // 9p gives the guest what QEMU may read, and the guest is root.
    let mut qemu = as_root("timeout").context("guests read files of root's: run this as root, or install sudo")?;
    qemu.args(["--kill-after=5", PATIENCE, "qemu-system-x86_64"]);
    qemu.args(arguments(kernel, &console));
    let mut child = qemu.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().context("cannot run QEMU")?;
    let mut summary = Summary::default();
    let mut done = None;
    let lines = BufReader::new(child.stdout.take().context("no output of QEMU")?);
    for line in lines.split(b'\n') {
        let line = line?;
        let line = String::from_utf8_lossy(&line);
        let line = line.trim_end();
        println!("{line}");
        summary.add(line);
        done = line.strip_prefix(DONE).map(str::to_owned).or(done);
    }
    child.wait()?;
    let Some(failed) = done else {
        bail!("Linux {} did not come to its end: see {}", kernel.release, console.display());
    };
    Ok((failed == "0", summary))
}

fn arguments(kernel: &Kernel, console: &Path) -> Vec<String> {
    let shared = |id: &str, path: &str, more: &str| {
        let file = format!("local,id={id},path={},security_model=none,multidevs=remap{more}", quoted(path));
        ["-fsdev".to_owned(), file, "-device".to_owned(), format!("virtio-9p-pci,fsdev={id},mount_tag={id}")]
    };
    let mut all: Vec<String> = ["-M", "pc", "-accel", "tcg", "-cpu", "max", "-smp", "1", "-m", "2560", "-nodefaults"]
        .into_iter()
        .chain(["-no-user-config", "-display", "none", "-no-reboot", "-device", "virtio-rng-pci", "-append"])
        .chain([KERNEL_ARGUMENTS, "-chardev", "stdio,id=out,signal=off"])
        .map(str::to_owned)
        .collect();
    let console = format!("file,id=console,path={}", quoted(&console.display().to_string()));
    all.extend(["-chardev".to_owned(), console]);
    all.extend(["-serial", "chardev:console", "-serial", "chardev:out"].map(str::to_owned));
    all.extend(["-kernel".to_owned(), kernel.image().display().to_string()]);
    all.extend(["-initrd".to_owned(), kernel.initramfs().display().to_string()]);
    all.extend(shared("root", "/", ",readonly=on"));
    all.extend(shared("share", &kernel.share().display().to_string(), ""));
    for (number, driver) in DRIVERS.iter().enumerate() {
        for cable in 0..CABLES {
            for end in 0..2 {
                let id = format!("n{number}{cable}{end}");
                let hub = number * CABLES + cable;
                let mac = format!("52:54:00:{number:02x}:{cable:02x}:{end:02x}");
                all.extend(["-netdev".to_owned(), format!("hubport,id={id},hubid={hub}")]);
                all.extend(["-device".to_owned(), format!("{driver},netdev={id},mac={mac}")]);
            }
        }
    }
    all
}

/// A value in an option of QEMU's.
fn quoted(value: &str) -> String {
    value.replace(',', ",,")
}
