//! IPsec: which destinations the host's output policies cover. The kernel's FIB look-up knows nothing of policies, so every command
//! notes the prefixes, and the data plane leaves what goes there to the network stack.

use std::collections::BTreeSet;

use aya::maps::lpm_trie::Key;
use aya::maps::{LpmTrie, Map, MapData};
use lvs_common::abi::{AF_INET, AF_INET6, PROTECTED};
use netlink_packet_core::DefaultNla;

use super::error::{Context, Result};
use super::plane::Plane;
use crate::netlink::{self, Message};

/// `NETLINK_XFRM`.
const XFRM: isize = 6;
/// `XFRM_MSG_GETPOLICY`, and bytes of `struct xfrm_userpolicy_id`, its fixed part.
const GET_POLICY: u16 = 0x15;
const POLICY_ID: usize = 64;
/// Bytes of `struct xfrm_userpolicy_info`, and where its fields are: the destination, its prefix, direction and action.
const POLICY: usize = 168;
const DESTINATION: usize = 0;
const FAMILY: usize = 40;
const PREFIX: usize = 42;
const DIRECTION: usize = 160;
const ACTION: usize = 161;
/// `XFRM_POLICY_OUT`, `XFRM_POLICY_BLOCK`.
const OUT: u8 = 1;
const BLOCK: u8 = 1;
/// `XFRMA_TMPL`.
const TEMPLATES: u16 = 5;

/// A prefix as the map holds it: bits, the family, the address.
type Prefix = (u32, [u32; 5]);

/// The destination of an output policy that blocks or encrypts, from the kernel's message.
fn prefix(message: &Message) -> Option<Prefix> {
    let fixed = message.body.get(..POLICY)?;
    let is_strict = fixed[ACTION] == BLOCK || message.attribute(POLICY, TEMPLATES).is_some();
    if fixed[DIRECTION] != OUT || !is_strict {
        return None;
    }
    let family = u16::from_ne_bytes([fixed[FAMILY], fixed[FAMILY + 1]]);
    let mut words = [0; 5];
    words[0] = u32::from(family).to_be();
    let octets = &fixed[DESTINATION..DESTINATION + if family == u16::from(AF_INET) { 4 } else { 16 }];
    for (word, bytes) in words[1..].iter_mut().zip(octets.chunks_exact(4)) {
        *word = u32::from_ne_bytes(bytes.try_into().ok()?);
    }
    let is_known = [AF_INET, AF_INET6].map(u16::from).contains(&family);
    is_known.then_some((32 + u32::from(fixed[PREFIX]), words))
}

/// The destinations that the host's output policies cover; none where the kernel knows no IPsec.
fn policies() -> Result<BTreeSet<Prefix>> {
    let request = Message::new(GET_POLICY, &[0; POLICY_ID], &[] as &[DefaultNla]);
    match netlink::dump(XFRM, request) {
        Ok(messages) => Ok(messages.iter().filter_map(prefix).collect()),
        Err(netlink::Error::Socket(error)) if error.raw_os_error() == Some(libc::EPROTONOSUPPORT) => {
            Ok(BTreeSet::new())
        }
        Err(error) => Err(error).context("cannot list the IPsec policies"),
    }
}

impl Plane {
    /// Opens the map of prefixes.
    fn protected(&self) -> Result<LpmTrie<MapData, [u32; 5], u32>> {
        let context = "cannot open map PROTECTED";
        let data = MapData::from_pin(self.directory.path().join("PROTECTED")).context(context)?;
        LpmTrie::try_from(Map::from_map_data(data).context(context)?).context(context)
    }

    /// The prefixes that are noted: how many.
    pub fn protected_prefixes(&self) -> Result<usize> {
        Ok(self.protected()?.keys().count())
    }

    /// Notes which destinations the host's IPsec policies cover now. Of more than there is room for, everything is covered.
    pub fn know_policies(&self) -> Result<()> {
        let mut wanted = policies()?;
        if wanted.len() > PROTECTED as usize {
            wanted = [AF_INET, AF_INET6].map(|family| (32, [u32::from(family).to_be(), 0, 0, 0, 0])).into();
        }
        let mut map = self.protected()?;
        let context = "cannot change map PROTECTED";
        let keys = map.keys().collect::<std::result::Result<Vec<_>, _>>().context(context)?;
        let noted: BTreeSet<Prefix> = keys.iter().map(|key| (key.prefix_len(), key.data())).collect();
        for (bits, words) in noted.difference(&wanted) {
            let gone = map.remove(&Key::new(*bits, *words));
            gone.or_else(|error| if super::plane::absent(&error) { Ok(()) } else { Err(error) }).context(context)?;
        }
        for (bits, words) in wanted.difference(&noted) {
            map.insert(&Key::new(*bits, *words), 0, 0).context(context)?;
        }
        Ok(())
    }
}
