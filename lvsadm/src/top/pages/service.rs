//! One service, with its real servers.

use lvs_director::rules::{DestinationEntry, ServiceEntry};

use super::table::{MARK, Row, Table};
use crate::grammar::Dialect;
use crate::render::Labels;
use crate::snapshot::{PerSecond, label};
use crate::top::format::{Column, bar, bits, fitting, line, short};
use crate::top::state::State;

/// The service that was chosen.
pub struct Service<'a>(pub &'a State);

/// What columns are made of.
struct Of {
    listed: DestinationEntry,
    rates: PerSecond,
    /// Share of the service's active connections.
    share: f64,
}

/// How wide a bar is.
const BAR: usize = 20;
/// Least width of a real server's name.
const NAME: usize = 22;

static COLUMNS: [Column<Of>; 13] = [
    Column { title: "FORWARD", width: 7, rank: 1, text: |of| forward(&of.listed) },
    Column { title: "WEIGHT", width: 6, rank: 0, text: |of| of.listed.destination.weight.to_string() },
    Column { title: "ACTIVE", width: 7, rank: 0, text: |of| of.listed.active.to_string() },
    Column { title: "SHARE", width: BAR, rank: 3, text: |of| bar(of.share, BAR) },
    Column { title: "INACT", width: 7, rank: 0, text: |of| of.listed.inactive.to_string() },
    Column { title: "TEMPL", width: 6, rank: 4, text: |of| of.listed.persistent.to_string() },
    Column { title: "CONN/s", width: 7, rank: 0, text: |of| short(of.rates.conns) },
    Column { title: "IN pkt/s", width: 8, rank: 2, text: |of| short(of.rates.in_packets) },
    Column { title: "OUT pkt/s", width: 9, rank: 2, text: |of| short(of.rates.out_packets) },
    Column { title: "IN bit/s", width: 8, rank: 0, text: |of| bits(of.rates.in_bytes) },
    Column { title: "OUT bit/s", width: 9, rank: 0, text: |of| bits(of.rates.out_bytes) },
    Column { title: "CONNS", width: 11, rank: 5, text: |of| of.listed.statistics.conns.to_string() },
    Column { title: "OUT bytes", width: 16, rank: 5, text: |of| of.listed.statistics.out_bytes.to_string() },
];

fn forward(listed: &DestinationEntry) -> String {
    Labels::numeric(Dialect::Own).forward(listed.destination.forward).to_owned()
}

impl Service<'_> {
    fn row_of(&self, entry: &ServiceEntry, listed: &DestinationEntry, width: usize) -> Row {
        let key = entry.service.key;
        let active: u32 = entry.destinations.iter().map(|listed| listed.active).sum();
        let of = Of {
            listed: *listed,
            rates: self.0.change.destination(&key, &listed.destination.key),
            share: f64::from(listed.active) / f64::from(active.max(1)),
        };
        let server = listed.destination.key;
        let name = Labels::numeric(Dialect::Own).endpoint(server.address, server.port, key.protocol());
        let (room, columns) = fitting(&COLUMNS, width.saturating_sub(MARK), NAME);
        let text = line(&name, room, &columns, |column| (column.text)(&of));
        Row::new(listed.destination.weight == 0, &text)
    }
}

impl Table for Service<'_> {
    fn titles(&self, width: usize) -> String {
        let Some(entry) = self.0.chosen_entry() else {
            return " No service is chosen: press Enter on the page of services.".to_owned();
        };
        let name = format!("{} ->", label(&entry.service.key));
        let (room, columns) = fitting(&COLUMNS, width.saturating_sub(MARK), NAME);
        format!(" {}", line(&name, room, &columns, |column| column.title.to_owned()))
    }

    fn count(&self) -> usize {
        self.0.chosen_entry().map_or(0, |entry| entry.destinations.len())
    }

    fn row(&self, at: usize, width: usize) -> Row {
        let entry = self.0.chosen_entry();
        let listed = entry.and_then(|entry| Some((entry, entry.destinations.get(at)?)));
        listed.map_or_else(|| Row::new(false, ""), |(entry, listed)| self.row_of(entry, listed, width))
    }
}
