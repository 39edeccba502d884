//! The director's code for fragments.

#[path = "../table/fragments.rs"]
pub mod fragments;
#[path = "../table/reassemble.rs"]
pub mod reassemble;
