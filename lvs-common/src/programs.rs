//! The programs that tail calls reach: one table, from which come their numbers, the eBPF object's functions, the names by which
//! the loader finds them, and the chapter docs/reference/programs.md.

/// Gives the table to the macro `$with`. A row: the program's name, what it does, and for each tier its functions, for IPv4 and
/// then for IPv6 (or one function for both), each with the function of the data plane that it calls; and the programs that it
/// jumps to, which a test compares with the eBPF object.
#[macro_export]
macro_rules! for_each_program {
    ($with:ident) => {
        $with! {
            Receive "parses a packet; XDP serves it at once, TC hands it to Serve" {
                xdp [lvs_xdp = forward::xdp::frame, lvs_xdp6 = forward::xdp::receive::<V6>],
                tc [lvs_tc4 = forward::tc::receive::<V4>, lvs_tc6 = forward::tc::receive::<V6>],
                to [Assemble, CarryResets, FullNat, FullNatReply, Icmp, Receive, Schedule, Serve, Tagged],
            }
            Serve "finds a packet's connection and forwards what clients send" {
                xdp [],
                tc [lvs_serve4 = forward::tc::serve::<V4>, lvs_serve6 = forward::tc::serve::<V6>],
                to [Bypass, FullNat, FullNatReply, Reject, Reply, Schedule, Split, Tunnel],
            }
            Reply "forwards what real servers send" {
                xdp [],
                tc [lvs_reply4 = forward::tc::reply::<V4>, lvs_reply6 = forward::tc::reply::<V6>],
                to [Reject, Split],
            }
            Tunnel "sends a client's packet through a tunnel" {
                xdp [],
                tc [lvs_tunnel4 = forward::tc::tunnel::<V4>, lvs_tunnel6 = forward::tc::tunnel::<V6>],
                to [Reject, Split],
            }
            OnePacket "forwards a packet that one-packet scheduling gave a destination" {
                xdp [],
                tc [lvs_once4 = forward::tc::one_packet::<V4>, lvs_once6 = forward::tc::one_packet::<V6>],
                to [Reject, Split, Tunnel],
            }
            Bypass "forwards a packet of a connection without a real server (cache_bypass)" {
                xdp [],
                tc [lvs_bypass4 = forward::bypass::run::<V4>, lvs_bypass6 = forward::bypass::run::<V6>],
                to [Reject, Split],
            }
            Schedule "decides about a packet that no live connection takes: service, template, or a new connection" {
                xdp [lvs_xdp_new4 = select::schedule::run::<_, V4>, lvs_xdp_new6 = select::schedule::run::<_, V6>],
                tc [lvs_new4 = select::schedule::run::<_, V4>, lvs_new6 = select::schedule::run::<_, V6>],
                to [Challenge, Open, Pick, Receive, Reject],
            }
            Pick "has the service's scheduler pick a destination" {
                xdp [lvs_xdp_pick = select::pick::run],
                tc [lvs_pick = select::pick::run],
                to [Open, Pick],
            }
            Open "makes the connection to the destination that was picked" {
                xdp [lvs_xdp_open4 = select::open::run::<_, V4>, lvs_xdp_open6 = select::open::run::<_, V6>],
                tc [lvs_open4 = select::open::run::<_, V4>, lvs_open6 = select::open::run::<_, V6>],
                to [ClaimPort, MakeRoom, OnePacket, Receive, Reject],
            }
            Challenge "challenges the source of a SYN, or verifies the source of the answer" {
                xdp [lvs_xdp_challenge4 = select::challenge::run::<_, V4>, lvs_xdp_challenge6 = select::challenge::run::<_, V6>],
                tc [lvs_challenge4 = select::challenge::run::<_, V4>, lvs_challenge6 = select::challenge::run::<_, V6>],
                to [],
            }
            ClaimPort "claims a local address and port for a FullNAT connection" {
                xdp [lvs_xdp_claim4 = forward::fullnat::open::claim::<_, V4>, lvs_xdp_claim6 = forward::fullnat::open::claim::<_, V6>],
                tc [lvs_claim4 = forward::fullnat::open::claim::<_, V4>, lvs_claim6 = forward::fullnat::open::claim::<_, V6>],
                to [OpenFullNat],
            }
            OpenFullNat "makes a FullNAT connection and its alias" {
                xdp [lvs_xdp_enter4 = forward::fullnat::open::insert::<_, V4>, lvs_xdp_enter6 = forward::fullnat::open::insert::<_, V6>],
                tc [lvs_enter4 = forward::fullnat::open::insert::<_, V4>, lvs_enter6 = forward::fullnat::open::insert::<_, V6>],
                to [MakeRoom, Receive],
            }
            MakeRoom "has the least worth in a full table give way to what was drafted" {
                xdp [lvs_xdp_room4 = select::make_room::run::<_, V4>, lvs_xdp_room6 = select::make_room::run::<_, V6>],
                tc [lvs_room4 = select::make_room::run::<_, V4>, lvs_room6 = select::make_room::run::<_, V6>],
                to [Open, OpenFullNat],
            }
            FullNat "forwards a client's packet by FullNAT" {
                xdp [lvs_xdp_fullnat4 = forward::fullnat::xdp::request::<V4>, lvs_xdp_fullnat6 = forward::fullnat::xdp::request::<V6>],
                tc [lvs_fullnat4 = forward::fullnat::tc::request::<V4>, lvs_fullnat6 = forward::fullnat::tc::request::<V6>],
                to [AddClientOption, Families, Reject, Split, Tagged],
            }
            FullNatReply "forwards a real server's packet by FullNAT" {
                xdp [lvs_xdp_fullnat_reply4 = forward::fullnat::xdp::reply::<V4>, lvs_xdp_fullnat_reply6 = forward::fullnat::xdp::reply::<V6>],
                tc [lvs_fullnat_reply4 = forward::fullnat::tc::reply::<V4>, lvs_fullnat_reply6 = forward::fullnat::tc::reply::<V6>],
                to [ClampMss, FamiliesReply, Reject, Split, Tagged],
            }
            AddClientOption "adds the client's address to a packet for the real server (TOA, UOA), and removes forged ones" {
                xdp [],
                tc [lvs_toa_add4 = forward::fullnat::toa::add_client_option::<V4>, lvs_toa_add6 = forward::fullnat::toa::add_client_option::<V6>],
                to [FullNat],
            }
            ClampMss "lowers the MSS that a real server's SYN offers by the room that TOA takes" {
                xdp [],
                tc [lvs_toa_mss4 = forward::fullnat::toa::clamp_mss::<V4>, lvs_toa_mss6 = forward::fullnat::toa::clamp_mss::<V6>],
                to [FullNatReply],
            }
            Families "forwards a client's packet to a real server of the other family" {
                xdp [],
                tc [lvs_families4 = forward::families::serve::request::<V4>, lvs_families6 = forward::families::serve::request::<V6>],
                to [AddClientOption, Reject, Split],
            }
            FamiliesReply "makes a real server's packet one of the client's family" {
                xdp [],
                tc [lvs_families_reply4 = forward::families::serve::reply::<V4>, lvs_families_reply6 = forward::families::serve::reply::<V6>],
                to [FullNatReply, Reject],
            }
            Icmp "serves an ICMP error about a connection" {
                xdp [],
                tc [lvs_icmp4 = rare::icmp::serve::run::<V4>, lvs_icmp6 = rare::icmp::serve::run::<V6>],
                to [IcmpFamilies, IcmpTunnel, Schedule],
            }
            IcmpTunnel "serves an ICMP error about a tunnel's outer packet" {
                xdp [],
                tc [lvs_icmp_tunnel4 = rare::icmp::tunnel::run::<V4>, lvs_icmp_tunnel6 = rare::icmp::tunnel::run::<V6>],
                to [Reject, Schedule],
            }
            IcmpFamilies "makes an ICMP error about a connection between families one of the other family" {
                xdp [],
                tc [lvs_icmp_families4 = rare::icmp::families::run::<V4>, lvs_icmp_families6 = rare::icmp::families::run::<V6>],
                to [IcmpToClient],
            }
            IcmpToClient "sends an ICMP error that has changed its family to the client" {
                xdp [],
                tc [lvs_icmp_client4 = rare::icmp::families::to_client::<V4>, lvs_icmp_client6 = rare::icmp::families::to_client::<V6>],
                to [],
            }
            Reject "answers a packet with an ICMP error of the director's own" {
                xdp [],
                tc [lvs_reject4 = rare::reject::run::<V4>, lvs_reject6 = rare::reject::run::<V6>],
                to [],
            }
            Assemble "keeps a fragment until all have come, leaves it to the stack, or forwards it" {
                xdp [],
                tc [lvs_fragment4 = rare::fragment::serve::run::<V4>, lvs_fragment6 = rare::fragment::serve::run::<V6>],
                to [Join, OnePacket, Release, SendFragment, Serve],
            }
            Join "joins the fragments of a packet" {
                xdp [],
                tc [lvs_join4 = rare::fragment::join::run::<V4>, lvs_join6 = rare::fragment::join::run::<V6>],
                to [Receive],
            }
            Release "has the fragments that wait come in again" {
                xdp [],
                tc [lvs_release4 = rare::fragment::release::run::<V4>, lvs_release6 = rare::fragment::release::run::<V6>],
                to [],
            }
            SendFragment "sends a finished fragment to a neighbour that was not known" {
                xdp [],
                tc [lvs_send_fragment4 = rare::fragment::finish::run::<V4>, lvs_send_fragment6 = rare::fragment::finish::run::<V6>],
                to [],
            }
            Split "sends a packet in fragments" {
                xdp [],
                tc [lvs_split = rare::fragment::split::run],
                to [],
            }
            CarryResets "has a TCP packet carry the resets of expired connections" {
                xdp [],
                tc [lvs_reset4 = rare::reset::run::<V4>, lvs_reset6 = rare::reset::run::<V6>],
                to [Receive],
            }
            Log "writes a line of the log" {
                xdp [lvs_xdp_log = log::run],
                tc [lvs_log = log::run],
                to [],
            }
            Tagged "serves packets of known connections that come in, or leave, with a VLAN's tag" {
                xdp [lvs_xdp_tagged4 = forward::tagged::run::<V4>, lvs_xdp_tagged6 = forward::tagged::run::<V6>],
                tc [],
                to [],
            }
        }
    };
}

