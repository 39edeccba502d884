//! The outer IP header.

use aya_ebpf::EbpfContext as _;
use aya_ebpf::bindings::{__sk_buff, BPF_FIB_LKUP_RET_FWD_DISABLED, BPF_FIB_LKUP_RET_NOT_FWDED, bpf_fib_lookup};
use aya_ebpf::helpers::bpf_fib_lookup;
use aya_ebpf::programs::TcContext;
use lvs_common::abi::{AF_INET, AF_INET6};
use lvs_common::byte_order::Be16;
use lvs_common::wire::ethertype;

/// Length of the Ethernet header, all that stands before the outer IP header.
pub const ETHERNET: usize = 14;

/// The fields of the context.
#[inline(always)]
pub fn fields(ctx: &TcContext) -> &__sk_buff {
    // SAFETY: the context's pointer is the program's argument.
    unsafe { &*ctx.skb.skb }
}

/// What matters of the outer header.
pub struct Outer {
    /// `AF_INET` or `AF_INET6`.
    pub family: u8,
    /// Protocol of the payload.
    pub protocol: u8,
    /// Where the payload begins in the frame.
    pub payload: usize,
    /// A router on the way signalled congestion.
    pub congested: bool,
    source: [u32; 4],
    destination: [u32; 4],
}

impl Outer {
    /// The header of a frame of this family; `None` for all that can carry no tunnel.
    #[inline(always)]
    pub fn parse(ctx: &TcContext) -> Option<Self> {
        match family(ctx)? {
            AF_INET => Self::parse_v4(ctx),
            _ => Self::parse_v6(ctx),
        }
    }

    #[inline(always)]
    fn parse_v4(ctx: &TcContext) -> Option<Self> {
        let header: [u32; 5] = ctx.load(ETHERNET).ok()?;
        let [first, fragment, third, source, destination] = header.map(u32::from_be);
        let length = (first >> 24 & 0xf) as usize * 4;
        const MORE_OR_OFFSET: u32 = 0x3fff;
        if length < 20 || fragment & MORE_OR_OFFSET != 0 {
            return None;
        }
        Some(Outer {
            family: AF_INET,
            protocol: (third >> 16) as u8,
            payload: ETHERNET + length,
            congested: first >> 16 & 3 == 3,
            source: [source.to_be(), 0, 0, 0],
            destination: [destination.to_be(), 0, 0, 0],
        })
    }

    #[inline(always)]
    fn parse_v6(ctx: &TcContext) -> Option<Self> {
        let [first, second]: [u32; 2] = ctx.load(ETHERNET).ok()?;
        Some(Outer {
            family: AF_INET6,
            protocol: (u32::from_be(second) >> 8) as u8,
            payload: ETHERNET + 40,
            congested: u32::from_be(first) >> 20 & 3 == 3,
            source: ctx.load(ETHERNET + 8).ok()?,
            destination: ctx.load(ETHERNET + 24).ok()?,
        })
    }

    /// Whether the packet is for this host.
    #[inline(always)]
    pub fn is_for_this_host(&self, ctx: &TcContext) -> bool {
        is_for_this_host(ctx, self.family, self.protocol, self.source, self.destination)
    }
}

/// The family of a frame for this host.
#[inline(always)]
pub fn family(ctx: &TcContext) -> Option<u8> {
    let (kind, protocol) = (fields(ctx).pkt_type, fields(ctx).protocol);
    const PACKET_HOST: u32 = 0;
    match Be16::from_word(protocol as u16) {
        _ if kind != PACKET_HOST => None,
        ethertype::IPV4 => Some(AF_INET),
        ethertype::IPV6 => Some(AF_INET6),
        _ => None,
    }
}

/// Whether the kernel would not forward a packet: its destination is local, or the host forwards nothing.
#[inline(always)]
pub fn is_for_this_host(ctx: &TcContext, family: u8, protocol: u8, source: [u32; 4], destination: [u32; 4]) -> bool {
    // SAFETY: all-zero bytes are a value of this plain structure.
    let mut query: bpf_fib_lookup = unsafe { core::mem::zeroed() };
    query.family = family;
    query.l4_protocol = protocol;
    query.ifindex = fields(ctx).ingress_ifindex;
    if family == AF_INET {
        query.__bindgen_anon_3.ipv4_src = source[0];
        query.__bindgen_anon_4.ipv4_dst = destination[0];
    } else {
        query.__bindgen_anon_3.ipv6_src = source;
        query.__bindgen_anon_4.ipv6_dst = destination;
    }
    // SAFETY: the query lives on the stack and its size is its own.
    let answer = unsafe { bpf_fib_lookup(ctx.as_ptr(), &mut query, size_of::<bpf_fib_lookup>() as i32, 0) };
    answer == i64::from(BPF_FIB_LKUP_RET_NOT_FWDED) || answer == i64::from(BPF_FIB_LKUP_RET_FWD_DISABLED)
}
