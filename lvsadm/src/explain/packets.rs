//! The packets that are explained: made of their ends, or read from a file.

use std::fs::File;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use anyhow::{Context, Result, bail};
use etherparse::{IpHeaders, Ipv4Header, Ipv6Header, LaxNetSlice, LaxSlicedPacket, PacketBuilder, TransportSlice};
use lvs_common::state::sctp::chunk;
use lvs_director::rules::Protocol;
use pcap_file::DataLink;
use pcap_file::pcap::PcapReader;
use pcap_file::pcapng::{Block, PcapNgReader};

/// How files of pcapng begin.
const PCAPNG: [u8; 4] = [0x0a, 0x0d, 0x0d, 0x0a];
/// The MAC address that made packets come from.
const SENDER: [u8; 6] = [2, 0, 0, 0, 0, 1];
/// Hops that a made packet may take, and the window that it offers.
const HOPS: u8 = 64;
const WINDOW: u16 = 65535;

/// A packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Given {
    /// Its protocol.
    pub protocol: u8,
    /// Where it is from; port 0 without ports.
    pub source: SocketAddr,
    /// Where it goes.
    pub destination: SocketAddr,
    /// What kind of packet of its protocol it is.
    pub kind: String,
    /// The frame.
    pub frame: Vec<u8>,
}

/// A packet that comes to a device.
pub fn made((protocol, from, to): (Protocol, SocketAddr, SocketAddr), is_open: bool, device: [u8; 6]) -> Result<Given> {
    let headers = match (from.ip(), to.ip()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            let (source, destination) = (from.octets(), to.octets());
            let header = Ipv4Header { time_to_live: HOPS, source, destination, ..Ipv4Header::default() };
            IpHeaders::Ipv4(header, Default::default())
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            let (source, destination) = (from.octets(), to.octets());
            let header = Ipv6Header { hop_limit: HOPS, source, destination, ..Ipv6Header::default() };
            IpHeaders::Ipv6(header, Default::default())
        }
        _ => bail!("{from} and {to} are of different address families"),
    };
    let (builder, mut frame) = (PacketBuilder::ethernet2(SENDER, device).ip(headers), Vec::new());
    match protocol {
        Protocol::Tcp => {
            let tcp = builder.tcp(from.port(), to.port(), 1, WINDOW);
            let tcp = if is_open { tcp.ack(1) } else { tcp.syn() };
            tcp.write(&mut frame, &[])?;
        }
        Protocol::Udp => builder.udp(from.port(), to.port()).write(&mut frame, b"lvsadm")?,
        Protocol::Sctp => {
            // Common header with its checksum left out, and an INIT (RFC 9260 §3.3.2).
            let ports = [from.port().to_be_bytes(), to.port().to_be_bytes()].concat();
            let init =
                [&[chunk::INIT, 0, 0, 20][..], &[0, 0, 0, 1], &[0, 0, 255, 255], &[0, 1, 0, 1], &[0, 0, 0, 1]].concat();
            builder.write(
                &mut frame,
                etherparse::IpNumber(Protocol::Sctp as u8),
                &[ports, vec![0; 8], init].concat(),
            )?;
        }
    }
    parsed(&frame).context("the packet makes no sense")
}

