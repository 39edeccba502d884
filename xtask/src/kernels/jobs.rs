//! What is run in a guest: a shell script.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};

use super::guest::DONE;
use super::kernel::Kernel;
use crate::build;
use crate::process::{announce, host_cargo, output, root, run as run_program};

/// The test programs that guests run, and which of their tests: emulation is some twenty times slower than the host.
const PROGRAMS: [(&str, &[&str]); 5] = [
    ("verifier", &[]),
    (
        "scenarios",
        &[
            // Packet in, packet out.
            "packets::",
            // HTTP and UDP over veth, in both families, by each tier.
            "forwarding::nat",
            "forwarding::direct_routing",
            "forwarding::tunnel_ipip",
            "forwarding::fullnat_with_toa",
            // What comes and what leaves, seen in native XDP and in TC.
            "observe::packets_are_captured",
            "observe::a_trace_tells",
            // What needs a kernel without IPVS.
            "socket_options::",
            "compat::",
        ],
    ),
    ("nics", &[]),
    ("vlan", &[]),
    ("recordings", &CORE),
];

/// The core of the recordings: of each tier, a scenario of each forwarding method and of ICMP, in both families.
const CORE: [&str; 1] = ["traffic::"];

/// What a guest's programs are given besides.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Where the table with this kernel's column is written.
const RECORD: &str = "verifier.md";
/// The table in the repository.
const TABLE: &str = "docs/numbers/verifier.md";

/// A test program: its name and its file.
pub type Program = (String, PathBuf);

/// Builds the test programs; where they are.
pub fn test_programs() -> Result<Vec<Program>> {
    announce("building the tests");
    let build = ["test", "--no-run", "--package", "tests", "--tests"];
    run_program(host_cargo().args(build))?;
    let messages = output(host_cargo().args(build).args(["--quiet", "--message-format=json"]));
    let messages = messages.context("cargo does not say where the test programs are")?;
    let programs = PROGRAMS.iter().map(|(name, _)| {
        let message = messages.lines().find(|line| line.contains("\"executable\":\"") && is_test(line, name));
        let file = message.and_then(|line| line.split("\"executable\":\"").nth(1)?.split('"').next());
        Ok(((*name).to_owned(), file.with_context(|| format!("cargo did not build test program {name}"))?.into()))
    });
    programs.collect()
}

/// Whether a message of cargo's is of test program `name`.
fn is_test(message: &str, name: &str) -> bool {
    message.contains(&format!("\"kind\":[\"test\"],\"crate_types\":[\"bin\"],\"name\":\"{name}\""))
}

/// The script: it runs the programs, each with its tests, and says how many of them failed. Only tests whose name contains `filter`, if
/// there is one; `record` has the table of the verifier's work written, not compared.
pub fn job(kernel: &Kernel, programs: &[Program], filter: Option<&str>, record: bool) -> Result<String> {
    let modules = format!("/lib/modules/{}", kernel.release);
    let mut job = String::from("failed=0\n");
    for (name, value) in [
        ("PATH", PATH),
        ("HOME", "/root"),
        ("LVSADM", &build::lvsadm().display().to_string()),
        ("RUST_BACKTRACE", "0"),
        // One CPU.
        ("RUST_TEST_THREADS", "2"),
    ] {
        job += &format!("export {name}={}\n", word(value));
    }
    if record {
        let _ = fs::remove_file(kernel.share().join(RECORD));
        job += &format!("export LVS_VERIFIER_RECORD=/run/share/{RECORD}\n");
    }
    job += &format!("mkdir -p {modules} && mount --bind {} {modules}\n", word(&kernel.modules().display().to_string()));
    // Nothing else looks for the guest's network devices.
    job += "modprobe -a virtio_net e1000\nip link set lo up\nhostname guest\nuname -r\n";
    job += &format!("cd {}\n", word(&root().join("tests").display().to_string()));
    for ((name, file), (_, tests)) in programs.iter().zip(PROGRAMS) {
        let filters: Vec<&str> = match filter {
            Some(filter) => vec![filter],
            None => tests.to_vec(),
        };
        let filters = filters.into_iter().map(word).collect::<Vec<_>>().join(" ");
        let file = word(&file.display().to_string());
        job += &format!("echo '==> {name}'\n{file} --color never {filters} || failed=$((failed + 1))\n");
    }
    job += &format!("echo \"{DONE}$failed\"\n");
    // All that was written leaves the line first; this is the first process, which may not end.
    job += "stty -F /dev/ttyS1 raw\nsync\nbusybox reboot -f\nsleep 100\n";
    Ok(job)
}

/// Puts the table that a guest wrote in the place of the repository's.
pub fn keep_record(kernel: &Kernel) -> Result<()> {
    let written = kernel.share().join(RECORD);
    fs::copy(&written, root().join(TABLE)).with_context(|| format!("the guest did not write {}", written.display()))?;
    Ok(())
}

/// `text` as a word of a shell.
fn word(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::word;

    #[test]
    fn words_keep_what_the_shell_would_change() {
        assert_eq!(word("it's $HOME"), r"'it'\''s $HOME'");
    }
}
