//! The data plane's log: which lines it writes, and reading them.

use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use aya::programs::SchedClassifier;
use aya_log::EbpfLogger;
use log::{Log, Metadata, Record};
use lvs_common::abi::DestId;
use lvs_common::exit::{EXITS, OPENED};
use lvs_common::programs::entry;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use super::error::{Context, Error, Result};
use super::plane::Plane;
use super::{convert, devices, pins};
use crate::rules::{LogLevel, Protocol};

/// Prints the lines of this network namespace's data plane as they are written, until the process is told to end.
pub fn follow(plane: Plane) -> Result<()> {
    if pins::log_level(&plane.directory.path()) == LogLevel::Off {
        return Err(Error::NoLog);
    }
    let program = SchedClassifier::from_pin(plane.directory.path().join(entry::LOG))?;
    let id = program.info()?.id();
    let printer = Printer { devices: names(), servers: servers(&plane) };
    // The lock goes with the plane: other commands work beside this one.
    drop(plane);
    let mut logger = EbpfLogger::init_from_id_with_logger(id, printer).context("cannot open the log")?;
    let stop = stop_signal().context("cannot wait for the end")?;
    // SAFETY: the logger keeps its descriptor open for as long as it lives, which is longer than the loop below.
    let lines = unsafe { BorrowedFd::borrow_raw(logger.as_raw_fd()) };
    let mut wait = [PollFd::new(lines, PollFlags::POLLIN), PollFd::new(stop.as_fd(), PollFlags::POLLIN)];
    loop {
        match poll(&mut wait, PollTimeout::NONE) {
            Err(Errno::EINTR) => continue,
            result => result.context("cannot wait for the log")?,
        };
        if wait[1].any().unwrap_or_default() {
            return Ok(());
        }
        logger.flush();
    }
}

/// A descriptor that becomes readable at an interrupt (SIGINT), which does not end the process any more.
fn stop_signal() -> Result<SignalFd> {
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGINT);
    signals.thread_block()?;
    Ok(SignalFd::with_flags(&signals, SfdFlags::SFD_CLOEXEC)?)
}

/// The names of all devices by their indices.
fn names() -> HashMap<u32, String> {
    let all = devices::all().unwrap_or_default();
    all.into_iter().map(|device| (device.link.index, device.link.name)).collect()
}

/// Addresses and ports of all real servers, as they are when the log is opened.
fn servers(plane: &Plane) -> HashMap<DestId, (IpAddr, u16)> {
    let all = plane.settings().dest_slots();
    all.map(|id| {
        let key = convert::dest_key(&plane.dests.get(id));
        (id, (key.address, key.port))
    })
    .collect()
}

/// Writes lines for people. The data plane's are numbers: event, device, destination, protocol, and source and destination
/// with their ports.
struct Printer {
    devices: HashMap<u32, String>,
    servers: HashMap<DestId, (IpAddr, u16)>,
}

impl Log for Printer {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        let text = record.args().to_string();
        let line = self.read(&text).map_or_else(|| text.clone(), |line| line.to_string());
        println!("{:<5} {line}", record.level());
    }

    fn flush(&self) {}
}

/// A line, read.
struct Line<'a> {
    event: String,
    protocol: String,
    from: (IpAddr, u16),
    to: (IpAddr, u16),
    device: Option<&'a str>,
}

impl Printer {
    fn read<'a>(&'a self, text: &str) -> Option<Line<'a>> {
        let mut words = text.split(' ');
        let mut number = || words.next()?.parse::<u32>().ok();
        let (event, device, dest, protocol) = (number()?, number()?, number()?, number()?);
        let named = Protocol::from_number(protocol as u8).map(Protocol::name);
        let mut end = || {
            let (address, port) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
            // Other protocols have something else where ports would be.
            Some((address, if named.is_some() { port } else { 0 }))
        };
        let (from, to) = (end()?, end()?);
        let event = match (event, self.servers.get(&DestId::new(dest))) {
            (OPENED, Some(server)) => format!("new connection to {}", Endpoint(*server)),
            (OPENED, None) => "new connection".to_owned(),
            (exit, _) => EXITS.get(exit as usize)?.0.to_owned(),
        };
        let protocol = named.map_or_else(|| format!("protocol {protocol}"), str::to_owned);
        Some(Line { event, protocol, from, to, device: self.devices.get(&device).map(String::as_str) })
    }
}

impl fmt::Display for Line<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Line { event, protocol, from, to, device } = self;
        write!(f, "{event}: {protocol} {} > {}", Endpoint(*from), Endpoint(*to))?;
        match device {
            Some(device) => write!(f, " on {device}"),
            None => f.write_str(" from the director"),
        }
    }
}

/// An address with its port; port 0 is none.
struct Endpoint((IpAddr, u16));

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            (address, 0) => address.fmt(f),
            (IpAddr::V4(v4), port) => write!(f, "{v4}:{port}"),
            (IpAddr::V6(v6), port) => write!(f, "[{v6}]:{port}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_told_in_words() {
        let printer = Printer {
            devices: HashMap::from([(3, "eth0".to_owned())]),
            servers: HashMap::from([(DestId::new(7), ("192.168.122.101".parse().unwrap(), 80))]),
        };
        let line = |text: &str| printer.read(text).map(|line| line.to_string());
        assert_eq!(
            line("256 3 7 6 10.0.0.1 4000 10.10.10.10 80").unwrap(),
            "new connection to 192.168.122.101:80: tcp 10.0.0.1:4000 > 10.10.10.10:80 on eth0"
        );
        let exit = EXITS.iter().position(|exit| exit.0 == "drop-no-server").unwrap();
        let dropped = format!("{exit} 0 0 17 2001:db8::1 5 2001:db8::2 53");
        assert_eq!(line(&dropped).unwrap(), "drop-no-server: udp [2001:db8::1]:5 > [2001:db8::2]:53 from the director");
        assert_eq!(line("what"), None);
    }

    #[test]
    fn levels_are_aya_logs() {
        assert_eq!(LogLevel::Trace.number(), aya_log::Level::Trace as u8);
        assert_eq!(LogLevel::Error.number(), aya_log::Level::Error as u8);
        assert!(LogLevel::ALL.iter().enumerate().all(|(n, level)| level.number() as usize == n));
    }
}
