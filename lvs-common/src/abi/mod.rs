//! Layout of every BPF map's keys and values, one file a table.
//!
//! Both sides are built from this source, so the layout is C's (`repr(C)`) with explicit padding, and every size
//! is asserted. [`LAYOUT_VERSION`] follows from the types: pinned maps of another layout are opened only to move what they hold, by
//! their description.

mod access;
mod address;
mod arrival;
pub mod bench;
mod connection;
mod destination;
mod device;
mod idle;
mod ids;
mod layout;
mod local;
mod mark;
mod mode;
mod next_hop;
pub mod observe;
mod own;
mod roster;
mod service;
mod settings;
mod statistics;
mod switch;
mod sync;
pub mod sysctls;
pub mod tunnel;

pub use access::*;
pub use address::*;
pub use arrival::*;
pub use connection::*;
pub use destination::*;
pub use device::*;
pub use idle::*;
pub use ids::*;
pub use layout::{LAYOUT_VERSION, describe};
pub use local::*;
pub use mark::*;
pub use mode::*;
pub use next_hop::*;
pub use own::*;
pub use roster::*;
pub use service::*;
pub use settings::*;
pub use statistics::*;
pub use switch::*;
pub use sync::*;
pub use sysctls::Sysctls;
