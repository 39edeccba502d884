pub mod defend;
pub mod drain;
pub mod enter;
pub mod estimate;
pub mod expel;
pub mod expire;
pub mod sweep;
pub mod take_in;
