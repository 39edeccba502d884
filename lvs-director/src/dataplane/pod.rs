//! The map ABI's types as aya takes them.

use lvs_common::abi::{
    Device, EngineData, EngineKey, FwmarkKey, ListEntry, ListKey4, ListKey6, PortKey, Ports, ServiceId, ServiceKey,
    Settings, VlanKey,
};

/// A type of the ABI, any bytes of which are a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(transparent)]
pub struct Pod<T>(pub T);

// SAFETY: plain integers without padding.
unsafe impl aya::Pod for Pod<Settings> {}
// SAFETY: as above.
unsafe impl aya::Pod for Pod<ServiceKey<u32>> {}
// SAFETY: as above.
unsafe impl aya::Pod for Pod<ServiceKey<[u32; 4]>> {}
// SAFETY: as above.
unsafe impl aya::Pod for Pod<FwmarkKey> {}
// SAFETY: as above.
unsafe impl aya::Pod for Pod<ServiceId> {}
// SAFETY: as above.
unsafe impl aya::Pod for Pod<EngineKey> {}
// SAFETY: as above.
unsafe impl aya::Pod for Pod<PortKey> {}
// SAFETY: as above.
unsafe impl aya::Pod for Pod<Ports> {}
// SAFETY: as above.
unsafe impl aya::Pod for Pod<EngineData> {}
// SAFETY: as above.
unsafe impl aya::Pod for Pod<ListKey4> {}
// SAFETY: as above.
unsafe impl aya::Pod for Pod<ListKey6> {}
// SAFETY: as above.
unsafe impl aya::Pod for Pod<ListEntry> {}
// SAFETY: as above.
unsafe impl aya::Pod for Pod<VlanKey> {}
// SAFETY: as above.
unsafe impl aya::Pod for Pod<Device> {}
