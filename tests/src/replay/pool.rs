//! Directors to play on: loading one takes seconds, so few are loaded and each is used again.

use std::sync::Mutex;

use anyhow::Result;

use super::network::{Network, Tier};

/// Directors that nobody is using.
#[derive(Default)]
pub struct Pool(Mutex<Vec<(Tier, Network)>>);

impl Pool {
    /// Plays on a director that knows nothing, carried by `tier`. One on which something went wrong is not used again.
    pub fn with(&self, tier: Tier, play: impl FnOnce(&Network) -> Result<()>) -> Result<()> {
        let idle = || self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let free = {
            let mut idle = idle();
            let same = idle.iter().position(|(carrier, _)| *carrier == tier);
            same.map(|at| idle.swap_remove(at)).or_else(|| idle.pop())
        };
        let network = match free {
            Some((carrier, network)) => {
                if carrier != tier {
                    network.carry_by(tier)?;
                }
                network
            }
            None => Network::new(tier)?,
        };
        play(&network)?;
        network.forget()?;
        idle().push((tier, network));
        Ok(())
    }
}
