//! Rules files: reading and checking one, all of it, before anything is done.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use anyhow::Context;
use lvs_common::abi::Sysctls;

use super::devices::{self, Device};
use super::error::LineError;
use crate::change;
use crate::grammar::subcommands::{self, AccessAction, AccessArgs, Sub};
use crate::grammar::{self, Command, Dialect};
use crate::names::{Names, SystemNames};
use lvs_director::dataplane::Defaults;
use lvs_director::director::{Director, Error, MemoryDirector, Room, Wanted, rules};
use lvs_director::rules::LogLevel;
use lvs_director::rules::{
    AccessChange, AccessKind, AccessRule, AttachMode, MarkChange, Rule, RuleKey, SYSCTLS, ServiceKey, SysctlName,
    Timeouts, Traffic, arguments, consistent, sysctl, words,
};

/// What is wrong with a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// The line's number, from 1.
    pub line: usize,
    /// What is wrong, and with what.
    pub sentence: String,
}

impl Mistake {
    /// As compilers say it.
    pub fn text(&self, file: &Path) -> String {
        format!("{}:{}: {}", file.display(), self.line, self.sentence)
    }
}

/// What a line says, if one does, and its number.
pub type Said<T> = Option<(usize, T)>;

/// A file that has been read: what it wants.
///
/// It is a script that begins with an empty table. Services and destinations are what they are after its last line;
/// settings, marks and devices are what its lines make of those in force.
#[derive(Debug, Default)]
pub struct Script {
    table: MemoryDirector,
    settings: Vec<(usize, Setting)>,
    /// The last line that says something about a rule.
    lines: HashMap<RuleKey, usize>,
}

/// A line about something else than services and destinations.
#[derive(Clone, Debug)]
enum Setting {
    Timeouts(Timeouts),
    Sysctls {
        reset: bool,
        values: Vec<(&'static str, u32)>,
    },
    Attach {
        names: Vec<String>,
        mode: Option<AttachMode>,
        connections: Option<u32>,
        log: Option<LogLevel>,
    },
    Detach {
        names: Vec<String>,
    },
    Marks(MarkChange),
    Access(AccessKind, Option<ServiceKey>, AccessChange),
    /// Every list of this kind is emptied.
    FlushAccess(AccessKind),
}

impl Setting {
    /// The setting that a sub-command's line is about.
    fn of(sub: Sub, names: &mut dyn Names) -> Result<Self, LineError> {
        match sub {
            Sub::Sysctl { reset, settings, explain: _ } => {
                let mut values = Vec::new();
                for setting in &settings.iter().flat_map(|setting| arguments(setting)).collect::<Vec<_>>() {
                    match sysctl(setting)? {
                        (_, None) => return Err(LineError::NoValue(setting.clone())),
                        (SysctlName::Kept(sysctl), Some(value)) => values.push((sysctl.name, value)),
                        // As a boot script's line for the kernel's IPVS.
                        (SysctlName::Absent(..), Some(_)) => {}
                    }
                }
                Ok(Setting::Sysctls { reset, values })
            }
            Sub::Attach { devices: names, mode, conns: connections, log, verbose: _ } => {
                Ok(Setting::Attach { names, mode, connections, log })
            }
            Sub::Detach { devices: names } => Ok(Setting::Detach { names }),
            Sub::Mark { action } => match action.change()? {
                Some(change) => Ok(Setting::Marks(change)),
                None => Err(LineError::SubCommand),
            },
            Sub::Block(arguments) => Setting::access(AccessKind::Block, &arguments, names),
            Sub::Allow(arguments) => Setting::access(AccessKind::Allow, &arguments, names),
            _ => Err(LineError::SubCommand),
        }
    }

    /// The setting that a line about a list of clients is about.
    fn access(kind: AccessKind, arguments: &AccessArgs, names: &mut dyn Names) -> Result<Self, LineError> {
        match arguments.action() {
            AccessAction::Change(change) => Ok(Setting::Access(kind, arguments.service.key(names)?, change)),
            AccessAction::FlushAll => Ok(Setting::FlushAccess(kind)),
            AccessAction::File(_) => Err(LineError::OtherFile),
            AccessAction::List { .. } => Err(LineError::SubCommand),
        }
    }
}

impl Script {
    /// Reads the text of a file, with its mistakes: all there are, but for devices that are not there.
    pub fn read(text: &str, names: &mut dyn Names) -> (Self, Vec<Mistake>) {
        let (mut script, mut mistakes) = (Script::default(), Vec::new());
        for (line, text) in (1..).zip(text.lines()) {
            if let Err(error) = script.take(line, text, names) {
                let sentence = format!("{error}: `{}'", text.trim());
                mistakes.push(Mistake { line, sentence });
            }
        }
        (script, mistakes)
    }

