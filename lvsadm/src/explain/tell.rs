//! How accounts are told.

use std::fmt::Write;

use super::account::Account;
use crate::render;

/// For people.
pub fn text(accounts: &[Account]) -> String {
    let mut text = String::new();
    for (number, account) in accounts.iter().enumerate() {
        if number != 0 {
            text.push('\n');
        }
        let _ = writeln!(text, "{}", account.packet);
        for step in &account.steps {
            let _ = writeln!(text, "  {:<12} {}", step.step, step.what);
        }
    }
    text
}

/// For programs: a line of JSON.
pub fn json(accounts: &[Account]) -> String {
    render::json::line(&accounts)
}
