pub mod fib;
pub mod gate;
pub mod refuse;
pub mod route;
pub mod send;
pub mod split;
