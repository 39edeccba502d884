//! How much work each program is for the verifier, by kernel, and the table of it in `docs/numbers/verifier.md`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use aya::Ebpf;
use aya::programs::Program;

use crate::topology::Namespace;
use crate::{object_path, stack};

/// What stands before the table.
const TEXT: &str = "\
# The verifier's work

Instructions that the verifier follows in each program, of a million at most, and bytes of stack, of 512 at most, with the functions that
the program calls. `cargo xtask test` compares the column of the kernel that it runs on, and `cargo xtask test --kernel 6.1` that of Linux
6.1. Both fail if a program grew by more than 10 %. If it has to grow, say why in the commit, and write the table anew:

    cargo xtask test verifier --kernel 6.1 --kernel 6.12 --record
    cargo xtask test verifier --record      # the kernel that runs here

[The verifier](../develop/verifier.md) has the usual causes. Programs of `l3/` are for devices without Ethernet headers, those of `real_server/` and
`toa/` run on real servers, those of `observe/` while somebody looks at packets.

## What grew, and why it may

| When | What | Why |
|---|---|---|
| 2026-11-27 | On Linux 6.18 `lvs_split` 2,811 to 4,707, `lvs_icmp_tunnel4` 18,193 to 27,796, `lvs_icmp_tunnel6` 15,533 to 23,261, and those of `l3/` alike | Next hops are read as words (61d65e9; by elimination: nothing else of theirs changed in between). An established packet takes 0.84 of the time by it. These programs serve rare packets, and 3 % of what the verifier allows is enough for them |

## The table
";

/// Where the table is kept.
pub fn path() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/numbers/verifier.md")
}

/// A program's figures.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Row {
    /// Bytes of stack.
    stack: u32,
    /// Instructions, by the kernel's series.
    work: BTreeMap<Series, u32>,
}

/// A kernel's series: 6 and 1.
pub type Series = [u32; 2];

/// What was measured here: instructions and bytes of stack of each program.
pub type Measured = BTreeMap<String, [u32; 2]>;

/// The table: programs by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Table(BTreeMap<String, Row>);

impl Table {
    /// The repository's.
    pub fn read() -> Result<Self> {
        match fs::read_to_string(path()) {
            Ok(text) => Self::parse(&text),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(error).context("cannot read the table of the verifier's work"),
        }
    }

    /// Reads what [`Table::render`] wrote.
    fn parse(text: &str) -> Result<Self> {
        let cells = |line: &str| -> Vec<String> {
            line.trim_matches('|').split('|').map(|cell| cell.trim().trim_matches('`').to_owned()).collect()
        };
        let mut lines = text.lines().skip_while(|line| !line.starts_with("| Program |"));
        let head = cells(lines.next().context("no table")?);
        let series: Option<Vec<Series>> =
            head.iter().skip(2).map(|cell| series_of(cell.trim_start_matches("Linux "))).collect();
        let series = series.context("a column is of no kernel")?;
        let mut rows = BTreeMap::new();
        for line in lines.skip(1).take_while(|line| line.starts_with('|')) {
            let cells = cells(line);
            let [name, stack, work @ ..] = &*cells else { bail!("a short row: {line}") };
            let work = series.iter().zip(work).filter(|(_, count)| *count != "-");
            let work: Result<BTreeMap<Series, u32>> =
                work.map(|(series, count)| Ok((*series, count.parse()?))).collect();
            rows.insert(name.clone(), Row { stack: stack.parse()?, work: work? });
        }
        Ok(Table(rows))
    }

    /// As a page of the book.
    pub fn render(&self) -> String {
        let series = self.series();
        let mut text = format!("{TEXT}\n| Program | Stack |");
        for [major, minor] in &series {
            let _ = write!(text, " Linux {major}.{minor} |");
        }
        let _ = writeln!(text, "\n|---|---|{}", "---|".repeat(series.len()));
        for (name, row) in &self.0 {
            let _ = write!(text, "| `{name}` | {} |", row.stack);
            for series in &series {
                let count = row.work.get(series).map_or_else(|| "-".to_owned(), u32::to_string);
                let _ = write!(text, " {count} |");
            }
            text.push('\n');
        }
        text
    }

    /// Kernels that have a column.
    pub fn series(&self) -> BTreeSet<Series> {
        self.0.values().flat_map(|row| row.work.keys().copied()).collect()
    }

    /// Sets a kernel's column; programs that there are no more go.
    pub fn set(&mut self, series: Series, measured: &Measured) {
        self.0.retain(|name, _| measured.contains_key(name));
        for (name, [work, stack]) in measured {
            let row = self.0.entry(name.clone()).or_default();
            row.stack = *stack;
            row.work.insert(series, *work);
        }
    }

    /// Fails if a program grew by more than 10 %, is new, or is no more.
    pub fn compare(&self, series: Series, measured: &Measured) -> Result<()> {
        /// Some programs have a dozen instructions.
        const SLACK: u32 = 20;
        let mut wrong = Vec::new();
        for (name, [work, stack]) in measured {
            let Some((row, before)) = self.0.get(name).and_then(|row| Some((row, *row.work.get(&series)?))) else {
                wrong.push(format!("{name} is new"));
                continue;
            };
            if *work > before + (before / 10).max(SLACK) {
                wrong.push(format!("{name} takes {work} instructions instead of {before}"));
            }
            if *stack > row.stack + row.stack / 10 {
                wrong.push(format!("{name} takes {stack} bytes of stack instead of {}", row.stack));
            }
        }
        let gone = self.0.keys().filter(|name| !measured.contains_key(*name));
        wrong.extend(gone.map(|name| format!("{name} is no more")));
        ensure!(
            wrong.is_empty(),
            "other than docs/numbers/verifier.md has it, which says how to write it anew:\n{}",
            wrong.join("\n")
        );
        Ok(())
    }
}

