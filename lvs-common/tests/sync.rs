//! Messages of connection synchronisation: IPVS's own, byte for byte, and any others.

use lvs_common::abi::Address;
use lvs_common::byte_order::Be16;
use lvs_common::sync::{Engine, Local, Malformed, Message, Push, Record, Sequence, Version, Writer, flags, question};
use proptest::prelude::*;

/// A message that a Linux 6.1 master sent, as the payload of its datagram: templates of a client, connections over TCP and UDP.
const RECORDED: &str = include_str!("../../tests/golden/sync-message.txt");

fn bytes(hexadecimal: &str) -> Vec<u8> {
    let digits: Vec<u8> = hexadecimal.chars().filter_map(|c| c.to_digit(16)).map(|digit| digit as u8).collect();
    digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}

fn write(records: &[Record<'_>], version: Version, syncid: u8) -> Vec<u8> {
    let mut buffer = vec![0; 65507];
    let mut writer = Writer::new(&mut buffer, version, syncid);
    for record in records {
        assert_eq!(writer.push(record), Push::Done);
    }
    writer.finish().to_vec()
}

#[test]
fn a_recorded_message_is_read_and_written_byte_for_byte() {
    let recorded = bytes(RECORDED);
    let message = Message::parse(&recorded).unwrap();
    assert_eq!((message.version, message.syncid, message.count()), (Version::V1, 7, 12));
    let records: Vec<Record<'_>> = message.records().collect();
    assert_eq!(write(&records, Version::V1, 7), recorded);
    let expected = Record {
        protocol: 6,
        flags: flags::INACTIVE,
        state: 7,
        client_port: Be16::new(40001),
        virt_port: Be16::new(80),
        real_port: Be16::new(8080),
        timeout: 60,
        client: Address::v4([10, 1, 0, 100]),
        virt: Address::v4([192, 0, 2, 10]),
        real: Address::v4([10, 2, 0, 11]),
        ..Record::default()
    };
    assert_eq!(records[10], expected);
    assert_eq!(records.iter().filter(|record| record.is_template()).count(), 9);
}

#[test]
fn a_message_that_is_cut_or_told_longer_is_refused() {
    let recorded = bytes(RECORDED);
    for length in 0..recorded.len() {
        assert!(Message::parse(&recorded[..length]).is_err(), "{length} bytes");
        // The same with a header that agrees.
        let mut cut = recorded[..length].to_vec();
        if let Some(word) = cut.get_mut(2..4) {
            word.copy_from_slice(&(length as u16).to_be_bytes());
        }
        assert!(Message::parse(&cut).is_err(), "{length} bytes that say so");
    }
    let longer = [recorded.as_slice(), &[0]].concat();
    assert_eq!(Message::parse(&longer).unwrap_err(), Malformed::Length);
}

#[test]
fn an_option_that_is_not_known_is_passed_by_only_if_it_may_be() {
    let record = Record { protocol: 17, ..Record::default() };
    let with = |kind: u8, data: &[u8]| {
        let mut message = write(&[record], Version::V1, 0);
        message.extend([kind, data.len() as u8]);
        message.extend(data);
        let (total, length) = (message.len() as u16, (message.len() - 8) as u16);
        message[2..4].copy_from_slice(&total.to_be_bytes());
        message[10..12].copy_from_slice(&length.to_be_bytes());
        message
    };
    let passed = with(0x47, b"anything");
    assert_eq!(Message::parse(&passed).unwrap().records().collect::<Vec<_>>(), [record]);
    // IPVS's backups leave out a connection of which there is more to know than they do, and so do these.
    for kind in [0x07, 0, 0xbf] {
        let unknown = with(kind, b"x");
        let records: Vec<_> = Message::parse(&unknown).unwrap().records().collect();
        assert_eq!(records, [Record { is_unknown: true, ..record }]);
    }
    for (kind, data) in [(1, &b"short"[..]), (2, b""), (3, b"a name of seventeen"), (0x20, b"short"), (0x21, b"short")]
    {
        assert_eq!(Message::parse(&with(kind, data)).unwrap_err(), Malformed::Option, "option {kind}");
    }
}

#[test]
fn a_full_message_takes_no_more_and_a_record_that_fits_nowhere_is_never_taken() {
    let record = Record { protocol: 6, ..Record::default() };
    let wide = Record { is_v6: true, ..record };
    let mut buffer = [0; 8 + 36 + 4];
    let mut writer = Writer::new(&mut buffer, Version::V1, 0);
    assert_eq!(writer.push(&wide), Push::Never);
    assert_eq!((writer.push(&record), writer.push(&record)), (Push::Done, Push::Full));
    let mut buffer = [0; 1472];
    let mut writer = Writer::new(&mut buffer, Version::V0, 0);
    assert_eq!(writer.push(&wide), Push::Never);
    assert!(writer.finish().is_empty());
    let mut buffer = vec![0; 65507];
    let mut writer = Writer::new(&mut buffer, Version::V1, 0);
    let pushed = (0..300).take_while(|_| writer.push(&record) == Push::Done).count();
    assert_eq!(pushed, 255);
}

#[test]
fn a_backups_question_is_a_message_without_records() {
    let question = question(7);
    let message = Message::parse(&question).unwrap();
    assert_eq!((message.version, message.syncid, message.count()), (Version::V1, 7, 0));
    assert_eq!(message.records().count(), 0);
}

/// What a record owns while it is generated.
#[derive(Clone, Debug)]
struct Whole {
    record: Record<'static>,
    engine: Option<(Vec<u8>, Vec<u8>)>,
}

impl Whole {
    fn record(&self) -> Record<'_> {
        let engine = self.engine.as_ref().map(|(name, data)| Engine { name, data });
        Record { engine, ..self.record }
    }
}

