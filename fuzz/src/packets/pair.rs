//! Packets to the pipeline: two directors with the same rules get the same packets, one with XDP and TC, the other with TC alone.

use std::cell::{Cell, RefCell};

use aya_ebpf::skb::Incoming;
use host_director::director::Director;
use host_director::director::packet::{Fate, Outcome, Sent};
use lvs_common::abi::{Connection, DestId, EntryKind, EntryRef, IpAddress};
use lvs_common::wire::protocol;

use crate::cursor::Cursor;
use crate::packets::judge::{self, Exits, hex, names};
use crate::packets::script::{Script, Step};
use crate::packets::world;

thread_local! {
    /// Directors are made once: an input begins with empty tables.
    static PAIR: RefCell<Option<Pair>> = const { RefCell::new(None) };
    /// Packets that came in.
    static PACKETS: Cell<u64> = const { Cell::new(0) };
    /// Whether the tables are looked through after each step, and not only after the last.
    static EVERY_STEP: Cell<bool> = const { Cell::new(false) };
}

/// Packets that this thread's inputs had.
pub fn packets() -> u64 {
    PACKETS.get()
}

/// Has tables looked through after each step.
pub fn check_every_step(is_checked: bool) {
    EVERY_STEP.set(is_checked);
}

/// The two directors.
struct Pair {
    /// With XDP and TC.
    both: Director,
    /// With TC alone.
    tc: Director,
}

/// Runs an input.
///
/// # Panics
/// If something does not hold, with the steps that led there where `LVS_FUZZ_TRACE` is set.
pub fn run(input: &[u8]) {
    PAIR.with_borrow_mut(|pair| {
        // After a panic nobody knows what the directors are.
        let mut at_hand = pair.take().unwrap_or_else(|| Pair { both: world::director(), tc: world::director() });
        at_hand.run(Cursor::new(input));
        *pair = Some(at_hand);
    });
}

impl Pair {
    fn run(&mut self, mut input: Cursor<'_>) {
        let is_traced = std::env::var_os("LVS_FUZZ_TRACE").is_some();
        let number = usize::from(input.byte());
        self.both.restart();
        self.tc.restart();
        let served = world::configure(&mut self.both, number);
        world::configure(&mut self.tc, number);
        let mut script = Script::new(served);
        let mut taken: Exits = [0; _];
        while !input.is_empty() {
            let step = script.step(&mut input, &self.both);
            if is_traced {
                eprintln!("{step:?}");
            }
            match step {
                Step::Pass(milliseconds) => {
                    self.both.pass(milliseconds);
                    self.tc.pass(milliseconds);
                }
                Step::Edit(edit) => {
                    edit.make(&self.both);
                    edit.make(&self.tc);
                }
                Step::Packets(frames, incoming) => {
                    for frame in &frames {
                        self.receive(frame, &incoming, &mut taken, is_traced);
                    }
                }
            }
            if EVERY_STEP.get() {
                self.look();
            }
        }
        self.look();
    }

    /// Gives both a packet, and compares.
    fn receive(&mut self, frame: &[u8], incoming: &Incoming, taken: &mut Exits, is_traced: bool) {
        PACKETS.set(PACKETS.get() + 1);
        let incoming = &addressed(frame, incoming);
        let mut both = self.both.receive(frame, incoming);
        let mut tc = self.tc.receive_tc(frame, incoming);
        let exits = self.both.exits();
        let new: Exits = std::array::from_fn(|exit| exits[exit] - taken[exit]);
        *taken = exits;
        if is_traced {
            eprintln!("  {} -> {:?} {:?} by {:?}", hex(frame), both.tier, both.fate, names(&new));
            both.sent.iter().for_each(|sent| eprintln!("  sent {} {:?}", hex(&sent.bytes), sent.to));
        }
        judge::judge(&self.both, frame, incoming.is_partial, &both, &new);
        let told = || format!("{:?} {}", names(&new), hex(frame));
        assert_eq!(fate(&both), fate(&tc), "XDP and TC disagree about {}", told());
        assert_eq!(both.sent.len(), tc.sent.len(), "XDP and TC disagree about {}", told());
        for (one, other) in both.sent.iter_mut().zip(&mut tc.sent) {
            let is_same = comparable(one) == comparable(other);
            assert!(is_same, "XDP and TC disagree about {}\n{}\n{}", told(), hex(&one.bytes), hex(&other.bytes));
        }
        let other = self.tc.exits();
        if exits != other {
            let apart = std::array::from_fn(|exit| exits[exit].abs_diff(other[exit]));
            panic!("XDP and TC count differently: {:?} {}", names(&apart), told());
        }
    }

