//! Frames that stand for many flows.

use std::net::SocketAddr;

use anyhow::{Result, ensure};
use lvs_common::abi::bench::{CHUNKS, FRAME, Run};
use tests::fixtures::frame;

/// What a flow's packets are.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// TCP requests for connections.
    Syn,
    /// TCP acknowledgements.
    Ack,
    /// UDP datagrams.
    Datagram,
}

/// Hop limit of all frames.
const TTL: u8 = 64;

/// Frames from `from` to `to`, with these MAC addresses; `from` is the first of `flows` flows.
pub fn run(
    kind: Kind,
    (to_mac, from_mac): ([u8; 6], [u8; 6]),
    from: SocketAddr,
    to: SocketAddr,
    flows: u32,
) -> Result<Run> {
    let ip = if from.is_ipv4() { 20 } else { 40 };
    let transport = if kind == Kind::Datagram { 8 } else { 20 };
    let payload_at = 14 + ip + transport;
    let source_at = if from.is_ipv4() { 14 + 14 } else { 14 + 8 + 14 };
    let source = match from {
        SocketAddr::V4(from) => u32::from(*from.ip()) & 0xffff,
        SocketAddr::V6(from) => u32::from(from.ip().segments()[7]),
    };
    let mut payload = vec![0; FRAME - payload_at];
    payload[..2].copy_from_slice(&(!from.port()).to_be_bytes());
    payload[2..4].copy_from_slice(&(!(source as u16)).to_be_bytes());
    let (protocol, segment) = match kind {
        Kind::Datagram => (frame::UDP, frame::udp(from, to, &payload)),
        _ => (frame::TCP, frame::tcp(from, to, kind == Kind::Syn, &payload)),
    };
    let mut packet = frame::ip(from.ip(), to.ip(), 0, TTL, protocol, &segment);
    if from.is_ipv4() {
        // The identification is the complement of the source's half: their sum is no part of the checksum any more.
        let check = u16::from_be_bytes([packet[10], packet[11]]);
        packet[4..6].copy_from_slice(&(!(source as u16)).to_be_bytes());
        let sum = u32::from(!check) + u32::from(!(source as u16));
        let folded = (sum & 0xffff) + (sum >> 16);
        packet[10..12].copy_from_slice(&(!(folded as u16)).to_be_bytes());
    }
    let bytes = frame::ethernet(to_mac, from_mac, &packet);
    ensure!(bytes.len() == FRAME, "a frame of {} bytes", bytes.len());
    let mut buffer = [0; FRAME + 6];
    buffer[2..2 + FRAME].copy_from_slice(&bytes);
    let id_at = if from.is_ipv4() { 18 } else { payload_at + 2 };
    let places = [14 + ip, payload_at, source_at, payload_at + 2, id_at].map(|place| place as u32);
    Ok(Run { frame: buffer, flows, order: 1, source, places, flow: 0, pad: 0, count: 0, begin: 0, chunks: [0; CHUNKS] })
}
