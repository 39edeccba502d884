//! What the observing programs (`lvs-ebpf/src/observe`) report to `lvsadm trace` and `lvsadm capture`; no part of the data plane.

use crate::exit::EXIT_COUNT;

/// Bytes of a packet, from the Ethernet header on, that are kept of it as it came, and that a filter sees.
pub const HEAD: usize = 256;

/// Most bytes of a packet that are reported.
pub const MOST: u32 = 1 << 16;

/// The exits of a packet are a word's bits.
const _: () = assert!(EXIT_COUNT <= 64);

/// An attached program of the data plane that packets enter by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum Gate {
    /// `lvs_xdp`
    Xdp,
    /// `lvs_ingress`
    Ingress,
    /// `lvs_egress`
    Egress,
    /// `lvs_l3_ingress`
    L3Ingress,
    /// `lvs_l3_egress`
    L3Egress,
}

impl Gate {
    /// All, by their numbers.
    pub const ALL: [Gate; 5] = [Gate::Xdp, Gate::Ingress, Gate::Egress, Gate::L3Ingress, Gate::L3Egress];
}

/// What is reported: a packet as it came, or one that has left.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Observed {
    /// When the packet came or left: `CLOCK_MONOTONIC`, ns.
    pub time: u64,
    /// The packet's number, of this CPU and gate. It is the same for a packet as it came and as it left.
    pub number: u64,
    /// The exits that counted the packet, by their bits; none of a packet as it came.
    pub exits: u64,
    /// The CPU.
    pub cpu: u32,
    /// The [`Gate`].
    pub gate: u32,
    /// The device that the packet came in on, or that it was about to leave by ([`Gate::Egress`]): its index.
    pub device: u32,
    /// The firewall mark; 0 in XDP.
    pub mark: u32,
    /// The program's verdict, as XDP or TC number them.
    pub verdict: u32,
    /// 1 if the packet has left.
    pub has_left: u32,
    /// Length of the packet as it came, from the link-layer header on; with GSO, of all segments together.
    pub came_length: u32,
    /// Its length now.
    pub length: u32,
    /// The service that the programs asked for, 0 if they had no reason to ask.
    pub service: u32,
    /// 1 if a template decided about it.
    pub template: u32,
    /// The real server that was given to a new connection, 0 without one.
    pub dest: u32,
    /// How many bytes of [`Self::head`] there are.
    pub head_length: u32,
    /// How the packet began when it came.
    pub head: [u8; HEAD],
}

/// What is reported of packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Wanted {
    /// Packets that left by none of these exits are not reported, by their bits.
    pub exits: u64,
    /// Bytes of a packet that are reported as it left; 0 for none.
    pub snap: u32,
    /// Bytes of a packet that are reported as it came; with 0 packets are not reported before they leave.
    pub came: u32,
    /// The level of the data plane's own log.
    pub logged: u32,
    /// Nothing.
    pub pad: u32,
}
