//! What the kernel's IPVS shows of a table as a whole.

use super::statistics::ServiceEntry;

/// The first line of a full listing: the version that the kernel's IPVS reports, and the connection table's buckets.
pub fn header(table_size: u32) -> String {
    format!("IP Virtual Server version 1.2.1 (size={table_size})\n")
}

/// Orders services as the kernel lists them: by row of its hash tables, the newest of a row first.
pub fn hash_order(services: &mut [ServiceEntry]) {
    services.reverse();
    services.sort_by_cached_key(|entry| entry.service.key.hash_row());
}
