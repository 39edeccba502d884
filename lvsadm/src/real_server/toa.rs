//! The programs that read TOA: loading them, and attaching them to control groups by links that outlive this process.
//!
//! Their pins are beside the director's, in a directory of the network namespace's own: a link for each program and control
//! group, and the maps that the programs of a later call go on with, so that connections keep their clients.

use std::fmt;
use std::fs;
use std::io::ErrorKind;
use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use aya::maps::lpm_trie::{Key, LpmTrie};
use aya::maps::xdp::DevMap;
use aya::maps::{Map, MapData, PerCpuArray};
use aya::programs::links::FdLink;
use aya::programs::{CgroupAttachMode, Program};
use aya::{Ebpf, EbpfLoader};
use aya_obj::generated::bpf_map_type;
use ipnet::IpNet;
use lvs_common::abi::{AF_INET, AF_INET6, Address};
use lvs_common::toa::{COUNTS, Client};
use serde::{Deserialize, Serialize};

use super::cgroup::{Cgroup, Hierarchy};
use super::state_file;
use lvs_director::dataplane::Defaults;
use lvs_director::dataplane::bpffs::{self, Directory};
use lvs_director::dataplane::{self, link};
use lvs_director::director::Access;
use lvs_director::objects;

/// The object's programs. Those that answer come first, so that nothing is kept that nobody asks for.
const PROGRAMS: [&str; 3] = ["toa_peer4", "toa_peer6", "toa_accepted"];
/// Maps that stay when the programs are replaced: sizes of a value, and most entries (0: as many as there are sockets).
const KEPT: [(&str, usize, usize); 2] = [("CLIENTS", size_of::<Client>(), 0), ("COUNTS", 8, COUNTS.len())];
/// A map that holds a device of the network namespace for as long as there is one.
const ALIVE: &str = "ALIVE";
/// `lo` has the same index in every network namespace.
const LOOPBACK: u32 = 1;
/// Directories of pins are called so, and as their network namespaces.
const PREFIX: &str = "toa-";
/// Most prefixes.
pub const PREFIXES: usize = 4096;

/// Whom servers learn their clients from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Toa {
    /// Peers that are believed.
    pub trust: Vec<IpNet>,
    /// Names of the control groups whose servers are told; none is within another one.
    pub cgroups: Vec<PathBuf>,
}

impl fmt::Display for Toa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let trust: Vec<_> = self.trust.iter().map(IpNet::to_string).collect();
        let cgroups: Vec<_> = self.cgroups.iter().map(|name| name.display().to_string()).collect();
        write!(f, "from {} for control group {}", trust.join(","), cgroups.join(","))
    }
}

impl Toa {
    /// Attaches the programs, in place of those that an earlier call attached. If it fails, everything is as before.
    pub fn apply(&self) -> Result<()> {
        let directory = bpffs::open(Access::Change)?;
        collect(&directory)?;
        let pins = pins(&directory);
        let is_new = !pins.exists();
        self.attach(&pins).inspect_err(|_| {
            if is_new {
                // The error that is told is the one that came first.
                let _ = remove(&pins);
            }
        })
    }

    fn attach(&self, pins: &Path) -> Result<()> {
        let cgroups = self.open()?;
        if !pins.exists() {
            fs::create_dir(pins).context("cannot create a directory of pins")?;
        }
        let mut object = load(&self.trust, pins)?;
        pin_sign_of_life(pins)?;
        let mut made = Vec::new();
        for (name, cgroup) in self.cgroups.iter().zip(&cgroups) {
            for program in PROGRAMS {
                let pin = pins.join(pin_name(program, cgroup));
                if link::target(&pin).is_some_and(|target| target != 0) {
                    continue;
                }
                let attached = attach(&mut object, program, cgroup, &pin)
                    .with_context(|| format!("cannot attach {program} to control group {}", name.display()));
                made.push(pin);
                if let Err(error) = attached {
                    made.iter().for_each(|pin| drop(unpin(pin)));
                    return Err(error);
                }
            }
        }
        // What can be refused has been done: now those that are there already.
        for cgroup in &cgroups {
            for program in PROGRAMS {
                let pin = pins.join(pin_name(program, cgroup));
                if !made.contains(&pin) {
                    link::update(&pin, descriptor(&object, program)?).context("cannot replace a program")?;
                }
            }
        }
        for pin in links(pins)? {
            if !cgroups.iter().any(|cgroup| belongs_to(&pin, cgroup)) {
                unpin(&pin)?;
            }
        }
        Ok(())
    }

