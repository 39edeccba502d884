//! How an element of another layout becomes one of this: field by name.
//!
//! A field that the other layout does not have keeps its default, one that this layout does not have is left behind. Numbers may be wider
//! or narrower, and rows of elements longer or shorter. A field of another kind (a number here, a structure there) counts as another
//! field.

use super::description::{Description, Field};

use super::super::error::{Error, Result};

/// What a layout must have in common with this one. A build in which one of these is called otherwise can not be understood.
const ESSENTIAL: [(&str, &[&str]); 8] = [
    ("Settings", &["epoch", "flags", "dests_used", "services_used", "serial", "lists", "marks", "timeouts", "sysctls"]),
    ("Service", &["switch", "config", "address", "port", "protocol", "family", "fwmark", "serial"]),
    ("ServiceConfig", &["flags", "scheduler", "persist_timeout", "netmask", "head", "dest_count", "table", "locals"]),
    ("Destination", &["switch", "config", "connections", "persistent", "address", "service", "port", "family", "slot"]),
    ("DestConfig", &["flags", "weight", "next", "forward"]),
    ("Connection<u32>", CONNECTION),
    ("Connection<[u32; 4]>", CONNECTION),
    ("Bucket", &["tags", "used"]),
];
const CONNECTION: &[&str] = &[
    "client",
    "virt",
    "client_port",
    "virt_port",
    "protocol",
    "kind",
    "forward",
    "last_seen",
    "dest",
    "state",
    "timeout",
    "control",
    "controlled",
    "real",
    "local",
    "real_port",
    "local_port",
    "alias",
    "local_id",
];

/// Bytes that go from one place to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Move {
    from: usize,
    to: usize,
    length: usize,
}

/// Bytes that this layout has no place for.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Rest {
    name: String,
    from: usize,
    length: usize,
}

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// Bytes of an element of the other layout.
    pub from_size: usize,
    /// Bytes of one of this layout.
    pub size: usize,
    moves: Vec<Move>,
    rests: Vec<Rest>,
}

impl Plan {
    /// For a type that both layouts have.
    pub fn new(from: &Description, to: &Description, name: &str) -> Result<Self> {
        let (Some(old), Some(new)) = (from.types.get(name), to.types.get(name)) else {
            return Err(Error::TooForeign { why: format!("it knows of no {name}") });
        };
        let mut plan = Plan { from_size: old.size, size: new.size, ..Plan::default() };
        plan.add(from, to, name, (0, 0))?;
        plan.moves.sort_by_key(|it| it.from);
        plan.moves.dedup_by(|next, it| {
            let follows = it.from + it.length == next.from && it.to + it.length == next.to;
            it.length += if follows { next.length } else { 0 };
            follows
        });
        Ok(plan)
    }

    /// For elements without a type of their own, which are alike.
    pub fn alike(size: usize) -> Self {
        Plan { from_size: size, size, moves: vec![Move { from: 0, to: 0, length: size }], rests: Vec::new() }
    }

    /// Adds a structure at two places.
    fn add(&mut self, from: &Description, to: &Description, name: &str, (at, place): (usize, usize)) -> Result<()> {
        let (Some(old), Some(new)) = (from.types.get(name), to.types.get(name)) else { return Ok(()) };
        let essential = ESSENTIAL.iter().find(|(it, _)| *it == name).map_or(&[][..], |(_, fields)| fields);
        let counterpart = |field: &Field| new.fields.iter().find(|it| it.name == field.name && it.of == field.of);
        if let Some(missing) =
            essential.iter().find(|it| !old.fields.iter().any(|f| f.name == **it && counterpart(f).is_some()))
        {
            return Err(Error::TooForeign { why: format!("its {name} has no {missing}") });
        }
        for field in old.fields.iter().filter(|field| !field.name.starts_with("pad") && field.size != 0) {
            let path = format!("{name}.{}", field.name);
            let Some(own) = counterpart(field) else {
                self.rest(path, at + field.offset, field.size);
                continue;
            };
            let count = (field.size / field.element).min(own.size / own.element.max(1));
            for element in 0..count {
                let pair = (at + field.offset + element * field.element, place + own.offset + element * own.element);
                match &field.of {
                    Some(of) => self.add(from, to, of, pair)?,
                    None => self.number(&path, pair, (field.element, own.element)),
                }
            }
            self.rest(path, at + field.offset + count * field.element, field.size - count * field.element);
        }
        Ok(())
    }

    /// Adds a number, little endian: one that becomes wider is filled up with zeroes, which stand there by default.
    fn number(&mut self, path: &str, (from, to): (usize, usize), (size, own): (usize, usize)) {
        let length = size.min(own);
        self.moves.push(Move { from, to, length });
        self.rest(path.to_owned(), from + length, size - length);
    }

    fn rest(&mut self, name: String, from: usize, length: usize) {
        if length != 0 {
            self.rests.push(Rest { name, from, length });
        }
    }

    /// Copies the fields of an element. What has no counterpart stays as it is.
    ///
    /// # Safety
    /// `from` and `to` are elements of the two layouts, at multiples of eight bytes. Others may read and write them meanwhile by words.
    pub unsafe fn apply(&self, from: *const u8, to: *mut u8) {
        for it in &self.moves {
            // SAFETY: within the elements, by the descriptions' own word, which is checked when they are read.
            unsafe { copy(from.add(it.from), to.add(it.to), it.length) }
        }
    }

