//! Clients that pretend to be somebody else: what they bring of TOA themselves never reaches a real server that would read it.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::{Context, Result};
use tests::fixtures::flow::{Left, SYN, Segment, acknowledge, answer, data, director, each, handshake, read};
use tests::fixtures::{colons, frame, port};
use tests::topology::{Cluster, Layout, Namespace, Offloads, PacketSocket, Site, VIP, VIP6};

/// Somebody whom a client pretends to be.
const FORGED4: [u8; 8] = [254, 8, 0x1f, 0x90, 192, 0, 2, 66];
/// See [`FORGED4`].
const FORGED6: [u8; 20] = [254, 20, 0x1f, 0x90, 0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 66];
/// Padding in their place.
const BLANK4: [u8; 8] = [1; 8];
/// See [`BLANK4`].
const BLANK6: [u8; 20] = [1; 20];

/// Options that a client brings, and what is left of them.
fn blocks() -> Vec<(Vec<u8>, Vec<u8>)> {
    let scale = [3, 3, 7];
    vec![
        (FORGED4.to_vec(), BLANK4.to_vec()),
        (FORGED6.to_vec(), BLANK6.to_vec()),
        // At odd places.
        ([&scale[..], &FORGED4, &[1]].concat(), [&scale[..], &BLANK4, &[1]].concat()),
        ([&scale[..], &FORGED6, &[1]].concat(), [&scale[..], &BLANK6, &[1]].concat()),
        ([&[1][..], &FORGED4, &scale].concat(), [&[1][..], &BLANK4, &scale].concat()),
        // Several, behind each other and apart.
        ([FORGED4, FORGED4].concat(), [BLANK4, BLANK4].concat()),
        ([&FORGED6[..], &FORGED4].concat(), [&BLANK6[..], &BLANK4].concat()),
        ([&FORGED4[..], &scale, &FORGED6, &[1]].concat(), [&BLANK4[..], &scale, &BLANK6, &[1]].concat()),
        // All the space there is.
        (FORGED4.repeat(5), BLANK4.repeat(5)),
        (FORGED6.repeat(2), BLANK6.repeat(2)),
        // What is not read is nobody's business: another length, behind the end, cut off.
        ([254, 4, 0xf9, 0x89].to_vec(), [254, 4, 0xf9, 0x89].to_vec()),
        ([&[0; 4][..], &FORGED4].concat(), [&[0; 4][..], &FORGED4].concat()),
        ([&[1; 4][..], &FORGED4[..4]].concat(), [&[1; 4][..], &FORGED4[..4]].concat()),
    ]
}

#[test]
fn what_clients_forge_is_padding() {
    let testbed = director();
    each(&testbed, |clients| {
        for (options, left) in blocks() {
            let flow = clients.opened();
            let toa = flow.toa();
            let tells = |segment: Segment| {
                let (got, data) = flow.send(&segment.clone().with(&options));
                let room = options.len() + toa.len() <= 40;
                assert_eq!(got, if room { [&toa[..], &left].concat() } else { left.clone() });
                assert_eq!(data, segment.data);
            };
            let cleaned = |segment: Segment| {
                assert_eq!(flow.send(&segment.clone().with(&options)), (left.clone(), segment.data));
            };
            let passes = |segment: Segment| {
                assert_eq!(flow.send(&segment.clone().with(&options)), (options.clone(), segment.data));
            };
            // Data ahead of everything may complete the handshake; whoever is told already is told nothing else.
            for length in [1, 1000] {
                cleaned(data(100, length));
            }
            tells(handshake());
            tells(data(0, 5));
            cleaned(Segment { flags: "FA", ..data(5, 0) });
            cleaned(Segment { data: b"fast open".to_vec(), ..SYN });
            flow.reply(&acknowledge(0));
            cleaned(data(5, 5));
            flow.reply(&Segment { data: b"hello".to_vec(), ..acknowledge(0) });
            cleaned(handshake());
            // Now the real server looks for no option any more.
            flow.reply(&acknowledge(5));
            passes(data(5, 5));
        }
    });
}

