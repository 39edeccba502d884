//! Destinations in the maps.

use std::net::{IpAddr, SocketAddr, UdpSocket};

use lvs_common::abi::{Address, DestId, Destination as Slot, NextHop, ServiceId, Switch, dest_slot};
use lvs_common::sched::change::Change;
use lvs_common::sched::overload;

use super::convert;
use super::plane::Plane;
use super::slots::Slots;
use crate::director::{Error, Result};
use crate::rules::{Destination, DestinationKey, Family, ServiceKey};

impl Plane {
    /// The destination of a service with this address and port.
    pub fn find_dest(&self, service: ServiceId, key: &DestinationKey) -> Option<DestId> {
        let (address, port) = (convert::address(key.address), key.port.to_be());
        let family = Family::of(key.address).number();
        self.list(service).into_iter().find(|id| {
            let slot = self.dests.get(*id);
            slot.address == address && slot.port == port && slot.family == family
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
        let serial = self.services.get(service).serial;
        let id = match slots.revive(key, &destination.key) {
            Some(id) => {
                let target = self.dests.at(id);
                let stale = self.dests.get(id).service_serial != serial;
                // SAFETY: fields of the element, which no packet schedules to.
                unsafe {
                    if stale {
                        let counted = self.counted(id);
                        (&raw mut (*target).origin).write_volatile(counted);
                        (&raw mut (*target).base).write_volatile(counted);
                    }
                    (&raw mut (*target).service).write_volatile(service);
                    (&raw mut (*target).service_serial).write_volatile(serial);
                    (&raw mut (*target).deleted).write_volatile(0);
                }
                id
            }
            None => {
                let id = slots.take_dest(self).ok_or(Error::NoMemory)?;
                let before = self.dests.get(id);
                let slot = Slot {
                    switch: Switch::at(self.settings().epoch, 0),
                    address: convert::address(destination.key.address),
                    port: destination.key.port.to_be(),
                    family: destination.family().number(),
                    slot: dest_slot::USED,
                    service,
                    service_serial: serial,
                    hop: NextHop::default(),
                    origin: before.origin,
                    base: before.base,
                    ..Slot::default()
                };
                self.dests.set(id, slot);
                id
            }
        };
        if let Some(source) = source_toward(destination.key.address) {
            // SAFETY: a field of the element.
            unsafe { (&raw mut (*self.dests.at(id)).source).write_volatile(source) }
        }
        let slot = self.dests.get(id);
        self.watch_address(slot.address, slot.family, false);
        let head = self.service_config(service).head;
        self.change_dest(id, |config| {
            *config = convert::dest_config(destination, config);
            config.next = head;
        });
        self.change_service(service, |config| {
            config.head = id;
            config.dest_count += 1;
        });
        self.refresh(service, Change::Added)
    }

    /// Stages an edit of a destination.
    pub fn rewrite_dest(&mut self, service: ServiceId, id: DestId, destination: &Destination) -> Result<()> {
        let before = self.dest_config(id);
        self.change_dest(id, |config| *config = convert::dest_config(destination, config));
        if overload::edit_clears(before.upper, destination.upper) {
            // SAFETY: a field of the element.
            unsafe { (&raw mut (*self.dests.at(id)).overloaded).write_volatile(0) }
        }
        self.refresh(service, Change::Edited)
    }

    /// Stages the removal of a destination from its service's list. Connections keep referring to it.
    pub fn unlink_dest(&mut self, service: ServiceId, id: DestId) -> Result<()> {
        let ids = self.list(service);
        let at = ids.iter().position(|dest| *dest == id).ok_or(Error::NotFound)?;
        let predecessor = if at == 0 { 0 } else { ids[at - 1] };
        let next = self.dest_config(id).next;
        if predecessor == 0 {
            self.change_service(service, |config| config.head = next);
        } else {
            self.change_dest(predecessor, |config| config.next = next);
        }
        self.change_service(service, |config| config.dest_count -= 1);
        self.retire_dest(id);
        self.refresh(service, Change::Removed { dest: id, predecessor })
    }

    /// Stages that a destination is not configured any more.
    pub fn retire_dest(&mut self, id: DestId) {
        self.change_dest(id, |config| config.flags = 0);
        let now = self.settings().now_ns.max(1);
        // SAFETY: a field of the element.
        unsafe { (&raw mut (*self.dests.at(id)).deleted).write_volatile(now) }
    }
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
