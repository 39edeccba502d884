//! Making a loaded data plane forget everything.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::path::Path;
use std::ptr::NonNull;

use anyhow::{Context, Result};
use aya::maps::{MapData, MapType};
use nix::errno::Errno;
use nix::libc;
use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};

/// Maps that stay as they are: the timer, what is known of the devices that are attached, what later programs are loaded with, and the
/// description of the maps.
const KEPT: [&str; 4] = ["CLOCK", "DEVICES", "SECRETS", "LAYOUT"];

/// The maps of a data plane that was just loaded, to make them so again. Loading takes seconds, this takes milliseconds.
pub struct Blank {
    arrays: Vec<Mapped>,
    others: Vec<(String, MapData)>,
}

impl Blank {
    /// Takes note of the data plane that is pinned in a directory and has no rules yet.
    pub fn of(pins: &Path) -> Result<Self> {
        let (mut arrays, mut others) = (Vec::new(), Vec::new());
        for entry in std::fs::read_dir(pins).context("nothing is pinned")? {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            // Programs have small letters.
            if !name.starts_with(|c: char| c.is_ascii_uppercase()) || KEPT.contains(&&*name) {
                continue;
            }
            let map = MapData::from_pin(&path).with_context(|| name.clone())?;
            match map.info()?.map_type()? {
                MapType::Array => match Mapped::of(&map) {
                    Ok(mapped) => arrays.push(mapped),
                    // Not one that can be mapped.
                    Err(_) => others.push((name, map)),
                },
                MapType::Hash | MapType::LruHash => others.push((name, map)),
                _ => {}
            }
        }
        Ok(Blank { arrays, others })
    }

    /// Makes them so again. No packet and no command may be on its way.
    pub fn restore(&self) -> Result<()> {
        // The sweep may have been in the middle of something: what it writes after the first time is gone after the second.
        for _ in 0..2 {
            self.arrays.iter().for_each(Mapped::restore);
        }
        self.others.iter().try_for_each(|(name, map)| clear(map).with_context(|| format!("cannot clear map {name}")))
    }
}

/// Words that are looked at at a time.
type Page = [u64; 512];
const ZEROS: Page = [0; 512];

/// A BPF array in this process's memory, in whole pages.
struct Mapped {
    start: NonNull<Page>,
    pages: usize,
    /// The pages that are not all zeros in the beginning: those of the settings.
    filled: BTreeMap<usize, Page>,
}

// SAFETY: the mapping belongs to the process, not to a thread.
unsafe impl Send for Mapped {}

impl Mapped {
    fn of(map: &MapData) -> Result<Self> {
        let info = map.info()?;
        // Elements stand at multiples of eight bytes.
        let bytes = info.value_size().next_multiple_of(8) as usize * info.max_entries() as usize;
        let pages = bytes.div_ceil(size_of::<Page>());
        let bytes = NonZeroUsize::new(pages * size_of::<Page>()).context("an empty map")?;
        let protection = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: a new mapping.
        let start = unsafe { mmap(None, bytes, protection, MapFlags::MAP_SHARED, map.fd(), 0) }?;
        let mut mapped = Mapped { start: start.cast(), pages, filled: BTreeMap::new() };
        let filled = (0..pages).map(|page| (page, mapped.page(page))).filter(|(_, contents)| *contents != ZEROS);
        mapped.filled = filled.collect();
        Ok(mapped)
    }

    fn page(&self, page: usize) -> Page {
        // SAFETY: inside the mapping; the kernel may write to it meanwhile.
        unsafe { self.start.add(page).read_volatile() }
    }

    fn restore(&self) {
        for page in 0..self.pages {
            let contents = self.filled.get(&page).unwrap_or(&ZEROS);
            // Most are as they were.
            if self.page(page) != *contents {
                // SAFETY: as above.
                unsafe { self.start.add(page).write_volatile(*contents) }
            }
        }
    }
}

impl Drop for Mapped {
    fn drop(&mut self) {
        // SAFETY: the mapping made by `of`.
        let _ = unsafe { munmap(self.start.cast(), self.pages * size_of::<Page>()) };
    }
}

/// Empties a hash map, or sets the elements of an array to zeros.
fn clear(map: &MapData) -> Result<()> {
    let info = map.info()?;
    let map = map.fd().as_fd();
    if info.map_type()? == MapType::Array {
        let zeros = vec![0u8; info.value_size() as usize];
        for index in 0..info.max_entries() {
            element(UPDATE, map, &index.to_ne_bytes(), Some(&zeros))?;
        }
        return Ok(());
    }
    let mut key = vec![0u8; info.key_size() as usize];
    while first_key(map, &mut key)? {
        element(DELETE, map, &key, None)?;
    }
    Ok(())
}

/// `BPF_MAP_UPDATE_ELEM`, `BPF_MAP_DELETE_ELEM`, `BPF_MAP_GET_NEXT_KEY`.
const UPDATE: i32 = 2;
const DELETE: i32 = 3;
const NEXT_KEY: i32 = 4;

/// The part of `union bpf_attr` that is about elements. aya's maps want the types of keys and values; here any will do.
#[repr(C)]
struct Element {
    map: u32,
    pad: u32,
    key: u64,
    value: u64,
    flags: u64,
}

/// Changes an element. Key and value are as long as the map's are.
fn element(command: i32, map: BorrowedFd<'_>, key: &[u8], value: Option<&[u8]>) -> Result<()> {
    // The kernel wants what a command does not use to be 0.
    let value = value.map_or(0, |value| value.as_ptr() as u64);
    call(command, &Element { map: map.as_raw_fd() as u32, pad: 0, key: key.as_ptr() as u64, value, flags: 0 })?;
    Ok(())
}

/// Stores a hash map's first key in `key`; `false` if there is none.
fn first_key(map: BorrowedFd<'_>, key: &mut [u8]) -> Result<bool> {
    let query = Element { map: map.as_raw_fd() as u32, pad: 0, key: 0, value: key.as_mut_ptr() as u64, flags: 0 };
    match call(NEXT_KEY, &query) {
        Err(Errno::ENOENT) => Ok(false),
        result => Ok(result.map(|_| true)?),
    }
}

/// bpf(2).
fn call(command: i32, element: &Element) -> Result<(), Errno> {
    // SAFETY: the structure is as long as said, and what it points to is as long as the map's keys and values.
    let status = unsafe { libc::syscall(libc::SYS_bpf, command, element, size_of::<Element>()) };
    Errno::result(status).map(drop)
}
