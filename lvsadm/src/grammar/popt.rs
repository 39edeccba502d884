//! The order in which popt, the library ipvsadm reads its arguments with, takes them apart.

use super::dialect::Dialect;
use super::flags::{Flag, Value, flags};

/// Arguments while they are being read.
pub struct Popt<'a> {
    arguments: &'a [&'a str],
    dialect: Dialect,
    /// The next argument.
    next: usize,
    /// What is left of a cluster of short flags.
    cluster: &'a str,
    /// `--` was met: the rest are no flags.
    ended: bool,
    /// Arguments that are no flags.
    positional: Vec<&'a str>,
}

/// Why there is no next flag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bad {
    /// There is no such flag.
    Unknown,
    /// Its value is missing.
    NoValue,
    /// It was given a value and takes none.
    Unwanted,
}

impl Bad {
    /// popt's words.
    pub fn text(self) -> &'static str {
        match self {
            Bad::Unknown => "unknown option",
            Bad::NoValue => "missing argument",
            Bad::Unwanted => "option does not take an argument",
        }
    }
}

impl<'a> Popt<'a> {
    /// Starts with the arguments after the program's name.
    pub fn new(arguments: &'a [&'a str], dialect: Dialect) -> Self {
        Popt { arguments, dialect, next: 0, cluster: "", ended: false, positional: Vec::new() }
    }

    /// The next flag and its value, or `None` at the end. Arguments that are no flags are put aside.
    pub fn flag(&mut self) -> Option<Result<(&'static Flag, Option<&'a str>), Bad>> {
        if self.cluster.is_empty() {
            loop {
                let &argument = self.arguments.get(self.next)?;
                self.next += 1;
                if self.ended || argument.len() < 2 || !argument.starts_with('-') {
                    self.positional.push(argument);
                } else if argument == "--" {
                    self.ended = true;
                } else if let Some(long) = argument.strip_prefix("--") {
                    return Some(self.long(long));
                } else {
                    self.cluster = &argument[1..];
                    break;
                }
            }
        }
        Some(self.short())
    }

    /// The argument that a complaint about the last flag names: the last one that was touched.
    pub fn culprit(&self) -> &'a str {
        self.next.checked_sub(1).and_then(|last| self.arguments.get(last)).copied().unwrap_or_default()
    }

    /// The arguments that are no flags, once there is no next flag.
    pub fn positional(self) -> Vec<&'a str> {
        self.positional
    }

    fn find(&self, is_it: impl Fn(&Flag) -> bool) -> Result<&'static Flag, Bad> {
        flags().find(|flag| flag.is_in(self.dialect) && is_it(flag)).ok_or(Bad::Unknown)
    }

    /// `name` or `name=value`.
    fn long(&mut self, text: &'a str) -> Result<(&'static Flag, Option<&'a str>), Bad> {
        let (name, value) = text.split_once('=').map_or((text, None), |(name, value)| (name, Some(value)));
        let flag = self.find(|flag| flag.long == name)?;
        match (flag.value, value) {
            (Value::No, Some(_)) => Err(Bad::Unwanted),
            (Value::No, None) => Ok((flag, None)),
            (_, Some(_)) => Ok((flag, value)),
            (_, None) => self.following(flag),
        }
    }

    /// The next of a cluster. A value may follow at once, also after `=`.
    fn short(&mut self) -> Result<(&'static Flag, Option<&'a str>), Bad> {
        let cluster = self.cluster;
        self.cluster = "";
        let mut letters = cluster.chars();
        let letter = letters.next().ok_or(Bad::Unknown)?;
        let flag = self.find(|flag| flag.short.contains(letter))?;
        let rest = letters.as_str();
        let rest = rest.strip_prefix('=').unwrap_or(rest);
        if flag.value == Value::No {
            self.cluster = rest;
            Ok((flag, None))
        } else if letters.as_str().is_empty() {
            self.following(flag)
        } else {
            Ok((flag, Some(rest)))
        }
    }

    /// The next argument as the value.
    fn following(&mut self, flag: &'static Flag) -> Result<(&'static Flag, Option<&'a str>), Bad> {
        let value = self.arguments.get(self.next).copied();
        match (flag.value, value) {
            (Value::Optional, None) => Ok((flag, None)),
            (Value::Optional, Some(value)) if value.starts_with('-') => Ok((flag, None)),
            (_, None) => Err(Bad::NoValue),
            (_, Some(_)) => {
                self.next += 1;
                Ok((flag, value))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Long name and value of each flag.
    type Flags<'a> = Vec<(&'static str, Option<&'a str>)>;

    /// The flags in `arguments`, and what ends them if not the end.
    fn read<'a>(arguments: &'a [&'a str]) -> (Flags<'a>, Option<(Bad, &'a str)>) {
        let mut popt = Popt::new(arguments, Dialect::Literal);
        let mut flags = Vec::new();
        while let Some(flag) = popt.flag() {
            match flag {
                Ok((flag, value)) => flags.push((flag.long, value)),
                Err(bad) => return (flags, Some((bad, popt.culprit()))),
            }
        }
        (flags, None)
    }

    #[test]
    fn clusters_values_and_ends() {
        let flags = |arguments| read(arguments).0;
        assert_eq!(flags(&["-Ln"]), [("list", None), ("numeric", None)]);
        assert_eq!(
            flags(&["-At", "x", "-t=y"]),
            [("add-service", None), ("tcp-service", Some("x")), ("tcp-service", Some("y"))]
        );
        assert_eq!(
            flags(&["--weight", "-1", "-p", "-n"]),
            [("weight", Some("-1")), ("persistent", None), ("numeric", None)]
        );
        assert_eq!(flags(&["-p7", "x", "--", "-n"]), [("persistent", Some("7"))]);
    }

    #[test]
    fn complaints_name_the_whole_argument() {
        assert_eq!(read(&["-AQ"]).1, Some((Bad::Unknown, "-AQ")));
        assert_eq!(read(&["-A", "--num"]).1, Some((Bad::Unknown, "--num")));
        assert_eq!(read(&["-A", "-t"]).1, Some((Bad::NoValue, "-t")));
        assert_eq!(read(&["--ops=1"]).1, Some((Bad::Unwanted, "--ops=1")));
        assert_eq!(read(&["--fullnat"]).1, Some((Bad::Unknown, "--fullnat")));
    }
}
