//! An input as steps: packets of clients and real servers, errors about them, fragments, time, edits.

use aya_ebpf::skb::Incoming;
use host_director::director::Director;
use host_director::director::rules::Ip;
use lvs_common::abi::{Connection, EntryKind, Forward, IpAddress, Mode, Settings};
use lvs_common::wire::{icmp, protocol, tcp_flags};

use crate::cursor::Cursor;
use crate::packets::frames::{self, ETHERNET, End, Plan};
use crate::packets::sums;
use crate::packets::world::{self, CLIENTS, MARK, SERVERS, Served};

/// A step.
#[derive(Debug)]
pub enum Step {
    /// Packets that come in one after another.
    Packets(Vec<Vec<u8>>, Incoming),
    /// Time passes, milliseconds.
    Pass(u64),
    /// A command.
    Edit(Edit),
}

/// A command.
#[derive(Debug)]
pub enum Edit {
    /// A destination is given another weight, mode and thresholds.
    Weight(Box<Served>, usize),
    /// A destination is removed, or comes back.
    Toggle(Box<Served>, usize),
    /// A setting.
    Setting(Set, u32),
}

impl Edit {
    /// Makes the edit.
    pub fn make(&self, director: &Director) {
        match self {
            Edit::Weight(served, at) => {
                let (id, dest, _) = &served.dests[*at];
                director.edit_dest(served.id, *id, dest);
            }
            Edit::Toggle(served, at) => {
                let (id, dest, is_there) = &served.dests[*at];
                if *is_there {
                    director.put_dest(served.id, *id, dest);
                } else {
                    director.remove_dest(served.id, *id);
                }
            }
            Edit::Setting(set, value) => return director.set(|settings| set(settings, *value)),
        }
        director.commit();
    }
}

/// Changes a setting.
type Set = fn(&mut Settings, u32);

/// Settings that inputs change, and their values. `drop_packet` is not among them: XDP counts the request of a service without a server,
/// and leaves it to TC, which counts it again.
const SETTINGS: [(Set, u32); 15] = [
    (|s, v| s.sysctls.expire_nodest_conn = v, 2),
    (|s, v| s.sysctls.conn_reuse_mode = v, 4),
    (|s, v| s.sysctls.expire_quiescent_template = v, 2),
    (|s, v| s.sysctls.nat_icmp_send = v, 2),
    (|s, v| s.sysctls.sloppy_tcp = v, 2),
    (|s, v| s.sysctls.schedule_icmp = v, 2),
    (|s, v| s.sysctls.conn_expire_tcp_rst = v, 2),
    (|s, v| s.sysctls.cache_bypass = v, 2),
    (|s, v| s.sysctls.pmtu_disc = v, 2),
    (|s, v| s.sysctls.toa = v, 3),
    (|s, v| s.sysctls.uoa = v * 4, 2),
    (|s, v| s.sysctls.secure_tcp = v, 4),
    (|s, v| s.sysctls.drop_entry = v, 4),
    (|s, v| s.sysctls.expire_udp_conn = v, 2),
    (|s, v| s.sysctls.synproxy_rate = v * 500, 2),
];

/// TCP flags that segments have.
const FLAGS: [u8; 8] = [
    tcp_flags::SYN,
    tcp_flags::ACK,
    tcp_flags::ACK | 8,
    tcp_flags::FIN | tcp_flags::ACK,
    tcp_flags::SYN,
    tcp_flags::ACK,
    tcp_flags::RST,
    tcp_flags::SYN | tcp_flags::ACK,
];

/// TCP options that segments have: none, a maximum segment size, one as TOA's, times.
const OPTIONS: [&[u8]; 4] =
    [&[], &[2, 4, 5, 0xb4], &[254, 8, 1, 2, 3, 4, 5, 6], &[1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2]];

/// Bytes of payload.
const LENGTHS: [usize; 8] = [0, 1, 37, 512, 1300, 1380, 1460, 3000];

