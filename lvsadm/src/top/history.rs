//! What rates were before, for trends.

use std::collections::{HashMap, VecDeque};

use lvs_director::rules::ServiceKey;

use crate::snapshot::{Change, Snapshot};

/// How many values a trend has at most.
pub const LENGTH: usize = 40;

/// The last values of everything that has a trend, the newest last.
#[derive(Debug, Default)]
pub struct History {
    total: VecDeque<f64>,
    services: HashMap<ServiceKey, VecDeque<f64>>,
}

impl History {
    /// Remembers a change.
    pub fn push(&mut self, snapshot: &Snapshot, change: &Change) {
        append(&mut self.total, change.total.conns);
        // What is deleted is forgotten.
        let mut before = std::mem::take(&mut self.services);
        for entry in &snapshot.services {
            let key = entry.service.key;
            let mut values = before.remove(&key).unwrap_or_default();
            append(&mut values, change.service(&key).conns);
            self.services.insert(key, values);
        }
    }

    /// New connections in a second, altogether.
    pub fn total(&self, most: usize) -> impl Iterator<Item = f64> + Clone {
        last(Some(&self.total), most)
    }

    /// New connections of a service in a second.
    pub fn service(&self, service: &ServiceKey, most: usize) -> impl Iterator<Item = f64> + Clone {
        last(self.services.get(service), most)
    }
}

fn append(values: &mut VecDeque<f64>, value: f64) {
    if values.len() == LENGTH {
        values.pop_front();
    }
    values.push_back(value);
}

fn last(values: Option<&VecDeque<f64>>, most: usize) -> impl Iterator<Item = f64> + Clone {
    let values = values.into_iter().flatten().copied();
    let skipped = values.clone().count().saturating_sub(most);
    values.skip(skipped)
}