/// Nothing that a client sends has the director believe that its handshake is over.
#[test]
fn no_client_ends_its_handshake_by_itself() {
    let testbed = director();
    each(&testbed, |clients| {
        let flow = clients.opened();
        let is_cleaned = |segment: &Segment| {
            let (options, _) = flow.send(&segment.clone().with(&FORGED4));
            assert!(options.ends_with(&BLANK4) && !options.ends_with(&FORGED4), "{options:?}");
        };
        // Another SYN, whose sequence number seems to have been acknowledged: the real server says that it was not.
        for sequence in [1u32.wrapping_neg() - 500, 500] {
            let (options, _) = flow.send(&Segment { sequence, ..SYN });
            assert_eq!(options, [] as [u8; 0]);
            flow.reply(&acknowledge(0));
            is_cleaned(&handshake());
            is_cleaned(&data(50, 5));
        }
        // A connection that has come so far, and then another one between the same ends.
        flow.reply(&acknowledge(9));
        assert_eq!(flow.send(&data(9, 5).with(&FORGED4)).0, FORGED4);
        flow.send(&SYN);
        is_cleaned(&handshake());
        flow.reply(&answer(&[]));
        is_cleaned(&handshake());
        is_cleaned(&data(0, 5));
        assert_eq!(flow.send(&data(0, 5)).0, flow.toa());
    });
}

/// Whoever has packets of their own making, at an address of their own.
struct Attacker {
    wire: PacketSocket,
    mac: [u8; 6],
    from: SocketAddr,
    to: SocketAddr,
    /// The real server's first sequence number.
    server_first: u32,
}

/// The attacker's MAC address and first sequence number.
const ATTACKER_MAC: [u8; 6] = [2, 0, 0, 0, 0x0a, 0x66];
const FIRST: u32 = 5000;

impl Attacker {
    fn send(&self, segment: &Segment) {
        let packet = segment.packet(self.from, self.to, (FIRST, self.server_first));
        self.wire.send(&frame::ethernet(self.mac, ATTACKER_MAC, &packet)).unwrap();
    }

    /// The next segment that comes.
    fn hear(&self) -> Result<Left> {
        let to_us = |frame: &[u8]| read(frame).is_ok_and(|left| left.to == self.from);
        read(&self.wire.receive(Duration::from_secs(10), to_us)?.context("no answer")?)
    }

    /// Opens a connection, but for the end of the handshake.
    fn open(&mut self) -> Result<()> {
        self.send(&SYN.with(&[2, 4, 5, 0xb4]));
        loop {
            // There may be more to hear of the connection before.
            let answer = self.hear()?;
            if answer.is_syn && answer.sequence != self.server_first {
                self.server_first = answer.sequence;
                return Ok(());
            }
        }
    }

    /// Whom the real server takes it for; a request was sent before.
    fn is_taken_for(&self) -> Result<IpAddr> {
        let mut answer = String::new();
        loop {
            // Nothing is acknowledged, so pieces may come again: the one that is looked for is whole.
            answer.push_str(&String::from_utf8_lossy(&self.hear()?.data));
            if let Some(line) = answer.lines().find(|line| line.starts_with("rs1 ") && line.ends_with(" 0")) {
                return Ok(line.split(' ').nth(1).context("no address")?.parse()?);
            }
        }
    }
}

/// The start of a request and its end, both of the same length.
const REQUEST: [&[u8]; 2] = [b"GET / HTTP/1.", b"0\r\nX: 1234\r\n\r\n"];

fn piece(number: usize) -> Segment {
    let sequence = if number == 0 { 0 } else { REQUEST[0].len() as u32 };
    Segment { sequence, data: REQUEST[number].to_vec(), ..handshake() }
}

/// A way to pretend, behind the real server's SYN; the request is in it.
type Attack = fn(&mut Attacker, &[u8]) -> Result<()>;

