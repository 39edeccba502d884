//! Persistence: what ties the connections of a client to one real server.

use crate::{
    abi::{AF_INET, Address, ServiceConfig, service_flags},
    byte_order::Be16,
};

/// FTP's port: its data connections follow the control connection.
const FTP: Be16 = Be16::new(21);

/// A client's address as persistence sees it: under the service's IPv4 mask or IPv6 prefix length.
#[inline(always)]
pub const fn masked(client: Address, family: u8, netmask: u32) -> Address {
    let w = client.0;
    if family == AF_INET {
        return Address([w[0] & netmask, 0, 0, 0]);
    }
    Address([
        w[0] & prefix_word(netmask, 0),
        w[1] & prefix_word(netmask, 1),
        w[2] & prefix_word(netmask, 2),
        w[3] & prefix_word(netmask, 3),
    ])
}

/// Word `index` (network order) of the mask for an IPv6 prefix of `length` bits.
#[inline(always)]
const fn prefix_word(length: u32, index: u32) -> u32 {
    let bits = length.saturating_sub(index * 32);
    if bits >= 32 { u32::MAX } else { (!(u32::MAX.wrapping_shr(bits))).to_be() }
}

/// The virtual side of a template's key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TemplateKey {
    /// Virtual address, or the mark as an address.
    pub virt: Address,
    /// Virtual port, 0 for every port.
    pub virt_port: Be16,
    /// IP protocol, 0 for every one.
    pub protocol: u8,
}

/// The key of the template for a packet to `virt`, and whether its real port is the destination's (else 0).
///
/// A service on one port has its own templates; FTP's cover all ports of the address, as do those of a service for every
/// port; those of a mark cover all addresses, ports and protocols under the mark.
#[inline(always)]
pub fn template(virt: Address, service_port: Be16, protocol: u8, fwmark: u32) -> (TemplateKey, bool) {
    if fwmark != 0 {
        let virt = Address([fwmark.to_be(), 0, 0, 0]);
        return (TemplateKey { virt, virt_port: Be16::ZERO, protocol: 0 }, false);
    }
    if service_port == FTP || service_port.is_zero() {
        return (TemplateKey { virt, virt_port: Be16::ZERO, protocol }, false);
    }
    (TemplateKey { virt, virt_port: service_port, protocol }, true)
}

/// The real server's port for a new connection to `packet_port`. `dest_port` is the destination's own, 0 for none.
#[inline(always)]
pub fn real_port(config: &ServiceConfig, service_port: Be16, fwmark: u32, packet_port: Be16, dest_port: Be16) -> Be16 {
    if config.flags & service_flags::PERSISTENT != 0 {
        // A template may lead packets of other ports here: they keep their port.
        return if fwmark == 0 && packet_port == service_port && !dest_port.is_zero() {
            dest_port
        } else {
            packet_port
        };
    }
    if !dest_port.is_zero() { dest_port } else { packet_port }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ports(config: &ServiceConfig, service: u16, fwmark: u32, packet: u16, dest: u16) -> u16 {
        real_port(config, Be16::new(service), fwmark, Be16::new(packet), Be16::new(dest)).get()
    }

    #[test]
    fn masks_cut_addresses() {
        let v4 = Address::v4([10, 1, 2, 3]);
        assert_eq!(masked(v4, AF_INET, u32::from_ne_bytes([255, 255, 255, 0])), Address::v4([10, 1, 2, 0]));
        let v6 = Address::v6([0xff; 16]);
        for length in [1u32, 31, 32, 33, 64, 100, 127, 128] {
            let bits = masked(v6, 10, length).octets6().iter().map(|b| b.leading_ones()).sum::<u32>();
            assert_eq!(bits, length);
            assert_eq!(u128::from_be_bytes(masked(v6, 10, length).octets6()).leading_ones(), length);
        }
    }

    #[test]
    fn ports_follow_the_packet_unless_the_service_has_one() {
        let persistent = ServiceConfig { flags: service_flags::PERSISTENT, ..Default::default() };
        let plain = ServiceConfig::default();
        assert_eq!(ports(&persistent, 80, 0, 80, 8080), 8080);
        assert_eq!(ports(&persistent, 80, 0, 81, 8080), 81);
        assert_eq!(ports(&persistent, 0, 7, 81, 8080), 81);
        assert_eq!(ports(&plain, 0, 7, 81, 8080), 8080);
        assert_eq!(ports(&plain, 0, 7, 81, 0), 81);
    }
}
