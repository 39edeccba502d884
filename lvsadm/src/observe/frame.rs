//! The bytes of a packet as a frame.

use lvs_common::abi::observe::{Gate, Observed};
use lvs_director::dataplane;

/// The header of a packet of IP that has none, by its version: without addresses.
fn header(packet: &[u8]) -> [u8; 14] {
    let mut header = [0; 14];
    let kind = if packet.first().is_some_and(|byte| byte >> 4 == 6) { [0x86, 0xdd] } else { [0x08, 0x00] };
    header[12..].copy_from_slice(&kind);
    header
}

/// Whether a packet came without an Ethernet header.
pub fn came_bare(report: &Observed) -> bool {
    report.gate == Gate::L3Ingress as u32 || report.gate == Gate::L3Egress as u32
}

/// Whether a packet has left without one: what is sent has one.
pub fn left_bare(report: &Observed) -> bool {
    came_bare(report) && dataplane::tc_verdict(report.verdict) != "redirect"
}

/// A packet as a frame: where it has no Ethernet header, it gets one.
pub fn framed(is_bare: bool, packet: &[u8]) -> Vec<u8> {
    if is_bare { [&header(packet)[..], packet].concat() } else { packet.to_vec() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_without_a_header_get_one_by_their_version() {
        assert_eq!(framed(true, &[0x60, 1])[12..], [0x86, 0xdd, 0x60, 1]);
        assert_eq!(framed(true, &[0x45])[12..], [0x08, 0x00, 0x45]);
        assert_eq!(framed(false, &[0x45]), [0x45]);
    }
}
