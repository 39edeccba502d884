//! What the environment and `/etc/default/lvsadm` say about loading and attaching, where the command line does not.

use std::io::{self, ErrorKind};
use std::{env, fs};

use super::loading::Loading;
use super::sizes::{MOST_DESTINATIONS, MOST_LISTED, MOST_SERVICES, Sizes};
use crate::rules::{AttachMode, LogLevel};

/// Lines of the form `KEY=VALUE`, as a shell reads them; the environment goes before it.
const FILE: &str = "/etc/default/lvsadm";

/// What makes no sense in the environment or the file.
#[derive(Debug, thiserror::Error)]
pub enum DefaultsError {
    /// The file cannot be read.
    #[error("cannot read {FILE}")]
    File(#[source] io::Error),
    /// `LVS_CONNS`, `LVS_SERVICES`, `LVS_DESTINATIONS`, `LVS_LISTS`.
    #[error("{0} is a number from {1} to {2}, not `{3}'")]
    Size(&'static str, u32, u32, String),
    /// `LVS_MODE`.
    #[error("LVS_MODE is auto, native, generic or tc, not `{0}'")]
    Mode(String),
    /// `LVS_LOG`.
    #[error("LVS_LOG is off, error, warn, info, debug or trace, not `{0}'")]
    Log(String),
}

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Defaults {
    /// `LVS_DEVICES`: names of devices, separated by spaces. Without: every device that is up and can be served.
    pub devices: Vec<String>,
    /// `LVS_MODE`: how to attach to them.
    pub mode: AttachMode,
    /// `LVS_CONNS`, `LVS_SERVICES`, `LVS_DESTINATIONS`: most of these at a time. `LVS_LISTS`: most entries of lists of clients, for
    /// each family. `LVS_LOG`: from which level on the data plane writes a log.
    /// `LVS_VERIFIER_LOG=1`: the verifier's log of a program that is refused.
    pub loading: Loading,
}

impl Defaults {
    /// Reads them.
    pub fn read() -> Result<Self, DefaultsError> {
        let file = match fs::read_to_string(FILE) {
            Err(error) if error.kind() == ErrorKind::NotFound => String::new(),
            text => text.map_err(DefaultsError::File)?,
        };
        Self::of(|name| env::var(name).ok().or_else(|| value(&file, name)))
    }

    fn of(variable: impl Fn(&str) -> Option<String>) -> Result<Self, DefaultsError> {
        let mut sizes = Sizes::of_host();
        let number = |name, most| {
            let Some(text) = variable(name) else { return Ok(None) };
            let number = text.parse().ok().filter(|number| (1..=most).contains(number));
            number.ok_or(DefaultsError::Size(name, 1, most, text)).map(Some)
        };
        // Of services and destinations, one of each place is none.
        let places = |name, most: u32| Ok(number(name, most)?.map(|number: u32| most.min(number + 1)));
        sizes.connections = number("LVS_CONNS", u32::MAX)?.unwrap_or(sizes.connections);
        sizes.services = places("LVS_SERVICES", MOST_SERVICES)?.unwrap_or(sizes.services);
        sizes.destinations = places("LVS_DESTINATIONS", MOST_DESTINATIONS)?.unwrap_or(sizes.destinations);
        sizes.lists = number("LVS_LISTS", MOST_LISTED)?.unwrap_or(sizes.lists);
        let mode = variable("LVS_MODE")
            .map_or(Ok(AttachMode::Auto), |text| AttachMode::by_name(&text).ok_or(DefaultsError::Mode(text)))?;
        let devices = variable("LVS_DEVICES").unwrap_or_default().split_whitespace().map(str::to_owned).collect();
        let verifier_log = variable("LVS_VERIFIER_LOG").is_some_and(|text| !matches!(&*text, "" | "0"));
        let log = variable("LVS_LOG")
            .map_or(Ok(LogLevel::Off), |text| LogLevel::by_name(&text).ok_or(DefaultsError::Log(text)))?;
        Ok(Defaults { devices, mode, loading: Loading { sizes, verifier_log, log } })
    }
}

/// The value that the last line for `name` gives.
fn value(file: &str, name: &str) -> Option<String> {
    file.lines().rev().find_map(|line| {
        let line = line.trim();
        let (key, value) = line.strip_prefix("export ").unwrap_or(line).split_once('=')?;
        let value = value.trim_matches(|c| matches!(c, '"' | '\''));
        (key.trim() == name).then(|| value.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(file: &str) -> Result<Defaults, DefaultsError> {
        Defaults::of(|name| value(file, name))
    }

    #[test]
    fn lines_are_read_as_a_shell_does() {
        let file =
            "# devices\nLVS_DEVICES=eth9\n export LVS_DEVICES=\"eth0 eth1\"\nLVS_MODE=native\nLVS_CONNS=1000\nX=y\n";
        let defaults = of(file).unwrap();
        assert_eq!(defaults.devices, ["eth0", "eth1"]);
        assert_eq!((defaults.mode, defaults.loading.sizes.connections), (AttachMode::Native, 1000));
        assert!(!defaults.loading.verifier_log);
    }

    #[test]
    fn there_is_room_for_as_many_as_were_named() {
        for (named, places) in [("1", 2), ("100", 101), ("65535", 65536), ("65536", 65536)] {
            assert_eq!(of(&format!("LVS_SERVICES={named}")).unwrap().loading.sizes.services, places);
        }
        assert_eq!(of("LVS_DESTINATIONS=131071").unwrap().loading.sizes.destinations, 131_072);
        assert_eq!(of("LVS_LISTS=7").unwrap().loading.sizes.lists, 7);
    }

    #[test]
    fn nothing_said_is_auto_everywhere() {
        let defaults = of("").unwrap();
        assert!(defaults.devices.is_empty());
        assert_eq!((defaults.mode, defaults.loading.sizes), (AttachMode::Auto, Sizes::of_host()));
    }

    #[test]
    fn what_makes_no_sense_is_named() {
        assert!(of("LVS_MODE=fast").unwrap_err().to_string().contains("LVS_MODE"));
        assert!(of("LVS_LOG=much").unwrap_err().to_string().contains("LVS_LOG"));
        let sentence = |file| of(file).unwrap_err().to_string();
        assert_eq!(sentence("LVS_CONNS=0"), "LVS_CONNS is a number from 1 to 4294967295, not `0'");
        assert_eq!(sentence("LVS_SERVICES=65537"), "LVS_SERVICES is a number from 1 to 65536, not `65537'");
        assert_eq!(sentence("LVS_DESTINATIONS=many"), "LVS_DESTINATIONS is a number from 1 to 131072, not `many'");
        assert_eq!(sentence("LVS_LISTS=0"), "LVS_LISTS is a number from 1 to 2147483647, not `0'");
    }
}
