//! `cargo xtask test`: everything that is tested, with one line at the end that says how it went.

use std::fmt::{self, Display, Formatter};
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::thread::available_parallelism;
use std::time::Instant;

use anyhow::{Context, Result, bail};

use crate::process::{announce, as_root, host_cargo, is_root, output, root, run as run_program};
use crate::{build, deb, setup};

/// How many tests of a program run at a time.
const THREADS: &str = "RUST_TEST_THREADS";

/// Where the table of the verifier's work is written.
const RECORD: &str = "LVS_VERIFIER_RECORD";

/// `cargo xtask test`; `record` has the table of the verifier's work written for this kernel, not compared.
pub fn run(filter: Option<&str>, record: bool) -> Result<()> {
    let begin = Instant::now();
    // Before any work, so that nobody waits for a build to be told.
    let runner = test_runner()?;
    build::build(&setup::prepare()?)?;
    if wants_packages(filter)? {
        deb::package()?;
    }
    announce("running the tests");
    let mut cargo = host_cargo();
    cargo.args(["test", "--tests", "--no-fail-fast"]).args(filter).env("LVSADM", build::lvsadm());
    if record {
        cargo.env(RECORD, root().join("docs/numbers/verifier.md"));
    }
    if let Some(runner) = runner {
        cargo.env(runner_variable(), runner);
    }
    if std::env::var_os(THREADS).is_none() {
        // Two thirds of the time they wait for something.
        cargo.env(THREADS, (available_parallelism()?.get() * 3).to_string());
    }
    let (passed, summary) = watch(&mut cargo)?;
    let took = begin.elapsed().as_secs();
    announce(&format!("{summary} in {took} s"));
    if !passed {
        bail!("tests failed");
    }
    Ok(())
}

/// Whether one of the tests looks into the packages, as those of the module `package` do.
fn wants_packages(filter: Option<&str>) -> Result<bool> {
    let Some(filter) = filter else { return Ok(true) };
    announce("building the tests");
    run_program(host_cargo().args(["build", "--tests"]))?;
    let list = output(host_cargo().args(["test", "--quiet", "--tests", filter, "--", "--list"]));
    let list = list.context("the test programs do not list their tests")?;
    Ok(list.lines().any(|test| test.starts_with("package::")))
}

/// What cargo runs test programs through: nothing as root, else sudo.
fn test_runner() -> Result<Option<String>> {
    if is_root() {
        return Ok(None);
    }
    match as_root("env") {
        Some(_) => Ok(Some("sudo --preserve-env".to_owned())),
        None => bail!("the tests make network namespaces and load eBPF programs: run them as root, or install sudo"),
    }
}

/// `CARGO_TARGET_<host>_RUNNER`.
fn runner_variable() -> String {
    let host = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    format!("CARGO_TARGET_{}_RUNNER", host.replace('-', "_").to_uppercase())
}

/// What the test programs counted, all together.
#[derive(Default)]
pub struct Summary {
    /// Tests that passed.
    pub passed: u32,
    /// Tests that failed.
    pub failed: u32,
    /// Tests that cannot run here.
    pub ignored: u32,
    /// Of the program that is running: tests that found out by themselves that they cannot, which libtest takes for passed.
    unable: u32,
}

impl Summary {
    /// Adds a line of the form `test result: ok. 3 passed; 0 failed; 1 ignored; …`, or one that `tests::cannot_run` wrote.
    pub fn add(&mut self, line: &str) {
        self.unable += u32::from(line.contains(" cannot run here: "));
        let Some(counts) = line.strip_prefix("test result: ") else { return };
        for part in counts.split([';', '.']) {
            let mut words = part.split_whitespace();
            let (Some(Ok(count)), Some(what)) = (words.next().map(str::parse::<u32>), words.next()) else { continue };
            match what {
                "passed" => {
                    let unable = std::mem::take(&mut self.unable).min(count);
                    self.passed += count - unable;
                    self.ignored += unable;
                }
                "failed" => self.failed += count,
                "ignored" => self.ignored += count,
                _ => {}
            }
        }
    }
}

impl Display for Summary {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed, {} failed, {} ignored", self.passed, self.failed, self.ignored)
    }
}

/// Runs it, showing its output and counting the results in it.
fn watch(command: &mut Command) -> Result<(bool, Summary)> {
    let mut child = command.stdout(Stdio::piped()).spawn().context("cannot run cargo test")?;
    let mut summary = Summary::default();
    for line in BufReader::new(child.stdout.take().context("no output of cargo test")?).lines() {
        let line = line?;
        println!("{line}");
        summary.add(&line);
    }
    Ok((child.wait()?.success(), summary))
}

#[cfg(test)]
mod tests {
    use super::Summary;

    #[test]
    fn results_of_several_programs_are_added_up() {
        let mut summary = Summary::default();
        summary.add("test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s");
        summary
            .add("test result: FAILED. 2 passed; 4 failed; 0 ignored; 0 measured; 9 filtered out; finished in 1.20s");
        summary.add("test name ... ok");
        assert_eq!((summary.passed, summary.failed, summary.ignored), (5, 4, 1));
    }

    #[test]
    fn a_test_that_cannot_run_is_not_passed() {
        let mut summary = Summary::default();
        summary.add("test tun::name cannot run here: this kernel has no tun devices");
        summary.add("test tun::name ... ok");
        for _ in 0..2 {
            summary
                .add("test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s");
        }
        assert_eq!((summary.passed, summary.failed, summary.ignored), (5, 0, 3));
    }
}