macro_rules! programs {
    ($($name:ident $meaning:literal {
        xdp [$($xdp:ident = $xdp_body:expr),*],
        tc [$($tc:ident = $tc_body:expr),*],
        to [$($to:ident),*],
    })+) => {
        /// A program that tail calls reach.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u32)]
        pub enum Program {
            $(#[doc = $meaning] $name),+
        }

        impl Program {
            /// The variant's name.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Program::$name => stringify!($name)),+
                }
            }
        }

        /// The table, in the order of [`Program`].
        pub const PROGRAMS: &[Row] = &[$(Row {
            name: stringify!($name),
            meaning: $meaning,
            xdp: &[$(stringify!($xdp)),*],
            tc: &[$(stringify!($tc)),*],
            to: &[$(Program::$to.name()),*],
        }),+];
    };
}

for_each_program!(programs);

/// A program of the table.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// The variant of [`Program`].
    pub name: &'static str,
    /// What the program does.
    pub meaning: &'static str,
    /// The functions in XDP: of IPv4 and IPv6, or one for both; none where only TC has the program.
    pub xdp: &'static [&'static str],
    /// The functions in TC, likewise.
    pub tc: &'static [&'static str],
    /// The programs that this one jumps to, in either tier. Every program may jump to `Log` besides, which goes on where the
    /// program before it would have.
    pub to: &'static [&'static str],
}

