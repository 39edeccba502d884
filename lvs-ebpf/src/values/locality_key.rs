//! Key of the memory of lblc and lblcr.

use lvs_common::abi::{Address, ServiceId};

/// Key of [`LOCALITY`].
#[derive(Clone, Copy)]
#[repr(C)]
pub struct LocalityKey {
    pub address: Address,
    pub service: ServiceId,
}
