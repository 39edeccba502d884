//! Seeing packets as they come to the data plane and as they leave it: what `lvsadm trace` and `lvsadm capture` are made of.
//!
//! The attached programs write no log, as a rule: the verifier has removed what would. To observe them, the same programs are loaded once
//! more on the same maps, with every line of the log, and each line leads to a program that reports the packet (`lvs-ebpf/src/observe`). Every
//! link gets the observed programs in one step ([`links`](super::generation)), and its own back in the end. Their pins are in a directory
//! with the number of the process that reads: if that was killed, the next command puts the data plane's own programs back, and until then
//! nothing is reported any more, because its lease has ended.

mod classic;
mod known;
mod observer;
mod program;
pub mod put_back;
mod stand;

pub use classic::{Classic, Instruction};
pub use known::{Asked, Ends, Known, Lookup};
pub use observer::{Observer, Sight};
pub use put_back::{Observation, observation, observer};
pub use stand::Wish;
