pub mod defend;
pub mod drain;
pub mod estimate;
pub mod expire;
