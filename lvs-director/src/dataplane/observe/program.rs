//! Loading programs of an object one of whose functions is made at run time, which aya does not do.

use std::collections::HashSet;
use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use aya::maps::{Map, MapData};
use aya_obj::generated::{BPF_F_XDP_HAS_FRAGS, bpf_attach_type, bpf_attr, bpf_insn, bpf_prog_type};
use aya_obj::{Object, ProgramSection};

use super::super::error::{Context, Result};
use super::super::syscall::{self, bpf};

const BPF_PROG_LOAD: libc::c_long = 5;
const BPF_OBJ_PIN: libc::c_long = 6;
/// Bytes of the verifier's complaint that are kept.
const LOG: usize = 1 << 20;
/// Bytes of a program's name at most.
const NAME: usize = 15;
/// Lines of it that are shown.
const LINES: usize = 3;

/// An object whose functions have found their maps and each other.
pub struct Linked(Object);

impl Linked {
    /// Links an object whose maps are there. `functions` are put into the places of those with these names.
    pub fn new(bytes: &[u8], maps: &[(String, &MapData)], functions: &[(&str, Vec<bpf_insn>)]) -> Result<Self> {
        let broken = "cannot link the observing programs";
        let mut object = Object::parse(bytes).map_err(io::Error::other).context(broken)?;
        let sections: HashSet<usize> = object.functions.keys().map(|(section, _)| *section).collect();
        let known = object.maps.clone();
        let descriptors = maps
            .iter()
            .filter_map(|(name, map)| known.get(name).map(|of| (name.as_str(), map.fd().as_fd().as_raw_fd(), of)));
        object.relocate_maps(descriptors, &sections).map_err(io::Error::other).context(broken)?;
        for (name, instructions) in functions {
            let function = object.functions.values_mut().find(|function| function.name == *name);
            function.with_context(|| format!("there is no function {name}"))?.instructions.clone_from(instructions);
        }
        object.relocate_calls(&sections).map_err(io::Error::other).context(broken)?;
        Ok(Linked(object))
    }

    /// Loads a program of XDP or TC.
    pub fn load(&self, name: &str) -> Result<OwnedFd> {
        let program = self.0.programs.get(name).with_context(|| format!("there is no program {name}"))?;
        let function = self.0.functions.get(&program.function_key()).context("a program without a function")?;
        // Programs of an array are all of a type, and are attached alike.
        let kind = match program.section {
            ProgramSection::Xdp { frags, .. } => Kind {
                of: bpf_prog_type::BPF_PROG_TYPE_XDP,
                attach: bpf_attach_type::BPF_XDP as u32,
                flags: if frags { BPF_F_XDP_HAS_FRAGS } else { 0 },
            },
            _ => Kind { of: bpf_prog_type::BPF_PROG_TYPE_SCHED_CLS, attach: 0, flags: 0 },
        };
        let loaded = load(name, &function.instructions, &program.license, kind);
        loaded.with_context(|| format!("the kernel refuses program {name}"))
    }
}

/// What kind of program it is, how it is attached, and whether it takes frames in several buffers.
struct Kind {
    of: bpf_prog_type,
    attach: u32,
    flags: u32,
}

fn load(name: &str, instructions: &[bpf_insn], license: &CString, kind: Kind) -> io::Result<OwnedFd> {
    let attempt = |log: &mut [u8]| {
        // SAFETY: integers, of which zero is a value.
        let mut attributes: bpf_attr = unsafe { std::mem::zeroed() };
        // SAFETY: the union's part for this command, all zeros.
        let of = unsafe { &mut attributes.__bindgen_anon_3 };
        (of.prog_type, of.expected_attach_type, of.prog_flags) = (kind.of as u32, kind.attach, kind.flags);
        // The kernel wants a 0 at its end.
        for (to, from) in of.prog_name.iter_mut().take(NAME).zip(name.bytes()) {
            *to = from as _;
        }
        (of.insns, of.insn_cnt) = (instructions.as_ptr() as u64, instructions.len() as u32);
        of.license = license.as_ptr() as u64;
        if !log.is_empty() {
            (of.log_level, of.log_buf, of.log_size) = (1, log.as_mut_ptr() as u64, log.len() as u32);
        }
        // SAFETY: what the command takes; instructions, licence and log outlive the call.
        unsafe { bpf(BPF_PROG_LOAD, &mut attributes) }
    };
    match attempt(&mut []) {
        // SAFETY: a descriptor that the kernel has just made.
        Ok(fd) => Ok(unsafe { OwnedFd::from_raw_fd(fd as RawFd) }),
        Err(error) => {
            let mut log = vec![0; LOG];
            let _ = attempt(&mut log);
            let said = String::from_utf8_lossy(log.split(|byte| *byte == 0).next().unwrap_or_default()).into_owned();
            let lines: Vec<&str> = said.lines().collect();
            let last = lines[lines.len().saturating_sub(LINES)..].join("; ");
            Err(io::Error::new(error.kind(), format!("{error}: {last}")))
        }
    }
}

/// Pins a program.
pub fn pin(program: BorrowedFd<'_>, path: &Path) -> Result<()> {
    #[repr(C)]
    struct Pin {
        path: u64,
        program: u32,
        flags: u32,
    }
    let context = "cannot pin an observing program";
    let name = CString::new(path.as_os_str().as_bytes()).map_err(io::Error::other).context(context)?;
    let mut pin = Pin { path: name.as_ptr() as u64, program: program.as_raw_fd() as u32, flags: 0 };
    // SAFETY: what the command takes; the path outlives the call.
    unsafe { bpf(BPF_OBJ_PIN, &mut pin) }.map(drop).context(context)
}

/// Puts a program into a slot of a program array.
pub fn set(array: &MapData, slot: u32, program: BorrowedFd<'_>) -> io::Result<()> {
    syscall::put_bytes(array, &slot.to_ne_bytes(), &program.as_raw_fd().to_ne_bytes())
}

/// What a map of the object is made of.
pub fn data(map: &Map) -> Option<&MapData> {
    match map {
        Map::Array(data) | Map::PerCpuArray(data) | Map::RingBuf(data) | Map::ProgramArray(data) => Some(data),
        _ => None,
    }
}
