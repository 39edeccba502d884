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
