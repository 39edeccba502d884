//! Descriptions of layouts, as text: see [`lvs_common::abi::describe`].

use std::collections::BTreeMap;
use std::path::Path;

use aya::maps::MapData;
use aya_obj::generated::bpf_map_type;
use lvs_common::abi;

use super::super::error::{Context, Result};
use super::super::syscall;

/// The map that holds a description.
const MAP: &str = "LAYOUT";
/// Bytes of a description at most; one of today's has some ten thousand.
const MOST: u32 = 1 << 20;
/// A type that has no fields.
const NO_TYPE: &str = "-";

/// A field of a structure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    pub name: String,
    pub offset: usize,
    pub size: usize,
    /// Bytes of an element: a field is one element, or several.
    pub element: usize,
    /// The elements' type, if it is described.
    pub of: Option<String>,
}

/// A structure.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Type {
    pub size: usize,
    pub fields: Vec<Field>,
}

/// What a map holds: names of types.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    pub key: Option<String>,
    pub value: Option<String>,
}

/// The layout of a build's maps.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Description {
    pub types: BTreeMap<String, Type>,
    pub maps: BTreeMap<String, Held>,
    /// Names of the exits, in the order of their numbers.
    pub exits: Vec<String>,
    /// How `COUNTERS` is laid out.
    pub counters: String,
}

impl Description {
    /// This build's.
    pub fn own() -> Self {
        Self::parse(&text()).unwrap_or_default()
    }

    /// Pins this build's in a directory.
    pub fn pin(directory: &Path) -> Result<()> {
        let text = text();
        let array = bpf_map_type::BPF_MAP_TYPE_ARRAY as u32;
        let map = aya_obj::Map::new_from_params(array, size_of::<u32>() as u32, text.len() as u32, 1, 0);
        let map = MapData::create(map, MAP, None).context("cannot make map LAYOUT")?;
        syscall::put_bytes(&map, &[0; 4], text.as_bytes()).context("cannot write map LAYOUT")?;
        map.pin(directory.join(MAP)).context("cannot pin map LAYOUT")
    }

    /// That of the maps of a directory; `None` if it has none that can be read.
    pub fn read(directory: &Path) -> Option<Self> {
        let map = MapData::from_pin(directory.join(MAP)).ok()?;
        let size = map.info().ok()?.value_size().min(MOST);
        let mut bytes = vec![0; size as usize];
        syscall::get_bytes(&map, &[0; 4], &mut bytes).ok()?;
        Self::parse(std::str::from_utf8(&bytes).ok()?)
    }

    /// Whether a type is the same in another layout, down to the types of its fields.
    pub fn has_the_same(&self, other: &Self, name: &str) -> bool {
        let (Some(own), Some(others)) = (self.types.get(name), other.types.get(name)) else { return false };
        let inner = own.fields.iter().filter_map(|field| field.of.as_ref());
        own == others && inner.into_iter().all(|of| self.has_the_same(other, of))
    }

    /// Whether a type has a field of this name.
    pub fn has_field(&self, of: &str, name: &str) -> bool {
        self.types.get(of).is_some_and(|it| it.fields.iter().any(|field| field.name == name))
    }

    /// Reads a text; `None` if it contradicts itself. Lines of a kind that is not known are passed by.
    pub fn parse(text: &str) -> Option<Self> {
        let mut all = Description::default();
        let mut last = String::new();
        let number = |text: &str| text.parse::<usize>().ok();
        let name = |text: &str| (text != NO_TYPE).then(|| text.to_owned());
        for line in text.lines() {
            match line.split('\t').collect::<Vec<_>>()[..] {
                ["type", it, size] => {
                    last = it.to_owned();
                    all.types.insert(last.clone(), Type { size: number(size)?, fields: Vec::new() });
                }
                ["field", it, offset, size, element, of] => {
                    let (offset, size, element) = (number(offset)?, number(size)?, number(element)?);
                    let to = all.types.get_mut(&last)?;
                    let fits =
                        offset.checked_add(size)? <= to.size && (size == 0 || element != 0 && size % element == 0);
                    if !fits {
                        return None;
                    }
                    to.fields.push(Field { name: it.to_owned(), offset, size, element, of: name(of) });
                }
                ["map", it, key, value] => {
                    all.maps.insert(it.to_owned(), Held { key: name(key), value: name(value) });
                }
                ["exit", it] => all.exits.push(it.to_owned()),
                ["counters", it] => it.clone_into(&mut all.counters),
                _ => {}
            }
        }
        Some(all)
    }
}

fn text() -> String {
    let mut text = String::new();
    // Nothing that writes to a text fails.
    let _ = abi::describe(&mut text);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_builds_description_is_read_as_it_is_written() {
        let own = Description::own();
        assert_eq!(own.types["Service"].size, size_of::<abi::Service>());
        let daemons = own.types["Sync"].fields.iter().find(|field| field.name == "daemons").unwrap();
        let daemon = size_of::<abi::Daemon>();
        assert_eq!((daemons.size, daemons.element, daemons.of.as_deref()), (2 * daemon, daemon, Some("Daemon")));
        assert_eq!(own.maps["PORTS"].key.as_deref(), Some("PortKey"));
        assert!(own.exits.len() > 10 && !own.counters.is_empty());
    }

    #[test]
    fn a_field_beyond_its_type_is_none() {
        for text in [
            "type\ta\t4\nfield\tb\t4\t4\t4\t-",
            "field\tb\t0\t4\t4\t-",
            "type\ta\t8\nfield\tb\t0\t8\t3\t-",
            "type\ta\tx",
        ] {
            assert_eq!(Description::parse(text), None, "{text}");
        }
    }
}
