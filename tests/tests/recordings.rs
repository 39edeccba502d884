//! Every recorded scenario and scheduler run of the kernel's IPVS, carried by each tier.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::Arc;

use libtest_mimic::{Arguments, Failed, Trial};
use tests::replay::{Network, Pool, Run, Tier, runs, scenarios};

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let pool = Arc::new(Pool::default());
    let mut trials = Vec::new();
    for tier in Tier::ALL {
        for scenario in scenarios() {
            let name = format!("traffic::{}::{}", tier.name(), scenario.start.scenario);
            trials.push(trial(&pool, tier, name, move |network| scenario.play(network)));
        }
        let mut schedulers = BTreeMap::<String, Vec<Run>>::new();
        for run in runs() {
            schedulers.entry(run.scheduler().to_owned()).or_default().push(run);
        }
        for (scheduler, runs) in schedulers {
            let name = format!("scheduler::{}::{scheduler}", tier.name());
            trials.push(trial(&pool, tier, name, move |network| play_all(&runs, network)));
        }
    }
    let conclusion = libtest_mimic::run(&arguments, trials);
    // Namespaces go now: leaving by `exit` would not drop them.
    drop(pool);
    conclusion.exit_code()
}

fn trial(
    pool: &Arc<Pool>,
    tier: Tier,
    name: String,
    play: impl FnOnce(&Network) -> anyhow::Result<()> + Send + 'static,
) -> Trial {
    let pool = pool.clone();
    Trial::test(name, move || pool.with(tier, play).map_err(|error| Failed::from(format!("{error:#}"))))
}

fn play_all(runs: &[Run], network: &Network) -> anyhow::Result<()> {
    runs.iter().try_for_each(|run| {
        network.forget()?;
        run.play(network)
    })
}
