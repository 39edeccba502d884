//! What a message says of a connection.

use crate::abi::Address;
use crate::byte_order::Be16;

/// Flags of a record: the kernel's (`IP_VS_CONN_F_*`).
pub mod flags {
    /// The forwarding mode, a [`Mode`](crate::abi::Mode)'s number.
    pub const FORWARD: u32 = 0x7;
    /// The connection came by synchronisation.
    pub const SYNC: u32 = 0x20;
    /// Replies do not pass the director.
    pub const NO_OUTPUT: u32 = 0x80;
    /// The connection does not count as active.
    pub const INACTIVE: u32 = 0x100;
    /// The sequence numbers of what the real server sends are shifted.
    pub const OUT_SEQUENCE: u32 = 0x200;
    /// The sequence numbers of what the client sends are shifted.
    pub const IN_SEQUENCE: u32 = 0x400;
    /// The client's port is not known yet.
    pub const NO_CLIENT_PORT: u32 = 0x800;
    /// A persistence template.
    pub const TEMPLATE: u32 = 0x1000;
    /// What a backup takes from a message.
    pub const TAKEN: u32 = FORWARD | NO_OUTPUT | INACTIVE | OUT_SEQUENCE | IN_SEQUENCE | NO_CLIENT_PORT | TEMPLATE;
}

/// Options of a record of version 1.
pub mod option {
    /// [`Sequence`](super::Sequence) of both directions.
    pub const SEQUENCES: u8 = 1;
    /// What a persistence engine keyed a template with.
    pub const ENGINE_DATA: u8 = 2;
    /// The persistence engine's name.
    pub const ENGINE_NAME: u8 = 3;
    /// The real server's address, of the other family than the record's. Not IPVS's: its backups pass the record by.
    pub const OTHER_REAL: u8 = 0x20;
    /// [`Local`](super::Local). Not IPVS's either.
    pub const LOCAL: u8 = 0x21;
    /// Whoever does not know an option with this bit passes it by; without it, the record cannot be understood.
    pub const MAY_BE_IGNORED: u8 = 0x40;
    /// Longest name of a persistence engine, bytes.
    pub const LONGEST_NAME: usize = 16;
}

/// How an application helper has shifted the sequence numbers of one direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sequence {
    /// From this number on.
    pub initial: u32,
    /// By so much.
    pub delta: u32,
    /// And by so much before.
    pub previous: u32,
}

/// What FullNAT needs to know of a connection; all 0 of a template, which it has no local address of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Local {
    /// The local address, of the real server's family.
    pub address: Address,
    /// The local port.
    pub port: Be16,
    /// [`toa_state`](crate::fullnat::toa_state).
    pub toa_state: u8,
    /// Sequence number of the client's first byte.
    pub first: u32,
}

/// A persistence engine's key of a template.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Engine<'a> {
    /// The engine's name; empty if the message names none.
    pub name: &'a [u8],
    /// What it keyed the template with, at most 255 bytes.
    pub data: &'a [u8],
}

/// A connection or template in a message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Record<'a> {
    /// Whether the addresses are of IPv6.
    pub is_v6: bool,
    /// IP protocol, 0 for the template of a service by mark.
    pub protocol: u8,
    /// [`flags`].
    pub flags: u32,
    /// The state's number; of a template, 1 if one of its connections was established.
    pub state: u16,
    /// Client port, 0 for a template.
    pub client_port: Be16,
    /// Virtual port.
    pub virt_port: Be16,
    /// Real server's port.
    pub real_port: Be16,
    /// Mark of the service, 0 for one of an address.
    pub fwmark: u32,
    /// Seconds from the last packet to expiry; 0 where the message does not say.
    pub timeout: u32,
    /// Client address (masked for a template).
    pub client: Address,
    /// Virtual address (the mark for a template of a service by mark).
    pub virt: Address,
    /// Real server's address.
    pub real: Address,
    /// Shifts of the client's and the real server's sequence numbers.
    pub sequences: Option<[Sequence; 2]>,
    /// Real server's address, if it is of the other family; [`real`](Self::real) is 0 then.
    pub other_real: Option<Address>,
    /// FullNAT's.
    pub local: Option<Local>,
    /// Whether the record has an option that is not known here and must not be passed by: nobody can use the record.
    pub is_unknown: bool,
    /// A persistence engine's key.
    pub engine: Option<Engine<'a>>,
}

impl Record<'_> {
    /// Whether it is a persistence template.
    pub const fn is_template(&self) -> bool {
        self.flags & flags::TEMPLATE != 0
    }

    /// Whether the real server's address is of IPv6.
    pub const fn is_real_v6(&self) -> bool {
        self.is_v6 != self.other_real.is_some()
    }
}
