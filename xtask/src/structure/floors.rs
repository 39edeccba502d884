//! The floors of the data plane: a file imports from its own folder and from the floors below.

use std::path::Path;

use super::imports::Imports;

/// Where the data plane's files are.
const HOUSE: &str = "lvs-ebpf/src";

/// Programs of their own beside the data plane's, each with its own root file.
const OTHER_PROGRAMS: [&str; 5] = ["bench", "l3", "observe", "real_server", "toa"];

/// Files and folders from the ground up. What stands on the same floor does not import each other.
const FLOORS: &[&[&str]] = &[
    &["link"],
    &["kernel"],
    &["values"],
    &["maps.rs"],
    &["config"],
    &["packet"],
    &["stats.rs"],
    &["log.rs"],
    &["exits.rs"],
    &["programs.rs"],
    &["table"],
    &["egress"],
    &["select"],
    &["forward"],
    &["rare"],
    &["upkeep"],
    &["entry"],
    &["main.rs"],
];

/// What the check finds, a line each.
pub fn check(imports: &Imports) -> Vec<String> {
    check_floors(imports, FLOORS)
}

fn check_floors(imports: &Imports, floors: &[&[&str]]) -> Vec<String> {
    let mut found = Vec::new();
    for (from, targets) in imports {
        let Some(part) = part(from) else { continue };
        let Some(own) = floor(floors, part) else {
            found.push(format!(
                "{} stands on no floor: give {part} one in xtask/src/structure/floors.rs",
                from.display()
            ));
            continue;
        };
        for (to, line) in targets {
            // Without a floor, it is found above if it imports anything, and harmless else.
            let Some((other, above)) = part_and_floor(floors, to) else { continue };
            if other == part || above < own {
                continue;
            }
            let relation = if above == own { "beside" } else { "above" };
            let (from, to) = (from.display(), to.display());
            found.push(format!(
                "{from}:{line} imports {to}: {other} is {relation} {part}; move what both need below both"
            ));
        }
    }
    found
}

fn part_and_floor<'a>(floors: &[&[&str]], file: &'a Path) -> Option<(&'a str, usize)> {
    let part = part(file)?;
    Some((part, floor(floors, part)?))
}

/// The file or folder of the data plane that a file is or is in.
fn part(file: &Path) -> Option<&str> {
    let part = file.strip_prefix(HOUSE).ok()?.iter().next()?.to_str()?;
    (!OTHER_PROGRAMS.contains(&part)).then_some(part)
}

/// From the ground up.
fn floor(floors: &[&[&str]], part: &str) -> Option<usize> {
    floors.iter().position(|floor| floor.contains(&part))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn imports_from_above_and_beside_are_found() {
        let floors: &[&[&str]] = &[&["maps.rs"], &["table"], &["select", "forward"]];
        let pairs = [
            ("table/find.rs", "maps.rs"),
            ("table/find.rs", "table/lock.rs"),
            ("table/find.rs", "select/mark.rs"),
            ("select/mark.rs", "forward/nat.rs"),
            ("attic.rs", "maps.rs"),
            ("bench/main.rs", "bench/frame.rs"),
        ];
        let mut imports = Imports::new();
        for (from, to) in pairs.map(|(from, to)| (Path::new(HOUSE).join(from), Path::new(HOUSE).join(to))) {
            imports.entry(from).or_default().insert(to, 7);
        }
        let found = check_floors(&imports, floors);
        assert_eq!(found.len(), 3, "{found:?}");
        assert!(found[0].contains("attic.rs stands on no floor"), "{found:?}");
        assert!(found[1].contains("mark.rs:7") && found[1].contains("forward is beside select"), "{found:?}");
        assert!(found[2].contains("find.rs:7") && found[2].contains("select is above table"), "{found:?}");
    }
}
