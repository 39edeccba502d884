//! Which virtual service a packet without a connection is for.

use crate::abi::settings_flags;
use crate::byte_order::Be16;
use crate::wire::protocol;

/// FTP's port.
pub const FTP: Be16 = Be16::new(21);
/// FTP's data port.
pub const FTP_DATA: Be16 = Be16::new(20);
/// First port that needs no privilege: FTP's passive data connections go there.
const UNPRIVILEGED: u16 = 1024;

/// Finds the service of a packet to a port of a protocol, in IPVS's order: mark, exact port, FTP's data ports, any port. `flags` are those of
/// the settings, which say what kinds of services there are. `by_mark` is asked for the service of the packet's mark (0 is none), `exact` for
/// that of exactly the packet's address, a port and a protocol.
#[inline(always)]
pub fn service<S>(
    to: Be16,
    protocol: u8,
    mark: u32,
    flags: u32,
    by_mark: impl FnOnce(u32) -> Option<S>,
    exact: impl Fn(Be16, u8) -> Option<S>,
) -> Option<S> {
    if mark != 0
        && flags & settings_flags::FWMARK != 0
        && let Some(found) = by_mark(mark)
    {
        return Some(found);
    }
    if let Some(found) = exact(to, protocol) {
        return Some(found);
    }
    if protocol == protocol::TCP
        && flags & settings_flags::FTP != 0
        && (to == FTP_DATA || to.get() >= UNPRIVILEGED)
        && let Some(found) = exact(FTP, protocol::TCP)
    {
        return Some(found);
    }
    if flags & settings_flags::ANY_PORT != 0 {
        return exact(Be16::ZERO, protocol);
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: u32 = settings_flags::FWMARK | settings_flags::FTP | settings_flags::ANY_PORT;

    fn found(to: u16, mark: u32, flags: u32, there: &[u16]) -> Option<String> {
        let exact = |port: Be16, _| there.contains(&port.get()).then(|| port.get().to_string());
        service(Be16::new(to), protocol::TCP, mark, flags, |mark| (mark == 7).then(|| "mark".to_owned()), exact)
    }

    #[test]
    fn the_order_is_mark_port_ftp_any_port() {
        let of = |to, mark, there: &[u16]| found(to, mark, ALL, there);
        assert_eq!(of(80, 7, &[80, 0]).as_deref(), Some("mark"));
        assert_eq!(of(80, 8, &[80, 0]).as_deref(), Some("80"));
        assert_eq!(of(81, 0, &[80, 21, 0]).as_deref(), Some("0"));
        assert_eq!(of(20, 0, &[21, 0]).as_deref(), Some("21"));
        assert_eq!(of(1024, 0, &[21, 0]).as_deref(), Some("21"));
        assert_eq!(of(1024, 7, &[]).as_deref(), Some("mark"));
        assert_eq!(of(81, 0, &[80]), None);
    }

    #[test]
    fn what_is_not_configured_is_not_looked_for() {
        assert_eq!(found(1024, 7, 0, &[21, 0]), None);
        assert_eq!(found(21, 0, 0, &[21]).as_deref(), Some("21"));
    }
}