    /// Takes a line.
    fn take(&mut self, line: usize, text: &str, names: &mut dyn Names) -> Result<(), LineError> {
        let mut words: Vec<&str> = words(text).take_while(|word| !word.starts_with('#')).collect();
        // As it may be when it was copied from a shell.
        if words.first() == Some(&"lvsadm") {
            words.remove(0);
        }
        match words.first() {
            None => Ok(()),
            Some(word) if word.starts_with('-') => {
                self.take_command(line, grammar::parse(&words, Dialect::Own, names)?)
            }
            Some(_) => {
                words.insert(0, "lvsadm");
                let sub = subcommands::parse(&words).ok_or(LineError::NoCommand)?;
                let sub = sub.map_err(|answer| LineError::Arguments(first_line(&answer)))?;
                let setting = Setting::of(sub, names)?;
                if let Setting::Marks(MarkChange::Add(mark)) = setting {
                    if self.marks(&mark.traffic) {
                        return Err(LineError::Marked);
                    }
                    self.lines.insert(RuleKey::Mark(mark.traffic), line);
                }
                if let Setting::Access(kind, service, change) = &setting {
                    let known = service.map_or(Ok(()), |key| self.table.service(&key, Wanted::default()).map(drop));
                    known.map_err(|_| LineError::NoService)?;
                    if let AccessChange::Add(clients) = change {
                        let key = |client: &AccessRule| RuleKey::Access(*kind, *service, client.prefix);
                        self.lines.extend(clients.iter().map(|client| (key(client), line)));
                    }
                }
                self.settings.push((line, setting));
                Ok(())
            }
        }
    }

    /// Whether its lines so far give traffic a mark.
    fn marks(&self, traffic: &Traffic) -> bool {
        let last = self.settings.iter().rev().find_map(|(_, setting)| match setting {
            Setting::Marks(MarkChange::Add(mark)) => (mark.traffic == *traffic).then_some(true),
            Setting::Marks(MarkChange::Delete(other)) => (other == traffic).then_some(false),
            Setting::Marks(MarkChange::Flush) => Some(false),
            _ => None,
        });
        last.unwrap_or(false)
    }

    /// Takes a command of ipvsadm's grammar.
    fn take_command(&mut self, line: usize, command: Command) -> Result<(), LineError> {
        let key = match &command {
            Command::AddService(named) | Command::EditService(named) => Some(RuleKey::Service(named.service.key)),
            Command::AddDestination(service, destination) | Command::EditDestination(service, destination) => {
                Some(RuleKey::Destination(*service, destination.key))
            }
            Command::AddLocal(service, _) => Some(RuleKey::Locals(*service)),
            Command::DeleteService(_) | Command::DeleteDestination(..) | Command::DeleteLocal(..) | Command::Flush => {
                None
            }
            Command::SetTimeouts(timeouts) => {
                self.settings.push((line, Setting::Timeouts(*timeouts)));
                return Ok(());
            }
            _ => return Err(LineError::Command),
        };
        if let Some((operation, result)) = change::make(&mut self.table, command) {
            result.map_err(|error| LineError::Refused { operation, error })?;
        }
        self.lines.extend(key.map(|key| (key, line)));
        Ok(())
    }

    /// How the data plane has to be loaded: what lines say of that, each with its number.
    pub fn loading(&self) -> (Said<u32>, Said<LogLevel>) {
        let (mut room, mut level) = (None, None);
        for (line, setting) in &self.settings {
            if let Setting::Attach { connections, log, .. } = setting {
                room = connections.map(|connections| (*line, connections)).or(room);
                level = log.map(|log| (*line, log)).or(level);
            }
        }
        (room, level)
    }

    /// Whether it says which devices are to be attached.
    pub fn names_devices(&self) -> bool {
        self.settings.iter().any(|(_, setting)| matches!(setting, Setting::Attach { .. } | Setting::Detach { .. }))
    }

    /// Reads a file that was applied before, whatever has become of its mistakes.
    pub fn of_file(file: &Path) -> anyhow::Result<Self> {
        let text = fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
        Ok(Script::read(&String::from_utf8_lossy(&text), &mut SystemNames::default()).0)
    }

