//! The layout of the pinned maps: marked and described when they are pinned, checked when they are opened, and read by its
//! description where another build made it.

mod description;
mod foreign;
mod layouts;
mod mark;
mod plan;

pub use description::Description;
pub use foreign::{Foreign, Raw};
pub use layouts::Layouts;
pub use mark::{check, is_own, mark, name};
pub use plan::Plan;
