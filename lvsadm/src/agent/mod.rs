//! `agent`: an optional process that acts whenever the kernel reports a change of a device, an address or a forwarding switch
//! of this network namespace. Every command does the same; the agent does it at once. It also writes changes of the director's
//! health to the journal and, if it is told to listen, answers HTTP requests.
//!
//! The data plane does not need it: without it, packets are forwarded and connections expire.

mod events;
mod health;
mod http;
mod run;

pub use run::run;
