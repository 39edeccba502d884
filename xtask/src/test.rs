//! `cargo xtask test`: everything that is tested, with one line at the end that says how it went.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::thread::available_parallelism;
use std::time::Instant;

use anyhow::{Context, Result, bail};

use crate::process::{announce, as_root, host_cargo, is_root, output, run as run_program};
use crate::{build, deb, setup};

/// How many tests of a program run at a time.
const THREADS: &str = "RUST_TEST_THREADS";

/// `cargo xtask test`.
pub fn run(filter: Option<&str>) -> Result<()> {
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
    if let Some(runner) = runner {
        cargo.env(runner_variable(), runner);
    }
    if std::env::var_os(THREADS).is_none() {
        // Two thirds of the time they wait for something.
        cargo.env(THREADS, (available_parallelism()?.get() * 3).to_string());
    }
    let (passed, summary) = watch(&mut cargo)?;
    let took = begin.elapsed().as_secs();
    announce(&format!("{} passed, {} failed, {} ignored in {took} s", summary.passed, summary.failed, summary.ignored));
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
struct Summary {
    passed: u32,
    failed: u32,
    ignored: u32,
}

impl Summary {
    /// Adds a line of the form `test result: ok. 3 passed; 0 failed; 1 ignored; …`.
    fn add(&mut self, line: &str) {
        let Some(counts) = line.strip_prefix("test result: ") else { return };
        for part in counts.split([';', '.']) {
            let mut words = part.split_whitespace();
            let (Some(Ok(count)), Some(what)) = (words.next().map(str::parse::<u32>), words.next()) else { continue };
            match what {
                "passed" => self.passed += count,
                "failed" => self.failed += count,
                "ignored" => self.ignored += count,
                _ => {}
            }
        }
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
}