    /// Names of fields with a value that this layout has no place for.
    ///
    /// # Safety
    /// As [`Plan::apply`]'s.
    pub unsafe fn left_behind(&self, from: *const u8) -> impl Iterator<Item = &str> {
        let is_set = move |rest: &&Rest| {
            // SAFETY: within the element.
            (rest.from..rest.from + rest.length).any(|at| unsafe { from.add(at).read_volatile() } != 0)
        };
        self.rests.iter().filter(is_set).map(|rest| &*rest.name)
    }

    /// Where in both layouts a number stands, and how many bytes it has there.
    pub fn word(from: &Description, to: &Description, name: &str, field: &str) -> Option<[(usize, usize); 2]> {
        let find = |it: &Description| {
            let field = it.types.get(name)?.fields.iter().find(|it| it.name == field)?.clone();
            (field.of.is_none() && field.size == field.element).then_some((field.offset, field.size))
        };
        Some([find(from)?, find(to)?])
    }
}

/// Copies bytes, the widest possible at a time: so a number that another CPU changes is never half of two.
///
/// # Safety
/// Valid for reads and writes of so many bytes.
unsafe fn copy(from: *const u8, to: *mut u8, length: usize) {
    let mut at = 0;
    while at < length {
        // SAFETY: the caller's.
        let (source, target) = unsafe { (from.add(at), to.add(at)) };
        let is_aligned = |to: usize| at + to <= length && (source.addr() | target.addr()) % to == 0;
        // SAFETY: `is_aligned` checks length and alignment.
        unsafe {
            if is_aligned(8) {
                target.cast::<u64>().write_volatile(source.cast::<u64>().read_volatile());
                at += 8;
            } else if is_aligned(4) {
                target.cast::<u32>().write_volatile(source.cast::<u32>().read_volatile());
                at += 4;
            } else if is_aligned(2) {
                target.cast::<u16>().write_volatile(source.cast::<u16>().read_volatile());
                at += 2;
            } else {
                target.write_volatile(source.read_volatile());
                at += 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A description of a type `t` and a type `inner`.
    fn described(lines: &[&str]) -> Description {
        Description::parse(&lines.join("\n")).unwrap()
    }

    fn moved(from: &Description, to: &Description, element: &[u64], default: &[u64]) -> (Vec<u64>, Vec<String>) {
        let plan = Plan::new(from, to, "t").unwrap();
        let mut moved = default.to_vec();
        assert_eq!((plan.from_size, plan.size), (element.len() * 8, default.len() * 8));
        // SAFETY: elements of these sizes.
        let left = unsafe {
            plan.apply(element.as_ptr().cast(), moved.as_mut_ptr().cast());
            plan.left_behind(element.as_ptr().cast()).map(str::to_owned).collect()
        };
        (moved, left)
    }

    #[test]
    fn fields_find_their_places_by_name() {
        let old =
            described(&["type\tt\t16", "field\ta\t0\t4\t4\t-", "field\tb\t4\t4\t4\t-", "field\tgone\t8\t8\t8\t-"]);
        let new =
            described(&["type\tt\t24", "field\tfresh\t0\t8\t8\t-", "field\tb\t8\t8\t8\t-", "field\ta\t16\t4\t4\t-"]);
        let (element, left) = moved(&old, &new, &[2 << 32 | 1, 0], &[7, 0, 0]);
        assert_eq!((element, left), (vec![7, 2, 1], vec![]));
        let (_, left) = moved(&old, &new, &[0, 9], &[7, 0, 0]);
        assert_eq!(left, ["t.gone"]);
        // And back, where what is wider than its place is told.
        let (element, left) = moved(&new, &old, &[0, 1 << 40 | 5, 6], &[0, 0]);
        assert_eq!((element, left), (vec![5 << 32 | 6, 0], vec!["t.b".to_owned()]));
    }

    #[test]
    fn rows_of_structures_move_element_by_element() {
        let old = described(&["type\tinner\t8", "field\tx\t0\t4\t4\t-", "type\tt\t16", "field\ts\t0\t16\t8\tinner"]);
        let new = described(&["type\tinner\t16", "field\tx\t8\t4\t4\t-", "type\tt\t16", "field\ts\t0\t16\t16\tinner"]);
        let (element, left) = moved(&old, &new, &[1, 2], &[0, 0]);
        assert_eq!((element, left), (vec![0, 1], vec!["t.s".to_owned()]));
        let (element, left) = moved(&new, &old, &[0, 3], &[0, 4]);
        assert_eq!((element, left), (vec![3, 4], vec![]));
    }

    #[test]
    fn every_type_of_this_build_becomes_itself() {
        let own = Description::own();
        for (name, it) in &own.types {
            let plan = Plan::new(&own, &own, name).unwrap();
            assert!(plan.rests.is_empty() && plan.moves.iter().all(|it| it.from == it.to), "{name}: {plan:?}");
            assert!(plan.moves.iter().map(|it| it.length).sum::<usize>() <= it.size, "{name}");
        }
    }

    #[test]
    fn a_layout_without_what_is_essential_is_refused() {
        let mut other = Description::own();
        other.types.get_mut("Service").unwrap().fields.retain(|field| field.name != "port");
        let said = Plan::new(&other, &Description::own(), "Service").unwrap_err().to_string();
        assert!(said.contains("Service has no port"), "{said}");
    }
}
