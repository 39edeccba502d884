//! The headers between outer and inner packet: IP in IP, GUE, GRE, VXLAN.

use aya_ebpf::programs::TcContext;
use lvs_common::abi::tunnel::{self, TUNNELS, TunnelKind};
use lvs_common::abi::{AF_INET, AF_INET6};
use lvs_common::byte_order::Be16;
use lvs_common::wire::{VXLAN_VNI, ethertype, protocol};

use crate::outer::Outer;

/// Set of tunnel kinds to open: bit `1 << kind`. The loader sets it.
#[unsafe(no_mangle)]
static TYPES: u32 = 0;
/// UDP port of each kind by its number, network byte order; 0 for a kind that has none. The loader sets it.
#[unsafe(no_mangle)]
static PORTS: [u16; TUNNELS.len()] = [0; TUNNELS.len()];

/// Where the packet in the tunnel is.
pub struct Payload {
    /// `AF_INET` or `AF_INET6`.
    pub family: u8,
    /// Where it begins in the frame.
    pub offset: usize,
    /// Its checksum was left to this end to compute.
    pub remote_checksum: Option<RemoteChecksum>,
}

/// GUE's remote checksum offload, in bytes from the beginning of the inner packet.
#[derive(Clone, Copy)]
pub struct RemoteChecksum {
    /// From where on to sum.
    pub start: usize,
    /// Where the sum goes.
    pub field: usize,
}

/// The payload of a tunnel that is configured.
#[inline(always)]
pub fn open(ctx: &TcContext, outer: &Outer) -> Option<Payload> {
    match outer.protocol {
        protocol::IPIP | protocol::IPV6 if opens(TunnelKind::IPIP) => plain(outer.protocol, outer.payload),
        protocol::GRE if opens(TunnelKind::GRE) => gre(ctx, outer.payload),
        protocol::UDP => {
            let port: u16 = ctx.load(outer.payload + 2).ok()?;
            if opens_at(TunnelKind::GUE, port) {
                gue(ctx, outer.payload + 8)
            } else if opens_at(TunnelKind::VXLAN, port) {
                vxlan(ctx, outer.payload + 8)
            } else {
                None
            }
        }
        _ => None,
    }
}

/// Whether a protocol can carry a tunnel that is configured.
#[inline(always)]
pub fn may_carry(carried: u8) -> bool {
    tunnel::may_carry(carried, opens)
}

/// Whether a UDP port (network byte order) is that of a tunnel that is configured.
#[inline(always)]
pub fn has_port(port: u16) -> bool {
    tunnel::may_carry(protocol::UDP, |kind| opens_at(kind, port))
}

#[inline(always)]
fn opens(kind: TunnelKind) -> bool {
    setting(&TYPES) & 1 << kind.0 != 0
}

/// Whether a kind over UDP is opened, on this port (network byte order).
#[inline(always)]
fn opens_at(kind: TunnelKind, port: u16) -> bool {
    opens(kind) && port == setting(&PORTS[kind.0 as usize])
}

/// A setting as it is when the program runs, which the compiler must not take from this file.
#[inline(always)]
fn setting<T: Copy>(value: &'static T) -> T {
    // SAFETY: a reference is valid to read from.
    unsafe { core::ptr::read_volatile(value) }
}

#[inline(always)]
fn plain(carried: u8, offset: usize) -> Option<Payload> {
    let family = match carried {
        protocol::IPIP => AF_INET,
        protocol::IPV6 => AF_INET6,
        _ => return None,
    };
    Some(Payload { family, offset, remote_checksum: None })
}

#[inline(always)]
fn by_ether_type(ether_type: u16, offset: usize) -> Option<Payload> {
    match Be16::from_word(ether_type) {
        ethertype::IPV4 => plain(protocol::IPIP, offset),
        ethertype::IPV6 => plain(protocol::IPV6, offset),
        _ => None,
    }
}

/// RFC 2784 and 2890: checksum, key and sequence number are optional, four bytes each. The checksum is not verified;
/// that of the inner packet is, by the stack.
#[inline(always)]
fn gre(ctx: &TcContext, offset: usize) -> Option<Payload> {
    let [flags, ether_type]: [u16; 2] = ctx.load(offset).ok()?;
    let flags = u16::from_be(flags);
    const CHECKSUM: u16 = 0x8000;
    const KEY: u16 = 0x2000;
    const SEQUENCE: u16 = 0x1000;
    if flags & !(CHECKSUM | KEY | SEQUENCE) != 0 {
        return None;
    }
    let options = (flags >> 15 & 1) + (flags >> 13 & 1) + (flags >> 12 & 1);
    by_ether_type(ether_type, offset + 4 + options as usize * 4)
}

/// GUE variant 0: four bytes, and with remote checksum offload a private flags word and two offsets.
#[inline(always)]
fn gue(ctx: &TcContext, offset: usize) -> Option<Payload> {
    let [lengths, protocol, flags_high, flags_low]: [u8; 4] = ctx.load(offset).ok()?;
    // The first byte is variant (2 bits), control (1), and the length of the options in words (5).
    match (lengths, u16::from_be_bytes([flags_high, flags_low])) {
        (0, 0) => plain(protocol, offset + 4),
        (2, PRIVATE) => {
            let [flags, places]: [u32; 2] = ctx.load(offset + 4).ok()?;
            let (flags, places) = (u32::from_be(flags), u32::from_be(places));
            if flags != REMOTE_CHECKSUM {
                return None;
            }
            let remote = RemoteChecksum { start: (places >> 16) as usize, field: (places & 0xffff) as usize };
            Some(Payload { remote_checksum: Some(remote), ..plain(protocol, offset + 12)? })
        }
        _ => None,
    }
}

/// Flag of a GUE header: private flags follow.
const PRIVATE: u16 = 1;
/// Private flag: remote checksum offload.
const REMOTE_CHECKSUM: u32 = 0x8000_0000;

/// RFC 7348 with VNI 0; the inner Ethernet header goes with the outer ones.
#[inline(always)]
fn vxlan(ctx: &TcContext, offset: usize) -> Option<Payload> {
    let [flags, vni]: [u32; 2] = ctx.load(offset).ok()?;
    const VNI_PRESENT: u32 = (VXLAN_VNI as u32) << 24;
    if u32::from_be(flags) & VNI_PRESENT == 0 || u32::from_be(vni) >> 8 != 0 {
        return None;
    }
    by_ether_type(ctx.load(offset + 8 + 12).ok()?, offset + 8 + 14)
}
