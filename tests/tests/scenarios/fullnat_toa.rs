//! TOA in the director, segment by segment: who is told the client's address, and in which packets.

use tests::fixtures::flow::{ETHERNET, Segment, acknowledge, answer, data, director, each, handshake, read};
use tests::fixtures::{frame::internet_checksum, tc_verdict};

/// What most segments have: padding and timestamps.
const TIMESTAMPS: [u8; 12] = [1, 1, 8, 10, 1, 2, 3, 4, 5, 6, 7, 8];

#[test]
fn the_first_segments_tell_the_client() {
    let testbed = director();
    each(&testbed, |clients| {
        let (flow, options) = clients.call(&[2, 4, 5, 0xb4, 1, 3, 3, 7]);
        let toa = flow.toa();
        assert_eq!(options, [2, 4, 5, 0xb4, 1, 3, 3, 7], "the SYN");
        flow.reply(&answer(&[]));
        let told = |segment: &Segment| {
            let (options, data) = flow.send(segment);
            assert_eq!(data, segment.data);
            if options == segment.options {
                return false;
            }
            assert_eq!(options, [&toa[..], &segment.options].concat());
            true
        };
        for options in [&[][..], &TIMESTAMPS] {
            // Each of them may be lost, and is sent again then.
            for _ in 0..2 {
                assert!(told(&handshake().with(options)), "the end of the handshake");
                for length in [1, 4, 5, 1000] {
                    assert!(told(&data(0, length).with(options)), "the first data");
                }
                assert!(told(&Segment { flags: "FA", ..data(0, 0) }), "an end without data");
                assert!(!told(&data(5, 1000).with(options)), "more data");
                assert!(!told(&Segment { flags: "R", ..data(0, 0) }), "a RST");
            }
        }
        flow.reply(&acknowledge(0));
        assert!(told(&handshake()) && told(&data(0, 9)), "nothing of it was acknowledged");
        flow.reply(&Segment { data: b"hello".to_vec(), ..acknowledge(0) });
        assert!(!told(&handshake()) && told(&data(0, 9)), "the real server spoke first");
        flow.reply(&acknowledge(1));
        assert!(!told(&handshake()) && !told(&data(0, 9)), "data was acknowledged");
    });
}

#[test]
fn the_setting_decides_who_tells() {
    let testbed = director();
    testbed.director.lvsadm("sysctl toa=0").unwrap();
    each(&testbed, |clients| {
        let (flow, options) = clients.call(&[2, 4, 5, 0xb4]);
        assert_eq!(options, [2, 4, 5, 0xb4]);
        assert_eq!(flow.reply(&answer(&[2, 4, 5, 0xb4])), [2, 4, 5, 0xb4]);
        assert_eq!(flow.send(&handshake().with(&TIMESTAMPS)).0, TIMESTAMPS);
        assert_eq!(flow.send(&data(0, 5)).0, [0u8; 0]);
    });
    testbed.director.lvsadm("sysctl toa=2").unwrap();
    each(&testbed, |clients| {
        let (flow, options) = clients.call(&[2, 4, 5, 0xb4]);
        assert_eq!(options, [&flow.toa()[..], &[2, 4, 5, 0xb4]].concat());
        flow.reply(&answer(&[]));
        assert_eq!(flow.send(&handshake()).0, flow.toa());
    });
}

