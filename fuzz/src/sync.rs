//! Messages of connection synchronisation, as a backup receives them from the network.

use host_director::director::Director;
use lvs_common::abi::{
    Announcement, DestId, EntryKind, EntryRef, Forward, INCOMING, Incoming, Mode, conn_flags, entered,
};
use lvs_common::sync::{Message, Push, Record, Version, Writer};

use crate::cursor::Cursor;
use crate::packets::world::{self, Served};

/// Reads a message. One that is understood is written again, and then understood as the same.
///
/// # Panics
/// If something does not hold.
pub fn message(input: &[u8]) {
    let Ok(message) = Message::parse(input) else { return };
    let records: Vec<Record<'_>> = message.records().collect();
    assert_eq!(records.len(), usize::from(message.count()), "records of a message that was understood");
    // What is not understood is not written.
    if records.iter().any(|record| record.is_unknown) {
        return;
    }
    let mut buffer = vec![0; 65_507];
    let mut writer = Writer::new(&mut buffer, message.version, message.syncid);
    for record in &records {
        match writer.push(record) {
            Push::Done => {}
            // Version 0 has no place for what version 1 says, and version 1 none for more than it can say.
            Push::Full | Push::Never => return,
        }
    }
    let written = writer.finish().to_vec();
    if records.is_empty() {
        return;
    }
    let again = Message::parse(&written).expect("a message that was written is understood");
    assert_eq!((again.version, again.syncid), (message.version, message.syncid));
    if message.version == Version::V1 {
        assert!(again.records().eq(records), "a message that was written again is another one");
    }
}

/// Enters connections that messages told of, between packets and the sweep; the tables stay sound.
///
/// # Panics
/// If something does not hold.
pub fn enter(input: &[u8]) {
    thread_local! {
        static DIRECTOR: std::cell::RefCell<Option<Director>> = const { std::cell::RefCell::new(None) };
    }
    DIRECTOR.with_borrow_mut(|director| {
        let mut at_hand = director.take().unwrap_or_else(world::director);
        enter_into(&mut at_hand, Cursor::new(input));
        *director = Some(at_hand);
    });
}

fn enter_into(director: &mut Director, mut input: Cursor<'_>) {
    director.restart();
    let served = world::configure(director, usize::from(input.byte()));
    while !input.is_empty() {
        if input.once_in(8) {
            director.pass(input.one(&[50, 1000, 61_000]));
        }
        let count = 1 + input.below(8);
        let all: Vec<Incoming> = (0..count).map(|_| incoming(&mut input, &served)).collect();
        assert!(all.len() <= INCOMING as usize);
        for done in director.import(&all) {
            assert!((entered::NEW..=entered::NO_ROOM).contains(&done.result), "a result that is none: {done:?}");
        }
    }
    let found = director.contradictions();
    assert!(found.is_empty(), "{}", found.join("\n"));
}

/// An element as the importer of `lvs-director` makes it: of a destination that is there, in its mode and a state of its protocol.
fn incoming(input: &mut Cursor<'_>, served: &[Served]) -> Incoming {
    let served = &served[input.below(served.len())];
    let (dest, destination, _) = &served.dests[input.below(served.dests.len())];
    let is_template = input.once_in(4);
    let (service, is_v4) = (&served.service, served.service.address.is_v4());
    let mode = Mode::from(destination.forward);
    let is_fullnat = destination.forward == Forward::FullNat;
    let local_id = if is_fullnat && !is_template { if destination.address.is_v4() { 1 } else { 2 } } else { 0 };
    let state = u32::from(input.byte()) % 11;
    let flags = if mode == Mode::MASQ || is_fullnat { 0 } else { conn_flags::NO_OUTPUT };
    let word = if is_template {
        if state == 0 { 0 } else { conn_flags::ASSURED }
    } else {
        let of_protocol = if service.protocol == 17 { 0 } else { state };
        of_protocol | flags | if input.half() { conn_flags::INACTIVE } else { 0 }
    };
    let client = world::client(input.below(world::COUNT), is_v4);
    let announcement = Announcement {
        client: client.address,
        virt: service.address.address,
        real: if destination.address.is_v4() == is_v4 { destination.address.address } else { Default::default() },
        client_port: lvs_common::byte_order::Be16::new(if is_template { 0 } else { 1000 + input.below(4) as u16 }),
        virt_port: lvs_common::byte_order::Be16::new(service.port),
        real_port: lvs_common::byte_order::Be16::new(destination.port),
        protocol: if service.protocol == 0 { 6 } else { service.protocol },
        kind: if is_template { EntryKind::TEMPLATE } else { EntryKind::CONNECTION },
        forward: mode,
        family: service.address.family,
        local_port: lvs_common::byte_order::Be16::new(if local_id == 0 { 0 } else { 2000 + input.below(6) as u16 }),
        dest: DestId::new(dest.get()),
        state: word,
        timeout: input.one(&[0, 1000, 60_000, i32::MAX as u32]),
        fwmark: service.mark,
        entry: 0,
        engine: 0,
        local_id,
        first: 0,
        toa_state: input.byte().into(),
        pad: 0,
    };
    Incoming { announcement, in_packets: 3, control: EntryRef::NONE, age: u32::from(input.word()), result: 0 }
}
