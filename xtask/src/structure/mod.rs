//! `cargo xtask structure`: which file imports which, in every crate of the workspace. No files may import each other in a
//! circle, and no file of the data plane may import from a floor above its own.

mod circles;
mod counts;
mod floors;
mod imports;
mod modules;
mod report;
mod sources;

pub use report::run;