    /// Compares the tables of a family.
    fn compare<A: IpAddress + std::fmt::Debug>(&self) {
        let (one, other) = (entries::<A>(&self.both), entries::<A>(&self.tc));
        if one != other {
            type Entries<A> = [(u32, Comparable<A>)];
            let only = |own: &Entries<A>, other: &Entries<A>| -> Vec<String> {
                own.iter().filter(|entry| !other.contains(entry)).map(|entry| format!("{entry:?}")).collect()
            };
            panic!("entries with XDP alone: {:#?}\nwith TC alone: {:#?}", only(&one, &other), only(&other, &one));
        }
    }

    /// Looks through the tables of both.
    fn look(&self) {
        for director in [&self.both, &self.tc] {
            let found = director.contradictions();
            assert!(found.is_empty(), "{}", found.join("\n"));
        }
        self.compare::<u32>();
        self.compare::<[u32; 4]>();
        for id in (1..host_director::director::sizes::DESTINATIONS).map(DestId::new) {
            assert_eq!(self.both.counters(id), self.tc.counters(id), "XDP and TC count differently: destination {id}");
        }
    }
}

/// A packet's kind as its MAC address says: another host's is `PACKET_OTHERHOST`.
fn addressed(frame: &[u8], incoming: &Incoming) -> Incoming {
    const OTHER_HOST: u32 = 3;
    let mac = if incoming.place == world::CLIENTS.0 { world::CLIENTS.1 } else { world::SERVERS.1 };
    Incoming { kind: if frame.starts_with(&mac) { 0 } else { OTHER_HOST }, ..*incoming }
}

/// A fate without the neighbour: XDP writes its MAC address, and TC may leave that to the kernel.
fn fate(outcome: &Outcome) -> (u32, Option<u32>) {
    match outcome.fate {
        Fate::Stack => (0, None),
        Fate::Dropped => (1, None),
        Fate::Sent(to) => (2, Some(to.device)),
        Fate::Own => (3, None),
    }
}

/// What was sent, without what may differ: MAC addresses, and the random identification of packets that may be fragmented.
fn comparable(sent: &mut Sent) -> (u32, &[u8]) {
    // From where, and how many bytes.
    let differ: &[(usize, usize)] = match sent.bytes.get(12..=20) {
        // The header's checksum follows from the identification.
        Some([8, 0, ..]) => &[(0, 12), (18, 2), (24, 2)],
        Some([0x86, 0xdd, .., protocol::FRAGMENT]) => &[(0, 12), (58, 4)],
        _ => &[(0, 12)],
    };
    for (from, count) in differ {
        if let Some(place) = sent.bytes.get_mut(*from..from + count) {
            place.fill(0);
        }
    }
    (sent.to.device, &sent.bytes)
}

/// An entry without what differs between tiers: the time of hops.
type Comparable<A> = (A, u16, A, u16, u8, EntryKind, DestId, u32, u32, u32, u64, EntryRef);

fn entries<A: IpAddress>(director: &Director) -> Vec<(u32, Comparable<A>)> {
    let comparable = |c: Connection<A>| {
        let (from, to) = (c.client_port.get(), c.virt_port.get());
        (c.client, from, c.virt, to, c.protocol, c.kind, c.dest, c.state, c.timeout, c.in_packets, c.last_seen, c.alias)
    };
    director.entries::<A>().into_iter().map(|(at, c)| (at, comparable(c))).collect()
}
