//! Persistence engines: what besides the client's address ties its connections together. There is one, SIP's Call-ID. TC
//! only, as it looks into the payload.

use crate::values::request::Engine;
use aya_ebpf::helpers::generated::bpf_skb_load_bytes;
use lvs_common::{
    abi::{EngineData, EngineKey, IpAddress},
    sip::{self, CallId, Scan},
    wire::protocol,
};

use crate::{
    kernel::{cpu, loops::KernelLoop, params},
    maps::{ENGINES, SCRATCH},
    packet::access::TcPacket,
    values::parsed::Parsed,
};

/// Bytes of a UDP header.
const UDP_HEADER: u32 = 8;
/// Bytes of a message that are looked through at most: headers come first.
const LOOKED_AT: u32 = 4096;

/// The Call-ID of a SIP message over UDP.
#[inline(always)]
pub fn call_id<A: IpAddress>(packet: TcPacket, p: &Parsed<A>) -> Option<Engine> {
    if p.carried != protocol::UDP {
        return None;
    }
    let begin = (p.l4() as u32).wrapping_add(UDP_HEADER);
    let length = packet.length().checked_sub(begin)?;
    let length = (if length > LOOKED_AT { LOOKED_AT } else { length }).checked_sub(1)? & (LOOKED_AT - 1);
    let scratch = SCRATCH.get_ptr_mut(cpu::number())?;
    // SAFETY: this CPU's own element, with room for the search after the longest text; a helper call with a valid context. The
    // search is there and not on the stack, so that the verifier does not tell one step of it from another.
    let (text, scan) = unsafe {
        let text = (&raw mut (*scratch).payload).cast::<u8>();
        if bpf_skb_load_bytes(packet.0.cast(), begin, text.cast(), length + 1) != 0 {
            return None;
        }
        let scan = text.add(LOOKED_AT as usize).cast::<Scan>();
        scan.write(Scan::new(params::secret()));
        (text, &mut *scan)
    };
    // SAFETY: the mask keeps within what was loaded or may have been.
    let byte = |at: u32| unsafe { text.add((at & (LOOKED_AT - 1)) as usize).read() };
    let CallId { at, length, hash } = sip::call_id(length + 1, scan, KernelLoop, byte)?;
    Some(Engine { hash, at: begin.wrapping_add(at), length })
}

/// Remembers the text of a new template, for listings: without room for it the template works all the same.
#[inline(always)]
pub fn remember<A: IpAddress>(packet: TcPacket, engine: &Engine, entry: u32) {
    let Some(scratch) = SCRATCH.get_ptr_mut(cpu::number()) else { return };
    let data = scratch.cast::<EngineData>();
    // From 1 to 255, in a form that the verifier reads so.
    let length = (engine.length.wrapping_sub(1) & 255) + 1;
    // SAFETY: this CPU's own element, which is longer; a helper call with a valid context.
    unsafe {
        for word in 0..size_of::<EngineData>() / 4 {
            data.cast::<u32>().add(word).write_volatile(0);
        }
        (*data).length = engine.length;
        if bpf_skb_load_bytes(packet.0.cast(), engine.at, (&raw mut (*data).text).cast(), length) == 0 {
            let _ = ENGINES.insert(EngineKey { entry, family: A::FAMILY as u32 }, &*data, 0);
        }
    }
}
