//! A packet leaves in fragments.

use aya_ebpf::bindings::__sk_buff;
use lvs_common::{
    abi::{AF_INET, AF_INET6, Address, hop_flags},
    byte_order::{Be16, Be32},
    checksum,
    exit::Exit,
    fragments::Cut,
    wire::{Ethernet, Ipv4, Ipv6, Ipv6Fragment, ethertype, fragment, protocol},
};

use crate::{
    config::{self, destination::DestRef},
    egress::{route, send},
    exits,
    kernel::{clock, global::global_fn, loops::repeat, random, redirect::INGRESS, scratch},
    maps::SCRATCH,
    packet::{
        access::{Packet, TcPacket},
        control_block::{self, Cutting},
        tc::Room,
    },
    values::{
        parsed::L3,
        route::{By, Route},
        scratch::PAYLOAD,
    },
};

/// Most fragments of a packet.
const FRAGMENTS: u32 = 256;
/// IPv6's header and fragment header.
const HEADERS6: u32 = 48;
/// Bytes of frame to which [`set_length`] shortens one: more than headers take, and no more than `bpf_skb_adjust_room` removes; and
/// what that has to leave.
const LONG: u32 = 2048;
const SHORT: u32 = 64;
/// Offset of the network header in a fragment, which has an Ethernet header in front.
const SENT: usize = size_of::<Ethernet>();

/// What is cut.
struct Whole {
    v6: bool,
    /// Bytes of the network header, and of the payload.
    header: u32,
    length: u32,
    /// IPv6: protocol of the payload.
    next: u8,
    /// IPv4: the packet is a fragment itself: the units of eight bytes that it begins at, and whether others follow it.
    offset: u16,
    more: bool,
    /// Destination of the header.
    to: Address,
}

impl Whole {
    /// Reads the packet's header.
    #[inline(always)]
    fn read(packet: TcPacket) -> Option<Whole> {
        if packet.carried() == ethertype::IPV6 {
            let h = packet.read::<Ipv6>(L3)?;
            let (length, to) = (h.payload_length.get() as u32, Address(h.destination));
            return Some(Whole { v6: true, header: 40, length, next: h.next_header, offset: 0, more: false, to });
        }
        let h = packet.read::<Ipv4>(L3)?;
        let header = (h.version_ihl & 15) as u32 * 4;
        Some(Whole {
            v6: false,
            header,
            length: (h.length.get() as u32).wrapping_sub(header),
            next: 0,
            offset: (h.fragment & fragment::OFFSET).get(),
            more: !(h.fragment & fragment::MF).is_zero(),
            to: Address([h.destination, 0, 0, 0]),
        })
    }

    /// Bytes of headers that each fragment has.
    #[inline(always)]
    fn headers(&self) -> u32 {
        if self.v6 { HEADERS6 } else { self.header }
    }
}

/// The program that cuts.
#[inline(always)]
pub fn run(packet: TcPacket) -> i32 {
    let cutting = control_block::cutting(packet);
    let Some(settings) = config::settings() else { return TcPacket::DROP };
    let Some(whole) = Whole::read(packet) else { return exits::drop(packet, Exit::DropMalformed) };
    route::with(
        packet,
        #[inline(always)]
        |route| fragment(packet, &whole, cutting, DestRef::get(cutting.dest, settings.epoch), route),
    )
}

/// Cuts the packet and sends the fragments.
#[inline(always)]
fn fragment(packet: TcPacket, whole: &Whole, cutting: Cutting, dest: Option<DestRef>, route: &mut Route) -> i32 {
    let now = clock::jiffies();
    let found = match dest {
        Some(dest) => route::route(packet, dest.family(), dest.address(), now, route),
        None => route::route(packet, if whole.v6 { AF_INET6 } else { AF_INET }, &whole.to, now, route),
    };
    if let Err(exit) = found {
        return exits::drop(packet, exit);
    }
    if route.by != By::Neighbour && route.by != By::Protected {
        return exits::drop(packet, Exit::DropNoRoute);
    }
    let headers = whole.headers();
    if headers < 20 || whole.length == 0 || whole.length >= PAYLOAD as u32 || cutting.most < headers + 8 {
        return exits::drop(packet, Exit::DropTooBig);
    }
    let cut = match cutting.lead {
        0 => Cut::evenly(cutting.most, headers),
        lead => Cut::tunnelled6(control_block::largest(packet), lead, route.hop.mtu as u32, headers),
    };
    let is_known = route.hop.flags & hop_flags::NEIGHBOUR != 0;
    let is_addressed = packet.put_link_header()
        && (!is_known
            || packet.update::<Ethernet>(0, |h| {
                h.destination = route.hop.destination;
                h.source = route.hop.source;
            }));
    let device = if is_known { route.hop.ifindex } else { 0 };
    let sent = is_addressed && send_all(packet, whole, &Order { cut, device, id: Be32::from_word(random::word()) });
    if is_known || !sent || cut.first < whole.length {
        return exits::drop(packet, if sent { Exit::Fragmented } else { Exit::DropInternal });
    }
    // The only one, which stands in the packet.
    exits::leave(packet, Exit::Fragmented, send::send_framed(packet, route))
}

