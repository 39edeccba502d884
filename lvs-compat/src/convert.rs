//! Between the kernel's structures and the rules' model.

use std::net::{IpAddr, Ipv4Addr};

use lvs_common::abi::{Forward, service_flags};
use lvs_director::rules::{
    self, Daemon, DestinationKey, Family, Netmask, Protocol, Rates, Role, ServiceKey, Statistics, scheduler_by_name,
    scheduler_name,
};
use nix::errno::Errno;

use crate::abi::{self, FORWARD, HASHED, INACTIVE, Key, NO_OUTPUT, SCHEDULER_LENGTH};

/// The longest time ipvsadm and keepalived ask for, in seconds: 31 days.
const LONGEST: u32 = 31 * 24 * 60 * 60;

/// The flags of a service that are the user's.
const SERVICE_FLAGS: u32 = service_flags::PERSISTENT
    | service_flags::ONE_PACKET
    | service_flags::SCHED1
    | service_flags::SCHED2
    | service_flags::SCHED3;

/// What a service is found by. A protocol that IPVS does not serve is refused even with a mark, as `EFAULT`.
pub fn service_key(key: &Key) -> Result<ServiceKey, Errno> {
    let protocol = u8::try_from(key.protocol).ok().and_then(Protocol::from_number).ok_or(Errno::EFAULT)?;
    Ok(match key.fwmark {
        0 => ServiceKey::Address { protocol, address: ip(key.address), port: u16::from_be_bytes(key.port) },
        mark => ServiceKey::Fwmark { mark, family: Family::V4 },
    })
}

/// As the kernel lists it; `None` for what is not IPv4. A firewall mark's protocol is what ipvsadm gives it.
fn key(key: &ServiceKey) -> Option<Key> {
    match *key {
        ServiceKey::Address { protocol, address: IpAddr::V4(address), port } => Some(Key {
            protocol: protocol as u16,
            address: address.octets(),
            port: port.to_be_bytes(),
            ..Key::default()
        }),
        ServiceKey::Fwmark { mark, family: Family::V4 } => {
            Some(Key { protocol: Protocol::Tcp as u16, fwmark: mark, ..Key::default() })
        }
        _ => None,
    }
}

/// The service's configuration with the scheduler of that name; `ENOENT` if there is none.
pub fn service(key: ServiceKey, service: &abi::Service, scheduler: &str) -> Result<rules::Service, Errno> {
    let scheduler = scheduler_by_name(scheduler).ok_or(Errno::ENOENT)?;
    if service.timeout > LONGEST {
        return Err(Errno::EINVAL);
    }
    Ok(rules::Service {
        flags: service.flags & SERVICE_FLAGS,
        timeout: service.timeout,
        netmask: Netmask::V4(service.netmask.into()),
        ..rules::Service::new(key, scheduler)
    })
}

/// A scheduler's name; one without its terminating 0 is `EINVAL`.
pub fn name(field: &[u8; SCHEDULER_LENGTH]) -> Result<String, Errno> {
    let length = field.iter().position(|&byte| byte == 0).ok_or(Errno::EINVAL)?;
    Ok(String::from_utf8_lossy(&field[..length]).into_owned())
}

/// What a destination is found by.
pub fn destination_key(destination: &abi::Destination) -> DestinationKey {
    DestinationKey { address: ip(destination.address), port: u16::from_be_bytes(destination.port) }
}

/// The destination's configuration. Tunnels are ipip: this ABI is older than the others.
pub fn destination(destination: &abi::Destination) -> Result<rules::Destination, Errno> {
    let forward = match destination.flags & FORWARD {
        0 => Forward::Masq,
        1 => Forward::Local,
        2 => Forward::Tunnel,
        3 => Forward::Route,
        _ => return Err(Errno::EINVAL),
    };
    Ok(rules::Destination {
        // One that is negative is out of range, as any so great is.
        weight: destination.weight as u32,
        upper: destination.upper,
        lower: destination.lower,
        ..rules::Destination::new(destination_key(destination), forward)
    })
}

