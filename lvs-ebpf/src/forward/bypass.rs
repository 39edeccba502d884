//! Connections without a real server, whose packets go where their headers say (`cache_bypass`, in front of transparent caches).
//! TC only.

use lvs_common::abi::DestId;
use lvs_common::exit::Exit;

use crate::{
    config,
    egress::{
        gate::{self, Limits, Passage, Way},
        refuse::Sender,
        route, send,
        split::split,
    },
    exits,
    kernel::clock,
    packet::{access::Packet, access::TcPacket, handover, parse::Family, ttl},
    stats,
    table::{advance::advance, find},
};

/// Forwards a packet of such a connection.
#[inline(always)]
pub fn run<A: Family>(packet: TcPacket) -> i32 {
    let (Some(p), Some(settings)) = (handover::load::<A>(), config::settings()) else { return TcPacket::PASS };
    let Some((at, connection)) = find::of_client(p) else { return TcPacket::PASS };
    if packet.device() == 0 {
        return exits::pass(packet, Exit::Bypass);
    }
    let now = clock::jiffies();
    let cache = connection.reply_hop();
    let to = p.destination.widen();
    let passage = Passage::<A>::new(cache, A::FAMILY, &to, Some(Sender::VIP));
    route::with(
        packet,
        #[inline(always)]
        |route| {
            let way = match gate::pass(packet, p, &passage, |mtu| Limits::new(mtu, 0, !p.df), now, route) {
                Ok(Way::Local | Way::Stack) => return exits::pass(packet, Exit::Bypass),
                Ok(way) => way,
                Err(verdict) => return verdict,
            };
            if !p.is_later_fragment() {
                advance(at, connection, None, (p, false), settings, now);
                connection.count_request();
            }
            if !ttl::lower_ttl::<_, A>(packet) {
                return exits::drop(packet, Exit::DropInternal);
            }
            if let Way::Fragments(most) = way {
                stats::exit(Exit::Bypass);
                return split(packet, DestId::NONE, most);
            }
            exits::leave(packet, Exit::Bypass, send::send_tc(packet, route))
        },
    )
}
