pub mod serve;
pub mod translate;
