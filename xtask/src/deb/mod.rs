//! `cargo xtask deb`: Debian packages of what was built, by `dpkg-deb` from a tree of files: `lvsadm`, and
//! `ipvsadm-is-lvsadm`, which has it stand in for ipvsadm.

mod bill;
mod check;
mod command;
mod package;
mod tree;

pub use command::run;
pub use package::package;