/// An input that is being read.
pub struct Script {
    served: Vec<Served>,
    /// The last packet, for those that follow it.
    last: Vec<u8>,
}

impl Script {
    /// A script for a director with these services.
    pub fn new(served: Vec<Served>) -> Self {
        Script { served, last: Vec::new() }
    }

    /// The next step.
    pub fn step(&mut self, input: &mut Cursor<'_>, director: &Director) -> Step {
        match input.below(16) {
            0..=5 => self.request(input),
            6..=8 => self.of_entry(input, director, true),
            9 => self.of_entry(input, director, false),
            10 => Step::Pass(input.one(&[1, 50, 1000, 1000, 4000, 11_000, 31_000, 62_000])),
            11 => self.edit(input),
            12 => self.error(input, director),
            13 => self.fragments(input),
            14 => self.altered(input),
            _ => {
                let count = usize::from(input.byte());
                let incoming = incoming(input, CLIENTS.0);
                Step::Packets(vec![input.bytes(count).to_vec()], incoming)
            }
        }
    }

    /// A client's packet to a service.
    fn request(&mut self, input: &mut Cursor<'_>) -> Step {
        let served = &self.served[input.below(self.served.len())];
        let (service, is_v4) = (&served.service, served.service.address.is_v4());
        let protocol = if service.protocol == 0 { protocol::TCP } else { service.protocol };
        let from = (world::client(input.below(world::COUNT), is_v4), 1000 + input.below(4) as u16);
        let to = (service.address, if input.once_in(32) { 21 } else { 80 });
        let mark = service.mark;
        let frame = plan(input, CLIENTS.1, (from, to), protocol);
        let mut incoming = incoming(input, CLIENTS.0);
        incoming.mark = mark;
        self.packets(frame, incoming)
    }

    fn packets(&mut self, frame: Vec<u8>, mut incoming: Incoming) -> Step {
        if incoming.is_partial {
            incoming.is_partial = make_partial(&frame).is_some();
        }
        let frame = if incoming.is_partial { make_partial(&frame).unwrap_or(frame) } else { frame };
        if incoming.segment != 0 {
            let carried = sums::of_frame(&frame).map_or(0, |ip| ip.protocol);
            incoming.is_tcp = carried == protocol::TCP;
            // What fits a segment is not to be cut; a packet of SCTP has no size of segments.
            let is_cut = incoming.is_tcp || carried == protocol::UDP;
            if !is_cut || frame.len() < 200 + incoming.segment as usize {
                incoming.segment = 0;
            }
        }
        self.last.clone_from(&frame);
        Step::Packets(vec![frame], incoming)
    }

    /// A packet of a connection that is there, from its real server or its client.
    fn of_entry(&mut self, input: &mut Cursor<'_>, director: &Director, is_reply: bool) -> Step {
        let is_v4 = input.half();
        let nth = input.byte();
        let found = if is_v4 { entry::<u32>(director, nth) } else { entry::<[u32; 4]>(director, nth) };
        let Some(Talk { client, virt, server, near, protocol }) = found else { return self.request(input) };
        let (ends, (device, mac)) =
            if is_reply { ((server, near.unwrap_or(client)), SERVERS) } else { ((client, virt), CLIENTS) };
        if ends.0.0.family != ends.1.0.family {
            return self.request(input);
        }
        let frame = plan(input, mac, ends, protocol);
        let incoming = incoming(input, device);
        self.packets(frame, incoming)
    }

