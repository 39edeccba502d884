pub mod fragment;
pub mod icmp;
mod limit;
pub mod reject;
pub mod reset;
