//! How packets reach a real server.

/// A forwarding mode, by the kernel's number (`IP_VS_CONN_F_FWD_MASK`), as maps hold it: any byte is a value. The
/// constants stand in patterns; [`Mode::forward`] is the same as an enumeration.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(transparent)]
pub struct Mode(u8);

impl Mode {
    /// [`Forward::Masq`].
    pub const MASQ: Self = Mode(0);
    /// [`Forward::Local`].
    pub const LOCAL: Self = Mode(1);
    /// [`Forward::Tunnel`].
    pub const TUNNEL: Self = Mode(2);
    /// [`Forward::Route`].
    pub const ROUTE: Self = Mode(3);
    /// [`Forward::Bypass`].
    pub const BYPASS: Self = Mode(4);
    /// [`Forward::FullNat`].
    pub const FULLNAT: Self = Mode(5);

    /// Its number.
    pub const fn number(self) -> u8 {
        self.0
    }

    /// The mode as an enumeration, `None` for a number that is no mode.
    pub const fn forward(self) -> Option<Forward> {
        Some(match self {
            Mode::MASQ => Forward::Masq,
            Mode::LOCAL => Forward::Local,
            Mode::TUNNEL => Forward::Tunnel,
            Mode::ROUTE => Forward::Route,
            Mode::BYPASS => Forward::Bypass,
            Mode::FULLNAT => Forward::FullNat,
            _ => return None,
        })
    }
}

impl From<Forward> for Mode {
    fn from(forward: Forward) -> Self {
        Mode(forward as u8)
    }
}

/// How packets reach a real server, by the kernel's numbers (`IP_VS_CONN_F_FWD_MASK`); `FullNat` is ours (and LVS's).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(u8)]
#[allow(missing_docs, reason = "the variants are the modes' own names")]
pub enum Forward {
    #[default]
    Masq = 0,
    Local = 1,
    Tunnel = 2,
    Route = 3,
    /// Forwarded to the packet's own destination (`cache_bypass`).
    Bypass = 4,
    FullNat = 5,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mode_and_its_enumeration_have_one_number() {
        for number in 0..=u8::MAX {
            match Mode(number).forward() {
                Some(forward) => assert_eq!((forward as u8, Mode::from(forward)), (number, Mode(number))),
                None => assert!(number > Mode::FULLNAT.0),
            }
        }
    }
}