/// How fragments are made and sent.
struct Order {
    cut: Cut,
    /// The device that they leave by. 0: the neighbour is not known yet. The fragments come in again, finished, and the kernel's
    /// neighbour output keeps each until the neighbour answers; only the whole packet as one fragment is left to be sent.
    device: u32,
    /// Identification, of IPv6.
    id: Be32,
}

/// Sends every fragment.
#[inline(always)]
fn send_all(packet: TcPacket, whole: &Whole, order: &Order) -> bool {
    if order.device == 0 {
        packet.set_finished();
    }
    let is_copied = scratch::lend(
        &SCRATCH,
        #[inline(always)]
        |scratch| packet.load_bytes_at::<PAYLOAD, _>(SENT as u32 + whole.header, &mut scratch.payload, 0, whole.length),
    );
    if is_copied != Some(true) {
        return false;
    }
    let mut sent = SENT_IT;
    repeat(FRAGMENTS, &mut |index| {
        sent = send_piece(packet.0, whole, order, index);
        sent != SENT_IT
    });
    sent != FAILED
}

/// Results of [`send_piece`]: it failed, a fragment was sent, and there is none of this number.
const FAILED: u32 = 0;
const SENT_IT: u32 = 1;
const OVER: u32 = 2;

global_fn! {
    /// Sends fragment `index` of the payload that the scratch memory holds.
    fn send_piece(skb: *mut __sk_buff, whole: &Whole, order: &Order, index: u32) -> u32 = send_fragment_number => send_number
}

fn send_number(skb: *mut __sk_buff, whole: &Whole, order: &Order, index: u32) -> u32 {
    let (packet, cut) = (TcPacket(skb), order.cut);
    let at = cut.begin(index);
    if at >= whole.length {
        return OVER;
    }
    let most = if index == 0 { cut.first } else { cut.step };
    let left = whole.length.wrapping_sub(at);
    let (length, is_last) = if left > most { (most, false) } else { (left, true) };
    let headers = whole.headers();
    let is_filled = set_length(packet, whole, SENT as u32 + headers + length)
        && scratch::lend(
            &SCRATCH,
            #[inline(always)]
            |scratch| packet.store_bytes_at::<PAYLOAD, _>(SENT as u32 + headers, &scratch.payload, at, length),
        ) == Some(true);
    let is_made = is_filled
        && if whole.v6 {
            head6(packet, whole, at, length, is_last, order.id)
        } else {
            head4(packet, whole, at, length, is_last)
        };
    let is_sent = is_made
        && match order.device {
            0 => index == 0 && is_last || packet.clone_redirect(packet.place(), INGRESS),
            device => packet.clone_redirect(device, 0),
        };
    if is_sent { SENT_IT } else { FAILED }
}

/// Makes the frame `length` bytes long; what follows the network header is lost.
///
/// The kernel cuts nothing off before the place that it has noted for the transport header: in a tunnel, that of the packet inside.
/// A last fragment that ends before it takes bytes away after the Ethernet header, by which that place moves, too.
#[inline(always)]
fn set_length(packet: TcPacket, whole: &Whole, length: u32) -> bool {
    if packet.change_tail(length) {
        return true;
    }
    let header = if whole.v6 { size_of::<Ipv6>() as u32 } else { whole.header };
    let mut saved = [0; 64];
    if !packet.load_bytes(SENT as u32, &mut saved, header) || packet.length() > LONG && !packet.change_tail(LONG) {
        return false;
    }
    let surplus = packet.length() as i32 - SHORT as i32;
    surplus > 0
        && packet.adjust_room(-surplus, Room::AfterEthernet)
        && packet.change_tail(length)
        && packet.store_bytes(SENT as u32, &saved, header)
}

/// Makes the IPv4 header that of the fragment at `at`.
#[inline(always)]
fn head4(packet: TcPacket, whole: &Whole, at: u32, length: u32, is_last: bool) -> bool {
    let total = Be16::new((whole.header + length) as u16);
    let offset = Be16::new(((at / 8) as u16).wrapping_add(whole.offset) & 0x1fff);
    let field = offset | if is_last && !whole.more { Be16::ZERO } else { fragment::MF };
    packet.update::<Ipv4>(SENT, |h| {
        let change = checksum::difference(h.length, total) + checksum::difference(h.fragment, field);
        h.length = total;
        h.fragment = field;
        h.check = checksum::update(h.check, change);
    })
}

/// Makes the IPv6 headers those of the fragment at `at`.
#[inline(always)]
fn head6(packet: TcPacket, whole: &Whole, at: u32, length: u32, is_last: bool, id: Be32) -> bool {
    let offset = Be16::new((at & 0xfff8) as u16 | !is_last as u16);
    let header = Ipv6Fragment { next_header: whole.next, reserved: 0, offset, id };
    packet.update::<Ipv6>(SENT, |h| {
        h.payload_length = Be16::new((length + 8) as u16);
        h.next_header = protocol::FRAGMENT;
    }) && packet.write(SENT + 40, header)
}
