//! Programs that not every data plane has: XDP's, those of IPv6, and those of VLANs in XDP. Most of the time that loading takes is the verifier's, for each
//! program, so they are loaded when something needs them: see [`demand`](super::demand).

use std::path::Path;

use lvs_common::abi::{Settings, extras};
use lvs_common::programs::{self, entry};

use super::plane::Plane;

/// What is loaded beside TC's programs for IPv4.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Extras {
    /// XDP's programs.
    pub xdp: bool,
    /// The programs of IPv6, of each tier that is loaded.
    pub ipv6: bool,
    /// XDP's programs for frames with VLANs' tags.
    pub vlans: bool,
}

impl Extras {
    /// Those of a data plane.
    pub fn of(plane: &Plane) -> Self {
        Self::by(&plane.directory.path(), &plane.settings())
    }

    /// Those of the data plane of a directory, with these settings.
    pub fn by(directory: &Path, settings: &Settings) -> Self {
        let has = |extra| settings.extras & extra != 0;
        Extras { xdp: directory.join(entry::XDP).exists(), ipv6: has(extras::IPV6), vlans: has(extras::VLANS) }
    }

    /// Whether a program of an object is loaded where these are.
    pub fn have(self, program: &str) -> bool {
        (self.xdp || !programs::is_of_xdp(program))
            && (self.ipv6 || !programs::is_of_ipv6(program))
            && (self.vlans || !programs::is_of_vlans(program))
    }
}
