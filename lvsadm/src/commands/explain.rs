//! `explain`: what becomes of a packet, and why.

use std::collections::HashMap;

use anyhow::{Result, bail};

use crate::explain::{self, Account, Given, Told};
use crate::grammar::subcommands::ExplainArgs;
use crate::network::{Network, Way};
use lvs_director::dataplane::{self, Defence, Headers, NetDevice, Plane, Rehearsal, Subject};
use lvs_director::director::Access;

/// Explains a packet, or those of a file.
pub fn explain(arguments: &ExplainArgs) -> Result<()> {
    let ends = arguments.ends()?;
    let Some(mut plane) = dataplane::open(Access::Read)? else {
        bail!("nothing is loaded in this network namespace: no packet is balanced");
    };
    let devices = dataplane::devices()?;
    let device = match (&arguments.device, ends) {
        (Some(name), _) => named(&devices, name)?,
        (None, Some((_, from, _))) => match Network::read()?.route(from.ip()).way {
            Way::Route { device, .. } => named(&devices, &device)?,
            Way::Own => bail!("{} is an address of this host: name the device by --dev", from.ip()),
            _ => bail!("there is no route to {}: name the device by --dev", from.ip()),
        },
        (None, None) => bail!("name the device that the packets of a file come in on by --dev"),
    };
    if device.link.headers != Headers::Ethernet {
        bail!("{} has no Ethernet headers: explain is for devices that have", device.link.name);
    }
    let packets = match (ends, &arguments.pcap) {
        (Some(ends), _) => vec![explain::made(ends, arguments.ack, device.link.mac)?],
        (None, Some(file)) => explain::read(file, device.link.mac)?,
        (None, None) => bail!("name a packet, or a file"),
    };
    let how = how(&plane, &device.link.name)?;
    let names: HashMap<u32, String> =
        devices.iter().map(|device| (device.link.index, device.link.name.clone())).collect();
    let Defence { held, room, .. } = Defence::of(&plane);
    let rehearsal = Rehearsal::of(&mut plane)?;
    let mut accounts = Vec::new();
    for given in &packets {
        let subject = subject(given, device.link.index, arguments.mark.unwrap_or(0));
        rehearsal.bring(&plane, &subject)?;
        let reasons = rehearsal.reasons(&subject)?;
        let performance = rehearsal.perform(&plane, &subject)?;
        let told = Told {
            given,
            device: (&device.link.name, &how),
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

/// The device of a name.
fn named<'a>(devices: &'a [NetDevice], name: &str) -> Result<&'a NetDevice> {
    match devices.iter().find(|device| device.link.name == name) {
        Some(device) => Ok(device),
        None => bail!("there is no device {name}: see `ip link`"),
    }
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
