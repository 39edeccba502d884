pub mod advance;
pub mod alias;
pub mod alias_between;
pub mod local_ports;
pub mod release;
pub mod track;
