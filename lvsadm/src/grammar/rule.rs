//! What a command, or a kind of tunnel, does with an option.

use super::command::Failure;

/// What a command does with an option that it knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// The command requires the option.
    Required,
    /// The command takes the option.
    Optional,
    /// The command takes the option, but no second exclusive option.
    Exclusive,
}

/// Checks options (name, rule, whether given) in order, for `subject`, which is a `kind` such as "command". An option
/// without a rule is illegal. The first fault is the error.
pub fn check<'a>(
    options: impl IntoIterator<Item = (&'a str, Option<Rule>, bool)>,
    subject: &str,
    kind: &str,
) -> Result<(), Failure> {
    let mut exclusive = None;
    for (name, rule, given) in options {
        match (rule, given) {
            (Some(Rule::Required), false) => {
                return Failure::usage(format!("You need to supply the '{name}' option for the '{subject}' {kind}"));
            }
            (None, true) => {
                return Failure::usage(format!("Illegal '{name}' option with the '{subject}' {kind}"));
            }
            (Some(Rule::Exclusive), true) => {
                if let Some(earlier) = exclusive.replace(name) {
                    return Failure::usage(format!(
                        "The option '{name}' conflicts with the '{earlier}' option in the '{subject}' {kind}"
                    ));
                }
            }
            _ => {}
        }
    }
    Ok(())
}
