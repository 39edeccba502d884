//! What must hold of each packet.

use host_director::director::Director;
use host_director::director::packet::{Fate, Outcome, Sent};
use lvs_common::exit::{EXIT_COUNT, EXITS, Exit};

use crate::packets::frames::ETHERNET;
use crate::packets::sums;

/// Packets by exit.
pub type Exits = [u64; EXIT_COUNT as usize];

/// The exits that a packet has taken, by name.
pub fn names(taken: &Exits) -> Vec<&'static str> {
    taken.iter().zip(EXITS).filter(|(count, _)| **count != 0).map(|(_, (name, _))| *name).collect()
}

fn has(taken: &Exits, exit: Exit) -> bool {
    taken[exit as usize] != 0
}

/// Judges what became of a packet; `taken` are the exits that were counted for it.
///
/// # Panics
/// If something does not hold.
pub fn judge(director: &Director, came: &[u8], is_partial: bool, outcome: &Outcome, taken: &Exits) {
    let own: u64 = (0..)
        .zip(taken)
        .filter(|(exit, _)| !Exit::BESIDE.iter().any(|beside| *beside as usize == *exit))
        .map(|(_, n)| n)
        .sum();
    let is_ip = matches!(came.get(12..ETHERNET), Some([8, 0] | [0x86, 0xdd]));
    if outcome.fate != Fate::Stack {
        assert!(own != 0, "a packet left without an exit: {:?}, sent {}", outcome.fate, outcome.sent.len());
        assert!(is_ip, "a frame that is no IP packet left: {:?}", outcome.fate);
    }
    assert!(!has(taken, Exit::DropTailCall), "a packet left by {:?}", names(taken));
    // A packet that is shorter than its header says is the stack's to drop. The director may forward it as it is, or fail to.
    let Some(before) = sums::of_frame(came) else { return };
    assert!(!has(taken, Exit::DropInternal), "a packet left by {:?}", names(taken));
    for sent in &outcome.sent {
        judge_sent(director, &before, is_partial, sent, taken);
    }
}

fn judge_sent(director: &Director, before: &sums::Wrong, is_partial: bool, sent: &Sent, taken: &Exits) {
    let after = sums::of_frame(&sent.bytes);
    let tell = || format!("sent by {:?}: {}\nbefore {before:?}\nafter  {after:?}", names(taken), hex(&sent.bytes));
    let Some(after) = after else { panic!("what left is no IP packet: {}", tell()) };
    let mtu = director.kernel.network.borrow().device(sent.to.device).map_or(0, |device| device.mtu as usize);
    if sent.segment == 0 {
        assert!(after.length <= mtu, "a packet longer than the MTU of {mtu} left: {}", tell());
    } else {
        let headers = after.at - ETHERNET + 20;
        assert!(sent.segment as usize + headers <= mtu, "segments longer than the MTU of {mtu} left: {}", tell());
    }
    assert!(after.length + ETHERNET <= sent.bytes.len(), "a packet longer than its frame left: {}", tell());
    let was_right = before.header == 0 && before.transport.unwrap_or(0) == 0;
    let is_own = [Exit::IcmpSent, Exit::Challenged].iter().any(|exit| has(taken, *exit));
    if before.header == 0 || is_own {
        assert_eq!(after.header, 0, "the header's checksum is wrong: {}", tell());
    }
    if is_partial || sent.is_partial || sent.segment != 0 || after.is_fragment || before.is_fragment {
        return;
    }
    if was_right || is_own {
        assert_eq!(after.transport.unwrap_or(0), 0, "the transport checksum is wrong: {}", tell());
    }
    let translated =
        [Exit::Nat, Exit::NatReply, Exit::FullNat, Exit::FullNatReply].iter().any(|exit| has(taken, *exit));
    if translated
        && before.header == 0
        && before.protocol == after.protocol
        && let (Some(was), Some(is)) = (before.transport, after.transport)
    {
        assert_eq!(
            was == 0,
            is == 0,
            "the transport checksum was right, and is not, or the other way round: {}",
            tell()
        );
    }
}

/// Bytes as hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
