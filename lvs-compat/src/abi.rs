//! IPVS's socket options as the kernel's UAPI (`linux/ip_vs.h`) lays them out: numbers, structures, and how long each
//! option's argument is. Addresses and ports are in network order, everything else in the host's.

use nix::libc::c_int;

/// The version the kernel tells: 1.2.1.
pub const VERSION: u32 = 0x01_02_01;

/// Number of the first option, in both directions (`IP_VS_BASE_CTL`).
const BASE: c_int = 64 + 1024 + 64;

/// Length of a scheduler's name with its terminating 0.
pub const SCHEDULER_LENGTH: usize = 16;

/// A service's flag for "hashed", which the kernel sets on every service that it lists.
pub const HASHED: u32 = 0x2;

/// The bits of [`Destination::flags`] that tell the forwarding method.
pub const FORWARD: u32 = 0x7;
/// Set on every destination that does not forward by NAT: its replies do not pass the director.
pub const NO_OUTPUT: u32 = 0x80;
/// Set on every destination: new connections are inactive.
pub const INACTIVE: u32 = 0x100;

/// What `getsockopt` can ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Get {
    /// The version, as a sentence.
    Version,
    /// [`Info`]
    Info,
    /// [`Services`]
    Services,
    /// One [`ServiceEntry`], found by its first fields.
    Service,
    /// [`Destinations`] of one service.
    Destinations,
    /// [`Timeouts`]
    Timeouts,
    /// Two [`Daemon`]s: master and backup.
    Daemons,
}

impl Get {
    /// The question with this option's number.
    pub fn of(option: c_int) -> Option<Self> {
        Some(match option - BASE {
            0 => Get::Version,
            1 => Get::Info,
            2 => Get::Services,
            3 => Get::Service,
            4 => Get::Destinations,
            6 => Get::Timeouts,
            7 => Get::Daemons,
            _ => return None,
        })
    }

    /// The least length of its buffer.
    pub fn least(self) -> usize {
        match self {
            Get::Version => 64,
            Get::Info => size_of::<Info>(),
            Get::Services => size_of::<Services>(),
            Get::Service => size_of::<ServiceEntry>(),
            Get::Destinations => size_of::<Destinations>(),
            Get::Timeouts => size_of::<Timeouts>(),
            Get::Daemons => size_of::<[Daemon; 2]>(),
        }
    }
}

/// What `setsockopt` can tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Set {
    /// Adds a [`Service`].
    Add,
    /// Replaces a [`Service`]'s configuration.
    Edit,
    /// Deletes a [`Service`].
    Delete,
    /// Deletes every service; no argument.
    Flush,
    /// Adds a destination: a [`Service`] and a [`Destination`].
    AddDestination,
    /// Deletes one.
    DeleteDestination,
    /// Replaces one's configuration.
    EditDestination,
    /// [`Timeouts`]
    Timeouts,
    /// Starts a synchronisation [`Daemon`].
    StartDaemon,
    /// Stops one.
    StopDaemon,
    /// Zeroes the counters of a [`Service`], or of all for one without address, port and mark.
    Zero,
}

impl Set {
    /// The order with this option's number.
    pub fn of(option: c_int) -> Option<Self> {
        Some(match option - BASE {
            2 => Set::Add,
            3 => Set::Edit,
            4 => Set::Delete,
            5 => Set::Flush,
            7 => Set::AddDestination,
            8 => Set::DeleteDestination,
            9 => Set::EditDestination,
            10 => Set::Timeouts,
            11 => Set::StartDaemon,
            12 => Set::StopDaemon,
            15 => Set::Zero,
            _ => return None,
        })
    }

    /// The length of its argument, exactly.
    pub fn length(self) -> usize {
        match self {
            Set::Flush => 0,
            Set::Add | Set::Edit | Set::Delete | Set::Zero => size_of::<Service>(),
            Set::AddDestination | Set::DeleteDestination | Set::EditDestination => size_of::<(Service, Destination)>(),
            Set::Timeouts => size_of::<Timeouts>(),
            Set::StartDaemon | Set::StopDaemon => size_of::<Daemon>(),
        }
    }
}

/// Whether a number is one that the kernel's IPVS would register: it answers for all of these, if only to refuse.
pub fn is_option(option: c_int) -> bool {
    (BASE..BASE + 16).contains(&option)
}

/// What a service is found by: `fwmark`, or if that is 0, the rest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
#[allow(missing_docs, reason = "the fields are the kernel's")]
pub struct Key {
    pub protocol: u16,
    pub pad: u16,
    pub address: [u8; 4],
    pub port: [u8; 2],
    pub pad2: u16,
    pub fwmark: u32,
}

/// `struct ip_vs_service_user`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
#[allow(missing_docs, reason = "the fields are the kernel's")]
pub struct Service {
    pub key: Key,
    pub scheduler: [u8; SCHEDULER_LENGTH],
    pub flags: u32,
    /// Seconds.
    pub timeout: u32,
    pub netmask: [u8; 4],
}

