//! One thing that is set up, and how to undo it.

use std::fmt;
use std::fs;
use std::net::IpAddr;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::decapsulation::{self, Place, Programs, Tunnels};
use super::toa::{self, Toa};
use super::{devices, netlink};

/// Something that is set, as it is written down.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Change {
    /// A kernel setting.
    Sysctl {
        /// Path below `/proc/sys`.
        key: String,
        /// What it is set to.
        value: u32,
        /// What it was.
        before: Option<u32>,
    },
    /// A virtual address on `lo`.
    Address {
        /// The address.
        vip: IpAddr,
    },
    /// The decapsulating program on a device.
    Filter {
        /// The device.
        device: String,
        /// What it opens.
        tunnels: Tunnels,
    },
    /// The program on `lo` that sends on datagrams which came in one buffer, in a tunnel over UDP.
    Segments {
        /// The tunnels.
        tunnels: Tunnels,
    },
    /// The program that lowers the segment size in SYN-ACKs, on a device that they leave by.
    SegmentSize {
        /// The device.
        device: String,
        /// The tunnels that take the room.
        tunnels: Tunnels,
    },
    /// The programs that read TOA.
    Toa(Toa),
}

impl Change {
    /// A setting whose value before is not known yet.
    pub fn sysctl(key: &str, value: u32) -> Self {
        Change::Sysctl { key: key.to_owned(), value, before: None }
    }

    /// Whether both are about the same thing, in whatever way.
    pub fn concerns_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Change::Sysctl { key: a, .. }, Change::Sysctl { key: b, .. }) => a == b,
            (Change::Address { vip: a }, Change::Address { vip: b }) => a == b,
            (Change::Filter { device: a, .. }, Change::Filter { device: b, .. }) => a == b,
            (Change::SegmentSize { device: a, .. }, Change::SegmentSize { device: b, .. }) => a == b,
            (Change::Toa(_), Change::Toa(_)) | (Change::Segments { .. }, Change::Segments { .. }) => true,
            _ => false,
        }
    }

    /// Whether it is made anew whatever is there: a program is replaced by one that does as asked for.
    pub fn is_program(&self) -> bool {
        matches!(self, Change::Filter { .. } | Change::Segments { .. } | Change::SegmentSize { .. } | Change::Toa(_))
    }

    /// Whether the host is that way now.
    pub fn holds(&self) -> Result<bool> {
        match self {
            Change::Sysctl { key, value, .. } => Ok(read_sysctl(key)? == *value),
            Change::Address { vip } => devices::has_address("lo", *vip),
            // Whether a filter is there can be told, what it opens cannot: putting it anew is harmless.
            Change::Filter { device, .. } => Place::Ingress.is_taken(device),
            Change::Segments { .. } => Place::Segments.is_taken("lo"),
            Change::SegmentSize { device, .. } => Place::Egress.is_taken(device),
            Change::Toa(toa) => toa.holds(),
        }
    }

    /// The same with what is needed to undo it.
    pub fn prepared(self) -> Result<Self> {
        match self {
            Change::Sysctl { key, value, .. } => {
                let before = Some(read_sysctl(&key)?);
                Ok(Change::Sysctl { key, value, before })
            }
            other => Ok(other),
        }
    }

    /// Makes it so.
    pub fn apply(&self, programs: &mut Programs) -> Result<()> {
        match self {
            Change::Sysctl { key, value, .. } => write_sysctl(key, *value),
            Change::Address { vip } => {
                netlink::add_to_loopback(*vip).with_context(|| format!("cannot add {vip} to lo"))
            }
            Change::Filter { device, tunnels } => decapsulation::attach(device, tunnels, Place::Ingress, programs),
            Change::Segments { tunnels } => decapsulation::attach("lo", tunnels, Place::Segments, programs),
            Change::SegmentSize { device, tunnels } => decapsulation::attach(device, tunnels, Place::Egress, programs),
            Change::Toa(toa) => toa.apply(),
        }
    }

    /// Makes it as it was. What somebody else changed or removed since is theirs and left alone.
    pub fn undo(&self) -> Result<()> {
        match self {
            Change::Sysctl { key, value, before: Some(before) } if read_sysctl(key).is_ok_and(|now| now == *value) => {
                write_sysctl(key, *before)
            }
            Change::Sysctl { .. } => Ok(()),
            Change::Address { vip } if devices::has_address("lo", *vip)? => {
                netlink::remove_from_loopback(*vip).with_context(|| format!("cannot remove {vip} from lo"))
            }
            Change::Address { .. } => Ok(()),
            Change::Filter { device, .. } => decapsulation::detach(device, Place::Ingress),
            Change::Segments { .. } => decapsulation::detach("lo", Place::Segments),
            Change::SegmentSize { device, .. } => decapsulation::detach(device, Place::Egress),
            Change::Toa(_) => toa::detach(),
        }
    }

    /// What it has counted, with the names of it.
    pub fn counts(&self) -> Result<Vec<(&'static str, u64)>> {
        match self {
            Change::Toa(_) => toa::counts(),
            _ => Ok(Vec::new()),
        }
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Change::Sysctl { key, value, .. } => write!(f, "sysctl   {} = {value}", key.replace('/', ".")),
            Change::Address { vip } => write!(f, "address  {vip} on lo"),
            Change::Filter { device, tunnels } => write!(f, "tunnels  {tunnels} on {device}"),
            Change::Segments { .. } => write!(f, "buffers  of datagrams in tunnels over UDP are cut on lo"),
            Change::SegmentSize { device, .. } => {
                write!(f, "mss      lowered in SYN-ACKs out of {device}, by what the tunnel takes")
            }
            Change::Toa(toa) => write!(f, "toa      {toa}"),
        }
    }
}

/// The value of a kernel setting in this network namespace.
pub fn read_sysctl(key: &str) -> Result<u32> {
    let path = format!("/proc/sys/{key}");
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    text.trim().parse().with_context(|| format!("{path} is no number"))
}

fn write_sysctl(key: &str, value: u32) -> Result<()> {
    let path = format!("/proc/sys/{key}");
    fs::write(&path, value.to_string()).with_context(|| format!("cannot write {path}"))
}
