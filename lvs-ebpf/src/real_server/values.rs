//! What the director's code for fragments keeps in maps.

#[path = "../values/fragment.rs"]
pub mod fragment;
#[path = "../values/parsed.rs"]
pub mod parsed;
