//! A network namespace, and running things in it.

use std::fs::{self, File};
use std::io::Write;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicI32, AtomicU32, Ordering};
use std::sync::{Condvar, Mutex, Once};
use std::time::Duration;
use std::{env, process, thread};

use anyhow::{Context, Result, ensure};
use nix::sched::{CloneFlags, setns};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};

/// Where `ip netns` keeps namespaces.
const FOLDER: &str = "/run/netns";
/// All our namespaces are `lvst-PROCESS-NUMBER-LABEL`.
const PREFIX: &str = "lvst-";

/// A network namespace that `ip netns` knows; dropped, it goes with all that was started in it.
pub struct Namespace {
    name: String,
    children: Mutex<Vec<Child>>,
}

impl Namespace {
    /// A new one with `lo` up; `label` is for humans.
    pub fn new(label: &str) -> Result<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        static FIRST: Once = Once::new();
        FIRST.call_once(|| {
            remove_those_of(|owner| !Path::new("/proc").join(owner).exists());
            remove_ours_on_signals();
        });
        let name = format!("{PREFIX}{}-{}-{label}", process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        run(Command::new("ip").args(["netns", "add", &name]))?;
        let namespace = Namespace { name, children: Mutex::default() };
        namespace.ip(&["link set lo up"])?;
        // Nobody has our addresses already, and looking for them would take a second.
        namespace.sysctl(&["net/ipv6/conf/default/accept_dad=0", "net/ipv6/conf/default/dad_transmits=0"])?;
        Ok(namespace)
    }

    /// Its name as `ip netns` has it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Runs `ip` commands in it, one a line, without the word `ip`.
    pub fn ip(&self, commands: &[impl AsRef<str>]) -> Result<()> {
        let _running = Running::new();
        let mut child = Command::new("ip")
            .args(["-n", &self.name, "-batch", "-"])
            .stdin(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let lines: Vec<&str> = commands.iter().map(AsRef::as_ref).collect();
        child.stdin.take().context("no input")?.write_all(lines.join("\n").as_bytes())?;
        let output = child.wait_with_output()?;
        ensure!(output.status.success(), "{}: ip: {}", self.name, String::from_utf8_lossy(&output.stderr));
        Ok(())
    }

    /// Sets kernel settings, each `path below /proc/sys=value`.
    pub fn sysctl(&self, settings: &[&str]) -> Result<()> {
        self.enter(|| {
            for setting in settings {
                let (key, value) = setting.split_once('=').context("a setting is KEY=VALUE")?;
                fs::write(format!("/proc/sys/{key}"), value).with_context(|| (*setting).to_owned())?;
            }
            Ok(())
        })
    }

    /// Makes the kernel forget what it learned of routes: path MTUs and redirects.
    pub fn forget_routes(&self) -> Result<()> {
        self.sysctl(&["net/ipv4/route/flush=1"])?;
        // IPv6's setting leaves alone what has yet to expire.
        run(Command::new("ip").args(["-n", &self.name, "-6", "route", "flush", "cache"])).map(drop)
    }

    /// `program` as a command that runs in it, through `ip netns exec` as an operator would.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name]).arg(program);
        command
    }

