//! What a message says of connections, under this director's own rules.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::time::Instant;

use lvs_common::abi::{
    AF_INET, AF_INET6, Address, Announcement, DestId, EngineKey, EntryKind, EntryRef, INCOMING, Incoming, Mode,
    ServiceId, Settings, SyncCounters, Timeouts, conn_flags, entered,
};
use lvs_common::sip;
use lvs_common::state::{sctp, tcp};
use lvs_common::sync::{Engine, Message, Record, flags};
use lvs_common::wire::protocol;

use crate::dataplane::announcements::Import;
use crate::dataplane::constants::Constants;
use crate::dataplane::convert::ip;
use crate::dataplane::error::Result;
use crate::dataplane::kernel::ticks_per_second;
use crate::dataplane::plane::Plane;
use crate::director::Access;
use crate::rules::{DestinationKey, Family, Protocol, ServiceKey};

/// Most connections that wait for their real server to be configured.
const MOST_WAITING: usize = 65536;
/// Seconds of a template of which the message does not say it, as from IPVS.
const TEMPLATE: u32 = 180;
/// FTP's port, whose service has the templates of all ports and the connections of unprivileged ones.
const FTP: u16 = 21;
const FTP_DATA: u16 = 20;
const UNPRIVILEGED: u16 = 1024;

/// Services and destinations by what messages name them by.
#[derive(Default)]
struct Index {
    epoch: u64,
    services: HashMap<ServiceKey, ServiceId>,
    destinations: HashMap<(ServiceId, DestinationKey), DestId>,
    locals: HashMap<IpAddr, u32>,
}

/// A connection, or template, that is to be entered.
struct Item {
    incoming: Incoming,
    /// What a persistence engine keyed it with.
    engine: Option<Vec<u8>>,
}

/// One that waits for its real server.
struct Waiting {
    item: Item,
    record: Record<'static>,
    told: Instant,
}

/// Enters connections into a data plane's table.
pub struct Importer {
    plane: Plane,
    counters: SyncCounters,
    index: Index,
    secret: u64,
    import: Import,
    batch: Vec<Item>,
    waiting: VecDeque<Waiting>,
}

impl Importer {
    /// On a loaded data plane.
    pub fn new(plane: Plane) -> Result<Self> {
        let secret = Constants::of(&plane.directory.path())?.secret();
        let import = plane.import()?;
        Ok(Importer {
            plane,
            counters: SyncCounters::default(),
            index: Index::default(),
            secret,
            import,
            batch: Vec::new(),
            waiting: VecDeque::new(),
        })
    }

    /// The data plane.
    pub fn plane(&mut self) -> &mut Plane {
        &mut self.plane
    }

    /// What is counted since [`Importer::begin`].
    pub fn counters(&mut self) -> &mut SyncCounters {
        &mut self.counters
    }

    /// Begins to take messages: nobody changes the rules until [`Importer::finish`]. `false` if the data plane is gone.
    pub fn begin(&mut self) -> Result<bool> {
        if !self.plane.directory.lock_again(Access::Read)? {
            return Ok(false);
        }
        self.counters = self.plane.sync().counters;
        let epoch = self.plane.now();
        if epoch != self.index.epoch {
            self.index = index(&self.plane, epoch);
            self.try_waiting();
        }
        let hz = ticks_per_second();
        let is_over = |waiting: &Waiting| {
            waiting.told.elapsed().as_secs() > u64::from(waiting.item.incoming.announcement.timeout / hz)
        };
        self.waiting.retain(|waiting| !is_over(waiting));
        Ok(true)
    }

    /// Enters what is left, and lets others go on.
    pub fn finish(&mut self) -> Result<()> {
        let entered = self.enter();
        self.plane.set_sync_counters(&self.counters);
        self.plane.set_sync_waiting(self.waiting.len() as u64);
        self.plane.directory.unlock();
        entered
    }

