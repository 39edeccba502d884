//! The settings (`net.ipv4.vs.*`), one row each: name, default, range, what they are beside the kernel's, and meaning.
//!
//! A row makes the field of [`Sysctls`] that packets read, and the entry of [`SYSCTLS`] from which `lvsadm sysctl`, rules
//! files, the manual and the documents take everything else.

use core::ops::RangeInclusive;

/// Greatest value of `synproxy_rate` and `synproxy_source_rate`: what the counter of requests in a service holds
/// ([`challenge::spend`](crate::challenge::spend)).
pub const MAX_RATE: u32 = (1 << 20) - 1;

/// Modes of the automatic settings ([`AUTOMATIC`]): off, on when needed, on because needed, always on.
#[allow(missing_docs, reason = "the names say it")]
pub mod mode {
    pub const OFF: u32 = 0;
    pub const RESTING: u32 = 1;
    pub const WORKING: u32 = 2;
    pub const ALWAYS: u32 = 3;
}

/// What a setting is, beside the kernel's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// IPVS's, and means the same.
    Same,
    /// IPVS's, but means something else here, or nothing.
    Other,
    /// Not IPVS's.
    Own,
}

/// A setting.
#[derive(Debug)]
pub struct Sysctl {
    /// Its name, without the prefix `net.ipv4.vs.`.
    pub name: &'static str,
    /// Its value where nobody set it.
    pub default: u32,
    /// The values it takes.
    pub range: RangeInclusive<u32>,
    /// What it is, beside the kernel's.
    pub kind: Kind,
    /// What it means, in whole sentences.
    pub meaning: &'static str,
    get: fn(&Sysctls) -> u32,
    set: fn(&mut Sysctls, u32),
}

