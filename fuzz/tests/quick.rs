//! Inputs that ever found something, and some seconds of each target, the same inputs each time.

use std::fs;
use std::path::Path;

use fuzz::targets::{TARGETS, named};

#[track_caller]
fn search(name: &str) {
    let target = named(name).expect("a target");
    let seeds = (target.seeds)();
    seeds.iter().for_each(|seed| (target.run)(seed));
    for number in 1..=u64::from(target.quick) {
        let input = fuzz::input(target, &seeds, number);
        let result = std::panic::catch_unwind(|| (target.run)(&input));
        assert!(result.is_ok(), "input {number}: cargo run -p fuzz --bin random -- {name} --seed {number} --runs 1");
    }
}

macro_rules! searches {
    ($($name:ident)+) => {
        $(
            #[test]
            fn $name() {
                search(stringify!($name));
            }
        )+

        #[test]
        fn every_target_has_its_test() {
            assert!(TARGETS.iter().map(|target| target.name).eq([$(stringify!($name)),+]));
        }
    };
}

searches! { packets sync enter toa file restore json netlink }

#[test]
fn what_once_found_something_finds_nothing() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    for target in TARGETS {
        let Ok(files) = fs::read_dir(corpus.join(target.name)) else { continue };
        for file in files.map(|file| file.expect("a file of the corpus").path()) {
            let input = fs::read(&file).expect("a file of the corpus");
            let result = std::panic::catch_unwind(|| (target.run)(&input));
            assert!(result.is_ok(), "{}", file.display());
        }
    }
}