    /// How much it configures.
    pub fn room(&self) -> Room {
        let listed = self.table.services(Wanted { destinations: true, ..Wanted::default() }).unwrap_or_default();
        let destinations = listed.iter().map(|entry| entry.destinations.len() as u32).sum();
        Room { services: listed.len() as u32, destinations }
    }

    /// Whether a service is among its rules.
    pub fn names_service(&self, service: &ServiceKey) -> bool {
        self.table.service(service, Wanted::default()).is_ok()
    }

    /// Whether a line names the device to be attached.
    pub fn demands(&self, device: &str) -> bool {
        self.settings.iter().any(|(_, setting)| match setting {
            Setting::Attach { names, .. } => names.iter().any(|name| name == device),
            _ => false,
        })
    }

    /// Makes of the devices what its lines want. The mistakes are devices that are not there.
    pub fn attach(&self, devices: &mut [Device], defaults: &Defaults) -> Vec<Mistake> {
        let mut mistakes = Vec::new();
        for (line, setting) in &self.settings {
            let result = match setting {
                Setting::Attach { names, mode, .. } => devices::attach(devices, names, *mode, defaults),
                Setting::Detach { names } => devices::detach(devices, names),
                Setting::Timeouts(_)
                | Setting::Sysctls { .. }
                | Setting::Marks(_)
                | Setting::Access(..)
                | Setting::FlushAccess(_) => Ok(()),
            };
            mistakes.extend(result.err().map(|error| Mistake { line: *line, sentence: error.line() }));
        }
        mistakes
    }

    /// The configuration it wants, where `in_force` is configured: devices excepted.
    pub fn rules(&self, in_force: &dyn Director) -> lvs_director::director::Result<Vec<Rule>> {
        let mut wanted = self.table.clone();
        wanted.set_timeouts(in_force.timeouts()?)?;
        let services = wanted.services(Wanted::default())?.into_iter().map(|entry| Some(entry.service.key));
        let services: Vec<Option<ServiceKey>> = std::iter::once(None).chain(services).collect();
        keep_lists(&mut wanted, in_force, &services)?;
        let (mut sysctls, mut marks) = (in_force.sysctls()?, in_force.marks()?);
        for (_, setting) in &self.settings {
            match setting {
                Setting::Timeouts(timeouts) => wanted.set_timeouts(*timeouts)?,
                Setting::Sysctls { reset, values } => {
                    if *reset {
                        sysctls = Sysctls::default();
                    }
                    for (name, value) in values {
                        let found = SYSCTLS.iter().find(|sysctl| sysctl.name == *name);
                        found.into_iter().for_each(|sysctl| sysctl.set(&mut sysctls, *value));
                    }
                }
                Setting::Marks(change) => change.apply(&mut marks),
                Setting::Access(kind, service, change) => {
                    // A service that a later line deletes has no list.
                    if services.contains(service) {
                        wanted.edit_access(*kind, service.as_ref(), change)?;
                    }
                }
                Setting::FlushAccess(kind) => {
                    let empty = AccessChange::Replace(Vec::new());
                    services.iter().try_for_each(|service| wanted.edit_access(*kind, service.as_ref(), &empty))?;
                }
                Setting::Attach { .. } | Setting::Detach { .. } => {}
            }
        }
        consistent(&sysctls).map_err(|error| Error::Other(error.to_string()))?;
        wanted.set_sysctls(&sysctls)?;
        wanted.set_marks(&marks)?;
        rules(&wanted)
    }

    /// The line that wants a rule.
    pub fn line(&self, key: &RuleKey) -> Option<usize> {
        self.lines.get(key).copied()
    }
}

/// Lists of clients stay as they are in force, of services that there are.
fn keep_lists(
    wanted: &mut MemoryDirector,
    in_force: &dyn Director,
    services: &[Option<ServiceKey>],
) -> lvs_director::director::Result<()> {
    for (kind, service) in AccessKind::ALL.iter().flat_map(|kind| services.iter().map(move |service| (*kind, service)))
    {
        let entries = match in_force.access(kind, service.as_ref()) {
            Err(Error::NoService) => continue,
            entries => entries?,
        };
        if !entries.is_empty() {
            let rules = entries.into_iter().map(|entry| entry.rule).collect();
            wanted.edit_access(kind, service.as_ref(), &AccessChange::Replace(rules))?;
        }
    }
    Ok(())
}

/// What clap says, without its advice.
fn first_line(answer: &clap::Error) -> String {
    let text = answer.to_string();
    let line = text.lines().next().unwrap_or_default();
    line.strip_prefix("error: ").unwrap_or(line).to_owned()
}
