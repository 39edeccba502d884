pub mod fragment;
pub mod icmp;
pub mod reject;
pub mod reset;
