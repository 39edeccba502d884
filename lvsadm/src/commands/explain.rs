//! `explain`: what becomes of a packet, and why.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Result, bail};

use crate::explain::{self, Account, Given, Seen, Told};
use crate::grammar::subcommands::ExplainArgs;
use crate::network::{Network, Way};
use crate::observe::{self, Came};
use lvs_director::dataplane::{self, Defence, Headers, NetDevice, Plane, Rehearsal, Subject};
use lvs_director::director::Access;

/// What is explained.
struct Packets {
    given: Vec<Given>,
    /// The device that they come in on.
    device: NetDevice,
    mark: u32,
    /// What became of the packet that was waited for.
    seen: Option<Seen>,
}

/// Explains a packet, those of a file, or the next one that comes.
pub fn explain(arguments: &ExplainArgs) -> Result<()> {
    let Packets { given, device, mark, seen } = match arguments.next {
        Some(source) => next(source, arguments.time)?,
        None => named(arguments)?,
    };
    let mut plane = open()?;
    let how = how(&plane, &device.link.name)?;
    let names: HashMap<u32, String> =
        dataplane::devices()?.into_iter().map(|device| (device.link.index, device.link.name)).collect();
    let Defence { held, room, .. } = Defence::of(&plane);
    let rehearsal = Rehearsal::of(&mut plane)?;
    // A connection that the packet has made was not there when the packet came.
    let has_connections = seen.as_ref().is_none_or(|seen| !seen.has_made_connection);
    let mut accounts = Vec::new();
    for given in &given {
        let subject = subject(given, device.link.index, mark);
        rehearsal.bring(&plane, &subject, has_connections)?;
        let reasons = rehearsal.reasons(&subject)?;
        let performance = rehearsal.perform(&plane, &subject)?;
        let told = Told {
            given,
            device: (&device.link.name, &how),
            seen: seen.as_ref(),
            reasons: &reasons,
            performance: &performance,
            devices: &names,
            held: held.iter().find(|(family, _)| *family == subject.family()).map(|(_, held)| (*held, room)),
        };
        accounts.push(Account::of(&told));
    }
    drop((rehearsal, plane));
    super::output::print(&if arguments.json { explain::json(&accounts) } else { explain::text(&accounts) })
}

/// The data plane.
fn open() -> Result<Plane> {
    match dataplane::open(Access::Read)? {
        Some(plane) => Ok(plane),
        None => bail!("nothing is loaded in this network namespace: no packet is balanced"),
    }
}

/// Packets that the command line names.
fn named(arguments: &ExplainArgs) -> Result<Packets> {
    let ends = arguments.ends()?;
    // Before all else that can be wrong.
    drop(open()?);
    let device = match (&arguments.device, ends) {
        (Some(name), _) => device(name)?,
        (None, Some((_, from, _))) => match Network::read()?.route(from.ip()).way {
            Way::Route { device: name, .. } => device(&name)?,
            Way::Own => bail!("{} is an address of this host: name the device by --dev", from.ip()),
            _ => bail!("there is no route to {}: name the device by --dev", from.ip()),
        },
        (None, None) => bail!("name the device that the packets of a file come in on by --dev"),
    };
    let given = match (ends, &arguments.pcap) {
        (Some(ends), _) => vec![explain::made(ends, arguments.ack, device.link.mac)?],
        (None, Some(file)) => explain::read(file, device.link.mac)?,
        (None, None) => bail!("name a packet, or a file"),
    };
    Ok(Packets { given, device, mark: arguments.mark.unwrap_or(0), seen: None })
}

/// The next packet from an address.
fn next(source: IpAddr, seconds: Option<u32>) -> Result<Packets> {
    let came = observe::next(source, seconds.map(|seconds| Duration::from_secs(seconds.into())))?;
    let Some(Came { given, device: name, mark, seen }) = came else {
        bail!("no packet of {source} came: see whether it reaches this host, by `tcpdump host {source}`");
    };
    Ok(Packets { given: vec![given], device: device(&name)?, mark, seen: Some(seen) })
}

/// The device of a name, which has Ethernet headers.
fn device(name: &str) -> Result<NetDevice> {
    let Some(device) = dataplane::devices()?.into_iter().find(|device| device.link.name == name) else {
        bail!("there is no device {name}: see `ip link`");
    };
    if device.link.headers != Headers::Ethernet {
        bail!("{name} has no Ethernet headers: explain is for devices that have");
    }
    Ok(device)
}

/// How a device is served.
fn how(plane: &Plane, name: &str) -> Result<String> {
    let found = dataplane::attachments(plane)?.into_iter().find(|attachment| attachment.device == name);
    Ok(match found {
        Some(attachment) => format!("served by {}: {}", attachment.attached.name(), attachment.why),
        None => format!("which is not served, so what follows does not happen: lvsadm attach --dev {name}"),
    })
}

fn subject(given: &Given, device: u32, mark: u32) -> Subject {
    let Given { protocol, source, destination, frame, .. } = given.clone();
    Subject { device, mark, protocol, source, destination, frame }
}
