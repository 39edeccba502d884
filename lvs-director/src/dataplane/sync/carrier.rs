//! Whether the device between the directors can carry messages: what is sent meanwhile is lost.

use std::os::fd::{AsRawFd, BorrowedFd};

use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr};

use crate::dataplane::devices;
use crate::dataplane::error::{Context, Result};

/// Watches a device.
#[derive(Debug)]
pub struct Carrier {
    events: Socket,
    device: u32,
    is_up: bool,
}

impl Carrier {
    /// Of the device with this index.
    pub fn watch(device: u32) -> Result<Self> {
        let context = "cannot listen to the kernel's events";
        let mut events = Socket::new(NETLINK_ROUTE).context(context)?;
        events.bind(&SocketAddr::new(0, 0)).context(context)?;
        events.add_membership(libc::RTNLGRP_LINK).context(context)?;
        events.set_non_blocking(true).context(context)?;
        Ok(Carrier { events, device, is_up: devices::has_carrier(device)? })
    }

    /// Readable when [`Carrier::has_come`] may have news.
    pub fn as_fd(&self) -> BorrowedFd<'_> {
        // SAFETY: the descriptor is the socket's, which is open as long as `self` is.
        unsafe { BorrowedFd::borrow_raw(self.events.as_raw_fd()) }
    }

    /// Whether the device has come up again since the last call.
    pub fn has_come(&mut self) -> Result<bool> {
        // The state counts, not what is told of it: events are only taken away. A full socket has lost some, which is an event, too.
        loop {
            match self.events.recv(&mut &mut [0u8; 1][..], 0) {
                Err(error) if error.raw_os_error() != Some(libc::ENOBUFS) => break,
                _ => {}
            }
        }
        let before = std::mem::replace(&mut self.is_up, devices::has_carrier(self.device)?);
        Ok(self.is_up && !before)
    }
}