/// A service as it is listed; `None` for what is not IPv4.
pub fn service_entry(entry: &rules::ServiceEntry) -> Option<abi::ServiceEntry> {
    let service = &entry.service;
    let mut scheduler = [0; SCHEDULER_LENGTH];
    let name = scheduler_name(service.scheduler).as_bytes();
    scheduler[..name.len()].copy_from_slice(name);
    Some(abi::ServiceEntry {
        service: abi::Service {
            key: key(&service.key)?,
            scheduler,
            flags: service.flags & SERVICE_FLAGS | HASHED,
            timeout: service.timeout,
            netmask: match service.netmask {
                Netmask::V4(mask) => mask.octets(),
                Netmask::V6(_) => return None,
            },
        },
        destinations: entry.destinations.iter().filter_map(destination_entry).count() as u32,
        statistics: statistics(&entry.statistics, &entry.rates),
    })
}

/// A destination as it is listed; `None` for what is not IPv4.
pub fn destination_entry(entry: &rules::DestinationEntry) -> Option<abi::DestinationEntry> {
    let destination = &entry.destination;
    let IpAddr::V4(address) = destination.key.address else { return None };
    let replies = if destination.forward == Forward::Masq { 0 } else { NO_OUTPUT };
    Some(abi::DestinationEntry {
        destination: abi::Destination {
            address: address.octets(),
            port: destination.key.port.to_be_bytes(),
            flags: shown(destination.forward) | replies | INACTIVE,
            weight: destination.weight as i32,
            upper: destination.upper,
            lower: destination.lower,
            ..abi::Destination::default()
        },
        active: entry.active,
        inactive: entry.inactive,
        persistent: entry.persistent,
        statistics: statistics(&entry.statistics, &entry.rates),
        ..abi::DestinationEntry::default()
    })
}

/// The number of a forwarding method. FullNAT is not the kernel's; NAT is what it is nearest to.
fn shown(forward: Forward) -> u32 {
    if forward == Forward::FullNat { Forward::Masq as u32 } else { forward as u32 }
}

fn statistics(counted: &Statistics, rates: &Rates) -> abi::Statistics {
    abi::Statistics {
        conns: counted.conns as u32,
        in_packets: counted.in_packets as u32,
        out_packets: counted.out_packets as u32,
        in_bytes: counted.in_bytes,
        out_bytes: counted.out_bytes,
        rates: [rates.conns, rates.in_packets, rates.out_packets, rates.in_bytes, rates.out_bytes]
            .map(|rate| rate as u32),
        ..abi::Statistics::default()
    }
}

/// The timeouts to set; `EINVAL` for one that is negative or longer than any the tools ask for.
pub fn timeouts(timeouts: &abi::Timeouts) -> Result<rules::Timeouts, Errno> {
    let seconds = |value: i32| u32::try_from(value).ok().filter(|&value| value <= LONGEST).ok_or(Errno::EINVAL);
    Ok(rules::Timeouts {
        tcp: seconds(timeouts.tcp)?,
        tcp_fin: seconds(timeouts.tcp_fin)?,
        udp: seconds(timeouts.udp)?,
    })
}

fn ip(octets: [u8; 4]) -> IpAddr {
    IpAddr::V4(Ipv4Addr::from(octets))
}
/// The number of a daemon's role, `IP_VS_STATE_*`.
fn state(role: Role) -> i32 {
    match role {
        Role::Master => 1,
        Role::Backup => 2,
    }
}

/// The role of a daemon that is to be started or ended.
pub fn role(daemon: &abi::Daemon) -> Result<Role, Errno> {
    Role::ALL.into_iter().find(|role| state(*role) == daemon.state).ok_or(Errno::EINVAL)
}

/// A daemon that is to be started; the ABI says less of it than ipvsadm's command line.
pub fn started(daemon: &abi::Daemon) -> Result<Daemon, Errno> {
    let interface = name(&daemon.interface)?;
    let syncid = u8::try_from(daemon.syncid).map_err(|_| Errno::EINVAL)?;
    Ok(Daemon { interface, syncid, ..Daemon::new(role(daemon)?) })
}

/// A daemon that runs.
pub fn daemon(daemon: &Daemon) -> abi::Daemon {
    let mut interface = [0; 16];
    interface.iter_mut().zip(daemon.interface.bytes().take(15)).for_each(|(to, from)| *to = from);
    abi::Daemon { state: state(daemon.role), interface, syncid: daemon.syncid.into() }
}
