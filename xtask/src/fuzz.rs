//! `cargo xtask fuzz`: a search by coverage, with libFuzzer, or at random.
//!
//! libFuzzer needs to know what code an input reaches. The compiler's passes for that are LLVM's own, which a stable compiler has as
//! well; the sanitizers, which would need another compiler, are not asked for.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};

use crate::process::{announce, host_cargo, root, run as run_program, target_dir};

/// What has LLVM note the edges that an input takes, and what it compares.
const COVERAGE: [&str; 6] = [
    "passes=sancov-module",
    "llvm-args=-sanitizer-coverage-level=4",
    "llvm-args=-sanitizer-coverage-inline-8bit-counters",
    "llvm-args=-sanitizer-coverage-pc-table",
    "llvm-args=-sanitizer-coverage-trace-compares",
    "codegen-units=1",
];

/// A number of seconds: `90`, `90s`, `15m`, `2h`.
pub fn seconds(text: &str) -> Result<u64> {
    let (digits, unit) = match text.char_indices().last() {
        Some((at, 's')) => (&text[..at], 1),
        Some((at, 'm')) => (&text[..at], 60),
        Some((at, 'h')) => (&text[..at], 3600),
        _ => (text, 1),
    };
    let number: u64 = digits.parse().with_context(|| format!("`{text}' is no time: 90, 90s, 15m or 2h"))?;
    number.checked_mul(unit).with_context(|| format!("`{text}' is too long"))
}

/// `cargo xtask fuzz`. Without a target, it lists them.
pub fn run(target: Option<&str>, seconds: u64, is_random: bool, seed: Option<u64>) -> Result<()> {
    announce("building the fuzz targets");
    run_program(host_cargo().args(["build", "--profile", "fuzz", "--package", "fuzz", "--bin", "random"]))?;
    let random = || std::process::Command::new(target_dir().join("fuzz/random"));
    let Some(target) = target else { return run_program(&mut random()) };
    let artifacts = folder(target, "artifacts")?;
    if is_random {
        let mut search = random();
        search.arg(target).args(["--seconds", &seconds.to_string(), "--artifacts"]).arg(&artifacts);
        if let Some(seed) = seed {
            search.args(["--seed", &seed.to_string()]);
        }
        return run_program(&mut search);
    }
    let corpus = folder(target, "corpus")?;
    run_program(random().arg(target).arg("--seeds").arg(&corpus))?;
    announce("building with coverage");
    let flags: Vec<String> = COVERAGE.iter().map(|flag| format!("-C{flag}")).collect();
    let guided = target_dir().join("guided");
    run_program(
        host_cargo()
            .args(["build", "--profile", "fuzz", "--package", "fuzz", "--bin", "guided", "--features", "guided"])
            .arg("--target-dir")
            .arg(&guided)
            .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f")),
    )?;
    announce(&format!("fuzzing {target} for {seconds} s; what is found goes to {}", artifacts.display()));
    let kept = root().join("fuzz/corpus").join(target);
    let mut search = std::process::Command::new(guided.join("fuzz/guided"));
    search.env("LVS_FUZZ_TARGET", target).arg(&corpus);
    if kept.is_dir() {
        search.arg(&kept);
    }
    let total = format!("-max_total_time={seconds}");
    run_program(
        search
            .args([&total, "-max_len=4096", "-print_final_stats=1"])
            .arg(format!("-artifact_prefix={}/", artifacts.display())),
    )
}

/// A folder of a target below the build folder.
fn folder(target: &str, what: &str) -> Result<PathBuf> {
    if !target.chars().all(|c| c.is_ascii_lowercase()) {
        bail!("there is no target `{target}': cargo xtask fuzz lists them");
    }
    let folder = target_dir().join("fuzzing").join(target).join(what);
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    Ok(folder)
}

#[cfg(test)]
mod tests {
    use super::seconds;

    #[test]
    fn times_are_numbers_with_a_unit_or_without() {
        let read = |text| seconds(text).ok();
        assert_eq!(["90", "90s", "15m", "2h"].map(read), [Some(90), Some(90), Some(900), Some(7200)]);
        assert_eq!(["", "h", "1d", "-1", "99999999999999999999", "9999999999999999999h"].map(read), [None; 6]);
    }
}
