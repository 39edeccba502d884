//! Packets: into the director as a device hands them over, and out as the kernel sends them.

use aya_ebpf::kernel::Kernel;
use aya_ebpf::program::{Clone, Program, Redirect, Tier};
use aya_ebpf::skb::{Incoming, Skb};
use aya_ebpf::xdp::{self, Xdp};

use crate::packet::access::{Packet as _, TcPacket, XdpPacket};
use crate::programs_of_host::entry;

/// Verdicts: `XDP_TX`, `XDP_REDIRECT`, `TC_ACT_REDIRECT`.
const XDP_TX: i32 = 3;
const XDP_REDIRECT: i32 = 4;
const TC_REDIRECT: i32 = 7;
/// `BPF_F_INGRESS`.
const INGRESS: u64 = 1;
/// Copies that come in again for a packet at most, those that these make included: a packet has 128 fragments.
const COPIES: usize = 512;

/// What became of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Left to the stack of the host, changed or not.
    Stack,
    /// Dropped; with what became of its copies if it has left in fragments, or waits for others.
    Dropped,
    /// Sent.
    Sent(Redirect),
    /// Handed to the host's stack as a packet of its own.
    Own,
}

/// What the director has sent, the Ethernet header included.
#[derive(Debug)]
pub struct Sent {
    /// Where to.
    pub to: Redirect,
    /// The bytes.
    pub bytes: Vec<u8>,
    /// Bytes of a segment that it is to be cut into, 0 for none.
    pub segment: u32,
    /// Whether its transport checksum is unfinished.
    pub is_partial: bool,
}

/// All that became of a packet.
#[derive(Debug)]
pub struct Outcome {
    /// The hook that finished it.
    pub tier: Tier,
    /// Its own fate.
    pub fate: Fate,
    /// Everything that was sent for it: itself, its fragments, others that waited for it.
    pub sent: Vec<Sent>,
}

/// A CPU: the memory of the packet that it is busy with.
#[derive(Default)]
pub struct Cpu {
    skb: Box<Skb>,
    xdp: Box<Xdp>,
}

impl Cpu {
    /// Takes a packet at a device with XDP and TC: what XDP leaves comes to TC.
    pub fn receive(&mut self, kernel: &Kernel, bytes: &[u8], incoming: &Incoming) -> Outcome {
        // XDP sees no marks, which other programs of TC set; nor packets that a device has joined or left unfinished.
        let is_plain =
            incoming.segment == 0 && !incoming.is_partial && incoming.linear >= bytes.len() && incoming.mark == 0;
        if !is_plain || bytes.len() > xdp::LONGEST || bytes.len() < 14 || incoming.device == 0 {
            return self.receive_tc(kernel, bytes, incoming);
        }
        self.xdp.receive(bytes, incoming.device);
        seed(kernel);
        let verdict = kernel.run(Tier::Xdp, entry::XDP, self.xdp.context().cast());
        let to = match verdict {
            XDP_TX => Redirect { device: incoming.device, flags: 0, neighbour: None },
            XDP_REDIRECT => kernel.redirect.get().expect("a packet that is redirected has a device"),
            XdpPacket::DROP => return Outcome { tier: Tier::Xdp, fate: Fate::Dropped, sent: Vec::new() },
            XdpPacket::PASS => {
                assert_eq!(self.xdp.bytes(), bytes, "XDP has changed a packet that it leaves to TC");
                return self.receive_tc(kernel, bytes, incoming);
            }
            other => panic!("XDP verdict {other}"),
        };
        let sent = Sent { to, bytes: self.xdp.bytes().to_vec(), segment: 0, is_partial: false };
        Outcome { tier: Tier::Xdp, fate: Fate::Sent(to), sent: vec![sent] }
    }

    /// Takes a packet at a device without XDP, or one that the host itself sends (`device` 0).
    pub fn receive_tc(&mut self, kernel: &Kernel, bytes: &[u8], incoming: &Incoming) -> Outcome {
        self.skb.receive(bytes, incoming);
        seed(kernel);
        let program = if incoming.device == 0 { entry::EGRESS } else { entry::INGRESS };
        let mut outcome = Outcome { tier: Tier::Tc, fate: Fate::Dropped, sent: Vec::new() };
        outcome.fate = self.run_tc(kernel, program, &mut outcome.sent);
        // Copies that come in again may make others.
        for _ in 0..COPIES {
            let again: Vec<Clone> = take_clones(kernel, &mut outcome.sent);
            if again.is_empty() {
                return outcome;
            }
            for clone in &again {
                self.skb.receive_clone(clone);
                self.run_tc(kernel, entry::INGRESS, &mut outcome.sent);
            }
        }
        panic!("copies of a packet come in again without end");
    }

    /// Runs a TC program on the packet at hand.
    fn run_tc(&mut self, kernel: &Kernel, program: Program, sent: &mut Vec<Sent>) -> Fate {
        let verdict = kernel.run(Tier::Tc, program, self.skb.context().cast());
        let to = match verdict {
            TcPacket::PASS => return Fate::Stack,
            TcPacket::DROP => return Fate::Dropped,
            TC_REDIRECT => kernel.redirect.get().expect("a packet that is redirected has a device"),
            other => panic!("TC verdict {other}"),
        };
        if to.flags & INGRESS != 0 {
            return Fate::Own;
        }
        let (segment, is_partial) = (self.skb.segment(), self.skb.is_partial());
        sent.push(Sent { to, bytes: self.skb.bytes().to_vec(), segment, is_partial });
        Fate::Sent(to)
    }

    /// The packet that TC had last, as it is now.
    pub fn packet(&self) -> &[u8] {
        self.skb.bytes()
    }

    /// Runs a program that no packet comes to, with these words in its control block.
    pub fn call(&mut self, kernel: &Kernel, program: Program, words: [u32; 5]) -> i32 {
        self.skb.receive(&[0; 64], &Incoming::default());
        *self.skb.control() = words;
        kernel.run(Tier::Tc, program, self.skb.context().cast())
    }
}

/// Sorts copies: those that were sent, and those that come in again.
fn take_clones(kernel: &Kernel, sent: &mut Vec<Sent>) -> Vec<Clone> {
    let clones = std::mem::take(&mut *kernel.clones.borrow_mut());
    let (again, out): (Vec<Clone>, Vec<Clone>) = clones.into_iter().partition(|clone| clone.to.flags & INGRESS != 0);
    sent.extend(out.into_iter().map(|Clone { to, bytes, .. }| Sent { to, bytes, segment: 0, is_partial: false }));
    again
}

/// Gives each hook the same random numbers for a packet, and the sweep the same, whatever others have drawn.
pub(super) fn seed(kernel: &Kernel) {
    kernel.random.set(kernel.now.get() | 1);
}
