//! Programs of somebody else's on a device: they count what comes by, and let it go on.

use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};

use anyhow::{Context, Result};
use aya::maps::{Array, Map, MapData};
use aya_obj::generated::{bpf_attach_type, bpf_map_type, bpf_prog_type};
use nix::libc;

use super::namespace::Namespace;

const BPF_PROG_LOAD: u64 = 5;
const BPF_LINK_CREATE: u64 = 28;
/// `BPF_F_BEFORE`, `BPF_F_AFTER`: without a neighbour to name, before and after all others.
const BEFORE: u32 = 1 << 3;
const AFTER: u32 = 1 << 4;
/// `XDP_FLAGS_SKB_MODE`.
const XDP_IN_THE_STACK: u32 = 1 << 1;
/// `TCX_NEXT`, `XDP_PASS`.
const NEXT: i32 = -1;
const PASS: i32 = 2;

/// Where a program hangs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// At a device's TCX ingress, before the programs that are there.
    FirstIngress,
    /// The same, after them.
    LastIngress,
    /// At its TCX egress, before the programs that are there.
    FirstEgress,
    /// The same, after them.
    LastEgress,
    /// At its XDP hook, in the network stack.
    Xdp,
}

/// A program that counts packets; dropped, it is gone.
pub struct Observer {
    _link: OwnedFd,
    counts: Array<MapData, u64>,
}

impl Observer {
    /// Hangs a program on a device. TC programs count IPv4 packets, an XDP program counts all.
    pub fn attach(namespace: &Namespace, device: &str, place: Place) -> Result<Self> {
        let map = aya_obj::Map::new_from_params(bpf_map_type::BPF_MAP_TYPE_ARRAY as u32, 4, 8, 1, 0);
        let map = MapData::create(map, "observed", None)?;
        let is_xdp = place == Place::Xdp;
        let program = load(&map, is_xdp).context("cannot load a program that counts")?;
        let (kind, flags) = match place {
            Place::FirstIngress => (bpf_attach_type::BPF_TCX_INGRESS, BEFORE),
            Place::LastIngress => (bpf_attach_type::BPF_TCX_INGRESS, AFTER),
            Place::FirstEgress => (bpf_attach_type::BPF_TCX_EGRESS, BEFORE),
            Place::LastEgress => (bpf_attach_type::BPF_TCX_EGRESS, AFTER),
            Place::Xdp => (bpf_attach_type::BPF_XDP, XDP_IN_THE_STACK),
        };
        let link = namespace.enter(|| {
            let index = nix::net::if_::if_nametoindex(device)?;
            let mut attributes = [0u32; 16];
            attributes[..4].copy_from_slice(&[program.as_raw_fd() as u32, index, kind as u32, flags]);
            bpf(BPF_LINK_CREATE, &attributes).context("cannot attach a program that counts")
        })?;
        Ok(Observer { _link: link, counts: Array::try_from(Map::Array(map))? })
    }

    /// How many packets it has seen.
    pub fn count(&self) -> Result<u64> {
        Ok(self.counts.get(&0, 0)?)
    }
}

/// Loads a program that counts in the element 0 of `map`.
fn load(map: &MapData, is_xdp: bool) -> Result<OwnedFd> {
    // Opcode, registers (destination in the lower half), offset, immediate.
    let op = |code: u8, registers: u8, offset: i16, value: i32| {
        u64::from(code) | u64::from(registers) << 8 | u64::from(offset as u16) << 16 | u64::from(value as u32) << 32
    };
    let fd: RawFd = map.fd().as_fd().as_raw_fd();
    let ipv4 = i32::from(0x0800u16.to_be());
    let counted = [
        op(0x62, 0x0a, -4, 0), // *(u32 *)(r10 - 4) = 0
        op(0xbf, 0xa2, 0, 0),  // r2 = r10
        op(0x07, 0x02, 0, -4), // r2 += -4
        op(0x18, 0x11, 0, fd), // r1 = map
        op(0x00, 0x00, 0, 0),  //
        op(0x85, 0x00, 0, 1),  // r0 = bpf_map_lookup_elem(r1, r2)
        op(0x15, 0x00, 2, 0),  // if r0 == 0, two on
        op(0xb7, 0x01, 0, 1),  // r1 = 1
        op(0xdb, 0x10, 0, 0),  // *(u64 *)(r0 + 0) += r1, atomically
        op(0xb7, 0x00, 0, if is_xdp { PASS } else { NEXT }),
        op(0x95, 0x00, 0, 0), // return r0
    ];
    // r2 = skb->protocol; if it is another, to the end
    let only_ipv4 = [op(0x61, 0x12, 16, 0), op(0x55, 0x02, 9, ipv4)];
    let code: Vec<u64> = if is_xdp { counted.to_vec() } else { only_ipv4.into_iter().chain(counted).collect() };
    let kind = if is_xdp { bpf_prog_type::BPF_PROG_TYPE_XDP } else { bpf_prog_type::BPF_PROG_TYPE_SCHED_CLS };
    let halves = |address: u64| [address as u32, (address >> 32) as u32];
    let (instructions, licence) = (halves(code.as_ptr() as u64), halves(c"GPL".as_ptr() as u64));
    let mut attributes = [0u32; 32];
    attributes[..2].copy_from_slice(&[kind as u32, code.len() as u32]);
    attributes[2..4].copy_from_slice(&instructions);
    attributes[4..6].copy_from_slice(&licence);
    // The name, from byte 48 on.
    attributes[12..14].copy_from_slice(&[u32::from_ne_bytes(*b"obse"), u32::from_ne_bytes(*b"rver")]);
    bpf(BPF_PROG_LOAD, &attributes)
}

/// The system call, of which a descriptor comes.
fn bpf(command: u64, attributes: &[u32]) -> Result<OwnedFd> {
    // SAFETY: the attributes are of the length that is told, and what they point to outlives the call.
    let fd = unsafe { libc::syscall(libc::SYS_bpf, command, attributes.as_ptr(), size_of_val(attributes)) };
    let fd = nix::errno::Errno::result(fd)?;
    // SAFETY: a descriptor that the kernel has just given.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as RawFd) })
}