    /// Takes a message: all of it, or nothing if any of its connections makes no sense.
    pub fn take(&mut self, message: &Message<'_>) {
        let settings = self.plane.settings();
        let (unknown, known): (Vec<_>, Vec<_>) = message.records().partition(|record| record.is_unknown);
        let items: Option<Vec<_>> =
            known.into_iter().map(|record| Some((record, item(&record, &settings, self.secret)?))).collect();
        let Some(items) = items else {
            self.counters.malformed += 1;
            return;
        };
        self.counters.ignored += unknown.len() as u64;
        for (record, item) in items {
            self.resolve(item, record, Instant::now());
        }
        if self.batch.len() >= INCOMING as usize
            && let Err(error) = self.enter()
        {
            eprintln!("lvsadm: {}", error.line());
        }
    }

    /// Finds a connection's real server, or has the connection wait for it.
    fn resolve(&mut self, mut item: Item, record: Record<'_>, told: Instant) {
        let Some((dest, local_id)) = self.index.find(&record).zip(self.index.local(&record)) else {
            if self.waiting.len() == MOST_WAITING {
                self.waiting.pop_front();
            }
            self.waiting.push_back(Waiting { item, record: owned(record), told });
            return;
        };
        let mode = self.plane.dest_config(dest).forward;
        let is_between = record.other_real.is_some() && mode != Mode::TUNNEL && mode != Mode::FULLNAT;
        if mode == Mode::BYPASS || is_between || (mode == Mode::FULLNAT) != record.local.is_some() {
            self.counters.ignored += 1;
            return;
        }
        item.incoming.announcement.local_id = local_id;
        item.incoming.announcement.dest = dest;
        item.incoming.announcement.forward = mode;
        if mode != Mode::MASQ && mode != Mode::FULLNAT && item.incoming.announcement.kind == EntryKind::CONNECTION {
            item.incoming.announcement.state |= conn_flags::NO_OUTPUT;
        }
        self.batch.push(item);
    }

    /// Tries what waits again, under other rules.
    fn try_waiting(&mut self) {
        for Waiting { mut item, record, told } in std::mem::take(&mut self.waiting) {
            item.incoming.age = (told.elapsed().as_millis() as u64 * u64::from(ticks_per_second()) / 1000) as u32;
            self.resolve(item, record, told);
        }
    }

    /// Has the data plane enter what is in the batch.
    fn enter(&mut self) -> Result<()> {
        for part in self.batch.chunks(INCOMING as usize) {
            let mut incoming: Vec<Incoming> = part.iter().map(|item| item.incoming).collect();
            self.import.run(&mut incoming)?;
            for (done, item) in incoming.iter().zip(part) {
                match done.result {
                    entered::NEW => self.counters.entered += 1,
                    entered::UPDATED => self.counters.updated += 1,
                    entered::IGNORED => self.counters.ignored += 1,
                    _ => self.counters.no_room += 1,
                }
                if done.result == entered::NEW
                    && let Some(text) = &item.engine
                {
                    let Announcement { entry, family, .. } = done.announcement;
                    let key = EngineKey { entry, family: family.into() };
                    self.plane.remember_engine(key, text);
                }
            }
        }
        self.batch.clear();
        Ok(())
    }
}

