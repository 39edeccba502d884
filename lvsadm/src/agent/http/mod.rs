//! The agent's HTTP endpoint: reading, and nothing else. `/` is a page for people, `/metrics` is for Prometheus, `/api/` has every
//! listing as JSON.
//!
//! Whoever is slow or means harm holds nothing for long: a connection is for one request and ends after [`serve::WHOLE`], there are
//! at most [`serve::CONNECTIONS`] of them, the data plane is read once a second at most for all of them together, and what waits to
//! be sent is bounded. Nothing is read on the event loop's thread, and no lock is held while an answer is made or sent.

mod admit;
mod answer;
mod listen;
mod media;
mod page;
mod query;
mod respond;
mod serve;
mod shared;
mod stream;
mod token;
mod views;

pub use listen::Endpoint;
