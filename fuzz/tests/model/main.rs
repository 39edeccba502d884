//! Random rules, edits, packets and time: a director on the host does what a model of IPVS does.
//!
//! `LVS_MODEL_SCENARIOS=n` runs n scenarios instead of some seconds' worth. A failure is shrunk to a small scenario.

mod bench;
mod scenario;

use proptest::test_runner::{Config, RngAlgorithm, RngSeed, TestRunner};

use crate::bench::Bench;

/// Scenarios of a run that is to be quick, which are the same each time.
const QUICK: u32 = 1500;

#[test]
fn a_director_does_what_the_model_does() {
    let wanted = std::env::var("LVS_MODEL_SCENARIOS").ok().and_then(|number| number.parse().ok());
    let seed = if wanted.is_some() { RngSeed::Random } else { RngSeed::Fixed(1) };
    let config = Config {
        cases: wanted.unwrap_or(QUICK),
        rng_algorithm: RngAlgorithm::ChaCha,
        rng_seed: seed,
        failure_persistence: None,
        max_shrink_iters: 20_000,
        ..Config::default()
    };
    let result = TestRunner::new(config).run(&scenario::scenarios(), |scenario| {
        Bench::new(&scenario.rules).run(&scenario.steps);
        Ok(())
    });
    if let Err(error) = result {
        panic!("{error}");
    }
}