/// A record without anything of its message.
fn owned(record: Record<'_>) -> Record<'static> {
    Record { engine: None, ..record }
}

/// A record as the table is to have it, but for its real server; nothing if it makes no sense.
fn item(record: &Record<'_>, settings: &Settings, secret: u64) -> Option<Item> {
    let is_template = record.is_template();
    let has_flag = |flag: u32| record.flags & flag != 0;
    let states = match record.protocol {
        protocol::TCP => tcp::NAMES.len(),
        protocol::SCTP => sctp::NAMES.len(),
        protocol::UDP => 1,
        // A mark's template is of all protocols.
        0 if is_template && record.fwmark != 0 => 2,
        _ => return None,
    };
    let (state, bit) = (u32::from(record.state), |holds: bool, bit: u32| if holds { bit } else { 0 });
    let word = if is_template {
        bit(state != 0, conn_flags::ASSURED)
    } else if (state as usize) < states {
        state
            | bit(has_flag(flags::INACTIVE), conn_flags::INACTIVE)
            | bit(has_flag(flags::NO_OUTPUT), conn_flags::NO_OUTPUT)
    } else {
        return None;
    };
    let (hash, text) = match record.engine {
        Some(Engine { name, data }) if is_template && (name == b"sip" || name.is_empty()) => {
            (sip::hash(data, secret)?, Some(data.to_vec()))
        }
        Some(_) => return None,
        None => (0, None),
    };
    let seconds = match record.timeout {
        0 if is_template => TEMPLATE,
        0 => seconds_of(record.protocol, state, &settings.timeouts),
        seconds => seconds,
    };
    let local = record.local.unwrap_or_default();
    let announcement = Announcement {
        client: record.client,
        virt: record.virt,
        real: record.real,
        client_port: record.client_port,
        virt_port: record.virt_port,
        real_port: record.real_port,
        protocol: record.protocol,
        kind: if is_template { EntryKind::TEMPLATE } else { EntryKind::CONNECTION },
        forward: Mode::MASQ,
        family: if record.is_v6 { AF_INET6 } else { AF_INET },
        local_port: local.port,
        dest: DestId::NONE,
        state: word,
        timeout: seconds.saturating_mul(ticks_per_second()).min(i32::MAX as u32),
        fwmark: record.fwmark,
        entry: 0,
        engine: hash,
        local_id: 0,
        first: local.first,
        toa_state: local.toa_state.into(),
        pad: 0,
    };
    let in_packets = settings.sysctls.sync_threshold;
    let incoming = Incoming { announcement, in_packets, control: EntryRef::NONE, age: 0, result: 0 };
    Some(Item { incoming, engine: text })
}

/// Seconds of a state, where the message does not say it.
fn seconds_of(protocol: u8, state: u32, timeouts: &Timeouts) -> u32 {
    let of = |table: &[u32; 16]| table.get(state as usize).copied().unwrap_or(0);
    match protocol {
        protocol::TCP => of(&timeouts.tcp),
        protocol::SCTP => of(&timeouts.sctp),
        _ => timeouts.udp,
    }
}

/// Looks through the rules in force.
fn index(plane: &Plane, epoch: u64) -> Index {
    let mut index = Index { epoch, locals: plane.local_addresses().collect(), ..Index::default() };
    for (key, id, destinations) in plane.keys() {
        index.services.insert(key, id);
        index.destinations.extend(destinations.into_iter().map(|(key, dest)| ((id, key), dest)));
    }
    index
}

impl Index {
    /// The number of a record's local address, 0 if it has none; `None` if the address is in no pool here.
    fn local(&self, record: &Record<'_>) -> Option<u32> {
        match record.local {
            Some(local) if !record.is_template() => {
                self.locals.get(&address(local.address, record.is_real_v6())).copied()
            }
            _ => Some(0),
        }
    }

    /// The destination of a record, as IPVS looks for it: by the mark, by address and port, FTP's, and any port.
    fn find(&self, record: &Record<'_>) -> Option<DestId> {
        let family = if record.is_v6 { Family::V6 } else { Family::V4 };
        let virt = address(record.virt, record.is_v6);
        let real = address(record.other_real.unwrap_or(record.real), record.is_real_v6());
        let (virt_port, real_port) = (record.virt_port.get(), record.real_port.get());
        let by_mark = ServiceKey::Fwmark { mark: record.fwmark, family };
        let by_port = |port| {
            let protocol = Protocol::from_number(record.protocol)?;
            self.services.get(&ServiceKey::Address { protocol, address: virt, port })
        };
        let is_ftp =
            record.protocol == protocol::TCP && (virt_port == 0 || virt_port == FTP_DATA || virt_port >= UNPRIVILEGED);
        let service = (record.fwmark != 0)
            .then(|| self.services.get(&by_mark))
            .flatten()
            .or_else(|| by_port(virt_port))
            .or_else(|| if is_ftp { by_port(FTP) } else { None })
            .or_else(|| by_port(0))?;
        let is_masqueraded = record.flags & flags::FORWARD == 0;
        let ports = if record.fwmark != 0 && !is_masqueraded { [0, real_port] } else { [real_port, 0] };
        let by_key = |port| self.destinations.get(&(*service, DestinationKey { address: real, port })).copied();
        ports
            .into_iter()
            .find_map(by_key)
            .or_else(|| if real_port == 0 { by_key(virt_port).or(by_key(FTP)) } else { None })
    }
}

/// An address of a record.
fn address(address: Address, is_v6: bool) -> IpAddr {
    ip(address, if is_v6 { AF_INET6 } else { AF_INET })
}
