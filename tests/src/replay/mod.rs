//! Recordings of the real kernel's IPVS, played against the data plane: frames go into both ports of a director, and what
//! comes out, what is listed, and which server is picked has to be what the kernel did.
//!
//! `recording` has the steps; `network` the director and the hands that send and catch frames; `scenario` and `scheduler`
//! play; `comparison` (over `header` and `checksum`) and `listing` judge. A director is loaded once and used for
//! many scenarios: `blank` makes it forget everything in between, and `pool` hands it out.

mod blank;
mod checksum;
mod comparison;
mod header;
mod listing;
mod network;
mod pool;
mod recording;
mod scenario;
mod scheduler;

pub use network::{Network, Tier};
pub use pool::Pool;
pub use recording::{Run, Scenario, runs, scenarios};