/// Where there is no room, segments go as they are, and are counted.
#[test]
fn what_has_no_room_goes_without() {
    const MTU: usize = 1500;
    let testbed = director();
    let counted = || {
        let exit = |name| testbed.director.exit(name).unwrap();
        (exit("toa-sent"), exit("toa-no-room"))
    };
    each(&testbed, |clients| {
        let flow = clients.opened();
        let (toa, before) = (flow.toa(), counted());
        let headers = if clients.v6 { 60 } else { 40 };
        let most = 40 - toa.len();
        let room =
            [handshake().with(&vec![1; most]), data(0, 7).with(&vec![1; most]), data(0, MTU - headers - toa.len())];
        for segment in &room {
            let (options, data) = flow.send(segment);
            assert_eq!((options, &data), ([&toa[..], &segment.options].concat(), &segment.data));
        }
        let none = [
            handshake().with(&vec![1; most + 4]),
            data(0, 7).with(&[1; 40]),
            data(0, MTU - headers - toa.len() + 1),
            data(0, MTU - headers),
        ];
        for segment in &none {
            assert_eq!(flow.send(segment), (segment.options.clone(), segment.data.clone()));
        }
        // Several segments in one, which a device is to cut.
        let large = data(0, 2 * MTU);
        let outcome = clients.programs.run_tc_large(testbed.front, &flow.request(&large), 1000).unwrap();
        assert_eq!(outcome.verdict, tc_verdict::REDIRECT);
        let left = read(&outcome.frame).unwrap();
        assert_eq!((left.from, left.to, left.options, left.data), (flow.local, flow.server, vec![], large.data));
        let after = counted();
        assert_eq!((after.0 - before.0, after.1 - before.1), (3, 5));
    });
}

/// Frames are at least 60 bytes long, and what fills them up does not count; IP has options too.
#[test]
fn frames_of_other_shapes() {
    let testbed = director();
    each(&testbed, |clients| {
        let flow = clients.opened();
        let mut frame = flow.request(&handshake());
        frame.resize(frame.len().max(60) + 6, 0xaa);
        let left = flow.forwarded(&frame);
        assert_eq!((left.options, left.data.len(), left.behind), (flow.toa(), 0, 0));
        if !clients.v6 {
            let mut frame = flow.request(&data(0, 9).with(&TIMESTAMPS));
            frame.splice(ETHERNET + 20..ETHERNET + 20, [1, 1, 1, 1, 1, 1, 1, 0]);
            frame[ETHERNET] = 0x47;
            let length = (frame.len() - ETHERNET) as u16;
            frame[ETHERNET + 2..ETHERNET + 4].copy_from_slice(&length.to_be_bytes());
            frame[ETHERNET + 10..ETHERNET + 12].fill(0);
            let sum = internet_checksum(&frame[ETHERNET..ETHERNET + 28]);
            frame[ETHERNET + 10..ETHERNET + 12].copy_from_slice(&sum.to_be_bytes());
            let left = flow.forwarded(&frame);
            assert_eq!((left.options, left.behind), ([&flow.toa()[..], &TIMESTAMPS].concat(), 0));
            assert_eq!(left.data, tests::text(9));
        }
    });
}

/// The real server's maximum segment size, as the client is told it: less by the option.
#[test]
fn the_client_is_told_smaller_segments() {
    let testbed = director();
    each(&testbed, |clients| {
        let less = if clients.v6 { 20 } else { 8 };
        let size = |size: u16| size.to_be_bytes();
        for (before, after) in [(1460, 1460 - less), (257, 257 - less), (21, 21 - less), (less, less), (1, 1)] {
            let ([a, b], [c, d]) = (size(before), size(after));
            for (options, expected) in [
                (vec![2, 4, a, b], vec![2, 4, c, d]),
                (vec![2, 4, a, b, 1, 3, 3, 7], vec![2, 4, c, d, 1, 3, 3, 7]),
                (vec![1, 2, 4, a, b, 3, 3, 7], vec![1, 2, 4, c, d, 3, 3, 7]),
                (vec![1, 1, 4, 2, 2, 4, a, b], vec![1, 1, 4, 2, 2, 4, c, d]),
                (
                    [&TIMESTAMPS[2..], &[3, 3, 7, 2, 4, a, b, 0, 0, 0]].concat(),
                    [&TIMESTAMPS[2..], &[3, 3, 7, 2, 4, c, d, 0, 0, 0]].concat(),
                ),
            ] {
                let (flow, _) = clients.call(&[]);
                assert_eq!(flow.reply(&answer(&options)), expected);
                // Once more, as it was lost.
                assert_eq!(flow.reply(&answer(&options)), expected);
            }
        }
        for options in [&[][..], &TIMESTAMPS, &[1, 2, 4, 5], &[0, 2, 4, 5, 0xb4, 0, 0, 0], &[2, 3, 5, 1]] {
            let (flow, _) = clients.call(&[]);
            assert_eq!(flow.reply(&answer(options)), options, "no segment size");
        }
    });
}
