//! What the kernel tells by itself over rtnetlink (`rtnetlink(7)`).

use std::io::ErrorKind;

use anyhow::{Context, Result};
use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{AsyncSocket, AsyncSocketExt, SocketAddr, TokioSocket};

/// `RTNLGRP_*`: devices; addresses and forwarding switches of both families.
const GROUPS: [u32; 5] = [
    libc::RTNLGRP_LINK,
    libc::RTNLGRP_IPV4_IFADDR,
    libc::RTNLGRP_IPV6_IFADDR,
    libc::RTNLGRP_IPV4_NETCONF,
    libc::RTNLGRP_IPV6_NETCONF,
];

/// A socket on which events arrive.
pub struct Events(TokioSocket);

impl Events {
    /// Subscribes to them.
    pub fn open() -> Result<Self> {
        let mut socket = TokioSocket::new(NETLINK_ROUTE).context("cannot listen to the kernel's events")?;
        socket.socket_mut().bind(&SocketAddr::new(0, 0)).context("cannot listen to the kernel's events")?;
        for group in GROUPS {
            socket.socket_mut().add_membership(group).context("cannot listen to the kernel's events")?;
        }
        Ok(Events(socket))
    }

    /// Waits for events. Those that have arrived together are one: the agent looks at the state of things, not at what changed.
    pub async fn next(&mut self) -> Result<()> {
        wait(self.0.recv_from_full().await)?;
        loop {
            // Of no use but to be emptied; a message that does not fit is dropped.
            let taken = self.0.socket_mut().recv(&mut &mut [0u8; 1][..], libc::MSG_DONTWAIT);
            match taken {
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                taken => wait(taken)?,
            }
        }
    }
}

/// Whether receiving failed. More events than the socket has room for are as good as one.
fn wait<T>(received: std::io::Result<T>) -> Result<()> {
    match received {
        Err(error) if error.raw_os_error() != Some(libc::ENOBUFS) && error.kind() != ErrorKind::Interrupted => {
            Err(error).context("cannot listen to the kernel's events")
        }
        _ => Ok(()),
    }
}
