//! Connection synchronisation: the processes that tell other directors of connections, or learn of theirs.

mod backup;
mod carrier;
mod importer;
mod master;
pub mod process;
mod residents;
mod seal;
mod sockets;
mod transfer;
mod wait;
pub mod worker;
