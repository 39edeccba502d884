//! Network devices, as far as rules speak of them.

use clap::ValueEnum;

/// How a device is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attached {
    /// XDP in the driver, and TC for what it hands up.
    Native,
    /// XDP in the network stack, and TC.
    Generic,
    /// TC alone.
    Tc,
    /// `lo`: only what the director itself sends.
    Egress,
}

impl Attached {
    /// The word for it.
    pub fn name(self) -> &'static str {
        match self {
            Attached::Native => "native",
            Attached::Generic => "generic",
            Attached::Tc => "tc",
            Attached::Egress => "egress",
        }
    }
}

/// How to attach to a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum AttachMode {
    /// XDP in the driver where no packet is lost by it, TC elsewhere
    Auto,
    /// XDP in the driver
    Native,
    /// XDP in the network stack
    Generic,
    /// TC
    Tc,
}
