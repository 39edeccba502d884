//! A master: sends what the data plane announces to the group.

use std::borrow::Cow;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use lvs_common::abi::{AF_INET, Announcement, EngineKey, EntryKind, Mode, SyncCounters, conn_flags};
use lvs_common::sync::{Engine, Local, Message, Push, Record, Version, Writer, flags};
use nix::sys::signalfd::SignalFd;

use super::carrier::Carrier;
use super::residents::Residents;
use super::seal::{self, Seal};
use super::sockets::{self, Received, Receiver, Sender};
use super::transfer::Transfer;
use super::wait::{End, readable, wait};
use crate::dataplane::announcements::Announcements;
use crate::dataplane::error::Result;
use crate::dataplane::kernel::ticks_per_second;
use crate::dataplane::plane::Plane;
use crate::director::Access;
use crate::rules::Daemon;

/// How long announcements are collected for a message.
const COLLECTED: Duration = Duration::from_millis(20);
/// How often the master looks whether its data plane is still there, at least.
const LOOKS: Duration = Duration::from_secs(1);
/// Most announcements that are read at a time.
const AT_ONCE: usize = 16384;
/// The name of the one persistence engine.
const SIP: &[u8] = b"sip";

/// A master at work.
pub struct Master {
    plane: Plane,
    announcements: Announcements,
    sockets: Vec<Sender>,
    /// Hears backups that have just begun.
    questions: Receiver,
    /// What messages are sealed with, and questions opened.
    seal: Option<Seal>,
    carrier: Carrier,
    residents: Residents,
    transfer: Transfer,
    syncid: u8,
    buffer: Vec<u8>,
    waiting: Vec<Announcement>,
}

impl Master {
    /// Opens its sockets. What was announced before is nobody's news.
    pub fn new(daemon: &Daemon, device: u32, plane: Plane) -> Result<Self> {
        let sysctls = plane.settings().sysctls;
        let open = |number| sockets::sender(daemon, device, number, sysctls.sync_sock_size as usize);
        let ports = sysctls.sync_ports as u16;
        let sockets = (0..ports).map(open).collect::<std::io::Result<_>>()?;
        let questions = sockets::receiver(daemon, device, sockets::questions(daemon, ports), 0)?;
        let seal = Seal::with(daemon.key.as_deref())?;
        let overhead = if seal.is_some() { seal::OVERHEAD } else { 0 };
        let mut announcements = plane.announcements()?;
        announcements.read(usize::MAX, |_| {});
        let (syncid, buffer) = (daemon.syncid, vec![0; usize::from(daemon.maxlen).saturating_sub(overhead)]);
        let carrier = Carrier::watch(device)?;
        Ok(Master {
            plane,
            announcements,
            sockets,
            questions,
            seal,
            carrier,
            residents: Residents::new(),
            transfer: Transfer::default(),
            syncid,
            buffer,
            waiting: Vec::new(),
        })
    }

    /// The data plane, to note there what runs.
    pub fn plane(&mut self) -> &mut Plane {
        &mut self.plane
    }

    /// Works until the process is told to end, or its data plane is gone.
    pub fn work(&mut self, stop: &SignalFd) -> Result<End> {
        let mut looked = Instant::now();
        // Whoever listens already knows nothing of what is in the table.
        self.transfer.ask();
        loop {
            let mut descriptors = [
                readable(self.announcements.as_fd()),
                readable(stop.as_fd()),
                readable(self.questions.as_fd()),
                readable(self.carrier.as_fd()),
            ];
            let ready = wait(&mut descriptors, self.transfer.pause(LOOKS))?;
            if ready[1] || ready[0] && wait(&mut descriptors[1..2], COLLECTED)?[0] {
                return Ok(End::Told);
            }
            if ready[2] && self.is_asked() {
                self.transfer.ask();
            }
            // Backups have missed what was sent meanwhile.
            if ready[3] && self.carrier.has_come()? {
                self.transfer.ask();
            }
            let part = self.transfer.part(&self.plane);
            self.send(&part);
            self.send_announced();
            if looked.elapsed() >= LOOKS {
                looked = Instant::now();
                if !self.plane.directory.lock_again(Access::Read)? {
                    return Ok(End::Gone);
                }
                self.plane.directory.unlock();
                if self.residents.have_left(&self.plane.daemon_processes()) {
                    return Ok(End::Told);
                }
            }
        }
    }

    /// Sends what has been announced.
    fn send_announced(&mut self) {
        let mut waiting = std::mem::take(&mut self.waiting);
        loop {
            self.announcements.read(AT_ONCE, |announcement| waiting.push(*announcement));
            self.send(&waiting);
            let is_all = waiting.len() < AT_ONCE;
            waiting.clear();
            if is_all {
                break;
            }
        }
        self.waiting = waiting;
    }

