//! A model of IPVS, written for clarity from what is known of IPVS, and not from the data plane.
//!
//! `fuzz/tests/model` gives the model and a director on the host the same rules, edits, packets and time, and compares after each
//! step. Where IPVS picks at random, or by a table that the model does not build, the director's pick has to be a permitted one.

pub mod ipvs;
pub mod rules;
pub mod schedulers;
pub mod states;
