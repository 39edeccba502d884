//! `status`: where and how the data plane is attached, and what it did with packets.

use std::path::PathBuf;

use anyhow::{Result, bail};
use serde::Serialize;

use super::defaults::Defaults;
use crate::dataplane;
use crate::render;

#[derive(Serialize)]
struct Status {
    pins: PathBuf,
    devices: Vec<Device>,
    packets: Vec<Exit>,
    tables: Tables,
}

#[derive(Serialize)]
struct Device {
    device: String,
    mode: &'static str,
    why: String,
}

#[derive(Serialize)]
struct Exit {
    exit: &'static str,
    packets: u64,
    meaning: &'static str,
}

#[derive(Serialize)]
struct Tables {
    connections: u32,
    services: u32,
    destinations: u32,
}

/// Shows the status.
pub fn status(json: bool) -> Result<()> {
    let Some(plane) = dataplane::open()? else {
        bail!("nothing is loaded in this network namespace: `lvsadm attach` or a first rule loads it");
    };
    let devices = dataplane::attachments(&plane)?;
    let status = Status {
        pins: plane.directory.place(),
        devices: devices
            .into_iter()
            .map(|d| Device { device: d.device, mode: d.attached.name(), why: d.why })
            .collect(),
        packets: plane.exits()?.into_iter().map(|(exit, meaning, packets)| Exit { exit, packets, meaning }).collect(),
        tables: {
            let (connections, services, destinations) = plane.sizes();
            Tables { connections, services, destinations }
        },
    };
    if json {
        return super::print(&render::json::line(&status));
    }
    let mut text = String::new();
    for d in &status.devices {
        text += &format!("{:<16} {:<8} {}\n", d.device, d.mode, d.why);
    }
    text += &format!("pinned in {}\n", status.pins.display());
    let t = &status.tables;
    text += &format!(
        "tables: {} connections of each family, {} services, {} destinations\n",
        t.connections, t.services, t.destinations
    );
    for e in status.packets.iter().filter(|e| e.packets != 0) {
        text += &format!("{:>12} {:<20} {}\n", e.packets, e.exit, e.meaning);
    }
    super::print(&text)
}

/// Has the kernel verify every program, and shows how many instructions it looked at; nothing is attached.
pub fn verifier() -> Result<()> {
    let mut refused = 0;
    for (name, count) in dataplane::verify(Defaults::read()?.loading)? {
        match count {
            Ok(count) => println!("{count:>8} {name}"),
            Err(error) => {
                println!("{:>8} {name}: {error:#}", "-");
                refused += 1;
            }
        }
    }
    if refused != 0 {
        bail!("{refused} programs are refused");
    }
    Ok(())
}
