pub mod access;
pub mod destination;
pub mod device;
pub mod service;
pub mod settings;
pub mod watch;
pub use settings::settings;
