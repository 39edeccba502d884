//! Packets whose fragments are still coming, and the fragments that wait for others. TC only.
//!
//! The waiting fragments of a packet are a list, the one that came last first. They stand in cells of rings, where the newest
//! overwrites the oldest. So a list may end early: it ends at a cell that is another packet's.

use lvs_common::{
    abi::{Address, DestId},
    byte_order::Be16,
    exit::Exit,
    fragments::{Against, CELL, FRAGMENT_CELLS, FRAGMENTS, Held, PATIENCE, Part, RING, RINGS as RING_COUNT, cells},
};

use crate::{
    kernel::{
        clock,
        loops::repeat,
        params, random,
        shared::{Shared, element, field},
    },
    maps::{CELLS, DATAGRAMS, HELD, RINGS},
    packet::{access::TcPacket, fragment::Fragment},
    stats,
    values::fragment::{Cell, Datagram, Key},
};

/// What becomes of a packet's fragments.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum State {
    /// They wait until all have come, or until the first one shows that the packet is not the director's to serve.
    Waiting,
    /// They are the stack's.
    Passed,
    /// They are forwarded one by one, as all have come.
    Forwarded,
    /// They are dropped: some overlap.
    Overlapping,
    /// They are dropped: there are too many.
    Many,
    /// They are dropped: the packet must be joined, and is too long for it.
    Long,
}

/// What became of a fragment that was to wait.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kept {
    /// Others are missing.
    Waiting,
    /// All have come, and this CPU is to go on with the packet.
    Complete,
    /// It does not wait, for this reason.
    Refused(Exit),
}

/// A packet whose fragments are coming.
#[derive(Clone, Copy)]
pub struct Known(Shared<Datagram>);

/// The entry of this key.
#[inline(always)]
fn entry(key: &Key) -> Option<Known> {
    let place = DATAGRAMS.get_ptr_mut(key)?;
    // SAFETY: an element of the map. If the kernel gives it to another packet meanwhile, cells of the wrong serial end its list.
    Some(Known(unsafe { Shared::new(place) }))
}

/// The packet that has this key, if its first fragment to come did so within [`PATIENCE`].
#[inline(always)]
pub fn find(key: &Key) -> Option<Known> {
    match entry(key) {
        Some(known) if !known.is_over() => Some(known),
        _ => None,
    }
}

/// The same; a packet that is not known becomes known.
#[inline(always)]
pub fn open(key: &Key) -> Option<Known> {
    const ANY: u64 = 0;
    const ONLY_NEW: u64 = 1;
    let flags = match entry(key) {
        Some(known) if !known.is_over() => return Some(known),
        Some(_) => ANY,
        // Another CPU may make it at this moment, for another fragment.
        None => ONLY_NEW,
    };
    let fresh = Datagram {
        deadline: clock::jiffies().wrapping_add(PATIENCE.wrapping_mul(params::hz()) as u64),
        serial: random::word() | 1,
        state: State::Waiting as u32,
        ports: 0,
        newest: 0,
        waiting: 0,
        have: 0,
        total: 0,
        dest: 0,
    };
    let _ = DATAGRAMS.insert(key, &fresh, flags);
    entry(key)
}

/// Forgets a packet.
#[inline(always)]
pub fn forget(key: &Key) {
    let _ = DATAGRAMS.remove(key);
}

impl Known {
    /// Whether no fragment is waited for any more.
    #[inline(always)]
    fn is_over(self) -> bool {
        let Known(datagram) = self;
        field!(datagram.deadline).load() <= clock::jiffies()
    }

    /// Whether the packet is in this state.
    #[inline(always)]
    pub fn is(self, state: State) -> bool {
        let Known(datagram) = self;
        field!(datagram.state).load() == state as u32
    }

    /// Sets the state.
    #[inline(always)]
    pub fn set(self, state: State) {
        let Known(datagram) = self;
        field!(datagram.state).store(state as u32);
    }

    /// Why fragments of the packet are dropped, if they are.
    #[inline(always)]
    pub fn refusal(self) -> Option<Exit> {
        let Known(datagram) = self;
        const OVERLAPPING: u32 = State::Overlapping as u32;
        const MANY: u32 = State::Many as u32;
        const LONG: u32 = State::Long as u32;
        match field!(datagram.state).load() {
            OVERLAPPING => Some(Exit::DropFragmentOverlap),
            MANY => Some(Exit::DropFragmentMany),
            LONG => Some(Exit::DropFragmentLong),
            _ => None,
        }
    }

    /// Refuses the packet from now on; why.
    #[inline(always)]
    pub fn refuse(self, state: State) -> Exit {
        self.set(state);
        self.refusal().unwrap_or(Exit::DropFragmentLong)
    }

    /// The ports of the first fragment.
    #[inline(always)]
    pub fn ports(self) -> [Be16; 2] {
        let Known(datagram) = self;
        let ports = field!(datagram.ports).load();
        [Be16::from_word(ports as u16), Be16::from_word((ports >> 16) as u16)]
    }

