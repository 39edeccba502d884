//! The demo, interrupted: nothing is left of it.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::sched::{CloneFlags, setns};
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;
use tests::fixtures::pins;

/// Namespaces of a process.
fn namespaces(process: u32) -> Vec<String> {
    let prefix = format!("lvst-{process}-");
    let names = std::fs::read_dir("/run/netns").into_iter().flatten().flatten();
    names
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .filter(|name| name.starts_with(&prefix))
        .collect()
}

/// Where `lvsadm` pins a namespace's data plane.
fn pinned(namespace: &str) -> Result<PathBuf> {
    let inside = File::open(Path::new("/run/netns").join(namespace))?;
    let worker = thread::spawn(move || {
        setns(&inside, CloneFlags::CLONE_NEWNET)?;
        pins()
    });
    worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// Programs that run in a namespace.
fn programs(namespace: &str) -> Vec<PathBuf> {
    let output = Command::new("ip").args(["netns", "pids", namespace]).output().unwrap();
    String::from_utf8_lossy(&output.stdout).split_whitespace().map(|id| Path::new("/proc").join(id)).collect()
}

/// Who is told to end.
enum Whom {
    /// The demo and the programs it runs, as by ^C on a terminal.
    All,
    /// The demo alone, as by kill(1).
    Demo,
}

/// Interrupts the demo once it has printed a line with `moment` in it.
fn interrupt(moment: &str, whom: Whom) -> Result<()> {
    let demo = env!("CARGO_BIN_EXE_demo");
    let mut demo = Command::new(demo).arg("nat").stdout(Stdio::piped()).process_group(0).spawn()?;
    let id = demo.id();
    let mut lines = BufReader::new(demo.stdout.take().context("no output")?).lines();
    lines.find(|line| line.as_ref().is_ok_and(|line| line.contains(moment))).context("it never came so far")??;
    let names = namespaces(id);
    assert!(names.len() > 3, "{names:?}");
    let directories: Vec<_> = names.iter().map(|name| pinned(name)).collect::<Result<_>>()?;
    let running: Vec<_> = names.iter().flat_map(|name| programs(name)).collect();
    let signal = match whom {
        Whom::All => {
            killpg(Pid::from_raw(id as i32), Signal::SIGINT)?;
            Signal::SIGINT
        }
        Whom::Demo => {
            kill(Pid::from_raw(id as i32), Signal::SIGTERM)?;
            Signal::SIGTERM
        }
    };
    assert_eq!(demo.wait()?.code(), Some(128 + signal as i32), "{moment}");
    assert_eq!(namespaces(id), Vec::<String>::new(), "{moment}");
    assert!(!directories.iter().any(|directory| directory.exists()), "{moment}: still pinned: {directories:?}");
    let end = Instant::now() + Duration::from_secs(5);
    while running.iter().any(|process| process.exists()) {
        assert!(Instant::now() < end, "{moment}: still running: {running:?}");
        thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

#[test]
fn interrupted_it_leaves_nothing() {
    // The data plane is being loaded; rules are half done; requests are under way and a capture runs.
    interrupt("lvsadm -A -t 10.10.10.10:80", Whom::All).unwrap();
    interrupt("lvsadm -a -t 10.10.10.10:80", Whom::All).unwrap();
    interrupt("client$ curl", Whom::Demo).unwrap();
}
