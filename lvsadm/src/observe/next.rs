//! The next packet of an address.

use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context, Result};
use lvs_common::abi::observe::Gate;
use lvs_director::dataplane::observe::{Sight, Wish};

use super::expression::compile;
use super::story::Teller;
use super::watch::{Watch, memory};
use crate::explain::{Given, Seen, parsed};

/// MiB of memory for reports.
const BUFFER: u32 = 1;

/// A packet that came.
pub struct Came {
    /// The packet.
    pub given: Given,
    /// The name of the device that it came in on.
    pub device: String,
    /// Its firewall mark.
    pub mark: u32,
    /// What became of it.
    pub seen: Seen,
}

/// Waits for the next packet that comes from an address, for so long at most. `None` if none came.
pub fn next(source: IpAddr, time: Option<Duration>) -> Result<Option<Came>> {
    // Without libpcap every packet is looked at.
    let filters = compile(&format!("src host {source}")).unwrap_or_default();
    let wish = Wish {
        frames: filters.frames,
        packets: filters.packets,
        exits: u64::MAX,
        snap: u32::MAX,
        came: true,
        memory: memory(BUFFER),
    };
    let mut watch = Watch::start(wish, time)?;
    let mut teller = Teller::new(watch.plane())?;
    eprintln!("lvsadm: waiting for a packet of {source}, until an interrupt");
    let mut last: Option<Sight> = None;
    while let Some(sights) = watch.next()? {
        for sight in sights {
            if sight.report.has_left == 0 {
                last = Some(sight).filter(|sight| is_from(sight, source)).or(last);
                continue;
            }
            let is_its = |came: &Sight| {
                let key = |it: &Sight| (it.report.cpu, it.report.gate, it.report.number);
                key(came) == key(&sight)
            };
            let Some(came) = last.take_if(|came| is_its(came)) else { continue };
            let story = teller.tell(watch.plane(), &sight);
            let steps = story.steps.iter().filter(|step| matches!(step.step, "connection" | "exit"));
            let what: Vec<String> = steps.map(|step| format!("{} {}", step.step, step.what)).collect();
            watch.finish();
            return Ok(Some(Came {
                given: parsed(&came.bytes).context("a packet that makes no sense")?,
                device: story.device,
                mark: came.report.mark,
                seen: Seen {
                    what: format!("{}; {}", story.tier, what.join("; ")),
                    has_made_connection: sight.report.dest != 0,
                },
            }));
        }
    }
    Ok(None)
}

/// Whether a packet came in, with an Ethernet header, from an address.
fn is_from(sight: &Sight, source: IpAddr) -> bool {
    let came_in = [Gate::Xdp, Gate::Ingress].iter().any(|gate| sight.report.gate == *gate as u32);
    came_in && parsed(&sight.bytes).is_some_and(|given| given.source.ip() == source)
}