    /// Sends announcements. What cannot be sent is counted.
    fn send(&mut self, announcements: &[Announcement]) {
        if announcements.is_empty() {
            return;
        }
        let version = match self.plane.settings().sysctls.sync_version {
            0 => Version::V0,
            _ => Version::V1,
        };
        let (hz, mut counters) = (ticks_per_second(), self.plane.sync().counters);
        let ports = self.sockets.len();
        for (number, socket) in self.sockets.iter().enumerate() {
            // Whatever is told of a client's connections goes to one port, so it arrives in its order.
            let mut own = announcements.iter().filter(|a| port(a, ports) == number).peekable();
            while own.peek().is_some() {
                let mut writer = Writer::new(&mut self.buffer, version, self.syncid);
                let mut count = 0;
                while let Some(announcement) = own.peek() {
                    let key = EngineKey { entry: announcement.entry, family: announcement.family.into() };
                    let data = (announcement.kind == EntryKind::TEMPLATE && announcement.engine != 0)
                        .then(|| self.plane.engine_data(key))
                        .flatten();
                    let text = data.as_ref().and_then(|data| data.text.get(..data.length as usize));
                    let engine = text.map(|data| Engine { name: SIP, data });
                    let pushed = record(announcement, engine, &self.plane, hz)
                        .map_or(Push::Never, |record| writer.push(&record));
                    match pushed {
                        Push::Full => break,
                        Push::Never => counters.unsayable += 1,
                        Push::Done => count += 1,
                    }
                    own.next();
                }
                let message = writer.finish();
                if !message.is_empty() {
                    let sent = match &mut self.seal {
                        None => socket.send(message),
                        Some(seal) => socket.send(&seal.sealer.seal(message)),
                    };
                    note(&mut counters, sent, count);
                }
            }
        }
        self.plane.set_sync_counters(&counters);
    }

    /// Whether a backup of this syncid, or of all, asks for the whole table. Messages of other masters are for backups.
    fn is_asked(&mut self) -> bool {
        let mut is_asked = false;
        let mut buffer = [0; 16 + seal::OVERHEAD];
        while let Ok(received) = self.questions.receive(&mut buffer) {
            let Received::Datagram(datagram) = received else { continue };
            let opened = match &mut self.seal {
                None => Some(Cow::Borrowed(datagram)),
                Some(seal) => seal.opener.open(datagram).map(Cow::Owned),
            };
            let question = opened.as_deref().map(Message::parse);
            is_asked |= matches!(question, Some(Ok(it)) if it.count() == 0 && [0, self.syncid].contains(&it.syncid));
        }
        is_asked
    }
}

/// Counts a message that was sent, or not.
fn note(counters: &mut SyncCounters, sent: std::io::Result<()>, connections: u64) {
    match sent {
        Ok(_) => {
            counters.sent_messages += 1;
            counters.sent_connections += connections;
        }
        Err(_) => counters.send_failures += 1,
    }
}

/// The number of the port that an announcement goes to.
fn port(announcement: &Announcement, ports: usize) -> usize {
    let client = announcement.client.fold() ^ u32::from(announcement.client_port.get());
    (client.wrapping_mul(0x9e37_79b1) >> 16) as usize % ports.max(1)
}

/// What a message says of an announcement; nothing if the protocol has no words for it.
fn record<'a>(a: &Announcement, engine: Option<Engine<'a>>, plane: &Plane, hz: u32) -> Option<Record<'a>> {
    let is_template = a.kind == EntryKind::TEMPLATE;
    if a.engine != 0 && is_template && engine.is_none() {
        return None;
    }
    // Of a real server of the other family, the entry has no address.
    let other_real = if a.real == Default::default() { Some(plane.other_real(a.dest, a.family)?) } else { None };
    let local = match a.forward {
        Mode::FULLNAT if is_template => Some(Local::default()),
        Mode::FULLNAT => Some(Local {
            address: plane.local_address(a.local_id)?,
            port: a.local_port,
            toa_state: a.toa_state as u8,
            first: a.first,
        }),
        _ => None,
    };
    let is_assured = a.state & conn_flags::ASSURED != 0;
    let is_inactive = if is_template { !is_assured } else { a.state & conn_flags::INACTIVE != 0 };
    let is_translated = [Mode::MASQ, Mode::FULLNAT].contains(&a.forward);
    let is_one_way = if is_template { !is_translated } else { a.state & conn_flags::NO_OUTPUT != 0 };
    let flag = |holds: bool, flag: u32| if holds { flag } else { 0 };
    let forward = if is_translated { Mode::MASQ } else { a.forward }.forward()? as u32;
    Some(Record {
        is_v6: a.family != AF_INET,
        protocol: a.protocol,
        flags: forward
            | flag(is_one_way, flags::NO_OUTPUT)
            | flag(is_inactive, flags::INACTIVE)
            | flag(is_template, flags::TEMPLATE),
        state: if is_template { u16::from(is_assured) } else { (a.state & conn_flags::STATE) as u16 },
        client_port: a.client_port,
        virt_port: a.virt_port,
        real_port: a.real_port,
        fwmark: a.fwmark,
        timeout: a.timeout / hz.max(1),
        client: a.client,
        virt: a.virt,
        real: a.real,
        other_real,
        local,
        engine,
        ..Record::default()
    })
}
