//! The inner IP header.

use aya_ebpf::programs::TcContext;
use lvs_common::abi::{AF_INET, AF_INET6};

use lvs_common::wire::protocol;

use crate::tunnel::Payload;

/// What matters of the inner header.
pub struct Inner {
    /// `AF_INET` or `AF_INET6`.
    pub family: u8,
    /// Where it begins in the frame.
    pub offset: usize,
    /// Bytes of the packet, header included.
    pub length: usize,
    /// Its destination, as a key of the virtual addresses.
    pub vip: [u32; 5],
    /// IPv6: one of BIG TCP, to be cut into segments, whose length stands nowhere.
    pub is_big: bool,
    /// What it carries, by its first header.
    pub protocol: u8,
    /// The two bits of congestion notification.
    pub ecn: u8,
}

impl Inner {
    /// The header, if its version is what the tunnel said.
    #[inline(always)]
    pub fn parse(ctx: &TcContext, payload: &Payload) -> Option<Self> {
        let (family, offset) = (payload.family, payload.offset);
        let first: u32 = u32::from_be(ctx.load(offset).ok()?);
        match (family, first >> 28) {
            (AF_INET, 4) => {
                let destination: u32 = ctx.load(offset + 16).ok()?;
                let vip = [AF_INET.into(), destination, 0, 0, 0];
                let length = (first & 0xffff) as usize;
                let protocol = ctx.load(offset + 9).ok()?;
                Some(Inner { family, offset, length, vip, is_big: false, protocol, ecn: (first >> 16 & 3) as u8 })
            }
            (AF_INET6, 6) => {
                let [payload, next]: [u16; 2] = ctx.load(offset + 4).ok()?;
                let [a, b, c, d]: [u32; 4] = ctx.load(offset + 24).ok()?;
                let vip = [AF_INET6.into(), a, b, c, d];
                let length = 40 + u16::from_be(payload) as usize;
                let [protocol, _] = next.to_ne_bytes();
                let is_big = payload == 0 && protocol == protocol::TCP;
                Some(Inner { family, offset, length, vip, is_big, protocol, ecn: (first >> 20 & 3) as u8 })
            }
            _ => None,
        }
    }
}
