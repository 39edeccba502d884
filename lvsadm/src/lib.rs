//! The program's library: ipvsadm's command line, the rules it speaks of, and the directors that carry them out.

pub mod director;
pub mod rules;