const ATTACKS: [(&str, Attack); 5] = [
    ("nothing", |attacker, _| {
        attacker.send(&handshake());
        [0, 1].iter().for_each(|number| attacker.send(&piece(*number)));
        Ok(())
    }),
    ("at the end of the handshake", |attacker, forged| {
        attacker.send(&handshake().with(forged));
        [0, 1].iter().for_each(|number| attacker.send(&piece(*number).with(forged)));
        Ok(())
    }),
    ("in data out of order", |attacker, forged| {
        [1, 0].iter().for_each(|number| attacker.send(&piece(*number).with(forged)));
        Ok(())
    }),
    ("behind another SYN", |attacker, forged| {
        attacker.send(&Segment { sequence: 500u32.wrapping_neg(), ..SYN });
        // The real server says that it has had another one.
        attacker.hear()?;
        attacker.send(&handshake().with(forged));
        [0, 1].iter().for_each(|number| attacker.send(&piece(*number).with(forged)));
        Ok(())
    }),
    ("in a second connection", |attacker, forged| {
        attacker.send(&handshake());
        [0, 1].iter().for_each(|number| attacker.send(&piece(*number)));
        attacker.is_taken_for()?;
        attacker.send(&Segment { flags: "R", sequence: (REQUEST[0].len() + REQUEST[1].len()) as u32, ..SYN });
        attacker.open()?;
        attacker.send(&handshake().with(forged));
        [1, 0].iter().for_each(|number| attacker.send(&piece(*number).with(forged)));
        Ok(())
    }),
];

/// Real servers that read TOA take nobody for somebody else.
#[test]
fn nobody_is_taken_for_somebody_else() {
    let layout = Layout { site: Site::Remote, servers: 1, offloads: Offloads::Off, ..Layout::default() };
    let cluster = Cluster::new(layout).unwrap();
    let (host, director) = (&cluster.servers[0], &cluster.director);
    host.lvsadm("real-server --toa --trust 192.168.122.100 2001:db8:b::100").unwrap();
    // The entries of connections are used again, whatever became of them.
    director.lvsadm("sysctl conn_reuse_mode=0").unwrap();
    let mac = director.enter(|| Ok(port("eth0")?.mac)).unwrap();
    let (v4, v6) = cluster.server_addresses(1);
    let mut next_port = 20_000;
    for (tier, round) in [("native", 0), ("tc", 1)] {
        director.lvsadm(&format!("attach --mode {tier}")).unwrap();
        for (vip, real, local) in [(VIP, v4, "192.168.122.100"), (VIP6, v6, "2001:db8:b::100")] {
            let from: IpAddr = if vip.is_ipv4() { "10.10.10.66" } else { "2001:db8:a::66" }.parse().unwrap();
            let to = SocketAddr::new(vip, 80);
            if round == 0 {
                set_up(director, to, SocketAddr::new(real, 80), local, from).unwrap();
                // The director asks for its neighbours.
                cluster.client().get(to, "/").unwrap();
            }
            for forged in [FORGED4.repeat(5), FORGED6.repeat(2), FORGED4.to_vec()] {
                for (name, attack) in ATTACKS {
                    next_port += 1;
                    let wire = PacketSocket::open(&cluster.client, "eth0").unwrap();
                    let from = SocketAddr::new(from, next_port);
                    let mut attacker = Attacker { wire, mac, from, to, server_first: 0 };
                    let taken = attacker.open().and_then(|()| attack(&mut attacker, &forged));
                    let taken = taken.and_then(|()| attacker.is_taken_for());
                    let taken = taken.unwrap_or_else(|error| panic!("{tier}, {vip}, {name}: {error:#}"));
                    let allowed =
                        if name == "nothing" { vec![from.ip()] } else { vec![from.ip(), local.parse().unwrap()] };
                    assert!(allowed.contains(&taken), "{tier}, {vip}, {name}: taken for {taken}");
                }
            }
        }
    }
}

/// A service, and an attacker's address that only the director knows.
fn set_up(director: &Namespace, service: SocketAddr, real: SocketAddr, local: &str, from: IpAddr) -> Result<()> {
    director.lvsadm(&format!("--add-laddr -z {local}"))?;
    director.lvsadm(&format!("-A -t {service} -s rr"))?;
    director.lvsadm(&format!("-a -t {service} -r {real} --fullnat"))?;
    director.ip(&[format!("neigh add {from} lladdr {} dev eth0 nud permanent", colons(ATTACKER_MAC))])
}
