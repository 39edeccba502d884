//! All services.

use lvs_director::rules::{ServiceEntry, Statistics, scheduler_name};

use super::table::{MARK, Row, Table};
use crate::snapshot::{PerSecond, label};
use crate::top::format::{Column, bits, fitting, left, line, short, trend};
use crate::top::state::State;

/// The services that are shown.
pub struct Services<'a>(pub &'a State);

/// What columns are made of.
struct Of {
    scheduler: &'static str,
    /// Real servers with a weight, and all.
    servers: (usize, usize),
    active: u32,
    inactive: u32,
    rates: PerSecond,
    statistics: Statistics,
    trend: String,
}

/// How wide a trend is.
const TREND: usize = 20;
/// Least width of a service's name.
const NAME: usize = 24;

static COLUMNS: [Column<Of>; 14] = [
    Column { title: "SCHED", width: 6, rank: 1, text: |of| of.scheduler.to_owned() },
    Column { title: "UP/ALL", width: 7, rank: 0, text: |of| format!("{}/{}", of.servers.0, of.servers.1) },
    Column { title: "ACTIVE", width: 7, rank: 0, text: |of| of.active.to_string() },
    Column { title: "INACT", width: 7, rank: 0, text: |of| of.inactive.to_string() },
    Column { title: "CONN/s", width: 7, rank: 0, text: |of| short(of.rates.conns) },
    Column { title: "TREND", width: TREND, rank: 3, text: |of| left(&of.trend, TREND) },
    Column { title: "IN pkt/s", width: 8, rank: 2, text: |of| short(of.rates.in_packets) },
    Column { title: "OUT pkt/s", width: 9, rank: 2, text: |of| short(of.rates.out_packets) },
    Column { title: "IN bit/s", width: 8, rank: 0, text: |of| bits(of.rates.in_bytes) },
    Column { title: "OUT bit/s", width: 9, rank: 0, text: |of| bits(of.rates.out_bytes) },
    Column { title: "CONNS", width: 11, rank: 4, text: |of| of.statistics.conns.to_string() },
    Column { title: "IN pkts", width: 13, rank: 4, text: |of| of.statistics.in_packets.to_string() },
    Column { title: "OUT pkts", width: 13, rank: 4, text: |of| of.statistics.out_packets.to_string() },
    Column { title: "OUT bytes", width: 16, rank: 5, text: |of| of.statistics.out_bytes.to_string() },
];

/// What the columns of a service are made of.
fn of(state: &State, entry: &ServiceEntry) -> Of {
    let key = &entry.service.key;
    let servers = &entry.destinations;
    Of {
        scheduler: scheduler_name(entry.service.scheduler),
        servers: (servers.iter().filter(|listed| listed.destination.weight != 0).count(), servers.len()),
        active: servers.iter().map(|listed| listed.active).sum(),
        inactive: servers.iter().map(|listed| listed.inactive).sum(),
        rates: state.change.service(key),
        statistics: entry.statistics,
        trend: trend(state.history.service(key, TREND)),
    }
}

impl Table for Services<'_> {
    fn titles(&self, width: usize) -> String {
        let (room, columns) = fitting(&COLUMNS, width.saturating_sub(MARK), NAME);
        format!(" {}", line("SERVICE", room, &columns, |column| column.title.to_owned()))
    }

    fn count(&self) -> usize {
        self.0.places.len()
    }

    fn row(&self, at: usize, width: usize) -> Row {
        let entry = self.0.places.get(at).and_then(|place| self.0.services().get(*place));
        let Some(entry) = entry else { return Row::new(false, "") };
        let of = of(self.0, entry);
        let (room, columns) = fitting(&COLUMNS, width.saturating_sub(MARK), NAME);
        let text = line(&label(&entry.service.key), room, &columns, |column| (column.text)(&of));
        // Without a real server that takes connections, new ones are dropped.
        Row::new(of.servers.0 == 0, &text)
    }
}
