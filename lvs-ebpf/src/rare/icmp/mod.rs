pub mod families;
pub mod serve;
pub mod translate;
pub mod tunnel;
