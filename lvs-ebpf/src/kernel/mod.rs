pub mod atomics;
pub mod clock;
pub mod cpu;
pub mod loops;
pub mod params;