fn sequence() -> impl Strategy<Value = Sequence> {
    any::<(u32, u32, u32)>().prop_map(|(initial, delta, previous)| Sequence { initial, delta, previous })
}

fn whole() -> impl Strategy<Value = Whole> {
    let engine = (prop::collection::vec(any::<u8>(), 0..=16), prop::collection::vec(any::<u8>(), 1..=255));
    (
        any::<(bool, u8, u32, u16)>(),
        any::<(u16, u16, u16, u32, u32)>(),
        any::<[[u8; 16]; 3]>(),
        prop::option::of([sequence(), sequence()]),
        prop::option::of(engine),
        any::<(Option<[u8; 16]>, Option<([u8; 16], u16, u8, u32)>)>(),
    )
        .prop_map(|((is_v6, protocol, flags, state), ports, addresses, sequences, engine, (other, local))| {
            let of = |bytes: [u8; 16], is_v6| {
                let [a, b, c, d, ..] = bytes;
                if is_v6 { Address::v6(bytes) } else { Address::v4([a, b, c, d]) }
            };
            let address = |at: usize| of(addresses[at], is_v6);
            let is_real_v6 = is_v6 != other.is_some();
            let local = local.map(|(address, port, toa_state, first)| Local {
                address: of(address, is_real_v6),
                port: Be16::new(port),
                toa_state,
                first,
            });
            let (client_port, virt_port, real_port, fwmark, timeout) = ports;
            let record = Record {
                is_v6,
                protocol,
                flags,
                state,
                client_port: Be16::new(client_port),
                virt_port: Be16::new(virt_port),
                real_port: Be16::new(real_port),
                fwmark,
                timeout,
                client: address(0),
                virt: address(1),
                real: address(2),
                sequences,
                other_real: other.map(|bytes| of(bytes, !is_v6)),
                local,
                is_unknown: false,
                engine: None,
            };
            Whole { record, engine }
        })
}