    /// Whether all programs are attached.
    pub fn holds(&self) -> Result<bool> {
        let directory = bpffs::open(Access::Change)?;
        let Ok(cgroups) = self.open() else { return Ok(false) };
        let is_attached = |cgroup: &Cgroup, program| {
            let pin = pins(&directory).join(pin_name(program, cgroup));
            link::target(&pin).is_some_and(|target| target != 0)
        };
        Ok(cgroups.iter().all(|cgroup| PROGRAMS.iter().all(|program| is_attached(cgroup, program))))
    }

    fn open(&self) -> Result<Vec<Cgroup>> {
        let hierarchy = Hierarchy::open()?;
        self.cgroups.iter().map(|name| hierarchy.get(name)).collect()
    }
}

/// Detaches everything. Servers get to know the director's address again, of every connection.
pub fn detach() -> Result<()> {
    remove(&pins(&bpffs::open(Access::Change)?))
}

/// How many connections came to what, with the names of it.
pub fn counts() -> Result<Vec<(&'static str, u64)>> {
    let data = MapData::from_pin(pins(&bpffs::open(Access::Read)?).join("COUNTS")).context("cannot open map COUNTS")?;
    let map = PerCpuArray::<_, u64>::try_from(Map::from_map_data(data)?).context("cannot open map COUNTS")?;
    let count = |(name, index)| {
        let each = map.get(&index, 0).context("cannot read map COUNTS")?;
        Ok((name, each.iter().fold(0, |sum: u64, count| sum.wrapping_add(*count))))
    };
    COUNTS.into_iter().zip(0..).map(count).collect()
}

fn pins(directory: &Directory) -> PathBuf {
    directory.other(PREFIX)
}

fn pin_name(program: &str, cgroup: &Cgroup) -> String {
    format!("{program}-{}", cgroup.id)
}

/// The pins of all links.
fn links(pins: &Path) -> Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(pins) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.context("cannot read a directory of pins")?,
    };
    let paths: Vec<PathBuf> = entries.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
    Ok(paths.into_iter().filter(|path| PROGRAMS.iter().any(|program| split(path).0 == *program)).collect())
}

/// Program and control group of a link's pin.
fn split(pin: &Path) -> (&str, &str) {
    pin.file_name().and_then(|name| name.to_str()?.rsplit_once('-')).unwrap_or_default()
}

fn belongs_to(pin: &Path, cgroup: &Cgroup) -> bool {
    split(pin).1 == cgroup.id.to_string()
}

/// Loads the object, with the peers to believe in it, and with the maps that are pinned already.
fn load(trust: &[IpNet], pins: &Path) -> Result<Ebpf> {
    if objects::TOA.is_empty() {
        bail!("this lvsadm was built without its eBPF programs: build it with `cargo xtask build`");
    }
    let namespace = bpffs::namespace_cookie()?;
    let mptcp = u32::from(Path::new("/proc/sys/net/mptcp").exists());
    let mut loader = EbpfLoader::new();
    loader.override_global("NAMESPACE", &namespace, true).override_global("MPTCP", &mptcp, true);
    for (name, value, entries) in KEPT {
        let pin = pins.join(name);
        // One of another lvsadm's form is of no use to these programs.
        if !has_form(&pin, value, entries) {
            forget(&pin)?;
        }
        loader.map_pin_path(name, pin);
    }
    let mut object = loader.load(objects::TOA).context("cannot load the programs that read TOA")?;
    let map = object.map_mut("TRUSTED").context("the object has no map TRUSTED")?;
    let mut trusted = LpmTrie::<_, [u32; 5], u32>::try_from(map)?;
    for prefix in trust {
        trusted.insert(&key(*prefix), 0, 0).with_context(|| format!("cannot tell the programs about {prefix}"))?;
    }
    let verifier_log = Defaults::read()?.loading.verifier_log;
    for name in PROGRAMS {
        let program = object.program_mut(name).with_context(|| format!("the object has no program {name}"))?;
        let loaded = match program {
            Program::SockOps(program) => program.load(),
            Program::CgroupSockAddr(program) => program.load(),
            _ => bail!("program {name} is of another type"),
        };
        loaded.map_err(|error| dataplane::refused(name, error, verifier_log))?;
    }
    Ok(object)
}

/// The programs' key of a prefix: the family, all of which must match, and the address.
fn key(prefix: IpNet) -> Key<[u32; 5]> {
    let (family, Address([a, b, c, d])) = match prefix.network() {
        IpAddr::V4(v4) => (AF_INET, Address::v4(v4.octets())),
        IpAddr::V6(v6) => (AF_INET6, Address::v6(v6.octets())),
    };
    Key::new(32 + u32::from(prefix.prefix_len()), [family.into(), a, b, c, d])
}

