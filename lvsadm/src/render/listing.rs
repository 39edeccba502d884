//! Listings of services and destinations.

use std::fmt::Write;

use super::label::{Labels, tunnel};
use super::numbers::{exact, scaled};
use crate::grammar::flags::flags;
use crate::grammar::{Dialect, Mode};
use lvs_director::rules::{DestinationEntry, Service, ServiceEntry, ServiceKey, flag_names, scheduler_name};

/// A listing.
pub struct Listing<'a> {
    /// How names are written.
    pub labels: Labels<'a>,
    /// Its columns.
    pub mode: Mode,
    /// Whether numbers are written whole.
    pub exact: bool,
}

impl Listing<'_> {
    /// Titles of the columns.
    pub fn titles(&self) -> &'static str {
        match self.mode {
            Mode::Statistics => {
                "Prot LocalAddress:Port               Conns   InPkts  OutPkts  InBytes OutBytes\n  \
                 -> RemoteAddress:Port\n"
            }
            Mode::Rates => {
                "Prot LocalAddress:Port                 CPS    InPPS   OutPPS    InBPS   OutBPS\n  \
                 -> RemoteAddress:Port\n"
            }
            Mode::Thresholds => {
                "Prot LocalAddress:Port            Uthreshold Lthreshold ActiveConn InActConn \n  \
                 -> RemoteAddress:Port\n"
            }
            Mode::Persistent => {
                "Prot LocalAddress:Port            Weight    PersistConn ActiveConn InActConn \n  \
                 -> RemoteAddress:Port\n"
            }
            Mode::Tunnels => {
                "Prot LocalAddress:Port Scheduler Flags\n  \
                 -> RemoteAddress:Port           Forward TunnelInfo    Weight ActiveConn InActConn\n"
            }
            Mode::Default => {
                "Prot LocalAddress:Port Scheduler Flags\n  \
                 -> RemoteAddress:Port           Forward Weight ActiveConn InActConn\n"
            }
        }
    }

    /// Appends a service and its destinations.
    pub fn entry(&mut self, text: &mut String, entry: &ServiceEntry) {
        let name = self.labels.service(&entry.service.key);
        match self.mode {
            Mode::Statistics | Mode::Rates => {
                let _ = write!(text, "{name:<33}");
                let values = match self.mode {
                    Mode::Statistics => {
                        let counted = &entry.statistics;
                        [counted.conns, counted.in_packets, counted.out_packets, counted.in_bytes, counted.out_bytes]
                    }
                    _ => {
                        let rates = &entry.rates;
                        [rates.conns, rates.in_packets, rates.out_packets, rates.in_bytes, rates.out_bytes]
                    }
                };
                values.into_iter().for_each(|value| self.number(text, value));
            }
            _ => {
                text.push_str(&name);
                configuration(text, &entry.service, self.labels.dialect());
            }
        }
        text.push('\n');
        for destination in &entry.destinations {
            self.destination(text, destination, &entry.service.key);
        }
    }

    fn destination(&mut self, text: &mut String, entry: &DestinationEntry, service: &ServiceKey) {
        let destination = &entry.destination;
        let name = self.labels.destination(destination, service);
        let _ = write!(text, "  -> {name:<28}");
        let (weight, active, inactive) = (destination.weight, entry.active, entry.inactive);
        let _ = match self.mode {
            Mode::Statistics => {
                let counted = &entry.statistics;
                let values =
                    [counted.conns, counted.in_packets, counted.out_packets, counted.in_bytes, counted.out_bytes];
                values.into_iter().for_each(|value| self.number(text, value));
                Ok(())
            }
            Mode::Rates => {
                // Connections and packets of destinations are never scaled.
                let rates = &entry.rates;
                [rates.conns, rates.in_packets, rates.out_packets].into_iter().for_each(|value| exact(text, value));
                [rates.in_bytes, rates.out_bytes].into_iter().for_each(|value| self.number(text, value));
                Ok(())
            }
            Mode::Thresholds => {
                let (upper, lower) = (destination.upper, destination.lower);
                write!(text, " {upper:<10} {lower:<10} {active:<10} {inactive:<10}")
            }
            Mode::Persistent => {
                write!(text, " {weight:<9} {:<11} {active:<10} {inactive:<10}", entry.persistent)
            }
            Mode::Tunnels | Mode::Default => {
                let forward = self.labels.forward(destination.forward);
                let _ = write!(text, " {forward:<7}");
                if self.mode == Mode::Tunnels {
                    let _ = write!(text, " {:<13}", tunnel(destination));
                }
                write!(text, " {weight:<6} {active:<10} {inactive:<10}")
            }
        };
        text.push('\n');
    }

    fn number(&self, text: &mut String, value: u64) {
        if self.exact { exact(text, value) } else { scaled(text, value) }
    }
}

/// Appends what follows a service's name.
fn configuration(text: &mut String, service: &Service, dialect: Dialect) {
    let _ = write!(text, " {}", scheduler_name(service.scheduler));
    let names = flag_names(service.scheduler, service.flags);
    if !names.is_empty() {
        let _ = write!(text, " ({names})");
    }
    if service.is_persistent() {
        let _ = write!(text, " persistent {}", service.timeout);
        if !service.netmask.is_full() {
            let _ = write!(text, " mask {}", service.netmask);
        }
        if let Some(engine) = service.engine {
            let _ = write!(text, " pe {}", engine.name());
        }
    }
    if service.is_one_packet() {
        text.push_str(" ops");
    }
    if dialect == Dialect::Own {
        for word in flags().filter_map(|flag| (flag.listed)(service)) {
            let _ = write!(text, " {word}");
        }
    }
}
