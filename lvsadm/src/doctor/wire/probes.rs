//! Questions to hosts, and their answers.

use std::io;
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::packets::{self, Reply, Tunnelled};
use super::sockets::{PacketSocket, Packets, RawSocket};
use crate::doctor::facts::Answer;

/// How long answers are waited for after each time that questions are sent.
pub const PAUSES: [Duration; 3] = [Duration::from_millis(200), Duration::from_millis(300), Duration::from_millis(400)];

/// Questions that are asked at a time.
const AT_ONCE: usize = 2048;

/// Ids of questions: from here on, below the ports that the kernel gives out least of all.
const IDS: u16 = 61_000;

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Whether a host is there (a ping).
    Echo,
    /// Whether it accepts connections to a port.
    Syn(u16),
}

/// The way of a question.
#[derive(Clone, Copy, Debug)]
pub enum Path {
    /// As the kernel routes it.
    Route,
    /// To a MAC address on a device's network.
    Neighbour(u32, [u8; 6]),
    /// In a tunnel, which the kernel routes.
    Tunnel(Tunnelled),
}

/// A question.
#[derive(Clone, Copy, Debug)]
pub struct Probe {
    /// Who asks.
    pub from: IpAddr,
    /// Whom.
    pub to: IpAddr,
    /// What.
    pub kind: Kind,
    /// The way.
    pub path: Path,
    /// Bytes of the packet, without the tunnel; 0 for as few as can be.
    pub size: usize,
}

/// Waits as long as `goes_on` says so, and no longer than `pause`; it is asked at first, and whenever something has come.
pub fn wait(
    sockets: &[&PacketSocket],
    pause: Duration,
    mut goes_on: impl FnMut() -> io::Result<bool>,
) -> io::Result<()> {
    let end = Instant::now() + pause;
    while goes_on()? {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(());
        }
        let mut ready: Vec<_> = sockets.iter().map(|socket| PollFd::new(socket.as_fd(), PollFlags::POLLIN)).collect();
        match poll(&mut ready, PollTimeout::from(left.as_millis() as u16 + 1)) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Asks all questions: an answer for each of them. A question without an answer is asked three times.
pub fn ask(probes: &[Probe]) -> io::Result<Vec<Answer>> {
    let wire = Wire::open()?;
    let mut answers = Vec::with_capacity(probes.len());
    for probes in probes.chunks(AT_ONCE) {
        answers.extend(wire.ask(probes)?);
    }
    Ok(answers)
}

/// The sockets.
struct Wire {
    id: u16,
    /// By family; a kernel may lack one.
    raw: [Option<RawSocket>; 2],
    four: PacketSocket,
    six: PacketSocket,
}

impl Wire {
    fn open() -> io::Result<Self> {
        let id = IDS + (std::process::id() % u32::from(u16::MAX - IDS)) as u16;
        Ok(Wire {
            id,
            raw: [RawSocket::open(true).ok(), RawSocket::open(false).ok()],
            four: PacketSocket::open(Packets::V4(id))?,
            six: PacketSocket::open(Packets::V6(id))?,
        })
    }

    /// Asks some questions.
    fn ask(&self, probes: &[Probe]) -> io::Result<Vec<Answer>> {
        let mut answers = vec![Answer::Silent; probes.len()];
        for pause in PAUSES {
            for (number, probe) in probes.iter().enumerate().filter(|(number, _)| answers[*number] == Answer::Silent) {
                // What cannot be sent is not answered.
                let _ = self.question(number, probe).map(|packet| self.send(probe, packet));
            }
            wait(&[&self.four, &self.six], pause, || {
                self.take(probes, &mut answers)?;
                Ok(answers.contains(&Answer::Silent))
            })?;
            if !answers.contains(&Answer::Silent) {
                break;
            }
        }
        Ok(answers)
    }

    /// The packet of a question.
    fn question(&self, number: usize, probe: &Probe) -> Option<Vec<u8>> {
        match probe.kind {
            Kind::Echo => packets::echo(probe.from, probe.to, (self.id, number as u16), probe.size),
            Kind::Syn(port) => packets::syn((probe.from, self.id), (probe.to, port), sequence(number), probe.size),
        }
    }

    /// Sends a packet by a question's way.
    fn send(&self, probe: &Probe, packet: Vec<u8>) -> io::Result<()> {
        let routed = |to: IpAddr, packet: &[u8]| match &self.raw[usize::from(to.is_ipv6())] {
            Some(socket) => socket.send(to, packet),
            None => Err(io::ErrorKind::Unsupported.into()),
        };
        match probe.path {
            Path::Route => routed(probe.to, &packet),
            Path::Neighbour(device, mac) => {
                let socket = if probe.to.is_ipv4() { &self.four } else { &self.six };
                socket.send(device, mac, &packet)
            }
            Path::Tunnel(ends) => match packets::tunnelled(&ends, &packet) {
                Some(packet) => routed(ends.to, &packet),
                None => Err(io::ErrorKind::InvalidInput.into()),
            },
        }
    }

    /// Takes the answers that have come. A connection that was accepted is given up at once.
    fn take(&self, probes: &[Probe], answers: &mut [Answer]) -> io::Result<()> {
        for socket in [&self.four, &self.six] {
            while let Some((.., packet)) = socket.receive()? {
                let Some((from, reply)) = packets::reply(&packet, self.id) else { continue };
                let (at, answer) = match reply {
                    Reply::Echo(number) => (usize::from(number), Answer::Echo { port: false }),
                    Reply::Accepted(acknowledged) => (number(acknowledged), Answer::Open),
                    Reply::Refused(acknowledged) => (number(acknowledged), Answer::Refused),
                };
                let Some(probe) = probes.get(at).filter(|probe| probe.to == from) else { continue };
                if let (Reply::Accepted(acknowledged), Kind::Syn(port)) = (reply, probe.kind) {
                    let reset = packets::reset((probe.from, self.id), (probe.to, port), acknowledged);
                    // If it is lost, the host gives up by itself.
                    let _ = reset.map(|packet| self.send(probe, packet));
                }
                answers[at] = answer;
            }
        }
        Ok(())
    }
}

/// The sequence number of a request, which tells its number.
fn sequence(number: usize) -> u32 {
    (number as u32) << 16
}

/// The number of the request that an answer is to: it may acknowledge some bytes of the request.
fn number(acknowledged: u32) -> usize {
    (acknowledged >> 16) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_leads_to_its_request() {
        for at in [0, 1, AT_ONCE - 1] {
            assert!((1..1500).all(|length| number(sequence(at).wrapping_add(length)) == at));
        }
    }
}