/// Whether a pinned map is there and has values and entries as the programs want them.
fn has_form(pin: &Path, value: usize, entries: usize) -> bool {
    let info = MapData::from_pin(pin).and_then(|map| map.info());
    info.is_ok_and(|info| info.value_size() as usize == value && info.max_entries() as usize == entries)
}

fn attach(object: &mut Ebpf, name: &str, cgroup: &Cgroup, pin: &Path) -> Result<()> {
    // What is there is of a control group that is gone.
    forget(pin)?;
    // The one mode of links: beside other programs.
    let mode = CgroupAttachMode::Single;
    let link: FdLink = match object.program_mut(name).with_context(|| format!("the object has no program {name}"))? {
        Program::SockOps(program) => {
            let id = program.attach(&cgroup.directory, mode)?;
            program.take_link(id)?.try_into()?
        }
        Program::CgroupSockAddr(program) => {
            let id = program.attach(&cgroup.directory, mode)?;
            program.take_link(id)?.try_into()?
        }
        _ => bail!("program {name} is of another type"),
    };
    link.pin(pin)?;
    Ok(())
}

fn descriptor(object: &Ebpf, name: &str) -> Result<i32> {
    let program = object.program(name).with_context(|| format!("the object has no program {name}"))?;
    Ok(program.fd()?.as_fd().as_raw_fd())
}

/// Pins a map that holds `lo`, which the kernel takes out of it when the network namespace goes. Links to control groups know
/// nothing of that.
fn pin_sign_of_life(pins: &Path) -> Result<()> {
    let path = pins.join(ALIVE);
    if path.exists() {
        return Ok(());
    }
    let context = "cannot make a map of devices";
    let kind = aya_obj::Map::new_from_params(bpf_map_type::BPF_MAP_TYPE_DEVMAP as u32, 4, 8, 1, 0);
    let mut map = DevMap::try_from(Map::from_map_data(MapData::create(kind, "toa_alive", None).context(context)?)?)?;
    map.set(0, LOOPBACK, None, 0).context(context)?;
    map.pin(path).context(context)
}

/// Whether the directory of pins is of a network namespace that is gone, or of a call that was killed early.
fn is_dead(pins: &Path) -> bool {
    let alive = || DevMap::try_from(Map::from_map_data(MapData::from_pin(pins.join(ALIVE)).ok()?).ok()?).ok();
    alive().is_none_or(|map: DevMap<MapData>| map.get(0, 0).is_err())
}

/// Removes what network namespaces that are gone have left. The state's lock keeps others from making a directory meanwhile.
fn collect(own: &Directory) -> Result<()> {
    for name in own.all(PREFIX)? {
        let pins = own.sibling(&name);
        if !is_dead(&pins) {
            continue;
        }
        remove(&pins)?;
        if pins != own.other(PREFIX) {
            state_file::forget(&name[PREFIX.len()..])?;
        }
    }
    Ok(())
}

/// Detaches a link and removes its pin.
fn unpin(pin: &Path) -> Result<()> {
    link::detach(pin);
    forget(pin)
}

/// Removes a pin, if there is one.
fn forget(pin: &Path) -> Result<()> {
    match fs::remove_file(pin) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error).context("cannot remove a pin"),
        _ => Ok(()),
    }
}

/// Detaches all links and removes a directory of pins, if there is one.
fn remove(pins: &Path) -> Result<()> {
    links(pins)?.iter().try_for_each(|pin| unpin(pin))?;
    Ok(dataplane::remove_pins(pins)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_is_a_key_within_its_family() {
        let key = |text: &str| super::key(text.parse().unwrap());
        let v4 = key("192.168.122.7/24");
        assert_eq!((v4.prefix_len(), v4.data()), (56, [2, u32::from_ne_bytes([192, 168, 122, 0]), 0, 0, 0]));
        let v6 = key("2001:db8::/32");
        assert_eq!((v6.prefix_len(), v6.data()), (64, [10, u32::from_ne_bytes([0x20, 1, 0xd, 0xb8]), 0, 0, 0]));
        assert_eq!(key("::/0").prefix_len(), 32, "not IPv4's addresses too");
    }

    #[test]
    fn a_pin_tells_its_program_and_control_group() {
        assert_eq!(split(Path::new("/x/toa_peer4-4711")), ("toa_peer4", "4711"));
        assert_eq!(split(Path::new("/x/CLIENTS")), ("", ""));
    }
}
