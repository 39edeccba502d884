//! The kinds of tunnel to a real server, one row each.
//!
//! A row says everything about a kind but how its headers are written (`lvs-ebpf`'s `forward/tunnel.rs`), removed
//! (`lvs-ebpf`'s `real_server/tunnel.rs`) and found in an ICMP error's quote ([`icmp::tunnel_headers`](crate::icmp)).

use crate::wire::protocol;

/// Flag of a tunnel: outer checksum (`--tun-csum`).
pub const CSUM: u8 = 0x1;
/// Flag of a tunnel: remote checksum offload (`--tun-remcsum`).
pub const REMCSUM: u8 = 0x2;

/// The outer port of a kind of tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Port {
    /// The kind has none.
    None,
    /// The user must name it: the kind has no usual one.
    Required,
    /// The usual one, in host byte order; the user may name another.
    Usual(u16),
}

/// What the outer IP header carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Carrier {
    /// The inner IP packet itself (protocol 4 or 41).
    Ip,
    /// A header of this protocol number.
    Protocol(u8),
}

/// What is known of a kind of tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TunnelForm {
    /// The kind itself: [`TUNNELS`] is indexed by its number.
    pub kind: TunnelKind,
    /// The word of `--tun-type`.
    pub name: &'static str,
    /// `None` for a kind that ipvsadm has too; else what `lvsadm --help` says of the kind, which the literal dialect lacks.
    pub own: Option<&'static str>,
    /// Its outer port.
    pub port: Port,
    /// What the outer IP header carries.
    pub carrier: Carrier,
    /// Which of [`CSUM`] and [`REMCSUM`] the user may ask for; with 0, `--tun-nocsum` is refused too.
    pub flags: u8,
    /// Bytes between the outer IP header and the inner packet.
    pub header: u32,
    /// The same with [`CSUM`].
    pub header_with_checksum: u32,
    /// Flags with which the headers include a checksum over the inner packet.
    pub summed: u8,
}

impl Carrier {
    /// Whether it is this protocol of the outer IP header.
    const fn is(self, protocol: u8) -> bool {
        match self {
            Carrier::Ip => matches!(protocol, protocol::IPIP | protocol::IPV6),
            Carrier::Protocol(number) => number == protocol,
        }
    }
}

impl TunnelForm {
    /// Whether the headers include a checksum over the inner packet.
    pub const fn is_summed(&self, flags: u8) -> bool {
        flags & self.summed != 0
    }

    /// Whether the user may name a port.
    pub const fn has_port(&self) -> bool {
        !matches!(self.port, Port::None)
    }

    /// The port of a tunnel for which the user named none, 0 if there is no usual one.
    pub const fn usual_port(&self) -> u16 {
        if let Port::Usual(port) = self.port { port } else { 0 }
    }
}

/// A kind of tunnel, by number. The first three have the kernel's numbers (`IP_VS_CONN_F_TUNNEL_TYPE_*`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(transparent)]
pub struct TunnelKind(pub u8);