    /// Sets the ports.
    #[inline(always)]
    pub fn set_ports(self, source: Be16, destination: Be16) {
        let Known(datagram) = self;
        field!(datagram.ports).store(source.word() as u32 | (destination.word() as u32) << 16);
    }

    /// The destination that one-packet scheduling gave the packet.
    #[inline(always)]
    pub fn one_packet_destination(self) -> DestId {
        let Known(datagram) = self;
        DestId::new(field!(datagram.dest).load())
    }

    /// Has the later fragments of the packet go to the destination that one-packet scheduling gave it.
    #[inline(always)]
    pub fn set_one_packet_destination(self, dest: DestId) {
        let Known(datagram) = self;
        field!(datagram.dest).store(dest.get());
    }

    /// Bytes of the whole payload; 0 while the last fragment is missing.
    #[inline(always)]
    pub fn total(self) -> u32 {
        let Known(datagram) = self;
        field!(datagram.total).load()
    }

    /// Whether fragments wait.
    #[inline(always)]
    pub fn has_waiting(self) -> bool {
        let Known(datagram) = self;
        field!(datagram.newest).load() != 0
    }

    /// Counts a fragment; `true` with the one that was missing last.
    #[inline(always)]
    pub fn count(self, part: &Part) -> bool {
        let Known(datagram) = self;
        if !part.more {
            field!(datagram.total).store(part.end());
        }
        let have = field!(datagram.have).fetch_add(part.length);
        have.wrapping_add(part.length) == self.total()
    }

    /// Takes the list of those that wait, which are counted anew when they come again.
    #[inline(always)]
    pub fn take(self) -> List {
        let Known(datagram) = self;
        field!(datagram.have).store(0);
        field!(datagram.waiting).store(0);
        List { serial: self.serial(), newest: field!(datagram.newest).exchange(0) }
    }

    /// Has a fragment wait.
    #[inline(always)]
    pub fn hold(self, packet: TcPacket, fragment: &Fragment) -> Kept {
        let Known(datagram) = self;
        let part = &fragment.part;
        let list = List { serial: self.serial(), newest: field!(datagram.newest).load() };
        match list.against(part) {
            Against::Apart => {}
            Against::Same => return Kept::Refused(Exit::Held),
            Against::Overlap => return Kept::Refused(self.refuse(State::Overlapping)),
        }
        let count = cells(part.length);
        if count > FRAGMENT_CELLS || field!(datagram.waiting).fetch_add(1) >= FRAGMENTS {
            return Kept::Refused(self.refuse(State::Many));
        }
        let ring = ring(&fragment.key.source);
        let Some(first) = element(&RINGS, ring) else { return Kept::Refused(Exit::DropInternal) };
        let first = in_ring(ring.wrapping_mul(RING), first.fetch_add(count));
        if !fill(packet, fragment, self.serial(), first, count) || !self.push(first) {
            return Kept::Refused(Exit::DropInternal);
        }
        if self.count(part) { Kept::Complete } else { Kept::Waiting }
    }

    #[inline(always)]
    fn serial(self) -> u32 {
        let Known(datagram) = self;
        field!(datagram.serial).load()
    }

    /// Puts the fragment in this cell in front of the list.
    #[inline(always)]
    fn push(self, cell: u32) -> bool {
        let Known(datagram) = self;
        const TRIES: u32 = 8;
        let Some(held) = element(&HELD, cell) else { return false };
        let (newest, mut done) = (field!(datagram.newest), false);
        repeat(TRIES, &mut |_| {
            let older = newest.load();
            field!(held.older).store(older);
            done = newest.compare_exchange(older, cell.wrapping_add(1)).is_ok();
            done
        });
        done
    }
}

/// The ring of a source.
#[inline(always)]
fn ring(source: &Address) -> u32 {
    let [a, b, c, d] = source.0;
    // Only the upper bits of the product depend on every bit of the address.
    ((a ^ b ^ c ^ d ^ params::secret() as u32).wrapping_mul(0x9e37_79b1) >> 28) % RING_COUNT
}

/// Cell number `offset` from `base` on, within the ring that `base` is in.
#[inline(always)]
fn in_ring(base: u32, offset: u32) -> u32 {
    base & !(RING - 1) | base.wrapping_add(offset) & (RING - 1)
}

/// Lends the bytes of a cell.
#[inline(always)]
fn lend(cell: u32, work: impl FnOnce(&mut Cell) -> bool) -> bool {
    let Some(place) = CELLS.get_ptr_mut(cell) else { return false };
    // SAFETY: an element of the map: bytes, of which any are a value. Who reads a cell that is being overwritten reads its serial
    // afterwards.
    work(unsafe { &mut *place })
}

