//! VLANs in XDP, which runs on the device that carries their frames.

use std::collections::HashMap;

use lvs_common::abi::extras::VLANS;
use lvs_common::abi::{DEVICE_SLOTS, Device, VlanKey, device_flags};

use super::devices::{Link, NetDevice};
use super::error::{Context, Result};
use super::pins::pin;
use super::plane::Plane;
use super::pod::Pod;

/// Marks those of the `known` devices that are VLANs whose frames XDP makes, and has programs and a map that know them.
pub fn mark(plane: &mut Plane, all: &[NetDevice], known: &mut [Device]) -> Result<()> {
    let before = known.to_vec();
    let mut wanted = HashMap::new();
    for (device, known) in all.iter().zip(known) {
        let Some(tag) = device.link.tag else { continue };
        (known.parent, known.vlan) = (tag.parent, tag.vlan);
        let Some(parent) = before.iter().find(|it| it.ifindex == tag.parent) else { continue };
        let is_served = device.link.up && pin(&plane.directory, "ingress", device.link.index).exists();
        if is_served && parent.flags & device_flags::ACCEPTS_XDP != 0 {
            known.flags =
                known.flags & !device_flags::NO_TX | parent.flags & device_flags::NO_TX | device_flags::TAGGED;
            wanted.insert(VlanKey { parent: tag.parent, vlan: tag.vlan.into() }, *known);
        }
    }
    if wanted.is_empty() && plane.settings().extras & VLANS == 0 {
        return Ok(());
    }
    plane.need_vlans()?;
    let mut map = plane.open_hash::<Pod<VlanKey>, Pod<Device>>("VLANS")?;
    let left = map.keys().flatten().filter(|Pod(key)| !wanted.contains_key(key)).collect::<Vec<_>>();
    for key in left {
        map.remove(&key).context("cannot forget a VLAN")?;
    }
    for (key, device) in wanted {
        map.insert(Pod(key), Pod(device), 0).context("cannot tell the programs of a VLAN")?;
    }
    Ok(())
}

/// Whether XDP makes the frames of a VLAN that is down, or not those of one that is up.
pub fn is_stale(plane: &Plane, link: &Link, noted: &Device) -> bool {
    let parent = plane.device(noted.parent % DEVICE_SLOTS);
    let may = link.up && parent.ifindex == noted.parent && parent.flags & device_flags::ACCEPTS_XDP != 0;
    noted.parent != 0 && may != (noted.flags & device_flags::TAGGED != 0)
}

/// What serves most packets of a VLAN in XDP, for people, if anything does.
pub fn carrier(plane: &Plane, link: &Link) -> Option<String> {
    let noted = plane.device(link.index % DEVICE_SLOTS);
    let is_tagged = noted.ifindex == link.index && noted.flags & device_flags::TAGGED != 0;
    is_tagged.then(|| "known connections are served in XDP, on the device that carries the VLAN".to_owned())
}
