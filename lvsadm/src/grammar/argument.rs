//! What a flag's function gets.

use super::dialect::Dialect;
use crate::names::Names;

/// What a flag's function gets beside the draft.
pub struct Argument<'a> {
    /// The value, `None` if the flag has none.
    pub value: Option<&'a str>,
    /// Whose command line it is.
    pub dialect: Dialect,
    /// Where names of hosts and ports come from.
    pub names: &'a mut dyn Names,
}

impl<'a> Argument<'a> {
    /// The value, empty if the flag has none.
    pub fn text(&self) -> &'a str {
        self.value.unwrap_or_default()
    }
}
