//! Tunnels between namespaces: tun devices, whose packets have no Ethernet header, and a thread that carries the packets.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use anyhow::{Context, Result};
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::namespace::Namespace;
use crate::cannot_run;

nix::ioctl_write_ptr_bad!(set_interface, libc::TUNSETIFF, libc::ifreq);

/// Where tun devices come from.
const CLONES: &str = "/dev/net/tun";

/// A tunnel; dropped, its devices are gone.
pub struct Tunnel {
    stop: Arc<AtomicBool>,
    carrier: Option<JoinHandle<()>>,
}

impl Tunnel {
    /// Lays a tunnel between device `a.1` of one namespace and device `b.1` of another.
    pub fn lay(a: (&Namespace, &str), b: (&Namespace, &str)) -> Result<Self> {
        let ends = [device(a)?, device(b)?];
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let carrier = thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                // An end whose namespace is gone carries nothing any more.
                let _ = carry(&ends);
            }
        });
        Ok(Tunnel { stop, carrier: Some(carrier) })
    }

    /// Whether there can be such devices here; a test is said to be ignored if not.
    pub fn is_possible() -> bool {
        let possible = Path::new(CLONES).exists();
        if !possible {
            cannot_run("this kernel has no tun devices");
        }
        possible
    }
}

impl Drop for Tunnel {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(carrier) = self.carrier.take() {
            let _ = carrier.join();
        }
    }
}

/// Makes a device and turns it on.
fn device((namespace, name): (&Namespace, &str)) -> Result<File> {
    let file = namespace.enter(|| {
        let file = OpenOptions::new().read(true).write(true).open(CLONES).context(CLONES)?;
        // SAFETY: all-zero bytes are a value of this plain structure.
        let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
        for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
            *to = from as libc::c_char;
        }
        request.ifr_ifru.ifru_flags = (libc::IFF_TUN | libc::IFF_NO_PI) as libc::c_short;
        // SAFETY: the request outlives the call, which reads and writes it.
        unsafe { set_interface(file.as_raw_fd(), &raw const request) }.context("cannot make a tun device")?;
        Ok(file)
    })?;
    namespace.ip(&[format!("link set {name} up")])?;
    Ok(file)
}

/// Carries what has come to either end to the other one.
fn carry(ends: &[File; 2]) -> Result<()> {
    let mut ready = ends.each_ref().map(|end| PollFd::new(end.as_fd(), PollFlags::POLLIN));
    poll(&mut ready, PollTimeout::from(50u8))?;
    let came = ready.map(|fd| fd.any().unwrap_or(false));
    let mut packet = vec![0; 65536];
    for (at, _) in came.iter().enumerate().filter(|(_, came)| **came) {
        let (mut from, mut to) = (&ends[at], &ends[1 - at]);
        let length = from.read(&mut packet)?;
        // A device that is down takes nothing, as a cable that is cut.
        let _ = to.write(&packet[..length]);
    }
    Ok(())
}
