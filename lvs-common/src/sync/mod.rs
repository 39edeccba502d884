//! Connection synchronisation between directors, by IPVS's protocol: what its messages say.

mod malformed;
mod message;
mod numbers;
mod record;
mod v0;
mod v1;
mod writer;

pub use malformed::Malformed;
pub use message::{Message, Records, Version};
pub use record::{Engine, Record, Sequence, flags, option};
pub use writer::{Push, Writer};
