//! Network devices of a guest of `cargo xtask test --kernel`, in pairs, each pair a cable. QEMU gives them the MAC addresses
//! 52:54:00:DRIVER:CABLE:END.

use std::fs;
use std::path::Path;

use anyhow::Result;

use super::namespace::{Namespace, run};
use crate::eventually;

/// A driver of network devices, which a guest has two cables of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Driver {
    /// Its XDP is native.
    Virtio,
    /// It has no XDP of its own.
    E1000,
}

/// How many cables of a driver there are.
pub const CABLES: u8 = 2;

impl Driver {
    /// All of them.
    pub const ALL: [Driver; 2] = [Driver::Virtio, Driver::E1000];

    /// As `ethtool -i` says.
    pub fn name(self) -> &'static str {
        match self {
            Driver::Virtio => "virtio_net",
            Driver::E1000 => "e1000",
        }
    }

    /// Whether this machine has all devices of it. Those that a test had in its namespaces come back some time after it.
    pub fn is_here(self) -> bool {
        (0..CABLES).all(|cable| (0..2).all(|end| self.device(cable, end).is_some()))
    }

    /// What the device at an end of a cable is called now, in this process's namespace.
    fn device(self, cable: u8, end: u8) -> Option<String> {
        let mac = format!("52:54:00:{:02x}:{cable:02x}:{end:02x}", self as u8);
        let devices = fs::read_dir("/sys/class/net").ok()?;
        let mut names = devices.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        names.find(|name| {
            let file = Path::new("/sys/class/net").join(name).join("address");
            fs::read_to_string(file).is_ok_and(|address| address.trim() == mac)
        })
    }

    /// Lays a cable between device `a.1` of one namespace and device `b.1` of another.
    pub fn connect(self, cable: u8, a: (&Namespace, &str), b: (&Namespace, &str)) -> Result<()> {
        for (end, (namespace, name)) in [(0, a), (1, b)] {
            eventually("a test before this one gives its devices back", || self.device(cable, end).is_some());
            let device = self.device(cable, end).unwrap_or_default();
            let give = ["link", "set", &device, "down", "netns", namespace.name(), "name", name];
            run(std::process::Command::new("ip").args(give))?;
            namespace.ip(&[format!("link set {name} up")])?;
            // Frames as on a wire.
            namespace.run(&format!("ethtool -K {name} tx off tso off gso off"))?;
        }
        Ok(())
    }
}
