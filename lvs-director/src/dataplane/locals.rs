//! Local addresses of FullNAT in the maps: pools, and the addresses they are made of.

use std::collections::HashSet;
use std::net::IpAddr;

use lvs_common::abi::{
    Address, CHUNKS, Destination, LOCAL_ADDRESSES, LocalAddress, Mode, POOL_HEAD, PortKey, Ports, ServiceId,
    dest_flags, dest_slot,
};
use lvs_common::byte_order::Be16;
use lvs_common::ports::{self, Range};

use super::convert;
use super::error::{Context, Result, unfit};
use super::mapped::{field, put};
use super::plane::{Plane, absent};
use super::pod::Pod;
use super::slots::{GRACE, Slots};
use crate::director;
use crate::rules::{Family, LocalEntry};

/// The slot whose pool is that of services without one of their own; it is no service.
pub const DEFAULT: ServiceId = ServiceId::NONE;

/// Ports that the host gives out for its own connections where it has an address.
#[derive(Clone, Copy, Debug)]
struct Ephemeral {
    first: u16,
    last: u16,
}

impl Ephemeral {
    /// The network namespace's `ip_local_port_range`.
    fn read() -> Result<Self> {
        const PATH: &str = "/proc/sys/net/ipv4/ip_local_port_range";
        let text = std::fs::read_to_string(PATH).with_context(|| format!("cannot read {PATH}"))?;
        let mut numbers = text.split_whitespace().map(str::parse);
        match (numbers.next(), numbers.next()) {
            (Some(Ok(first)), Some(Ok(last))) => Ok(Ephemeral { first, last }),
            _ => unfit(format!("{PATH} has no two ports in it")),
        }
    }
}

/// The host's own addresses.
fn own_addresses() -> Result<HashSet<Address>> {
    let all = nix::ifaddrs::getifaddrs().context("cannot list the host's addresses")?;
    let ip = |interface: nix::ifaddrs::InterfaceAddress| {
        let address = interface.address?;
        let v4 = address.as_sockaddr_in().map(|v4| IpAddr::V4(v4.ip()));
        v4.or_else(|| address.as_sockaddr_in6().map(|v6| IpAddr::V6(v6.ip())))
    };
    Ok(all.filter_map(ip).map(convert::address).collect())
}

impl Plane {
    /// The addresses of a pool, as indices of `LOCALS`, in the order in which they were added within each family.
    fn pool(&self, id: ServiceId) -> Result<Vec<u32>> {
        let place = self.service_config(id).locals;
        if place == 0 {
            return Ok(Vec::new());
        }
        let slots = self.table(place)?;
        Ok(slots.get(POOL_HEAD as usize..).unwrap_or_default().to_vec())
    }

    /// The addresses of a pool.
    pub fn locals(&self, id: ServiceId) -> Result<Vec<LocalEntry>> {
        let entry = |at: u32| {
            let local = self.locals.get(at);
            LocalEntry {
                address: convert::ip(local.address, local.family as u8),
                connections: local.conns,
                conflicts: local.conflicts,
            }
        };
        Ok(self.pool(id)?.into_iter().filter(|at| *at < self.locals.count()).map(entry).collect())
    }

    /// The local addresses that a connection to a real server may have: of each, how many ports are free toward the real server, of how
    /// many that may be given out. A real server without a port of its own gets packets for the virtual `port`.
    pub fn free_ports(
        &self,
        service: ServiceId,
        dest: &Destination,
        (protocol, port): (u8, Be16),
    ) -> Result<Vec<(IpAddr, u32, u32)>> {
        let pool = if self.service_config(service).locals == 0 { DEFAULT } else { service };
        let taken = self.open_hash::<Pod<PortKey>, Pod<Ports>>("PORTS")?;
        let sysctls = self.settings().sysctls;
        let give = Range { first: sysctls.lport_min as u16, last: sysctls.lport_max as u16 };
        let of = |at: u32| {
            let local = self.locals.get(at);
            let (mut free, mut all) = (0, 0);
            for chunk in 0..CHUNKS {
                let (real, real_port) = (dest.address, if dest.port == Be16::ZERO { port } else { dest.port });
                let key = PortKey { real, local: at, real_port, protocol, chunk: chunk as u8 };
                let most = ports::available(chunk, &local, give);
                let used = taken.get(&Pod(key), 0).map_or(0, |Pod(ports)| ports.taken);
                (free, all) = (free + most.saturating_sub(used), all + most);
            }
            (convert::ip(local.address, local.family as u8), free, all)
        };
        let is_usable = |at: &u32| *at < self.locals.count() && self.locals.get(*at).family == u32::from(dest.family);
        Ok(self.pool(pool)?.into_iter().filter(is_usable).map(of).collect())
    }

