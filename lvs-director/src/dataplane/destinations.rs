//! Destinations in the maps.

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, UdpSocket};

use lvs_common::abi::{
    Address, DestId, Destination as Slot, Forward, Idle, NextHop, ServiceConfig, ServiceId, Switch, dest_slot,
};
use lvs_common::byte_order::Be16;
use lvs_common::sched::change::Change;
use lvs_common::sched::overload;

use super::convert;
use super::mapped::{field, put};
use super::plane::Plane;
use super::services::check_count;
use super::slots::{self, Slots};
use crate::director::{Error, Result};
use crate::rules::{Destination, DestinationKey, Family, ServiceKey};

impl Plane {
    /// The destination of a service with this address and port.
    pub fn find_dest(&self, service: ServiceId, key: &DestinationKey) -> Option<DestId> {
        let (address, port) = (convert::address(key.address), Be16::new(key.port));
        let family = Family::of(key.address).number();
        self.list(service).into_iter().find(|id| {
            field!(self.dests, *id, address) == address
                && field!(self.dests, *id, port) == port
                && field!(self.dests, *id, family) == family
        })
    }

    /// Stages a new destination at the head of a service's list.
    pub fn write_dest(
        &mut self,
        service: ServiceId,
        key: &ServiceKey,
        destination: &Destination,
        slots: &mut Slots,
    ) -> Result<()> {
        self.need_family(destination.key.address.is_ipv6()).map_err(Error::from)?;
        let config = self.service_config(service);
        check_count(config.scheduler, config.dest_count + 1)?;
        let serial = field!(self.services, service, serial);
        let id = match slots.revive(self, key, &destination.key) {
            Some(id) => {
                // Of a service that was deleted meanwhile: what it counted was that one's. No packet schedules to it.
                if field!(self.dests, id, service_serial) != serial {
                    let counted = self.counted(id);
                    put!(self.dests, id, origin, counted);
                    put!(self.dests, id, base, counted);
                }
                put!(self.dests, id, service, service);
                put!(self.dests, id, service_serial, serial);
                id
            }
            None => {
                let id = slots.take_dest(self).ok_or(Error::NoMemory)?;
                let slot = Slot {
                    switch: Switch::at(self.now(), 0),
                    address: convert::address(destination.key.address),
                    port: Be16::new(destination.key.port),
                    family: destination.family().number(),
                    slot: dest_slot::USED,
                    service,
                    service_serial: serial,
                    hop: NextHop::default(),
                    origin: field!(self.dests, id, origin),
                    base: field!(self.dests, id, base),
                    ..Slot::default()
                };
                self.dests.set(id, slot);
                id
            }
        };
        self.watch_address(convert::address(destination.key.address), destination.family().number(), false);
        self.configure_dest(&config, id, destination);
        self.change_dest(id, |dest| dest.next = config.head);
        self.change_service(service, |config| {
            config.head = id;
            config.dest_count += 1;
        });
        self.refresh(service, Change::Added);
        Ok(())
    }

    /// Stages an edit of a destination.
    pub fn rewrite_dest(&mut self, service: ServiceId, id: DestId, destination: &Destination) {
        let config = self.service_config(service);
        self.configure_dest(&config, id, destination);
        self.refresh(service, Change::Edited);
    }

    /// Stages a destination's configuration, of a new one, or one that was there before.
    fn configure_dest(&mut self, service: &ServiceConfig, id: DestId, destination: &Destination) {
        let before = self.dest_config(id);
        self.write_source(id, destination);
        self.note_host(id, destination);
        self.change_dest(id, |dest| *dest = convert::dest_config(service, destination, dest));
        if overload::edit_clears(before.upper, destination.upper) {
            put!(self.dests, id, overloaded, 0);
        }
    }

    /// Notes what the outer header of a tunnel comes from, for a destination that has one.
    fn write_source(&mut self, id: DestId, destination: &Destination) {
        if destination.forward == Forward::Tunnel
            && let Some(source) = source_toward(destination.key.address)
        {
            put!(self.dests, id, source, source);
        }
    }

    /// Notes whether the real server is another host.
    fn note_host(&mut self, id: DestId, destination: &Destination) {
        put!(self.dests, id, remote, u32::from(!is_own(destination.key.address)));
    }

    /// Stages the removal of a destination from its service's list. Connections keep referring to it.
    pub fn unlink_dest(&mut self, service: ServiceId, id: DestId) -> Result<()> {
        let ids = self.list(service);
        let at = ids.iter().position(|dest| *dest == id).ok_or(Error::NotFound)?;
        let predecessor = if at == 0 { DestId::NONE } else { ids[at - 1] };
        let next = self.dest_config(id).next;
        if predecessor.is_none() {
            self.change_service(service, |config| config.head = next);
        } else {
            self.change_dest(predecessor, |config| config.next = next);
        }
        self.change_service(service, |config| config.dest_count -= 1);
        self.retire_dest(id);
        self.refresh(service, Change::Removed { dest: id, predecessor });
        Ok(())
    }

    /// Stages that a destination is not configured any more.
    pub fn retire_dest(&mut self, id: DestId) {
        self.change_dest(id, |config| config.flags = 0);
        let now = field!(self.settings, 0, now_ns);
        self.idle.set(id, Idle::at(now, slots::key(&slots::key_of(self, id))));
        let settings = self.settings();
        self.set(|s| s.idle_dests += 1);
        if settings.sysctls.expire_nodest_conn != 0 {
            put!(self.settings, 0, removal, settings.epoch + 1);
        }
    }
}

/// Whether an address is the host's own, or may be: only such a one can be bound to.
fn is_own(address: IpAddr) -> bool {
    UdpSocket::bind((address, 0)).map_or_else(|error| error.kind() != ErrorKind::AddrNotAvailable, |_| true)
}

/// The director's address on the route to a real server, for the outer header of tunnels on kernels whose FIB look-up does
/// not tell it.
fn source_toward(real_server: IpAddr) -> Option<Address> {
    let any: SocketAddr = match real_server {
        IpAddr::V4(_) => ([0, 0, 0, 0], 0).into(),
        IpAddr::V6(_) => ([0u16; 8], 0).into(),
    };
    let socket = UdpSocket::bind(any).ok()?;
    // No packet is sent: the kernel looks the route up.
    socket.connect((real_server, 9)).ok()?;
    Some(convert::address(socket.local_addr().ok()?.ip()))
}