/// Makes the constants of [`TunnelKind`], [`TUNNELS`], and the functions that packets ask. The functions are matches on
/// constants: a look-up in the table would read a constant from memory, see "constants and .rodata.cst" in
/// docs/develop/verifier.md.
macro_rules! tunnels {
    ($($(#[doc = $doc:literal])+ $kind:ident = $number:literal { $($field:ident: $value:expr),+ $(,)? })+) => {
        impl TunnelKind {
            $($(#[doc = $doc])+ pub const $kind: TunnelKind = TunnelKind($number);)+

            /// Bytes between the outer IP header and the inner packet.
            #[inline(always)]
            pub const fn header(self, flags: u8) -> u32 {
                match self {
                    $(TunnelKind::$kind => {
                        const FORM: TunnelForm = TUNNELS[$number];
                        if FORM.header != FORM.header_with_checksum && flags & CSUM != 0 {
                            FORM.header_with_checksum
                        } else {
                            FORM.header
                        }
                    })+
                    _ => 0,
                }
            }

            /// Whether the headers include a checksum over the inner packet.
            #[inline(always)]
            pub const fn is_summed(self, flags: u8) -> bool {
                match self {
                    $(TunnelKind::$kind => {
                        const FORM: TunnelForm = TUNNELS[$number];
                        FORM.is_summed(flags)
                    })+
                    _ => false,
                }
            }

            /// Protocol number in the outer IP header; `v4` is the inner packet's family.
            #[inline(always)]
            pub const fn carried(self, v4: bool) -> u8 {
                let carrier = match self {
                    $(TunnelKind::$kind => const { TUNNELS[$number].carrier },)+
                    _ => Carrier::Ip,
                };
                match carrier {
                    Carrier::Protocol(number) => number,
                    Carrier::Ip if v4 => protocol::IPIP,
                    Carrier::Ip => protocol::IPV6,
                }
            }
        }

        /// Whether a packet with this protocol number in its IP header may be of one of the kinds that `picks` takes.
        #[inline(always)]
        pub fn may_carry(protocol: u8, picks: impl Fn(TunnelKind) -> bool) -> bool {
            $(const { TUNNELS[$number].carrier }.is(protocol) && picks(TunnelKind::$kind))||+
        }

        /// Every kind, in the order of their numbers.
        pub const TUNNELS: &[TunnelForm] = &[$(TunnelForm { kind: TunnelKind::$kind, $($field: $value),+ }),+];
    };
}

tunnels! {
    /// IP in IP (RFC 2003, RFC 2473).
    IPIP = 0 {
        name: "ipip",
        own: None,
        port: Port::None,
        carrier: Carrier::Ip,
        flags: 0,
        header: 0,
        header_with_checksum: 0,
        summed: 0,
    }
    /// Generic UDP encapsulation (draft-ietf-intarea-gue). Remote checksum offload is for packets whose own checksum is
    /// still to be made; the others travel with an outer checksum.
    GUE = 1 {
        name: "gue",
        own: None,
        port: Port::Required,
        carrier: Carrier::Protocol(protocol::UDP),
        flags: CSUM | REMCSUM,
        header: 8 + 4,
        header_with_checksum: 8 + 4,
        summed: CSUM | REMCSUM,
    }
    /// Generic routing encapsulation (RFC 2784).
    GRE = 2 {
        name: "gre",
        own: None,
        port: Port::None,
        carrier: Carrier::Protocol(protocol::GRE),
        flags: CSUM,
        header: 4,
        header_with_checksum: 8,
        summed: CSUM,
    }
    /// VXLAN (RFC 7348), VNI 0; its UDP checksum is 0, which the RFC recommends, whatever the flags.
    VXLAN = 3 {
        name: "vxlan",
        own: Some("VXLAN, to port 4789 unless --tun-port says else"),
        port: Port::Usual(4789),
        carrier: Carrier::Protocol(protocol::UDP),
        flags: CSUM,
        header: 8 + 8 + 14,
        header_with_checksum: 8 + 8 + 14,
        summed: 0,
    }
}

impl TunnelKind {
    /// The kind of that name.
    pub fn by_name(name: &str) -> Option<Self> {
        TUNNELS.iter().find(|form| form.name == name).map(|form| form.kind)
    }

    /// What is known of the kind; of a number that is no kind's, what is known of [`TunnelKind::IPIP`].
    pub fn form(self) -> &'static TunnelForm {
        TUNNELS.get(usize::from(self.0)).unwrap_or(&TUNNELS[0])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_indexed_by_number() {
        for (index, form) in TUNNELS.iter().enumerate() {
            assert_eq!(usize::from(form.kind.0), index);
            assert_eq!(TunnelKind::by_name(form.name), Some(form.kind));
            assert_eq!(form.kind.form(), form);
        }
    }

    #[test]
    fn a_protocol_leads_to_the_kinds_that_it_carries() {
        let kinds = |protocol| -> Vec<&str> {
            TUNNELS.iter().filter(|form| may_carry(protocol, |kind| kind == form.kind)).map(|form| form.name).collect()
        };
        assert_eq!([protocol::IPIP, protocol::IPV6, protocol::GRE].map(kinds), [["ipip"], ["ipip"], ["gre"]]);
        assert_eq!((kinds(protocol::UDP), kinds(protocol::TCP)), (vec!["gue", "vxlan"], vec![]));
    }

    #[test]
    fn packets_are_told_what_the_table_says() {
        for form in TUNNELS {
            assert_eq!(form.kind.header(0), form.header);
            assert_eq!(form.kind.header(CSUM), form.header_with_checksum);
            assert!((0..4).all(|flags| form.kind.is_summed(flags) == (flags & form.summed != 0)));
            let inner = [true, false].map(|v4| form.kind.carried(v4));
            match form.carrier {
                Carrier::Ip => assert_eq!(inner, [protocol::IPIP, protocol::IPV6]),
                Carrier::Protocol(number) => assert_eq!(inner, [number, number]),
            }
        }
    }
}
