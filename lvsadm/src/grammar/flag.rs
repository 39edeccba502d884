//! What the declaration of a flag says.

use serde_json::Value as Json;

use super::argument::Argument;
use super::cmd::Cmd;
use super::command::{Failure, Named};
use super::dialect::Dialect;
use super::draft::Draft;
use super::rule::Rule;
use lvs_director::rules::{Destination, Service};

/// Whether a flag takes a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value {
    /// None.
    No,
    /// Always one, even if it begins with `-`.
    Yes,
    /// The next argument, if that does not begin with `-`.
    Optional,
}

/// The section of the help that shows a flag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the variants are the sections' own names")]
pub enum Section {
    Commands,
    Service,
    Options,
    Daemon,
    /// lvsadm's own; unknown to the literal dialect.
    Own,
    /// None, and unknown to the literal dialect.
    OwnHidden,
    /// None.
    Hidden,
}

/// An option that may be given once, and that a command requires, allows or refuses. Several flags can be one option.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Opt {
    /// The option's place in the order of checks: its number in ipvsadm, or [`OWN`].
    pub order: u8,
    /// The name in messages.
    pub name: &'static str,
    /// The commands that know the option.
    pub commands: &'static [(Cmd, Rule)],
}

/// The place of options that ipvsadm lacks: after all of its own, as declared.
pub const OWN: u8 = u8::MAX;

/// What a flag does when the command line has it.
#[derive(Clone, Copy, Debug)]
pub enum Act {
    /// It is the command.
    Command(Cmd),
    /// It is the command that shows the help.
    Help,
    /// It is the command that shows the version.
    Version,
    /// It lands in the draft of the rule.
    Take(fn(&mut Draft, Argument<'_>) -> Result<(), Failure>),
}

/// How much of a rule is saved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// What ipvsadm's `-S` has.
    Saved,
    /// Everything.
    Full,
}

/// How a flag is saved: its place among the flags of the rule, and a function from the rule to the flag's value. The
/// value is `None` if the rule does not need the flag, and empty if the flag takes no value.
#[derive(Clone, Copy, Debug)]
pub enum Saved {
    /// Never.
    No,
    /// With services.
    Service(u8, fn(&Service, Form) -> Option<String>),
    /// With destinations.
    Destination(u8, fn(&Destination, Form, Dialect) -> Option<String>),
}

/// A member of the JSON of a service.
#[derive(Clone, Copy, Debug)]
pub struct Member {
    /// Its key.
    pub key: &'static str,
    /// Its value.
    pub value: fn(&Service) -> Json,
}

/// A flag.
#[derive(Clone, Copy, Debug)]
pub struct Flag {
    /// Its long name.
    pub long: &'static str,
    /// Its short names.
    pub short: &'static str,
    /// Whether it takes a value.
    pub value: Value,
    /// What the help shows in place of the value.
    pub placeholder: &'static str,
    /// The words that it takes, if they are known: completions offer them.
    pub words: fn(Dialect) -> Vec<&'static str>,
    /// The section of the help that shows it.
    pub section: Section,
    /// The help's lines about it.
    pub help: &'static [&'static str],
    /// The option that it counts as.
    pub option: Option<Opt>,
    /// What it does.
    pub act: Act,
    /// What it demands of the service that the whole command line describes.
    pub demands: fn(&Named) -> Result<(), Failure>,
    /// How it is saved.
    pub saved: Saved,
    /// The word for it in the listing of a service, which the literal dialect lacks.
    pub listed: fn(&Service) -> Option<String>,
    /// Its member of the JSON of a service.
    pub json: Option<Member>,
}

impl Flag {
    /// A flag without a value, without effect and in the general section.
    pub const fn new(long: &'static str, short: &'static str, help: &'static [&'static str]) -> Self {
        Flag {
            long,
            short,
            value: Value::No,
            placeholder: "",
            words: |_| Vec::new(),
            section: Section::Options,
            help,
            option: None,
            act: Act::Take(|_, _| Ok(())),
            demands: |_| Ok(()),
            saved: Saved::No,
            listed: |_| None,
            json: None,
        }
    }

    /// A command's flag.
    pub const fn command(command: Cmd, long: &'static str, short: &'static str, help: &'static [&'static str]) -> Self {
        Flag { act: Act::Command(command), section: Section::Commands, ..Flag::new(long, short, help) }
    }

    /// The flag with a value.
    pub const fn value(self, placeholder: &'static str) -> Self {
        Flag { value: Value::Yes, placeholder, ..self }
    }

    /// The flag with words that completions offer.
    pub const fn words(self, words: fn(Dialect) -> Vec<&'static str>) -> Self {
        Flag { words, ..self }
    }

    /// The flag in another section.
    pub const fn within(self, section: Section) -> Self {
        Flag { section, ..self }
    }

    /// The flag as an option of its own name.
    pub const fn option(self, order: u8, commands: &'static [(Cmd, Rule)]) -> Self {
        Flag { option: Some(Opt { order, name: self.long, commands }), ..self }
    }

    /// The flag as an option that other flags are too.
    pub const fn shares(self, option: Opt) -> Self {
        Flag { option: Some(option), ..self }
    }

    /// The flag with its effect on the draft.
    pub const fn takes(self, take: fn(&mut Draft, Argument<'_>) -> Result<(), Failure>) -> Self {
        Flag { act: Act::Take(take), ..self }
    }

    /// The flag with its demand on the service.
    pub const fn demands(self, demands: fn(&Named) -> Result<(), Failure>) -> Self {
        Flag { demands, ..self }
    }

    /// The flag with how it is saved with a service.
    pub const fn saved(self, place: u8, value: fn(&Service, Form) -> Option<String>) -> Self {
        Flag { saved: Saved::Service(place, value), ..self }
    }

    /// The flag with how it is saved with a destination.
    pub const fn saved_server(self, place: u8, value: fn(&Destination, Form, Dialect) -> Option<String>) -> Self {
        Flag { saved: Saved::Destination(place, value), ..self }
    }

    /// The flag with its word in listings.
    pub const fn listed(self, listed: fn(&Service) -> Option<String>) -> Self {
        Flag { listed, ..self }
    }

    /// The flag with its member in JSON.
    pub const fn json(self, key: &'static str, value: fn(&Service) -> Json) -> Self {
        Flag { json: Some(Member { key, value }), ..self }
    }

    /// Whether a dialect has it.
    pub fn is_in(&self, dialect: Dialect) -> bool {
        dialect == Dialect::Own || !matches!(self.section, Section::Own | Section::OwnHidden)
    }

    /// The flag as `--save` writes it: the short name if there is one.
    pub fn spelled(&self) -> String {
        self.short.chars().next().map_or_else(|| format!("--{}", self.long), |short| format!("-{short}"))
    }
}
