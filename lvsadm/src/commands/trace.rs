//! `trace`: packets as they are balanced.

use std::io::{self, Write};

use anyhow::{Context, Result};
use lvs_common::abi::observe::HEAD;
use lvs_director::dataplane::observe::{Sight, Wish};

use crate::grammar::subcommands::TraceArgs;
use crate::names::SystemNames;
use crate::observe::{self, Chosen, Teller, Watch, memory};

/// Follows packets.
pub fn trace(arguments: &TraceArgs) -> Result<()> {
    let chosen = Chosen {
        client: arguments.client,
        service: arguments.service.key(&mut SystemNames::default())?,
        server: arguments.real_server,
    };
    // The kernel passes over what it can; the rest is passed over here.
    let filters = observe::of_flow(chosen.client.as_ref(), chosen.service.as_ref()).unwrap_or_default();
    let wish = Wish {
        frames: filters.frames,
        packets: filters.packets,
        exits: arguments.exits(),
        snap: HEAD as u32,
        came: false,
        memory: memory(arguments.end.buffer),
    };
    let mut watch = Watch::start(wish, arguments.end.time())?;
    let mut teller = Teller::new(watch.plane())?;
    eprintln!("lvsadm: tracing, until an interrupt");
    let (mut told, mut out) = (0, io::stdout().lock());
    let mut tell = |watch: &Watch, sights: Vec<Sight>| -> Result<bool> {
        for sight in sights.iter().filter(|sight| sight.report.has_left != 0) {
            let story = teller.tell(watch.plane(), sight);
            if !chosen.has(&story.flow) {
                continue;
            }
            let text = if arguments.json { observe::json(&story) } else { observe::text(&story) };
            match out.write_all(text.as_bytes()) {
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(false),
                result => result.context("cannot write")?,
            }
            told += 1;
            if arguments.end.count.is_some_and(|count| told >= count) {
                return Ok(false);
            }
        }
        out.flush().context("cannot write")?;
        Ok(true)
    };
    let mut goes_on = true;
    while let Some(sights) = watch.next()? {
        goes_on = tell(&watch, sights)?;
        if !goes_on {
            break;
        }
    }
    let rest = watch.finish();
    if goes_on {
        tell(&watch, rest)?;
    }
    eprintln!("lvsadm: {told} packets shown, {} lost for want of memory", watch.lost());
    Ok(())
}