    /// An ICMP error about the last packet's connection, or one that is there.
    fn error(&mut self, input: &mut Cursor<'_>, director: &Director) -> Step {
        let is_v4 = input.half();
        let nth = input.byte();
        let found = if is_v4 { entry::<u32>(director, nth) } else { entry::<[u32; 4]>(director, nth) };
        let Some(Talk { client, virt, server, near, protocol }) = found else { return self.request(input) };
        // About what the director has sent to either side.
        let (quoted, from, (device, mac)) = if input.half() {
            ((near.unwrap_or(client), server), server.0, SERVERS)
        } else {
            ((virt, client), client.0, CLIENTS)
        };
        if quoted.0.0.family != quoted.1.0.family {
            return self.request(input);
        }
        let quote = plan(input, mac, quoted, protocol);
        let most = input.one(&[28, 48, 128, 548]);
        let quote = &quote[ETHERNET..(ETHERNET + most).min(quote.len())];
        let v4 = quoted.0.0.is_v4();
        let kind = if v4 {
            input.one(&[[icmp::UNREACHABLE, 4], [icmp::UNREACHABLE, 3], [icmp::TIME_EXCEEDED, 0], [12, 0]])
        } else {
            input.one(&[
                [icmp::V6_TOO_BIG, 0],
                [icmp::V6_UNREACHABLE, 4],
                [icmp::V6_TIME_EXCEEDED, 0],
                [icmp::V6_PARAMETER, 0],
            ])
        };
        let mut body = vec![kind[0], kind[1], 0, 0, 0, 0];
        body.extend(input.one(&[1280u16, 0, 576, 1400]).to_be_bytes());
        body.extend(quote);
        let number = if v4 { protocol::ICMP } else { protocol::ICMPV6 };
        let pseudo = if v4 { 0 } else { frames::pseudo(from, quoted.0.0, number, body.len()) };
        let check = frames::finish(pseudo + frames::sum(&body));
        body[2..4].copy_from_slice(&check.to_be_bytes());
        let frame = frames::packet(mac, (from, quoted.0.0), number, 64, false, &body);
        let incoming = incoming(input, device);
        Step::Packets(vec![frame], Incoming { segment: 0, is_partial: false, ..incoming })
    }

    /// The last packet in fragments, or a new one: in any order, some of them twice or never.
    fn fragments(&mut self, input: &mut Cursor<'_>) -> Step {
        let Step::Packets(mut whole, incoming) = self.request(input) else { return Step::Pass(1) };
        let frame = whole.remove(0);
        let mut all = frames::fragments(&frame, 8 * (1 + usize::from(input.byte()) * 4));
        all.truncate(24);
        let mut order = Vec::new();
        for _ in 0..input.below(8) {
            order.push(all[input.below(all.len())].clone());
        }
        match input.below(3) {
            0 => order.extend(all),
            1 => order.extend(all.into_iter().rev()),
            _ => {}
        }
        Step::Packets(order, Incoming { segment: 0, is_partial: false, ..incoming })
    }

    /// The last packet with some bytes changed.
    fn altered(&mut self, input: &mut Cursor<'_>) -> Step {
        let mut frame = self.last.clone();
        for _ in 0..1 + input.below(4) {
            let (at, value) = (input.below(128), input.byte());
            if let Some(byte) = frame.get_mut(at) {
                *byte = value;
            }
        }
        if input.once_in(4) {
            frame.truncate(usize::from(input.byte()));
        }
        let device = if frame.get(..6) == Some(&SERVERS.1) { SERVERS.0 } else { CLIENTS.0 };
        let incoming = incoming(input, device);
        Step::Packets(vec![frame], Incoming { segment: 0, is_partial: false, ..incoming })
    }

    fn edit(&mut self, input: &mut Cursor<'_>) -> Step {
        if input.half() {
            let (set, values) = input.one(&SETTINGS);
            return Step::Edit(Edit::Setting(set, input.below(values as usize) as u32));
        }
        let number = input.below(self.served.len());
        let served = &mut self.served[number];
        let at = input.below(served.dests.len());
        let (_, dest, is_there) = &mut served.dests[at];
        if !*is_there || input.half() {
            *is_there = !*is_there;
            return Step::Edit(Edit::Toggle(Box::new(served.clone()), at));
        }
        dest.weight = input.one(&[0, 1, 2, 100]);
        dest.thresholds = input.one(&[(0, 0), (0, 0), (2, 1), (4, 0)]);
        if input.once_in(8) {
            dest.forward = input.one(&[Forward::Masq, Forward::Route, Forward::Tunnel]);
        }
        Step::Edit(Edit::Weight(Box::new(served.clone()), at))
    }
}