    /// Runs a command line (split at spaces) and returns its standard output; failing is an error that says why.
    pub fn run(&self, line: &str) -> Result<String> {
        let mut words = line.split_whitespace();
        let output = run(self.command(words.next().context("no command")?).args(words))?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// `lvsadm` with these arguments (split at spaces), in it. What it sets up goes with the namespace.
    pub fn lvsadm(&self, arguments: &str) -> Result<String> {
        let mut users = LVSADM_USERS.lock().expect("not poisoned");
        if !users.contains(&self.name) {
            users.push(self.name.clone());
        }
        drop(users);
        self.run(&format!("{} {arguments}", lvsadm_path().display()))
    }

    /// Deletes it as others would, without a word to `lvsadm`: what that keeps outside of it stays behind.
    pub fn abandon(self) {
        LVSADM_USERS.lock().expect("not poisoned").retain(|user| *user != self.name);
    }

    /// Starts a program that runs until the namespace is dropped.
    pub fn spawn(&self, line: &str) -> Result<u32> {
        let mut words = line.split_whitespace();
        let mut command = self.command(words.next().context("no command")?);
        self.adopt(command.args(words).stdout(Stdio::null()).stderr(Stdio::null()))
    }

    /// Starts a command that was made by [`Namespace::command`] and runs until the namespace is dropped.
    pub fn adopt(&self, command: &mut Command) -> Result<u32> {
        let child = command.stdin(Stdio::null()).spawn()?;
        let id = child.id();
        self.children.lock().expect("not poisoned").push(child);
        Ok(id)
    }

    /// Names of the cables' ends in it.
    pub fn cables(&self) -> Result<Vec<String>> {
        let output = run(Command::new("ip").args(["-n", &self.name, "-oneline", "link", "show", "type", "veth"]))?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        // `2: eth0@if5: <BROADCAST,…`
        Ok(text.lines().filter_map(|line| Some(line.split([' ', '@']).nth(1)?.to_owned())).collect())
    }

    /// Runs `work` on a thread inside it.
    pub fn enter<T: Send>(&self, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        let inside = File::open(Path::new(FOLDER).join(&self.name))?;
        thread::scope(|scope| {
            let worker = scope.spawn(move || {
                setns(&inside, CloneFlags::CLONE_NEWNET)?;
                work()
            });
            worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        for child in self.children.lock().expect("not poisoned").iter_mut() {
            // Ended already is as good.
            let _ = child.kill();
            let _ = child.wait();
        }
        delete(&self.name);
    }
}

/// Where the `lvsadm` under test is: `$LVSADM`, else the release build.
pub fn lvsadm_path() -> PathBuf {
    env::var_os("LVSADM")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/release/lvsadm"), PathBuf::from)
}

/// Where `lvs-compat` is: beside `lvsadm`.
pub fn lvs_compat_path() -> PathBuf {
    lvsadm_path().with_file_name("liblvs_compat.so")
}

/// Whether this process may make namespaces.
pub fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// Runs it to its end; failing is an error with what it printed.
pub(super) fn run(command: &mut Command) -> Result<Output> {
    let _running = Running::new();
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("cannot run {command:?}"))?;
    let said = || String::from_utf8_lossy(&[&*output.stdout, &*output.stderr].concat()).trim().to_owned();
    ensure!(output.status.success(), "{command:?} failed ({}): {}", output.status, said());
    Ok(output)
}

/// Namespaces that `lvsadm` ran in: what it keeps outside of them (pins, files) is its to remove.
static LVSADM_USERS: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// Deletes a namespace. Nothing can be done about one that is gone already or will not go.
fn delete(name: &str) {
    if LVSADM_USERS.lock().expect("not poisoned").iter().any(|user| user == name) {
        for arguments in [&["unload"][..], &["real-server", "--off"]] {
            let mut lvsadm = Command::new("ip");
            lvsadm.args(["netns", "exec", name]).arg(lvsadm_path()).args(arguments);
            let _ = lvsadm.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
        }
    }
    let _ = Command::new("ip").args(["netns", "delete", name]).stderr(Stdio::null()).status();
}

/// Deletes the namespaces of every process `owner` says so of.
fn remove_those_of(owner: impl Fn(&str) -> bool) {
    for entry in fs::read_dir(FOLDER).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let process = name.strip_prefix(PREFIX).and_then(|rest| rest.split('-').next());
        if process.is_some_and(&owner) {
            delete(&name);
        }
    }
}

/// How many programs are being run, and whether the process is to end.
static RUNNING: Mutex<(usize, bool)> = Mutex::new((0, false));
/// Told when a program has ended.
static ENDED: Condvar = Condvar::new();

/// A program is being run. Once the process is to end none is started any more: it could set up again what is removed.
struct Running;

impl Running {
    fn new() -> Self {
        let mut running = RUNNING.lock().expect("not poisoned");
        if running.1 {
            drop(running);
            rest();
        }
        running.0 += 1;
        Running
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        RUNNING.lock().expect("not poisoned").0 -= 1;
        ENDED.notify_all();
    }
}

/// Leaves the end of the process to the thread that removes its namespaces.
fn rest() -> ! {
    loop {
        thread::park();
    }
}

/// What the process does before it exits by itself.
extern "C" fn before_exit() {
    if RUNNING.lock().is_ok_and(|running| running.1) {
        rest();
    }
}

/// The end of a pipe that the signal handler writes to; a handler may do little else.
static WAKE: AtomicI32 = AtomicI32::new(-1);

/// On SIGINT, SIGTERM and SIGHUP, deletes this process's namespaces before it ends.
fn remove_ours_on_signals() {
    extern "C" fn wake(signal: i32) {
        let byte = signal as u8;
        // SAFETY: write(2) may be called in a handler, and the byte outlives the call.
        unsafe { nix::libc::write(WAKE.load(Ordering::Relaxed), (&raw const byte).cast(), 1) };
    }
    let Ok((read, write)) = nix::unistd::pipe() else { return };
    WAKE.store(write.as_raw_fd(), Ordering::Relaxed);
    // The handler needs it for as long as the process lives.
    std::mem::forget(write);
    let action = SigAction::new(SigHandler::Handler(wake), SaFlags::SA_RESTART, SigSet::empty());
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        // SAFETY: the handler only calls write(2).
        if unsafe { sigaction(signal, &action) }.is_err() {
            return;
        }
    }
    // SAFETY: a function that lives as long as the process.
    unsafe { nix::libc::atexit(before_exit) };
    thread::spawn(move || {
        /// How long programs may take to end: curl's patience.
        const PATIENCE: Duration = Duration::from_secs(10);
        let mut byte = [0];
        if nix::unistd::read(&read, &mut byte) != Ok(1) {
            return;
        }
        let mut running = RUNNING.lock().expect("not poisoned");
        running.1 = true;
        drop(ENDED.wait_timeout_while(running, PATIENCE, |running| running.0 > 0));
        remove_those_of(|owner| owner == process::id().to_string());
        // SAFETY: it does not return; others may be in the middle of exiting, so nothing may run that is run at exit.
        unsafe { nix::libc::_exit(128 + i32::from(byte[0])) }
    });
}