    /// Stages other addresses for a pool.
    pub fn write_pool(&mut self, id: ServiceId, addresses: &[IpAddr], slots: &mut Slots) -> director::Result<()> {
        self.need_family(addresses.iter().any(IpAddr::is_ipv6))?;
        let mut place = 0;
        if !addresses.is_empty() {
            let (v4, v6): (Vec<IpAddr>, Vec<IpAddr>) = addresses.iter().partition(|address| address.is_ipv4());
            let mut table = vec![v4.len() as u32, v6.len() as u32];
            for address in v4.into_iter().chain(v6) {
                table.push(self.local_slot(address, slots)?);
            }
            place = slots.take_table(self)?;
            self.put_tables(&[(place, table)])?;
        }
        self.change_service(id, |config| config.locals = place);
        Ok(())
    }

    /// The slot of a local address: its own, or one that nothing refers to.
    fn local_slot(&mut self, ip: IpAddr, slots: &mut Slots) -> Result<u32> {
        let (address, family) = (convert::address(ip), u32::from(Family::of(ip).number()));
        let mut free = None;
        for at in 1..LOCAL_ADDRESSES {
            let local = self.locals.get(at);
            if local.family == family && local.address == address {
                slots.locals.insert(at);
                return Ok(at);
            }
            let rested = self.settings().now_ns.saturating_sub(local.removed) > GRACE;
            let unused = local.pools == 0 && local.conns == 0 && !slots.locals.contains(&at);
            if free.is_none() && (local.family == 0 || unused && rested) {
                free = Some(at);
            }
            if local.family == 0 {
                break;
            }
        }
        let at = free.with_context(|| format!("there is room for {} local addresses", LOCAL_ADDRESSES - 1))?;
        if self.locals.get(at).family != 0 {
            // Whoever had the slot before has left its ports there, none of them taken.
            self.forget_ports(|key, _| key.local == at)?;
        }
        self.locals.set(at, LocalAddress { address, family, ..LocalAddress::default() });
        slots.locals.insert(at);
        Ok(at)
    }

    /// What follows from pools that have come into force: which addresses are in any, and what the host does with them.
    pub fn settle_locals(&mut self) -> Result<()> {
        let mut pools = vec![0u32; LOCAL_ADDRESSES as usize];
        for id in (0..self.settings().services_used).map(ServiceId::new) {
            if id == DEFAULT || self.is_present(id) {
                for at in self.pool(id)? {
                    if let Some(count) = pools.get_mut(at as usize) {
                        *count += 1;
                    }
                }
            }
        }
        let now = self.settings().now_ns.max(1);
        for (at, count) in (0..).zip(pools).skip(1) {
            if field!(self.locals, at, family) == 0 {
                break;
            }
            put!(self.locals, at, pools, count);
            let removed = field!(self.locals, at, removed);
            put!(self.locals, at, removed, if count != 0 { 0 } else { removed.max(now) });
        }
        self.know_the_host()
    }

    /// Keeps the ports that the host uses by itself from being given out, where it has a local address.
    pub fn know_the_host(&mut self) -> Result<()> {
        if field!(self.locals, 1, family) == 0 {
            return Ok(());
        }
        let (own, ephemeral) = (own_addresses()?, Ephemeral::read()?);
        for at in 1..LOCAL_ADDRESSES {
            if field!(self.locals, at, family) == 0 {
                break;
            }
            let host = own.contains(&field!(self.locals, at, address));
            let (first, last) = if host { (ephemeral.first, ephemeral.last) } else { (0, 0) };
            put!(self.locals, at, host_first, first);
            put!(self.locals, at, host_last, last);
        }
        Ok(())
    }

    /// Forgets which ports are taken toward real servers that are gone for long enough that no packet still knows them.
    pub fn prune_ports(&mut self) -> Result<()> {
        if field!(self.locals, 1, family) == 0 {
            return Ok(());
        }
        let settings = self.settings();
        let mut known = HashSet::new();
        for id in settings.dest_slots() {
            let config = self.dest_config(id);
            let idle = self.idle.get(id);
            let recent = idle.is_idle() && idle.age(settings.now_ns) <= GRACE;
            let may_be_used = config.flags & dest_flags::AVAILABLE != 0 || recent;
            if config.forward == Mode::FULLNAT && field!(self.dests, id, slot) == dest_slot::USED && may_be_used {
                known.insert((field!(self.dests, id, address), field!(self.dests, id, port)));
            }
        }
        // A mark's real server without a port has whatever port the packet had.
        self.forget_ports(|key, ports| {
            ports.taken == 0 && !known.contains(&(key.real, key.real_port)) && !known.contains(&(key.real, Be16::ZERO))
        })
    }

    /// Forgets ports toward real servers for which `gone` says so.
    fn forget_ports(&self, mut gone: impl FnMut(&PortKey, &Ports) -> bool) -> Result<()> {
        let mut map = self.open_hash::<Pod<PortKey>, Pod<Ports>>("PORTS")?;
        let context = "cannot look through map PORTS";
        let keys = map.keys().collect::<std::result::Result<Vec<_>, _>>().context(context)?;
        for key in keys {
            // One that is not there any more is what was wanted.
            if map.get(&key, 0).is_ok_and(|ports| gone(&key.0, &ports.0)) {
                map.remove(&key).or_else(|error| if absent(&error) { Ok(()) } else { Err(error) })?;
            }
        }
        Ok(())
    }
}
