//! What a real server's kernel makes of options, whatever they are.

use std::net::{IpAddr, SocketAddr};
use std::thread;

use lvs_common::toa;
use nix::libc;
use tests::topology::{FromClient, Handling};

use super::Peer::{self, Director as TheDirector};
use super::{CLIENT, CLIENT6, DUAL, Stage, V4, connect_by, option};

/// Options with something to them: padding, other experiments, wrong lengths, two at once, cut off.
fn chosen_blocks() -> Vec<Vec<u8>> {
    let (toa4, toa6) = (option(SocketAddr::new(CLIENT, 99)), option(SocketAddr::new(CLIENT6, 99)));
    let mut blocks = vec![
        [&[1; 20][..], &toa4].concat(),
        [&[1; 32][..], &toa4].concat(),
        [&[1; 8][..], &toa6].concat(),
        [&[253, 10, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1][..], &toa4].concat(),
        [&[253, 4, 0, 0][..], &toa6, &[1; 4]].concat(),
        [&[0; 4][..], &toa4].concat(),
        [&[254, 4, 0xf9, 0x89][..], &toa4].concat(),
        [&[253, 0, 1, 1][..], &toa4].concat(),
        [&[253, 1, 1, 1][..], &toa4].concat(),
        [&[253, 255, 1, 1][..], &toa4].concat(),
        [&[253, 3, 0][..], &toa4, &[1]].concat(),
        [&toa6[..], &toa4].concat(),
        [&toa4[..], &toa6].concat(),
        [&[1; 27][..], &[254]].concat(),
        [&[1; 36][..], &toa4[..4]].concat(),
        [&[1; 24][..], &toa6[..16]].concat(),
    ];
    for length in [0, 1, 2, 3, 4, 6, 7, 9, 10, 12, 16, 18, 19, 21, 24, 28, 29, 40, 41, 128, 255] {
        let mut block = vec![1; 28];
        block[..2].copy_from_slice(&[254, length]);
        blocks.push(block);
    }
    blocks
}

/// Options put together by chance, always the same ones, of kinds that mean nothing to the kernel.
fn random_blocks(count: usize) -> Vec<Vec<u8>> {
    let mut random = fastrand::Rng::with_seed(1);
    let mut below = move |limit: usize| random.usize(..limit);
    let mut block = || {
        let mut block = Vec::new();
        for _ in 0..below(8) + 1 {
            let (port, length) = (below(65536) as u16, below(12) + 2);
            match below(8) {
                0 => block.extend(option(SocketAddr::new(CLIENT, port))),
                1 => block.extend(option(SocketAddr::new(CLIENT6, port))),
                2..=4 => block.push(1),
                5 => block.extend([[253, length as u8].to_vec(), vec![254; length - 2]].concat()),
                6 => block.extend([[254, length as u8].to_vec(), vec![0; length - 2]].concat()),
                _ => block.extend([100, below(256) as u8]),
            }
        }
        block.truncate((below(10) + 1) * 4);
        block.resize(block.len().next_multiple_of(4), 1);
        block
    };
    (0..count).map(|_| block()).collect()
}

/// Options that the director inserts are read as `lvs_common::toa` reads them. Since Linux 6.7 the kernel may drop packets whose
/// options are malformed; then the next one, which has none, completes the handshake.
#[test]
fn the_kernel_reads_what_the_library_reads() {
    const FIRST_PORT: u16 = 10_000;
    let blocks = [chosen_blocks(), random_blocks(100)].concat();
    let inserted = blocks.clone();
    let stage = Stage::with_peers(move |packet: &FromClient| {
        let block = &inserted[usize::from(packet.client.port() - FIRST_PORT)];
        Handling::Forward(if packet.number == Some(0) { block.clone() } else { Vec::new() })
    })
    .unwrap();
    // Without timestamps, what is inserted is all there is.
    stage.host.sysctl(&["net/ipv4/tcp_timestamps=0"]).unwrap();
    let told = |port| {
        let connect = |to| connect_by(libc::IPPROTO_TCP, SocketAddr::new(CLIENT, port), to);
        stage.call_by(connect, V4, DUAL).unwrap().accepted().unwrap()
    };
    // All at once, as some wait for the next packet.
    thread::scope(|scope| {
        let calls: Vec<_> = (FIRST_PORT..).zip(&blocks).map(|(port, _)| scope.spawn(move || told(port))).collect();
        for (call, block) in calls.into_iter().zip(&blocks) {
            let (told, expected) = (call.join().unwrap(), expected(block));
            assert!(
                told == expected || told == TheDirector && !is_whole(block),
                "{told:?}, not {expected:?}: {block:?}"
            );
        }
    });
}

fn expected(options: &[u8]) -> Peer {
    toa::find(options).map_or(TheDirector, |client| {
        let ip = match client.family {
            2 => IpAddr::from(client.address.octets4()),
            _ => IpAddr::from(client.address.octets6()),
        };
        Peer::Other(SocketAddr::new(ip, client.port.get()))
    })
}

/// Whether options are well-formed.
fn is_whole(options: &[u8]) -> bool {
    let mut at = 0;
    while let Some((_, length)) = toa::option(options, at) {
        at += length;
    }
    options.get(at).is_none_or(|kind| *kind == 0)
}
