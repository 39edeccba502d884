//! The levels of the data plane's log.

/// From which level on lines are written. Decided when the data plane is loaded; off, the log costs nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogLevel {
    /// No line.
    #[default]
    Off,
    /// Packets dropped for want of room, a route, or the kernel's help.
    Error,
    /// Every dropped packet.
    Warn,
    /// New connections, and packets answered with an ICMP error.
    Info,
    /// Packets for a service that are left to the stack.
    Debug,
    /// Every packet.
    Trace,
}

impl LogLevel {
    /// All of them, the quietest first.
    pub const ALL: [LogLevel; 6] = [Self::Off, Self::Error, Self::Warn, Self::Info, Self::Debug, Self::Trace];

    /// The number that aya-log gives the level.
    pub fn number(self) -> u8 {
        self as u8
    }

    /// The word for it on the command line.
    pub fn name(self) -> &'static str {
        ["off", "error", "warn", "info", "debug", "trace"][self as usize]
    }

    /// The level of that name, in upper or lower case.
    pub fn by_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|level| level.name().eq_ignore_ascii_case(name))
    }
}