/// Numbers that a program has: one for each family.
const FAMILIES: u32 = 2;

/// Slots of the program arrays.
pub const SLOTS: usize = 128;

/// Slots that lead to another generation of the data plane, while connections move from one to the next. They are empty at all
/// other times.
pub mod generation {
    /// In the arrays of the generation that packets come to: where a packet goes whose connection is not known there. In TC that is
    /// [`HANDED`](super::entry::HANDED) of the generation before it; in XDP [`XDP_LEAVE`](super::entry::XDP_LEAVE), as TC has
    /// everything.
    pub const PREVIOUS: u32 = 62;
    /// In the TC array of the generation before: where a packet goes that would open a connection there,
    /// [`RETURNED`](super::entry::RETURNED) of the next one.
    pub const SUCCESSOR: u32 = 63;
}

const _: () = assert!((first_slot(PROGRAMS.len() as u32) as usize) <= SLOTS);

/// The slot of a row's function for IPv4. Those of [`generation`] stay what they are, as the generation before this one may have
/// another table.
const fn first_slot(row: u32) -> u32 {
    let slot = row * FAMILIES;
    if slot < generation::PREVIOUS { slot } else { slot + FAMILIES }
}

const _: () =
    assert!(generation::SUCCESSOR == generation::PREVIOUS + 1 && generation::PREVIOUS.is_multiple_of(FAMILIES));

impl Program {
    /// The program's slot in `XDP_PROGRAMS` and `TC_PROGRAMS`, for packets of IPv4 or of IPv6.
    #[inline(always)]
    pub const fn slot(self, is_v4: bool) -> u32 {
        first_slot(self as u32) + !is_v4 as u32
    }
}

/// The slots of a row's functions, for the loader: a function for both families stands in both slots.
pub fn slots(row: usize, functions: &'static [&'static str]) -> impl Iterator<Item = (u32, &'static str)> {
    let first = first_slot(row as u32);
    (0..FAMILIES).filter_map(move |family| {
        let name = functions.get(family as usize).or(functions.first())?;
        Some((first + family, *name))
    })
}

/// The row to which a slot belongs; none for those of [`generation`].
pub fn row_at(slot: u32) -> Option<&'static Row> {
    (0..).zip(PROGRAMS).find_map(|(row, found)| (first_slot(row) == slot - slot % FAMILIES).then_some(found))
}