/// A record as version 0 can say it.
fn plain(whole: &Whole) -> Record<'static> {
    let record = whole.record;
    let shifted = flags::IN_SEQUENCE | flags::OUT_SEQUENCE;
    let v4 = |address: Address| Address([address.0[0], 0, 0, 0]);
    let mut flags = record.flags & 0xffff & !shifted;
    if record.sequences.is_some() {
        flags |= if record.flags & shifted == 0 { shifted } else { record.flags & shifted };
    }
    Record {
        is_v6: false,
        flags,
        fwmark: 0,
        timeout: 0,
        client: v4(record.client),
        virt: v4(record.virt),
        real: v4(record.real),
        other_real: None,
        local: None,
        ..record
    }
}

/// Changes a message in a few places, its length included now and then.
fn mutate(random: &mut fastrand::Rng, message: &mut Vec<u8>) {
    for _ in 0..random.usize(1..6) {
        match random.u8(0..6) {
            0 if !message.is_empty() => message.truncate(random.usize(..message.len())),
            1 => message.extend((0..random.usize(0..80)).map(|_| random.u8(..))),
            _ if !message.is_empty() => {
                let at = random.usize(..message.len());
                message[at] =
                    if random.bool() { random.u8(..) } else { [0, 1, 2, 3, 36, 0x40, 255][random.usize(..7)] };
            }
            _ => {}
        }
    }
    if random.u8(..) < 200 && message.len() >= 4 {
        let length = (message.len() as u16).to_be_bytes();
        message[2..4].copy_from_slice(&length);
    }
}

/// Reads a message, and sees that as many records come of it as it says, each of which can be written and read again.
fn read(message: &[u8]) -> bool {
    let Ok(parsed) = Message::parse(message) else { return false };
    let records: Vec<_> = parsed.records().collect();
    assert_eq!(records.len(), usize::from(parsed.count()));
    let again = write(&records, parsed.version, parsed.syncid);
    if !records.is_empty() {
        let again = Message::parse(&again).unwrap();
        assert!(again.records().eq(records));
    }
    true
}

/// Reads so many messages, made of bytes of any kind and of real ones that were changed: how many were understood.
fn read_any(count: u64) -> u64 {
    let (recorded, mut random) = (bytes(RECORDED), fastrand::Rng::with_seed(14));
    (0..count)
        .filter(|_| {
            let mut message = match random.u8(0..4) {
                0 => (0..random.usize(0..200)).map(|_| random.u8(..)).collect(),
                1 => recorded[..8 + 36 * random.usize(1..4)].to_vec(),
                2 => {
                    [&[0, 7, 0, 0, 1, 1, 0, 0][..], &recorded[8..44], &[2, 3, 1, 2, 3, 3, 3, b's', b'i', b'p']].concat()
                }
                _ => [&[random.u8(0..4), 7, 0, 0][..], &recorded[8..80]].concat(),
            };
            mutate(&mut random, &mut message);
            read(&message)
        })
        .count() as u64
}

#[test]
fn no_message_is_too_strange_to_be_read_or_refused() {
    assert!(read_any(200_000) > 1000);
}

/// Ten million, for a release build: `cargo test --release -p lvs-common --test sync -- --ignored`.
#[test]
#[ignore = "takes half a minute in a release build"]
fn ten_million_messages_are_read_or_refused() {
    println!("{} of 10,000,000 messages were understood", read_any(10_000_000));
}

proptest! {
    #[test]
    fn what_is_written_is_read(wholes in prop::collection::vec(whole(), 1..40), syncid: u8) {
        let records: Vec<_> = wholes.iter().map(Whole::record).collect();
        let message = write(&records, Version::V1, syncid);
        let read = Message::parse(&message).unwrap();
        prop_assert_eq!((read.version, read.syncid), (Version::V1, syncid));
        prop_assert!(read.records().eq(records.iter().copied()));
    }

    #[test]
    fn version_0_says_what_it_can(wholes in prop::collection::vec(whole(), 1..40), syncid: u8) {
        let records: Vec<_> = wholes.iter().map(plain).collect();
        let message = write(&records, Version::V0, syncid);
        let read = Message::parse(&message).unwrap();
        prop_assert_eq!((read.version, read.syncid), (Version::V0, syncid));
        prop_assert!(read.records().eq(records.iter().copied()));
    }
}