/// How a packet comes in. Most are plain.
fn incoming(input: &mut Cursor<'_>, device: u32) -> Incoming {
    let plain = Incoming { linear: usize::MAX, device, place: device, ..Incoming::default() };
    match input.below(16) {
        0 => Incoming { linear: 14 + usize::from(input.byte()), ..plain },
        1 => Incoming { is_partial: true, ..plain },
        2 => Incoming { segment: input.one(&[536, 1200, 1400, 1460]), ..plain },
        3 => Incoming { device: 0, ..plain },
        4 => Incoming { mark: MARK, ..plain },
        _ => plain,
    }
}

/// A packet between two ends.
fn plan(input: &mut Cursor<'_>, to: [u8; 6], ends: (End, End), protocol: u8) -> Vec<u8> {
    let (shape, length) = (input.byte(), input.byte());
    let flags = if protocol == protocol::SCTP {
        [1, 2, 10, 11, 0, 3, 6, 14][usize::from(shape & 7)]
    } else {
        FLAGS[usize::from(shape & 7)]
    };
    frames::frame(&Plan {
        to,
        ends,
        protocol,
        flags,
        options: OPTIONS[usize::from(shape >> 3 & 3)],
        length: LENGTHS[usize::from(length & 7)],
        ttl: if length & 0x18 == 0x18 { 1 } else { 64 },
        df: length & 0x20 != 0,
        is_unsummed: length & 0xc0 == 0xc0,
    })
}

/// The packet with an unfinished checksum: that of the pseudo header. `None` if it has none.
fn make_partial(frame: &[u8]) -> Option<Vec<u8>> {
    let ip = sums::of_frame(frame).filter(|ip| ip.transport == Some(0))?;
    let field = match ip.protocol {
        protocol::TCP => 16,
        protocol::UDP => 6,
        _ => return None,
    };
    let ends = if frame[12..14] == [8, 0] { &frame[26..34] } else { &frame[22..54] };
    let length = frame.len() - ip.at;
    let mut partial = frame.to_vec();
    let pseudo = !frames::finish(frames::sum(ends) + u64::from(ip.protocol) + length as u64);
    partial[ip.at + field..ip.at + field + 2].copy_from_slice(&pseudo.to_be_bytes());
    Some(partial)
}

/// The ends of a connection.
struct Talk {
    client: End,
    virt: End,
    server: End,
    /// The local end of FullNAT.
    near: Option<End>,
    protocol: u8,
}

/// One of the connections of a family.
fn entry<A: IpAddress>(director: &Director, nth: u8) -> Option<Talk> {
    let all = director.places::<A>(|c| matches!(c.kind, EntryKind::CONNECTION | EntryKind::ANSWER));
    let c = director.entry::<A>(*all.get(usize::from(nth) % all.len().max(1))?)?;
    let ip = |address: A| Ip { family: A::FAMILY, address: address.widen() };
    let Connection { client, virt, real, local, .. } = c;
    let is_translated = matches!(c.forward, Mode::MASQ | Mode::FULLNAT);
    let (client, virt) = ((ip(client), c.client_port.get()), (ip(virt), c.virt_port.get()));
    let server = if is_translated { (ip(real), c.real_port.get()) } else { virt };
    let near = (c.local_id != 0).then(|| (ip(local), c.local_port.get()));
    if c.is_crossed() {
        let (server, near) = director.crossed(&c)?;
        return Some(Talk { client, virt, server, near: Some(near), protocol: c.protocol });
    }
    Some(Talk { client, virt, server, near, protocol: c.protocol })
}
