//! A backup: has what other directors tell entered into the table.

use std::borrow::Cow;
use std::io;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use nix::sys::signalfd::SignalFd;

use lvs_common::sync::{Message, question};

use super::carrier::Carrier;
use super::importer::Importer;
use super::residents::Residents;
use super::seal::{Opener, Seal};
use super::sockets::{self, Received, Receiver, Sender};
use super::wait::{End, readable, wait};
use crate::dataplane::error::Result;
use crate::dataplane::plane::Plane;
use crate::rules::Daemon;

/// How often the backup looks whether its data plane is still there and what waits can be entered, at least.
const LOOKS: Duration = Duration::from_secs(1);
/// When a backup asks for the whole table, milliseconds from its beginning on: more than once, as a question may be lost.
const QUESTIONS: [u64; 5] = [0, 100, 400, 1000, 2000];
/// Bytes of the sockets' buffers unless `sync_sock_size` says otherwise: the whole table comes at once.
const BUFFER: u32 = 4 << 20;
/// Most messages that are read from a socket at a time.
const AT_ONCE: usize = 64;

/// A backup at work.
pub struct Backup {
    importer: Importer,
    sockets: Vec<Receiver>,
    /// Asks masters for the whole table.
    question: Sender,
    carrier: Carrier,
    residents: Residents,
    /// What messages are opened with, and questions sealed.
    seal: Option<Seal>,
    syncid: u8,
    buffer: Vec<u8>,
}

impl Backup {
    /// Opens its sockets.
    pub fn new(daemon: &Daemon, device: u32, plane: Plane) -> Result<Self> {
        let sysctls = plane.settings().sysctls;
        let buffer = if sysctls.sync_sock_size == 0 { BUFFER } else { sysctls.sync_sock_size } as usize;
        let open = |number| sockets::receiver(daemon, device, number, buffer);
        let ports = sysctls.sync_ports as u16;
        let sockets = (0..ports).map(open).collect::<io::Result<_>>()?;
        let question = sockets::sender(daemon, device, sockets::questions(daemon, ports), 0)?;
        // One byte more than a message may have: one that fills it is too long.
        let buffer = vec![0; usize::from(daemon.maxlen) + 1];
        let seal = Seal::with(daemon.key.as_deref())?;
        let carrier = Carrier::watch(device)?;
        Ok(Backup {
            importer: Importer::new(plane)?,
            sockets,
            question,
            carrier,
            residents: Residents::new(),
            seal,
            syncid: daemon.syncid,
            buffer,
        })
    }

    /// The data plane, to note there what runs.
    pub fn plane(&mut self) -> &mut Plane {
        self.importer.plane()
    }

    /// Asks masters for the whole table.
    fn ask(&mut self) {
        let question = question(self.syncid);
        // A question that is lost is asked again.
        let _ = match &mut self.seal {
            None => self.question.send(&question),
            Some(seal) => self.question.send(&seal.sealer.seal(&question)),
        };
    }

    /// Works until the process is told to end, or its data plane is gone.
    pub fn work(&mut self, stop: &SignalFd) -> Result<End> {
        let (mut began, mut questions) = (Instant::now(), QUESTIONS.map(Duration::from_millis).into_iter());
        let mut next = questions.next();
        loop {
            if next.is_some_and(|after| began.elapsed() >= after) {
                self.ask();
                next = questions.next();
            }
            let time = next.map_or(LOOKS, |after| after.saturating_sub(began.elapsed()).min(LOOKS));
            let mut descriptors: Vec<_> = self.sockets.iter().map(|socket| readable(socket.as_fd())).collect();
            descriptors.extend([readable(self.carrier.as_fd()), readable(stop.as_fd())]);
            let mut ready = wait(&mut descriptors, time)?;
            if ready.pop() == Some(true) {
                return Ok(End::Told);
            }
            // It has missed what masters have told meanwhile.
            if ready.pop() == Some(true) && self.carrier.has_come()? {
                (began, questions) = (Instant::now(), QUESTIONS.map(Duration::from_millis).into_iter());
                next = questions.next();
            }
            if !self.importer.begin()? {
                return Ok(End::Gone);
            }
            let daemons = self.plane().daemon_processes();
            if self.residents.have_left(&daemons) {
                self.importer.finish()?;
                return Ok(End::Told);
            }
            for socket in &self.sockets {
                for _ in 0..AT_ONCE {
                    // An error of the socket's says that there is nothing to read, or that the device is down.
                    let Ok(received) = socket.receive(&mut self.buffer) else { break };
                    take(&mut self.importer, received, self.seal.as_mut().map(|seal| &mut seal.opener), self.syncid);
                }
            }
            self.importer.finish()?;
        }
    }
}

/// Has the importer believe a message, or refuses it. One that is longer than a message may be is not as long as it says.
fn take(importer: &mut Importer, received: Received<'_>, opener: Option<&mut Opener>, syncid: u8) {
    let counters = importer.counters();
    counters.received_messages += 1;
    let Received::Datagram(datagram) = received else {
        counters.foreign += 1;
        return;
    };
    let opened = match opener {
        None => Cow::Borrowed(datagram),
        Some(opener) => match opener.open(datagram) {
            Some(message) => Cow::Owned(message),
            None => {
                counters.unsealed += 1;
                return;
            }
        },
    };
    match Message::parse(&opened) {
        Err(_) => counters.malformed += 1,
        Ok(message) if syncid != 0 && message.syncid != syncid => counters.foreign += 1,
        Ok(message) => importer.take(&message),
    }
}
