//! `top`: a director in a terminal, live: services, one of them, exits, floods and tables.
//!
//! Rates are of the time between two snapshots. Of a long table only the rows that fit are made.

mod draw;
mod format;
mod history;
mod once;
mod pages;
mod run;
mod state;
#[cfg(test)]
mod tests;

pub use run::run;
