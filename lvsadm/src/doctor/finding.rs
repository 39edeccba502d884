//! What a check found, and how it is told.

use std::fmt::Write;

use serde::Serialize;

use crate::render;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Nothing is wrong.
    Ok,
    /// It could not be found out here.
    Unknown,
    /// It costs something, or may go wrong.
    Warning,
    /// Packets are lost, or refused.
    Failure,
}

impl Level {
    fn name(self) -> &'static str {
        match self {
            Level::Ok => "ok",
            Level::Unknown => "unknown",
            Level::Warning => "warning",
            Level::Failure => "failure",
        }
    }
}

/// What a check says of facts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// How bad it is.
    pub level: Level,
    /// What is.
    pub what: String,
    /// The command that mends it, if one does.
    pub mend: Option<String>,
}

impl Found {
    fn new(level: Level, what: impl Into<String>, mend: impl Into<String>) -> Self {
        let mend = mend.into();
        Found { level, what: what.into(), mend: (!mend.is_empty()).then_some(mend) }
    }

    /// A failure, and its mend; none if that is empty.
    pub fn failure(what: impl Into<String>, mend: impl Into<String>) -> Self {
        Found::new(Level::Failure, what, mend)
    }

    /// A warning.
    pub fn warning(what: impl Into<String>, mend: impl Into<String>) -> Self {
        Found::new(Level::Warning, what, mend)
    }

    /// Something that could not be found out.
    pub fn unknown(what: impl Into<String>) -> Self {
        Found::new(Level::Unknown, what, "")
    }
}

/// A finding, as it is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The name of the check.
    pub check: &'static str,
    /// How bad it is.
    pub level: Level,
    /// What is.
    pub what: String,
    /// Why it matters.
    pub why: &'static str,
    /// The command that mends it, if one does.
    pub mend: Option<String>,
}

/// The exit status: 0 if nothing is wrong, 1 after warnings alone, 3 if something failed.
pub fn status(findings: &[Finding]) -> u8 {
    match findings.iter().map(|finding| finding.level).max() {
        Some(Level::Failure) => 3,
        Some(Level::Warning) => 1,
        _ => 0,
    }
}

/// The findings for people: what is wrong, the worst first, or everything.
pub fn text(findings: &[Finding], all: bool) -> String {
    let mut text = String::new();
    let mut shown: Vec<&Finding> = findings.iter().filter(|finding| all || finding.level != Level::Ok).collect();
    shown.sort_by_key(|finding| std::cmp::Reverse(finding.level));
    for Finding { check, level, what, why, mend } in shown {
        let _ = writeln!(text, "{:<8} {check}: {what}", level.name());
        if *level >= Level::Warning {
            let _ = writeln!(text, "         why:  {why}");
        }
        if let Some(mend) = mend {
            let _ = writeln!(text, "         mend: {mend}");
        }
    }
    let count = |level| findings.iter().filter(|finding| finding.level == level).count();
    let _ = writeln!(
        text,
        "failures: {}, warnings: {}, unknown: {}, checks without a finding: {}",
        count(Level::Failure),
        count(Level::Warning),
        count(Level::Unknown),
        count(Level::Ok)
    );
    text
}

/// The findings for programs: a line of JSON.
pub fn json(findings: &[Finding]) -> String {
    render::json::line(&findings)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finding(level: Level) -> Finding {
        Finding { check: "c", level, what: "it is".into(), why: "it matters", mend: Some("mend it".into()) }
    }

    #[test]
    fn the_exit_status_is_the_worst_findings() {
        for (levels, expected) in [
            (&[][..], 0),
            (&[Level::Ok, Level::Unknown], 0),
            (&[Level::Warning, Level::Ok], 1),
            (&[Level::Warning, Level::Failure, Level::Ok], 3),
        ] {
            assert_eq!(status(&levels.iter().copied().map(finding).collect::<Vec<_>>()), expected);
        }
    }

    #[test]
    fn the_worst_comes_first_and_what_is_well_only_if_asked_for() {
        let findings = [Level::Ok, Level::Warning, Level::Failure].map(finding);
        let lines = |all| text(&findings, all).lines().map(str::to_owned).collect::<Vec<_>>();
        let told = |level| {
            [format!("{level:<8} c: it is"), "         why:  it matters".into(), "         mend: mend it".into()]
        };
        let sum = "failures: 1, warnings: 1, unknown: 0, checks without a finding: 1".to_owned();
        assert_eq!(lines(false), [&told("failure")[..], &told("warning"), &[sum]].concat());
        assert!(lines(true).contains(&"ok       c: it is".to_owned()));
    }
}
