//! The director that commands change.

use lvs_director::dataplane::{self, PlaneDirector};
use lvs_director::director::{self, Access};

/// Opens the director for ipvsadm's commands: the first use loads the data plane and attaches it, as ipvsadm loads `ip_vs`.
pub fn open(access: Access) -> director::Result<PlaneDirector> {
    dataplane::ready(access).map(PlaneDirector::new).map_err(director::Error::from)
}
