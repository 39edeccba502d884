//! Every way a packet can leave the data plane, counted per CPU in `EXITS`.

macro_rules! exits {
    ($($(#[$attribute:meta])* $name:ident $text:literal $meaning:literal),+ $(,)?) => {
        /// How a packet left a program that finished it. The numbers are indices into `EXITS`.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u32)]
        pub enum Exit {
            $($(#[$attribute])* #[doc = $meaning] $name),+
        }

        /// Name and meaning of every exit, by number.
        pub const EXITS: &[(&str, &str)] = &[$($(#[$attribute])* ($text, $meaning)),+];
    };
}

exits! {
    #[cfg(not(feature = "test-layout"))]
    Nat "nat" "forwarded to a real server, destination rewritten",
    NatReply "nat-reply" "reply forwarded to its client, source rewritten",
    #[cfg(feature = "test-layout")]
    Nat "nat" "forwarded to a real server, destination rewritten",
    FullNat "fullnat" "forwarded to a real server, source and destination rewritten",
    ToaSent "toa-sent" "with the client's address as an option of TCP, or of IP for UDP; counted beside fullnat",
    ToaNoRoom "toa-no-room" "without that option, for want of room in header, MTU or a packet to be cut; counted beside fullnat",
    Unkept "one-packet-no-room" "without room in the connection table for its answer, which leaves with the real server's address (-o); counted beside nat",
    FullNatReply "fullnat-reply" "reply forwarded to its client, source and destination rewritten",
    Route "route" "forwarded to a real server, IP packet untouched (DR)",
    Tunnel "tunnel" "forwarded to a real server inside a tunnel",
    Local "local" "handed to the director's own stack",
    Reply "reply-passed" "reply of a connection that needs no rewriting, passed on",
    Bypass "bypass" "forwarded to its own destination for want of a server (cache_bypass)",
    IcmpForwarded "icmp-forwarded" "ICMP error translated and forwarded to the party it concerns",
    IcmpSent "icmp-sent" "answered with an ICMP error of the director's own",
    IcmpLimited "icmp-limited" "not answered with an ICMP error: too many (icmp_ratelimit, icmp_msgs_per_sec); counted beside the reason",
    Challenged "challenged" "answered with a challenge: a request from a source that is not verified (-j enable)",
    Verified "verified" "taken: a RST that answers a challenge, by which its source is verified",
    Held "fragment-held" "kept until the other fragments of its packet have come",
    Fragmented "fragmented" "forwarded in fragments",
    Stack "stack" "handed to the stack to be sent: the route encapsulates, an IPsec policy covers it, or its checksum is to be finished before it is fragmented",
    HopKept "hop-kept" "by the last way that was known, as lo does not forward and the kernel tells no route; counted once a second and hop, beside the packet's own exit",
    NotOurs "not-ours" "passed to the stack: of no service and no connection",
    NotFirst "not-first" "passed to the stack: for a service, but not the first packet of a connection",
    Transit "transit" "passed to the stack: for a service's address, which the host routes on: see the setting transit",
    DropMartian "drop-martian" "dropped: would open a connection, and comes from an address that no client has: loopback, multicast, the host's own",
    DropReversePath "drop-rp-filter" "dropped: would open a connection, and its device's rp_filter refuses its source",
    DropLoopback "drop-loopback" "dropped: would put a loopback address on a wire",
    DropNoDestination "drop-no-destination" "dropped: the connection's destination was deleted",
    DropNoServer "drop-no-server" "dropped: the service has no usable destination",
    DropTableFull "drop-table-full" "dropped: the connection table has no room for a new connection",
    DropBusy "drop-busy" "dropped: a bucket of the connection table stayed locked",
    EvictedExpired "evicted-expired" "an expired connection was removed for a new one, as the table is full; counted beside",
    EvictedClosed "evicted-closed" "a closed connection gave way to a new one, as the table is full; counted beside",
    EvictedHalfOpen "evicted-half-open" "a half-open connection gave way to a new one, as the table is full; counted beside",
    EvictedOnePacket "evicted-one-packet" "a UDP connection of one packet, or without an answer, gave way to a new one; counted beside",
    EvictedTemplate "evicted-template" "a template without connections gave way to a new one, as the table is full; counted beside",
    EvictedClosing "evicted-closing" "a connection that one end has closed gave way to a new one; counted beside",
    DropDefence "drop-defence" "dropped: a new connection that drop_packet keeps out",
    DropUnverified "drop-unverified" "dropped: would open a connection, is no plain request, and its source is not verified",
    DropBlocked "drop-blocked" "dropped: would belong to no connection, and its source is blocked (lvsadm block)",
    DropNotAllowed "drop-not-allowed" "dropped: would belong to no connection, and its source is not allowed (lvsadm allow)",
    DropEngine "drop-engine" "dropped: without the Call-ID that the service's persistence engine looks at",
    DropForged "drop-forged" "dropped: a client's datagram with the option that tells real servers its client (uoa)",
    DropNoLocal "drop-no-local-address" "dropped: FullNAT without a local address: lvsadm --add-laddr",
    DropNoPort "drop-no-port" "dropped: every port of the local addresses toward the real server is taken",
    DropTtl "drop-ttl" "dropped: the TTL or hop limit ran out",
    DropTooBig "drop-too-big" "dropped: too big for the next hop, and not to be fragmented",
    DropNoRoute "drop-no-route" "dropped: no route to the real server or client",
    DropNoNeighbour "drop-no-neighbour" "dropped: the real server, or the gateway to it, does not answer when the kernel asks for its MAC address",
    DropForwardingOff "drop-forwarding-off" "dropped: the kernel tells no route, as lo does not forward: any command switches that on again",
    DropStackRoute "drop-stack-route" "dropped: direct routing by a route that encapsulates",
    DropMalformed "drop-malformed" "dropped: headers that contradict themselves",
    DropFragmentMalformed "drop-fragment-malformed" "dropped: a fragment without payload, of an odd length, or beyond 65,535 bytes",
    DropFragmentOverlap "drop-fragment-overlap" "dropped: a fragment of a packet whose fragments overlap",
    DropFragmentMany "drop-fragment-many" "dropped: a fragment of a packet in more than 128 fragments, or one of more than 16 KiB",
    DropFragmentLong "drop-fragment-long" "dropped: a fragment of a packet that must be joined to be served, and is longer than 15,872 bytes",
    DropFragmentAged "drop-fragment-aged" "dropped: a fragment whose packet did not become complete, and that gave way to newer ones",
    DropFragmentAlone "drop-fragment-alone" "dropped: a later fragment of a packet whose first one was not forwarded",
    DropUntranslatable "drop-untranslatable" "dropped: IP options, extension headers or an ICMP error that the other family has not",
    DropInternal "drop-internal" "dropped: a helper of the kernel failed",
    DropTailCall "drop-tail-call" "dropped: the kernel refused the tail call to the next program",
}

impl Exit {
    /// Exits that are counted beside the one by which the packet leaves.
    pub const BESIDE: [Exit; 11] = [
        Exit::ToaSent,
        Exit::ToaNoRoom,
        Exit::Unkept,
        Exit::IcmpLimited,
        Exit::HopKept,
        Exit::EvictedExpired,
        Exit::EvictedClosed,
        Exit::EvictedHalfOpen,
        Exit::EvictedOnePacket,
        Exit::EvictedTemplate,
        Exit::EvictedClosing,
    ];

    /// At which level of the log a packet's leaving so is told: 1 error, 2 warn, 3 info, 4 debug, 5 trace.
    #[inline(always)]
    pub const fn level(self) -> u32 {
        match self {
            Exit::DropTableFull
            | Exit::DropNoLocal
            | Exit::DropNoPort
            | Exit::DropBusy
            | Exit::DropNoRoute
            | Exit::DropNoNeighbour
            | Exit::DropForwardingOff
            | Exit::DropStackRoute
            | Exit::DropInternal
            | Exit::DropTailCall => 1,
            Exit::DropNoDestination
            | Exit::DropNoServer
            | Exit::DropDefence
            | Exit::DropUnverified
            | Exit::DropBlocked
            | Exit::DropNotAllowed
            | Exit::DropEngine
            | Exit::DropForged
            | Exit::DropMartian
            | Exit::DropReversePath
            | Exit::DropLoopback
            | Exit::DropTtl
            | Exit::DropTooBig
            | Exit::DropMalformed
            | Exit::DropFragmentMalformed
            | Exit::DropFragmentOverlap
            | Exit::DropFragmentMany
            | Exit::DropFragmentLong
            | Exit::DropFragmentAlone
            | Exit::DropUntranslatable => 2,
            Exit::IcmpSent => 3,
            Exit::IcmpLimited
            | Exit::NotFirst
            | Exit::Transit
            | Exit::Stack
            | Exit::HopKept
            | Exit::Local
            | Exit::Reply
            | Exit::Bypass
            | Exit::IcmpForwarded
            | Exit::Verified => 4,
            Exit::Nat
            | Exit::NatReply
            | Exit::FullNat
            | Exit::FullNatReply
            | Exit::ToaSent
            | Exit::ToaNoRoom
            | Exit::Unkept
            | Exit::Route
            | Exit::Tunnel
            | Exit::Challenged
            | Exit::Held
            | Exit::DropFragmentAged
            | Exit::Fragmented
            | Exit::EvictedExpired
            | Exit::EvictedClosed
            | Exit::EvictedHalfOpen
            | Exit::EvictedOnePacket
            | Exit::EvictedTemplate
            | Exit::EvictedClosing
            | Exit::NotOurs => 5,
        }
    }
}

/// The event of the log that is no exit: a connection was opened.
pub const OPENED: u32 = 0x100;

/// How many exits there are.
pub const EXIT_COUNT: u32 = EXITS.len() as u32;