/// The packets of a file, as far as they are of IP over Ethernet.
pub fn read(path: &Path, device: [u8; 6]) -> Result<Vec<Given>> {
    let name = path.display();
    let open = || File::open(path).with_context(|| format!("cannot open {name}"));
    let bytes = std::fs::read(path).with_context(|| format!("cannot open {name}"))?;
    let mut frames = Vec::new();
    if bytes.starts_with(&PCAPNG) {
        let mut reader = PcapNgReader::new(open()?).with_context(|| format!("{name} is no pcapng"))?;
        let mut links = Vec::new();
        while let Some(block) = reader.next_block() {
            match block.with_context(|| format!("{name} is no pcapng"))? {
                Block::InterfaceDescription(interface) => links.push(interface.linktype),
                Block::EnhancedPacket(packet) => {
                    let link = links.get(packet.interface_id as usize).copied();
                    frames.push((link.unwrap_or(DataLink::ETHERNET), packet.data.into_owned()));
                }
                Block::SimplePacket(packet) => {
                    let link = links.first().copied();
                    frames.push((link.unwrap_or(DataLink::ETHERNET), packet.data.into_owned()));
                }
                _ => {}
            }
        }
    } else {
        let mut reader = PcapReader::new(open()?).with_context(|| format!("{name} is neither pcap nor pcapng"))?;
        let link = reader.header().datalink;
        while let Some(packet) = reader.next_packet() {
            frames.push((link, packet.with_context(|| format!("{name} is no pcap"))?.data.into_owned()));
        }
    }
    if let Some((link, _)) = frames.iter().find(|(link, _)| *link != DataLink::ETHERNET) {
        bail!("{name} has packets of link type {link:?}: capture on a device with Ethernet headers");
    }
    let mut given = Vec::new();
    for (_, mut frame) in frames {
        // It comes to the device that was named, which need not be the one that it was captured on.
        if let Some(to) = frame.get_mut(..6) {
            to.copy_from_slice(&device);
        }
        given.extend(parsed(&frame));
    }
    if given.is_empty() {
        bail!("{name} has no packet of IP");
    }
    Ok(given)
}

/// Reads a frame, which may be cut short; `None` if it is none of IP.
pub fn parsed(frame: &[u8]) -> Option<Given> {
    let sliced = LaxSlicedPacket::from_ethernet(frame).ok()?;
    let (from, to, payload): (IpAddr, IpAddr, _) = match sliced.net.as_ref()? {
        LaxNetSlice::Ipv4(ip) => {
            (ip.header().source_addr().into(), ip.header().destination_addr().into(), ip.payload())
        }
        LaxNetSlice::Ipv6(ip) => {
            (ip.header().source_addr().into(), ip.header().destination_addr().into(), ip.payload())
        }
        LaxNetSlice::Arp(_) => return None,
    };
    let protocol = payload.ip_number.0;
    let (ports, kind) = match &sliced.transport {
        Some(TransportSlice::Tcp(tcp)) => {
            let flags = [(tcp.syn(), "SYN"), (tcp.ack(), "ACK"), (tcp.fin(), "FIN"), (tcp.rst(), "RST")];
            let set: Vec<&str> = flags.into_iter().filter(|(is_set, _)| *is_set).map(|(_, name)| name).collect();
            ((tcp.source_port(), tcp.destination_port()), set.join(" "))
        }
        Some(TransportSlice::Udp(udp)) => ((udp.source_port(), udp.destination_port()), String::new()),
        _ if protocol == Protocol::Sctp as u8 && payload.payload.len() >= 12 => {
            let port = |at: usize| u16::from_be_bytes([payload.payload[at], payload.payload[at + 1]]);
            ((port(0), port(2)), String::new())
        }
        _ => ((0, 0), String::new()),
    };
    let (source, destination) = (SocketAddr::new(from, ports.0), SocketAddr::new(to, ports.1));
    Some(Given { protocol, source, destination, kind, frame: frame.to_vec() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn made_packets_are_read_as_what_they_were_made_of() {
        for (from, to) in [("10.0.0.1:5", "10.0.0.2:80"), ("[2001:db8::1]:5", "[2001:db8::2]:80")] {
            let (from, to) = (from.parse().unwrap(), to.parse().unwrap());
            for (protocol, is_open, kind) in [
                (Protocol::Tcp, false, "SYN"),
                (Protocol::Tcp, true, "ACK"),
                (Protocol::Udp, false, ""),
                (Protocol::Sctp, false, ""),
            ] {
                let given = made((protocol, from, to), is_open, [2; 6]).unwrap();
                let expected = (protocol as u8, from, to, kind);
                assert_eq!((given.protocol, given.source, given.destination, &*given.kind), expected);
                assert_eq!(given.frame[..6], [2; 6]);
            }
        }
        assert_eq!(parsed(&[0; 60]), None);
        assert_eq!(parsed(&[]), None);
    }
}
