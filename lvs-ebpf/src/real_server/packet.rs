//! The director's access to packets, which its code for fragments stands on.

#[path = "../packet/access.rs"]
pub mod access;
#[path = "../packet/fragment.rs"]
pub mod fragment;
#[path = "../packet/tc.rs"]
pub mod tc;