/// Bytes of part `number` of a payload.
#[inline(always)]
fn part_length(length: u32, number: u32) -> u32 {
    length.wrapping_sub(number.wrapping_mul(CELL as u32)).min(CELL as u32)
}

/// Copies a fragment to `count` cells from `first` on.
#[inline(always)]
fn fill(packet: TcPacket, fragment: &Fragment, serial: u32, first: u32, count: u32) -> bool {
    let mut done = true;
    repeat(count, &mut |number| {
        let cell = in_ring(first, number);
        let Some(held) = element(&HELD, cell) else { return true };
        if field!(held.serial).exchange(0) != 0 && field!(held.number).load() == 0 {
            stats::exit(Exit::DropFragmentAged);
        }
        done = lend(cell, |bytes| {
            let (from, length) = (number.wrapping_mul(CELL as u32), part_length(fragment.part.length, number));
            packet.load_bytes(fragment.at.wrapping_add(from), &mut bytes.payload, length)
                && (number != 0 || packet.load_bytes(0, &mut bytes.headers, fragment.at))
        });
        field!(held.number).store(number);
        field!(held.offset).store(fragment.part.offset);
        field!(held.length).store(fragment.part.length);
        field!(held.at).store(fragment.at);
        field!(held.size).store(fragment.size);
        field!(held.link).store(fragment.link);
        field!(held.serial).store(serial);
        !done
    });
    done
}

/// The fragments of a packet that wait.
#[derive(Clone, Copy)]
pub struct List {
    serial: u32,
    newest: u32,
}

impl List {
    /// Has `look` look at each of them, until it returns `true`.
    #[inline(always)]
    fn walk(self, mut look: impl FnMut(u32, Shared<Held>) -> bool) {
        let mut at = self.newest;
        repeat(FRAGMENTS, &mut |_| {
            let cell = at.wrapping_sub(1);
            let Some(held) = element(&HELD, cell) else { return true };
            if field!(held.serial).load() != self.serial {
                return true;
            }
            at = field!(held.older).load();
            look(cell, held)
        });
    }

    /// What a fragment is to those that wait.
    #[inline(always)]
    fn against(self, part: &Part) -> Against {
        let mut found = Against::Apart;
        self.walk(|_, held| {
            found = part.against(field!(held.offset).load(), field!(held.length).load());
            found != Against::Apart
        });
        found
    }

    /// Frees their cells. Of a fragment in several cells the first one does.
    #[inline(always)]
    pub fn free(self) {
        self.walk(|_, held| {
            field!(held.serial).store(0);
            false
        });
    }

    /// The fragment with the least offset from `from` on.
    #[inline(always)]
    pub fn next(self, from: u32) -> Option<Waiting> {
        let (mut least, mut found) = (u32::MAX, u32::MAX);
        self.walk(|cell, held| {
            let offset = field!(held.offset).load();
            if offset >= from && offset < least {
                (least, found) = (offset, cell);
            }
            false
        });
        let held = element(&HELD, found)?;
        Some(Waiting { cell: found, serial: self.serial, held })
    }
}

/// A fragment that waits.
#[derive(Clone, Copy)]
pub struct Waiting {
    cell: u32,
    serial: u32,
    held: Shared<Held>,
}

impl Waiting {
    /// Where in the packet's payload it begins.
    #[inline(always)]
    pub fn offset(self) -> u32 {
        let held = self.held;
        field!(held.offset).load()
    }

    /// Bytes of its payload.
    #[inline(always)]
    pub fn length(self) -> u32 {
        let held = self.held;
        field!(held.length).load()
    }

    /// Where its payload begins in its frame.
    #[inline(always)]
    pub fn at(self) -> u32 {
        let held = self.held;
        field!(held.at).load()
    }

    /// Bytes of IP packet.
    #[inline(always)]
    pub fn size(self) -> u32 {
        let held = self.held;
        field!(held.size).load()
    }

    /// IPv6: where in the frame the byte is that announces the fragment header.
    #[inline(always)]
    pub fn link(self) -> u32 {
        let held = self.held;
        field!(held.link).load()
    }

    /// Writes `length` bytes of what stands in front of the payload to the beginning of a frame.
    #[inline(always)]
    pub fn write_headers(self, packet: TcPacket, length: u32) -> bool {
        lend(self.cell, |bytes| packet.store_bytes(0, &bytes.headers, length))
    }

    /// Writes the payload into a frame.
    #[inline(always)]
    pub fn write_payload(self, packet: TcPacket, to: u32) -> bool {
        let (length, mut done) = (self.length(), false);
        repeat(cells(length), &mut |number| {
            let cell = in_ring(self.cell, number);
            let (from, part) = (number.wrapping_mul(CELL as u32), part_length(length, number));
            done = lend(cell, |bytes| packet.store_bytes(to.wrapping_add(from), &bytes.payload, part))
                && element(&HELD, cell).is_some_and(|held| field!(held.serial).load() == self.serial);
            !done
        });
        done
    }
}
