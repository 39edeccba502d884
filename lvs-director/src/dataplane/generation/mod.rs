//! Generations of a data plane: a second one is loaded beside the one that runs, takes over packets and connections, and takes its
//! place. So tables get another size, and programs another build, while packets flow.
//!
//! What a generation is made of, and who has it after a change:
//!
//! | Maps | |
//! |---|---|
//! | configuration, counters, claims of local ports, lists | both generations share them |
//! | the connection tables and what refers to their entries | shared by generations whose tables are of the same size; else each has its own, and connections move |
//! | what only one packet needs, the timer's clock, the program arrays | each generation has its own |
//!
//! Steps, of which each may be the last one of a command that is killed; [`settle`] goes on from there:
//!
//! 1. The next generation is loaded into `next-COOKIE`. Killed here, the next command removes it.
//! 2. It is marked `moving`: from now on the change is finished, not taken back.
//! 3. Where the tables are not shared, its program arrays lead packets of unknown connections to the generation before.
//! 4. Each link gets its program, in one step for each. The timer of the one stops, that of the other starts.
//! 5. Connections move (`connections`). Then new ones are made by the next generation alone, and those move that were made
//!    meanwhile.
//! 6. The directories change places in one step, and the generation before is removed.

mod change;
mod connections;
mod convert;
mod exits;
mod family;
pub mod links;
mod live;
mod maps;
mod runner;
mod slots;

pub use change::{Change, Outcome, change, is_under_way, settle};
pub use convert::tables as copy_tables;
pub use runner::Runner;
