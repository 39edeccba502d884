//! The agent's process.

use std::collections::HashSet;

use anyhow::{Context, Result, bail};
use lvs_director::dataplane::{self, Defaults, Refusal, Watching};
use sd_notify::NotifyState;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::spawn_blocking;
use tokio::time::MissedTickBehavior;

use super::events::Events;
use super::health::{self, Health, Journal};
use super::http::Endpoint;
use crate::grammar::subcommands::ListenArgs;

/// Runs until it is told to end by SIGTERM or SIGINT.
pub fn run(listen: &ListenArgs) -> Result<()> {
    let defaults = Defaults::read()?;
    let Some(_watching) = Watching::begin()? else {
        bail!("another agent runs in this network namespace");
    };
    let endpoint = Endpoint::open(listen)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start")?;
    runtime.block_on(watch(defaults, endpoint))
}

/// Looks around at first and after each event.
async fn watch(defaults: Defaults, endpoint: Endpoint) -> Result<()> {
    let (mut term, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    // Before the first look: what changes after it is an event.
    let mut events = Events::open()?;
    let mut told = Told::default();
    told.tell(look_around(&defaults).await?);
    endpoint.serve()?;
    // Beside the loop: events of devices wait for no look.
    let mut looks = tokio::spawn(look_after(Journal::of_process()));
    // Without systemd there is nobody to notify.
    let _ = sd_notify::notify(&[NotifyState::Ready]);
    loop {
        tokio::select! {
            event = events.next() => {
                event?;
                told.tell(look_around(&defaults).await?);
            }
            ended = &mut looks => ended.context("cannot look after the data plane")??,
            _ = term.recv() => break,
            _ = interrupt.recv() => break,
        }
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

/// Looks for news of the director's health every few seconds, on a thread of its own likewise, and writes them. A data plane that cannot
/// be read just now is looked at the next time.
async fn look_after(journal: Journal) -> Result<()> {
    let mut health = Health::default();
    let mut ticks = tokio::time::interval(health::INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let looked = spawn_blocking(move || {
            // One who traced may have been killed. What fails now is tried again the next time.
            let _ = dataplane::put_back();
            let events = health.look().unwrap_or_default();
            (health, events)
        });
        let events;
        (health, events) = looked.await.context("cannot look after the data plane")?;
        events.iter().for_each(|event| journal.write(event));
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
