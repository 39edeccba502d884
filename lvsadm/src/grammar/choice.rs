//! Arguments that are one word of a list, for clap: the words are the rules' own, the meanings are for help texts.

use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};

use lvs_director::rules::{AttachMode, LogLevel, Protocol};

/// `--mode`.
pub fn attach_mode() -> impl TypedValueParser<Value = AttachMode> {
    let meaning = |mode| {
        Some(match mode {
            AttachMode::Auto => "XDP in the driver where no packet is lost by it, TC elsewhere",
            AttachMode::Native => "XDP in the driver",
            AttachMode::Generic => "XDP in the network stack",
            AttachMode::Tc => "TC",
        })
    };
    choice(&AttachMode::ALL, AttachMode::name, meaning)
}

/// `--log`.
pub fn log_level() -> impl TypedValueParser<Value = LogLevel> {
    let meaning = |level| {
        Some(match level {
            LogLevel::Off => "Nothing",
            LogLevel::Error => "Packets dropped for want of room, a route, or the kernel's help",
            LogLevel::Warn => "Every packet that is dropped",
            LogLevel::Info => "New connections, and packets answered with an ICMP error",
            LogLevel::Debug => "Packets for a service that are left to the stack",
            LogLevel::Trace => "Every packet",
        })
    };
    choice(&LogLevel::ALL, LogLevel::name, meaning)
}

/// `--proto`. The words need no explanation.
pub fn protocol() -> impl TypedValueParser<Value = Protocol> {
    choice(&Protocol::ALL, Protocol::name, |_| None)
}

/// A parser of the names of `all`; `meaning` explains an item where its name does not.
fn choice<T: Copy + Send + Sync + 'static>(
    all: &'static [T],
    name: fn(T) -> &'static str,
    meaning: fn(T) -> Option<&'static str>,
) -> impl TypedValueParser<Value = T> {
    let words = all.iter().map(|item| PossibleValue::new(name(*item)).help(meaning(*item)));
    PossibleValuesParser::new(words)
        .try_map(move |word| all.iter().copied().find(|item| name(*item) == word).ok_or("there is no such word"))
}
