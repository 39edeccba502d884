//! Connection synchronisation between directors, by IPVS's protocol: what its messages say, and when
//! a master sends one.

mod malformed;
mod message;
mod numbers;
mod record;
mod replay;
pub mod rules;
mod v0;
mod v1;
mod writer;

pub use malformed::Malformed;
pub use message::{Message, Records, Version};
pub use record::{Engine, Local, Record, Sequence, flags, option};
pub use replay::Window;
pub use writer::{Push, Writer, question};