/// Whether a function of the table is XDP's. `false` for a name that the table does not have.
pub fn is_of_xdp(name: &str) -> bool {
    PROGRAMS.iter().any(|row| row.xdp.contains(&name))
}

/// Whether a function of the table serves frames with a VLAN's tag alone. `false` for a name that the table does not have.
pub fn is_of_vlans(name: &str) -> bool {
    PROGRAMS[Program::Tagged as usize].xdp.contains(&name)
}

/// Whether a function of the table serves IPv6 alone. `false` for a name that the table does not have.
pub fn is_of_ipv6(name: &str) -> bool {
    PROGRAMS.iter().flat_map(|row| [row.xdp, row.tc]).any(|functions| functions.get(1) == Some(&name))
}

/// Programs that tail calls do not reach, by the names under which the loader finds and pins them.
pub mod entry {
    /// Attached to devices, XDP; it is the IPv4 program of [`Program::Receive`](super::Program::Receive), too.
    pub const XDP: &str = "lvs_xdp";
    /// Attached to devices, TC ingress.
    pub const INGRESS: &str = "lvs_ingress";
    /// Attached to devices, TC egress.
    pub const EGRESS: &str = "lvs_egress";
    /// [`INGRESS`] of devices without Ethernet headers, whose programs are another object's.
    pub const L3_INGRESS: &str = "lvs_l3_ingress";
    /// [`EGRESS`], likewise.
    pub const L3_EGRESS: &str = "lvs_l3_egress";
    /// The program whose log `lvsadm` follows: the TC program of [`Program::Log`](super::Program::Log).
    pub const LOG: &str = "lvs_log";
    /// Run once by the loader: starts the timer.
    pub const START: &str = "lvs_start";
    /// Run by `lvsadm` to put connections into the table that another director told of.
    pub const IMPORT: &str = "lvs_import";
    /// Run by `lvsadm` when another generation of the data plane has taken over: stops the timer.
    pub const STOP: &str = "lvs_stop";
    /// Run by `lvsadm` to put connections of the generation before into the table.
    pub const MOVE: &str = "lvs_move";
    /// In the next generation's TC array: takes packets whose connection is not known there.
    pub const HANDED: &str = "lvs_handed";
    /// [`HANDED`] of devices without Ethernet headers.
    pub const L3_HANDED: &str = "lvs_l3_handed";
    /// In the TC array of the generation before: takes packets that would open a connection there.
    pub const RETURNED: &str = "lvs_returned";
    /// [`RETURNED`] of devices without Ethernet headers.
    pub const L3_RETURNED: &str = "lvs_l3_returned";
    /// In the XDP array, while connections move: leaves a packet to TC.
    pub const XDP_LEAVE: &str = "lvs_xdp_leave";
    /// Run by `lvsadm drain --reset`: removes the connections of a destination.
    pub const DRAIN: &str = "lvs_drain";
    /// Run by `lvsadm` after a list of clients has changed: removes the connections of clients that may not come in any more.
    pub const EXPEL: &str = "lvs_expel";
    /// Attached to the network namespace, to notice its end: lets every socket look-up pass.
    pub const ALIVE: &str = "lvs_alive";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_slot_is_one_function_of_a_tier() {
        for tier in [|row: &Row| row.xdp, |row: &Row| row.tc] {
            let mut names: Vec<&str> = Vec::new();
            for (number, row) in PROGRAMS.iter().enumerate() {
                assert!((1..=4).contains(&(row.xdp.len() + row.tc.len())), "{}", row.name);
                let slots: Vec<_> = slots(number, tier(row)).collect();
                assert!(slots.iter().all(|(slot, _)| slot - slot % FAMILIES == first_slot(number as u32)));
                assert!(slots.iter().all(|(slot, _)| row_at(*slot).unwrap().name == row.name));
                names.extend(tier(row));
            }
            assert!([generation::PREVIOUS, generation::SUCCESSOR].map(row_at).iter().all(Option::is_none));
            let count = names.len();
            names.sort_unstable();
            names.dedup();
            assert_eq!(names.len(), count);
        }
        for (name, xdp, ipv6) in [
            ("lvs_xdp", true, false),
            ("lvs_xdp6", true, true),
            ("lvs_xdp_pick", true, false),
            ("lvs_serve4", false, false),
            ("lvs_serve6", false, true),
            ("lvs_split", false, false),
            (entry::START, false, false),
        ] {
            assert_eq!((is_of_xdp(name), is_of_ipv6(name)), (xdp, ipv6), "{name}");
        }
        assert_eq!(Program::Receive.slot(false), 1);
        assert_eq!(slots(Program::Log as usize, PROGRAMS[Program::Log as usize].tc).count(), 2);
    }
}
