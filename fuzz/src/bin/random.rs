//! A search at random, as fast as can be: inputs of random bytes, and seeds with some bytes changed.

use std::cell::Cell;
use std::fs;
use std::panic;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use fuzz::packets;
use fuzz::targets::{TARGETS, Target, named};

/// How often the totals are told.
const TELL: Duration = Duration::from_secs(10);

thread_local! {
    /// The input that runs, and where it is written if it finds something.
    static AT_HAND: Cell<Option<(PathBuf, Vec<u8>)>> = const { Cell::new(None) };
}

#[derive(Parser)]
struct Arguments {
    /// The target
    target: Option<String>,
    /// Inputs at most
    #[arg(long)]
    runs: Option<u64>,
    /// Seconds at most
    #[arg(long)]
    seconds: Option<u64>,
    /// The first input's number: each number is one input
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Look through the tables after each step
    #[arg(long)]
    every_step: bool,
    /// Run the inputs of these files instead
    #[arg(long)]
    input: Vec<PathBuf>,
    /// Where an input is written that finds something
    #[arg(long, default_value = ".")]
    artifacts: PathBuf,
    /// Write the target's seeds into this folder, and end
    #[arg(long)]
    seeds: Option<PathBuf>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let Some(name) = &arguments.target else {
        TARGETS.iter().for_each(|target| println!("{}\t{}", target.name, target.meaning));
        return ExitCode::SUCCESS;
    };
    let Some(target) = named(name) else {
        eprintln!("random: there is no target `{name}'");
        return ExitCode::from(2);
    };
    packets::check_every_step(arguments.every_step);
    if let Some(folder) = &arguments.seeds {
        for (number, seed) in (target.seeds)().iter().enumerate() {
            if let Err(error) = fs::write(folder.join(format!("seed-{number}")), seed) {
                eprintln!("random: {}: {error}", folder.display());
                return ExitCode::FAILURE;
            }
        }
        return ExitCode::SUCCESS;
    }
    if !arguments.input.is_empty() {
        for file in &arguments.input {
            match fs::read(file) {
                Ok(input) => (target.run)(&input),
                Err(error) => {
                    eprintln!("random: {}: {error}", file.display());
                    return ExitCode::FAILURE;
                }
            }
        }
        return ExitCode::SUCCESS;
    }
    search(target, &arguments)
}

/// Has a panic write the input at hand to its file: the program ends with it.
fn keep_findings() {
    let tell = panic::take_hook();
    panic::set_hook(Box::new(move |what| {
        tell(what);
        if let Some((file, input)) = AT_HAND.take() {
            let _ = fs::write(&file, input);
            eprintln!("random: the input is in {}", file.display());
        }
    }));
}

fn search(target: &'static Target, arguments: &Arguments) -> ExitCode {
    keep_findings();
    let seeds = (target.seeds)();
    let (begin, mut told) = (Instant::now(), Instant::now());
    for (inputs, number) in (0..).zip(arguments.seed..) {
        let is_over = arguments.runs.is_some_and(|runs| inputs >= runs)
            || arguments.seconds.is_some_and(|seconds| begin.elapsed().as_secs() >= seconds);
        if is_over || told.elapsed() > TELL {
            told = Instant::now();
            let seconds = begin.elapsed().as_secs_f64();
            println!("{}: {inputs} inputs, {} packets, {seconds:.0} s", target.name, packets::packets());
        }
        if is_over {
            return ExitCode::SUCCESS;
        }
        let input = fuzz::input(target, &seeds, number);
        let file = arguments.artifacts.join(format!("{}-{number}", target.name));
        AT_HAND.set(Some((file, input.clone())));
        (target.run)(&input);
    }
    ExitCode::SUCCESS
}
