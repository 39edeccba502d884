//! `agent`: an optional process that acts whenever the kernel reports a change of a device, an address or a forwarding switch
//! of this network namespace. Every command does the same; the agent does it at once.
//!
//! The data plane does not need it: without it, packets are forwarded and connections expire.

mod events;

use std::collections::HashSet;

use anyhow::{Context, Result, bail};
use lvs_director::dataplane::{self, Defaults, Refusal, Watching};
use sd_notify::NotifyState;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::spawn_blocking;

use events::Events;

/// Runs until it is told to end by SIGTERM or SIGINT.
pub fn run() -> Result<()> {
    let defaults = Defaults::read()?;
    let Some(_watching) = Watching::begin()? else {
        bail!("another agent runs in this network namespace");
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start")?;
    runtime.block_on(watch(defaults))
}

/// Looks around at first and after each event.
async fn watch(defaults: Defaults) -> Result<()> {
    let (mut term, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    // Before the first look: what changes after it is an event.
    let mut events = Events::open()?;
    let mut told = Told::default();
    told.tell(look_around(&defaults).await?);
    // Without systemd there is nobody to notify.
    let _ = sd_notify::notify(&[NotifyState::Ready]);
    loop {
        tokio::select! {
            event = events.next() => event?,
            _ = term.recv() => break,
            _ = interrupt.recv() => break,
        }
        told.tell(look_around(&defaults).await?);
    }
    let _ = sd_notify::notify(&[NotifyState::Stopping]);
    Ok(())
}

/// Looks around on a thread of its own, which may have to wait for another command's lock. The error is of the agent's; what goes
/// wrong with the data plane is told, and tried again at the next event.
async fn look_around(defaults: &Defaults) -> Result<Vec<Refusal>> {
    let defaults = defaults.clone();
    let look = move || {
        let looked = dataplane::look_around(&defaults);
        give_memory_back();
        looked
    };
    let looked = spawn_blocking(look).await.context("cannot look around")?;
    Ok(looked.unwrap_or_else(|error| {
        eprintln!("lvsadm: {}", error.line());
        Vec::new()
    }))
}

/// Gives freed memory back to the kernel: loading programs for the first device of a kind takes a hundred MB for a moment, which the C
/// library keeps.
fn give_memory_back() {
    // SAFETY: a function of the C library that takes a number.
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Refusals that were told: each is told once, until it is over.
#[derive(Default)]
struct Told(HashSet<(String, String)>);

impl Told {
    /// Tells of those that are new.
    fn tell(&mut self, refusals: Vec<Refusal>) {
        let now: HashSet<_> = refusals.into_iter().map(|refusal| (refusal.device, refusal.why)).collect();
        now.difference(&self.0).for_each(|(device, why)| eprintln!("lvsadm: {device}: {why}"));
        self.0 = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_remembered_until_it_is_over() {
        let refusal = |device: &str| Refusal { device: device.to_owned(), why: "busy".to_owned() };
        let mut told = Told::default();
        told.tell(vec![refusal("eth0"), refusal("eth1")]);
        assert_eq!(told.0.len(), 2);
        told.tell(vec![refusal("eth1")]);
        assert_eq!(told.0, HashSet::from([("eth1".to_owned(), "busy".to_owned())]));
    }
}