/// The series of a release: `6.12.117+deb12-amd64` is of 6.12.
pub fn series_of(release: &str) -> Option<Series> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|number| number.parse().ok());
    Some([numbers.next()??, numbers.next()??])
}

/// The kernel's that runs.
pub fn running() -> Result<Series> {
    series_of(&fs::read_to_string("/proc/sys/kernel/osrelease")?).context("the kernel's release has no numbers")
}

/// Has the kernel verify every program.
pub fn measure() -> Result<Measured> {
    let output = Namespace::new("verifier")?.lvsadm("status --verifier")?;
    let counts = output.lines().map(|line| {
        let (count, name) = line.trim().split_once(' ').with_context(|| format!("no program: {line}"))?;
        Ok((name.to_owned(), count.parse()?))
    });
    let mut counts: BTreeMap<String, u32> = counts.collect::<Result<_>>()?;
    for object in OTHERS {
        counts.extend(work(object)?);
    }
    let depths = depths()?;
    let of = |(name, count): (String, u32)| {
        let stack = depths.get(&name).with_context(|| format!("the objects have no program {name}"))?;
        Ok((name, [count, *stack]))
    };
    counts.into_iter().map(of).collect()
}

/// Objects beside the director's two, whose programs `lvsadm status` does not load.
const OTHERS: [&str; 3] = ["observe", "real_server", "toa"];

/// Loads the programs of one of those: what each was for the verifier.
fn work(name: &str) -> Result<Vec<(String, u32)>> {
    let mut object = Ebpf::load(&fs::read(object_path(name))?)?;
    let mut all = Vec::new();
    for (program, loaded) in object.programs_mut() {
        match loaded {
            Program::Xdp(program) => program.load(),
            Program::SchedClassifier(program) => program.load(),
            Program::SockOps(program) => program.load(),
            Program::CgroupSockAddr(program) => program.load(),
            _ => bail!("program {program} of {name} is of a type that no other has"),
        }
        .with_context(|| format!("the kernel refuses {program} of {name}"))?;
        let count = loaded.info()?.verified_instruction_count().context("the kernel does not count")?;
        all.push((format!("{name}/{program}"), count));
    }
    Ok(all)
}

/// Bytes of stack of each program.
fn depths() -> Result<BTreeMap<String, u32>> {
    let mut depths = BTreeMap::new();
    let others = OTHERS.map(|name| (name, format!("{name}/")));
    for (name, prefix) in [("lvs", String::new()), ("l3", "l3/".to_owned())].into_iter().chain(others) {
        let object = stack::linked(name)?;
        for (program, entry) in &object.programs {
            let function = object.functions.get(&entry.function_key()).context("a program without instructions")?;
            depths.insert(format!("{prefix}{program}"), stack::depth(function) as u32);
        }
    }
    Ok(depths)
}

#[cfg(test)]
mod tests {
    use super::{Measured, Table, series_of};

    fn measured(rows: &[(&str, [u32; 2])]) -> Measured {
        rows.iter().map(|(name, figures)| ((*name).to_owned(), *figures)).collect()
    }

    #[test]
    fn a_table_is_read_as_it_was_written() {
        let mut table = Table::default();
        table.set([6, 1], &measured(&[("lvs_xdp", [2000, 96]), ("l3/lvs_tc4", [11, 32])]));
        table.set([6, 12], &measured(&[("lvs_xdp", [1000, 96]), ("lvs_new", [7, 32])]));
        assert_eq!(Table::parse(&table.render()).unwrap(), table);
        assert!(table.render().contains("| `lvs_xdp` | 96 | 2000 | 1000 |\n") && !table.render().contains("lvs_tc4"));
    }

    #[test]
    fn growth_of_more_than_a_tenth_is_refused() {
        let mut table = Table::default();
        table.set([6, 1], &measured(&[("a", [1000, 320]), ("b", [10, 32])]));
        let compare = |rows: &[(&str, [u32; 2])]| table.compare([6, 1], &measured(rows)).map_err(|e| e.to_string());
        assert!(compare(&[("a", [1100, 352]), ("b", [20, 32])]).is_ok());
        let error = compare(&[("a", [1101, 353]), ("c", [20, 32])]).unwrap_err();
        for part in ["a takes 1101 instructions instead of 1000", "a takes 353 bytes", "c is new", "b is no more"] {
            assert!(error.contains(part), "{error}");
        }
        assert!(table.compare([6, 12], &measured(&[("a", [1, 1])])).is_err());
    }

    #[test]
    fn series_of_releases() {
        assert_eq!(series_of("6.12.117+deb12-amd64"), Some([6, 12]));
        assert_eq!(series_of("6.1"), Some([6, 1]));
        assert_eq!(series_of("mainline"), None);
    }
}
