//! The director that commands change.

use lvs_director::dataplane::{self, PlaneDirector};
use lvs_director::director::{self, Access, Room};

/// Opens the director for ipvsadm's commands: the first use loads the data plane and attaches it, as ipvsadm loads `ip_vs`.
pub fn open(access: Access, room: Room) -> director::Result<PlaneDirector> {
    dataplane::ready(access, room).map(PlaneDirector::new).map_err(director::Error::from)
}
