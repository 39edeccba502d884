//! How much a director in memory holds: little, so that tests come to full tables, and an empty director is made in microseconds.

/// Buckets of each family's connection table.
pub const BUCKETS: u32 = 8;
/// Places for services, of which the first is none.
pub const SERVICES: u32 = 32;
/// Places for destinations, of which the first is none.
pub const DESTINATIONS: u32 = 64;
/// CPUs.
pub const CPUS: u32 = 2;
/// Parts of a service's roster at most.
pub const ROSTER: u32 = 4;
/// Elements of each hash table at most.
pub const KEYS: u32 = 256;
/// Places for local addresses, of which the first is none.
pub const LOCALS: u32 = 8;
