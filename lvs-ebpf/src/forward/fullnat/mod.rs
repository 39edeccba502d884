pub mod open;
pub mod serve;
pub mod toa;
pub mod translate;
pub mod uoa;
