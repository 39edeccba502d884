//! What `lvsadm` tells in a namespace, for tests to look at.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use serde::Deserialize;
use serde_json::Value;

use super::namespace::Namespace;

/// A destination's weight and how much refers to it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct Counts {
    /// Its weight.
    pub weight: u32,
    /// Active connections.
    #[serde(rename = "active_connections")]
    pub active: u32,
    /// Inactive connections.
    #[serde(rename = "inactive_connections")]
    pub inactive: u32,
    /// Templates.
    #[serde(rename = "persistent_connections")]
    pub persistent: u32,
}

impl Namespace {
    /// What `lvsadm` prints as JSON; `arguments` ask for that.
    pub fn json(&self, arguments: &str) -> Result<Value> {
        Ok(serde_json::from_str(&self.lvsadm(arguments)?)?)
    }

    /// The destinations of a service, which is named as for `-L`, by their addresses.
    pub fn destinations(&self, service: &str) -> Result<BTreeMap<String, Counts>> {
        let services = self.json(&format!("-L {service} --json"))?;
        let listed = services[0]["destinations"].as_array().context("no such service")?;
        let entry = |value: &Value| {
            let address = value["address"].as_str().context("no address")?.to_owned();
            Ok((address, Counts::deserialize(value)?))
        };
        listed.iter().map(entry).collect()
    }

    /// The connections and templates, as `-L -c --json` has them.
    pub fn connections(&self) -> Result<Vec<Value>> {
        self.json("-L -c --json")?.as_array().cloned().context("no list")
    }

    /// How many packets left the data plane in a way.
    pub fn exit(&self, name: &str) -> Result<u64> {
        self.exits()?.get(name).copied().context("no such exit")
    }

    /// Packets of every exit.
    pub fn exits(&self) -> Result<BTreeMap<String, u64>> {
        let status = self.json("status --json")?;
        let exits = status["packets"].as_array().context("no exits")?;
        let entry = |exit: &serde_json::Value| Some((exit["exit"].as_str()?.to_owned(), exit["packets"].as_u64()?));
        exits.iter().map(|exit| entry(exit).context("no exit")).collect()
    }
}
