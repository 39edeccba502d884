//! `--get-laddr`

use std::fmt::Write;

use super::label::Labels;
use lvs_director::rules::{LocalEntry, ServiceKey};

/// What stands for a service where the default pool is meant.
const DEFAULT: &str = "default";

/// Pools of local addresses, laid out as FullNAT's first users know it: each pool's name and size, and its addresses.
pub fn locals(labels: &mut Labels<'_>, pools: &[(Option<ServiceKey>, Vec<LocalEntry>)]) -> String {
    let mut text = row(&["VIP:VPORT", "TOTAL", "SNAT_IP", "CONFLICTS", "CONNS"]);
    for (service, addresses) in pools {
        let (mut name, mut total) =
            (service.map_or(DEFAULT.to_owned(), |key| of(labels, key)), addresses.len().to_string());
        for local in addresses {
            let (address, conflicts, connections) =
                (local.address.to_string(), local.conflicts.to_string(), local.connections.to_string());
            text.push_str(&row(&[&name, &total, &address, &conflicts, &connections]));
            name.clear();
            total.clear();
        }
        if addresses.is_empty() {
            text.push_str(&row(&[&name, &total, "", "", ""]));
        }
    }
    text
}

/// A service in the first column: the protocol is not said there.
fn of(labels: &mut Labels<'_>, key: ServiceKey) -> String {
    match key {
        ServiceKey::Address { protocol, address, port } => labels.endpoint(address, port, Some(protocol)),
        ServiceKey::Fwmark { .. } => labels.service(&key),
    }
}

/// The columns.
fn row(columns: &[&str; 5]) -> String {
    let [service, total, address, conflicts, connections] = columns;
    let mut text = String::new();
    let _ = write!(text, "{service:<20} {total:<8} {address:<20} {conflicts:<10} {connections:<10}");
    text.truncate(text.trim_end().len());
    text.push('\n');
    text
}