/// `struct ip_vs_dest_user`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
#[allow(missing_docs, reason = "the fields are the kernel's")]
pub struct Destination {
    pub address: [u8; 4],
    pub port: [u8; 2],
    pub pad: u16,
    pub flags: u32,
    pub weight: i32,
    pub upper: u32,
    pub lower: u32,
}

/// `struct ip_vs_stats_user`: the numbers are cut to their 32 bits, as the kernel's are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
#[allow(missing_docs, reason = "the fields are the kernel's")]
pub struct Statistics {
    pub conns: u32,
    pub in_packets: u32,
    pub out_packets: u32,
    pub pad: u32,
    pub in_bytes: u64,
    pub out_bytes: u64,
    /// Rates in the same order, each per second.
    pub rates: [u32; 5],
    pub pad2: u32,
}

/// `struct ip_vs_getinfo`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
#[allow(missing_docs, reason = "the fields are the kernel's")]
pub struct Info {
    pub version: u32,
    /// Buckets of the connection table.
    pub size: u32,
    /// IPv4 services.
    pub services: u32,
}

/// `struct ip_vs_service_entry`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
#[allow(missing_docs, reason = "the fields are the kernel's")]
pub struct ServiceEntry {
    pub service: Service,
    /// IPv4 destinations.
    pub destinations: u32,
    pub statistics: Statistics,
}

/// `struct ip_vs_dest_entry`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
#[allow(missing_docs, reason = "the fields are the kernel's")]
pub struct DestinationEntry {
    pub destination: Destination,
    pub active: u32,
    pub inactive: u32,
    pub persistent: u32,
    pub pad: u32,
    pub statistics: Statistics,
}

/// `struct ip_vs_get_services`, which [`ServiceEntry`]s follow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Services {
    /// How many there is room for.
    pub count: u32,
    /// Unused.
    pub pad: u32,
}

/// `struct ip_vs_get_dests`, which [`DestinationEntry`]s follow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Destinations {
    /// Whose.
    pub key: Key,
    /// How many there is room for.
    pub count: u32,
    /// Unused.
    pub pad: u32,
}

/// `struct ip_vs_timeout_user`, in seconds; 0 leaves one as it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
#[allow(missing_docs, reason = "the fields are the kernel's")]
pub struct Timeouts {
    pub tcp: i32,
    pub tcp_fin: i32,
    pub udp: i32,
}

/// `struct ip_vs_daemon_user`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
#[allow(missing_docs, reason = "the fields are the kernel's")]
pub struct Daemon {
    pub state: i32,
    pub interface: [u8; 16],
    pub syncid: i32,
}

// As a C compiler lays the kernel's structures out where 64-bit integers stand at multiples of eight.
const _: () = assert!(size_of::<Service>() == 44 && size_of::<Destination>() == 24);
const _: () = assert!(size_of::<ServiceEntry>() == 104 && size_of::<DestinationEntry>() == 96);
const _: () = assert!(size_of::<Services>() == 8 && size_of::<Destinations>() == 24);
const _: () = assert!(size_of::<Info>() == 12 && size_of::<Timeouts>() == 12 && size_of::<Daemon>() == 24);

/// Structures of integers without hidden padding, so any bytes are a value and every value is bytes.
///
/// # Safety
///
/// The type must be `repr(C)`, `Copy`, of integers and arrays of them alone, with all padding named.
pub unsafe trait Plain: Copy {
    /// The value at the start of `bytes`; `None` if they are too few.
    fn read(bytes: &[u8]) -> Option<Self> {
        let bytes = bytes.get(..size_of::<Self>())?;
        // SAFETY: as many bytes as the type has, any of which are a value of it, at whatever address.
        Some(unsafe { bytes.as_ptr().cast::<Self>().read_unaligned() })
    }

    /// The value's bytes.
    fn bytes(&self) -> &[u8] {
        // SAFETY: the type has no padding that is not a field, so each byte is initialised.
        unsafe { std::slice::from_raw_parts(std::ptr::from_ref(self).cast(), size_of::<Self>()) }
    }
}

macro_rules! plain {
    ($($structure:ty),+) => {
        // SAFETY: all are declared above as the trait demands.
        $(unsafe impl Plain for $structure {})+
    };
}

plain!(Service, Destination, Info, ServiceEntry, DestinationEntry, Services, Destinations, Timeouts, Daemon);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_their_bytes() {
        let timeouts = Timeouts { tcp: 1, tcp_fin: -1, udp: i32::MAX };
        assert_eq!(Timeouts::read(timeouts.bytes()), Some(timeouts));
        assert_eq!(Timeouts::read(&[0; 11]), None);
    }

    #[test]
    fn the_kernels_whole_range_is_known() {
        assert!(!is_option(1151) && is_option(1152) && is_option(1167) && !is_option(1168));
        assert_eq!((Get::of(1152), Get::of(1157), Get::of(1160)), (Some(Get::Version), None, None));
        assert_eq!((Set::of(1152), Set::of(1157), Set::of(1167)), (None, Some(Set::Flush), Some(Set::Zero)));
    }
}
