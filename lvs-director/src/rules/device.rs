//! Network devices, as far as rules speak of them.

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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttachMode {
    /// XDP in the driver where no packet is lost by it, TC elsewhere.
    Auto,
    /// XDP in the driver.
    Native,
    /// XDP in the network stack.
    Generic,
    /// TC alone.
    Tc,
}

impl AttachMode {
    /// All of them.
    pub const ALL: [AttachMode; 4] = [Self::Auto, Self::Native, Self::Generic, Self::Tc];

    /// The word for it on the command line.
    pub fn name(self) -> &'static str {
        match self {
            AttachMode::Auto => "auto",
            AttachMode::Native => "native",
            AttachMode::Generic => "generic",
            AttachMode::Tc => "tc",
        }
    }

    /// The mode of that name, in upper or lower case.
    pub fn by_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|mode| mode.name().eq_ignore_ascii_case(name))
    }
}
