//! Frames as a device sends and receives them.

use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::namespace::Namespace;

/// A packet socket on one device.
pub struct PacketSocket(OwnedFd);

impl PacketSocket {
    /// Sees every frame from now on.
    pub fn open(namespace: &Namespace, device: &str) -> Result<Self> {
        namespace.enter(|| {
            let index = nix::net::if_::if_nametoindex(device).with_context(|| format!("no device {device}"))?;
            let protocol = (libc::ETH_P_ALL as u16).to_be();
            // SAFETY: a plain system call; what it returns is checked before it is owned.
            let raw = unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, protocol.into()) };
            nix::errno::Errno::result(raw)?;
            // SAFETY: the descriptor was just made and nobody else has it.
            let socket = unsafe { OwnedFd::from_raw_fd(raw) };
            // SAFETY: all-zero bytes are a value of this plain structure.
            let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
            address.sll_family = libc::AF_PACKET as u16;
            address.sll_protocol = protocol;
            address.sll_ifindex = index as i32;
            let length = size_of_val(&address) as u32;
            // SAFETY: address and length belong together.
            nix::errno::Errno::result(unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), length) })?;
            Ok(PacketSocket(socket))
        })
    }

    /// Sends a frame.
    pub fn send(&self, frame: &[u8]) -> Result<()> {
        nix::unistd::write(&self.0, frame)?;
        Ok(())
    }

    /// The next frame within `patience` that `wanted` says yes to.
    pub fn receive(&self, patience: Duration, wanted: impl Fn(&[u8]) -> bool) -> Result<Option<Vec<u8>>> {
        let end = Instant::now() + patience;
        let mut buffer = vec![0; 65536];
        loop {
            let left = end.saturating_duration_since(Instant::now()).as_millis().min(60_000) as u16;
            let mut ready = [PollFd::new(self.0.as_fd(), PollFlags::POLLIN)];
            if poll(&mut ready, PollTimeout::from(left))? == 0 {
                return Ok(None);
            }
            let length = nix::unistd::read(&self.0, &mut buffer)?;
            if wanted(&buffer[..length]) {
                return Ok(Some(buffer[..length].to_vec()));
            }
        }
    }
}
