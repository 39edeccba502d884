pub mod atomics;
pub mod loops;
pub mod params;
