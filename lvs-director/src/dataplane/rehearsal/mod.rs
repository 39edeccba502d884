//! Rehearsals: what the data plane would do with a packet, without doing it.
//!
//! A second data plane is loaded that nothing is attached to. It is given what the one that runs holds, as far as a packet asks for it, and
//! the programs run there on the packet. So the programs themselves say what they decide, and nothing of the data plane that runs changes.
//! Beside that, [`reason`] says why: by the same functions of `lvs-common`, on the same maps.

mod copy;
mod entries;
mod reason;
mod room;
mod stage;
mod subject;

pub use copy::remove_left;
pub use reason::{Choice, Reasons};
pub use room::{Held, Room};
pub use stage::{Performance, Rehearsal, Tier, tc_verdict, xdp_verdict};
pub use subject::Subject;
