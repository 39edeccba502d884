pub mod atomics;
pub mod clock;
pub mod cpu;
pub mod global;
pub mod loops;
pub mod params;
