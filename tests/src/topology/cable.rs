//! Cables between namespaces.

use anyhow::Result;

use super::namespace::Namespace;

/// What the devices of a cable do for their hosts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offloads {
    /// Checksums are left unfinished and segments large, as between local sockets over veth.
    On,
    /// Frames are as on a wire. Native XDP wants them so.
    Off,
}

/// Lays a cable (a veth pair) between device `a.1` of one namespace and device `b.1` of another, with an MTU of 1500.
///
/// Both ends poll (GRO is on), because an end takes frames from an XDP program only if the other one does.
pub fn connect(a: (&Namespace, &str), b: (&Namespace, &str), offloads: Offloads) -> Result<()> {
    let peer = format!("netns {} name {}", b.0.name(), b.1);
    a.0.ip(&[format!("link add {} type veth peer {peer}", a.1), format!("link set {} up", a.1)])?;
    b.0.ip(&[format!("link set {} up", b.1)])?;
    [a, b].into_iter().try_for_each(|(namespace, device)| set_offloads(namespace, device, offloads))
}

/// Changes what a cable's end does for its host.
pub fn set_offloads(namespace: &Namespace, device: &str, offloads: Offloads) -> Result<()> {
    let features = match offloads {
        Offloads::On => "tx on tso on gso on",
        Offloads::Off => "tx off tso off gso off",
    };
    namespace.run(&format!("ethtool -K {device} gro on {features}")).map(drop)
}