macro_rules! settings {
    ($($name:ident = $default:expr, $range:expr, $kind:ident $meaning:literal)+) => {
        /// How many settings are kept.
        const COUNT: usize = [$(stringify!($name)),+].len();

        /// `net.ipv4.vs.*` as far as anything is kept of it, by IPVS's names and meanings.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(C)]
        pub struct Sysctls {
            $(#[doc = $meaning] pub $name: u32,)+
            /// Always 0: keeps the size a multiple of eight bytes.
            pub pad: [u32; COUNT % 2],
        }

        impl Default for Sysctls {
            fn default() -> Self {
                Sysctls { $($name: $default,)+ pad: [0; COUNT % 2] }
            }
        }

        /// Every setting that is kept, by name.
        pub const SYSCTLS: &[Sysctl] = &[$(Sysctl {
            name: stringify!($name),
            default: $default,
            range: $range,
            kind: Kind::$kind,
            meaning: $meaning,
            get: |s| s.$name,
            set: |s, value| s.$name = value,
        }),+];
    };
}

settings! {
    advertise_table = 0, 0..=u32::MAX, Own
        "The kernel's routing table in which each virtual address that can be served here has a route, for a routing daemon (BIRD, FRR) to \
         announce; 0: none."
    am_droprate = 10, 0..=u32::MAX, Same
        "While drop_packet is 3, one in so many new connections is dropped; 0 is none."
    amemthresh = 1024, 0..=u32::MAX, Other
        "Room is scarce while a family's connection table has fewer free pages of 4 KiB than this (or than an eighth of it, if \
         that is fewer); IPVS looks at the host's free memory."
    backup_only = 0, 0..=1, Other
        "1: While a backup's daemon runs, the director serves no packets: neither clients' nor, other than in IPVS, those of \
         real servers behind NAT."
    cache_bypass = 0, 0..=1, Same
        "1: Packets for a service by mark that has no usable server go on to their own destination."
    conn_expire_tcp_rst = 0, 0..=1, Own
        "1: When an established TCP connection expires, both ends are told by a RST."
    conn_reuse_mode = 1, 0..=3, Same
        "What a request for a connection does to one of the same ports: 0: belongs to it; 1: takes its place if it is closed; 2, 3: \
         and if a server behind direct routing or a tunnel is closing it. IPVS may drop the first such request; here none is."
    conntrack = 0, 0..=1, Other
        "Kept, but of no effect: the data plane knows its connections itself, and the kernel tracks none of them. Where netfilter \
         masqueraded IPVS's packets (-m ipvs), FullNAT does it here: --add-laddr for the addresses, --fullnat in place of -m."
    drop_entry = 0, 0..=3, Same
        "Takes out, once a second, connections that are of least use: 0: never; 1: while room is scarce, which it is not; 2: the \
         same, and it is; 3: always. 1 and 2 change by themselves."
    drop_packet = 0, 0..=3, Same
        "Drops some of the new connections: 0: never; 1, 2: while room is scarce, the more the scarcer; 3: one in am_droprate."
    expire_nodest_conn = 0, 0..=1, Same
        "1: Connections and templates of a destination that is deleted are removed within two seconds; a packet that comes before \
         is scheduled anew, and so is a new request where the weight is 0. 0: Packets are dropped until the destination is added \
         again."
    expire_quiescent_template = 0, 0..=1, Same
        "1: Clients that persistence ties to a destination of weight 0 are scheduled anew."
    expire_udp_conn = 0, 0..=1, Own
        "1: UDP connections of a destination that was deleted or has weight 0 are scheduled anew with their next packet."
    ignore_tunneled = 0, 0..=1, Other
        "Kept, but of no effect: no packet meets the data plane twice."
    lblc_expiration = 86400, 0..=u32::MAX, Same
        "Seconds without a connection after which lblc forgets which destination serves an address."
    lblcr_expiration = 86400, 0..=u32::MAX, Same
        "Seconds without a connection after which lblcr forgets the destinations that serve an address, and without a change after \
         which the most loaded of several is let go."
    lport_max = 65535, 1..=65535, Own
        "The last of the ports that FullNAT gives out on local addresses. Where the host has the address, it keeps those of its \
         ip_local_port_range beside."
    lport_min = 1024, 1..=65535, Own
        "The first of them."
    nat_icmp_send = 0, 0..=1, Same
        "1: A real server behind NAT whose packet belongs to no connection is told that the port is unreachable."
    one_packet_nat = 10, 0..=3600, Own
        "Seconds for which a real server behind NAT may answer a client of one-packet scheduling (-o): its answers leave with the \
         virtual address; 0: they leave with the real server's, as from IPVS."
    pmtu_disc = 1, 0..=1, Same
        "0: Packets too big for a tunnel are fragmented though they forbid it; 1: their sender is told."
    run_estimation = 1, 0..=1, Same
        "0: Rates are not estimated, and stay what they are."
    schedule_icmp = 0, 0..=1, Same
        "1: ICMP errors about a packet for a service may open a connection."
    secure_tcp = 0, 0..=3, Same
        "TCP connections are established by the real server's word alone: 0: no; 1, 2: while room is scarce; 3: yes."
    sloppy_sctp = 0, 0..=1, Same
        "1: Any SCTP packet but an ABORT may open a connection."
    sloppy_tcp = 0, 0..=1, Same
        "1: Any TCP packet but a RST may open a connection."
    snat_reroute = 1, 0..=1, Other
        "Kept, but of no effect: replies of NAT are routed as with 1, by rules (ip rule) about what comes from the virtual address. Rules \
         about the real server's address or device (from, iif) do not apply."
    sync_period = 50, 0..=i32::MAX as u32, Same
        "With sync_threshold: the backups are told of an established connection with the packet of this number and each period after; \
         0: once. IPVS has it as the second number of sync_threshold."
    sync_persist_mode = 0, 0..=1, Same
        "1: The backups are told of persistence templates alone, and not of connections that have one."
    sync_ports = 1, 1..=64, Same
        "How many UDP ports, from --mcast-port on, synchronisation uses: a power of 2, the same on all directors. A daemon takes it when \
         it starts."
    sync_qlen_max = 0, 0..=u32::MAX, Other
        "Kept, but of no effect: what waits to be sent has a buffer of 1 MiB, and what finds no room there is counted as lost."
    sync_refresh_period = 0, 0..=u32::MAX / 8, Same
        "Seconds by which the end of a connection or template must have moved before the backups are told again; 0: they are told by \
         packets alone."
    sync_retries = 0, 0..=3, Same
        "How often the backups are told again of a connection within sync_refresh_period, an eighth of it apart."
    sync_sock_size = 0, 0..=i32::MAX as u32, Same
        "Bytes of the daemons' socket buffers; 0 is the host's default. A daemon takes it when it starts."
    sync_threshold = 3, 0..=i32::MAX as u32, Same
        "With the packet of this number from the client, the backups are told of an established connection. As IPVS has it, \
         sync_threshold=\"3 50\" sets sync_period, too."
    sync_version = 1, 0..=1, Same
        "The version of the protocol that a master speaks; 0 is that of Linux before 2.6.39: IPv4 only, without marks and timeouts. \
         Backups understand both."
    synproxy_rate = 1000, 0..=MAX_RATE, Own
        "Requests a second that a service with -j enable lets in whose sources are not verified; those beyond are challenged. With \
         more than half of the connection table in use, all are."
    synproxy_source_rate = 1000, 0..=MAX_RATE, Own
        "Requests a second of a verified source (an IPv4 address, or the first 64 bits of an IPv6 one) that need no challenge; 0 is \
         any number."
    toa = 1, 0..=2, Own
        "By a TCP option, FullNAT tells real servers who the client is: 0: no; 1: with the end of the handshake and the first data; \
         2: with the request for the connection, too."
    transit = 0, 0..=1, Own
        "0: As for IPVS, packets for a service's address that the host routes on are left alone: a backup may have the rules and not \
         the address; 1: they are balanced, too. Services by mark take all packets that have the mark."
    uoa = 0, 0..=255, Own
        "By an option of IPv4 (DPVS's UOA), FullNAT tells real servers of UDP who the client is, with the first so many packets of a \
         connection; 0: no."
}

/// Settings whose modes change by themselves.
pub const AUTOMATIC: [&str; 3] = ["drop_entry", "drop_packet", "secure_tcp"];

impl Sysctl {
    /// Its value.
    pub fn get(&self, sysctls: &Sysctls) -> u32 {
        (self.get)(sysctls)
    }

    /// The value as somebody set it: an automatic mode that is at work was set as one that may be.
    pub fn configured(&self, sysctls: &Sysctls) -> u32 {
        match self.get(sysctls) {
            mode::WORKING if AUTOMATIC.contains(&self.name) => mode::RESTING,
            value => value,
        }
    }

    /// Sets it. The value is not checked.
    pub fn set(&self, sysctls: &mut Sysctls, value: u32) {
        (self.set)(sysctls, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_in_the_order_of_their_names_and_take_their_defaults() {
        assert!(SYSCTLS.is_sorted_by_key(|sysctl| sysctl.name));
        for sysctl in SYSCTLS {
            assert_eq!(sysctl.get(&Sysctls::default()), sysctl.default);
            assert!(sysctl.range.contains(&sysctl.default) && sysctl.meaning.ends_with('.'), "{}", sysctl.name);
        }
    }

    #[test]
    fn an_automatic_mode_at_work_was_not_set_so() {
        let sysctls = Sysctls { drop_entry: 2, drop_packet: 3, conn_reuse_mode: 2, ..Sysctls::default() };
        let configured = |name: &str| SYSCTLS.iter().find(|s| s.name == name).map(|s| s.configured(&sysctls));
        assert_eq!(["drop_entry", "drop_packet", "conn_reuse_mode"].map(configured), [Some(1), Some(3), Some(2)]);
    }
}
