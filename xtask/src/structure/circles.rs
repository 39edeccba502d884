//! Circles of files that import each other.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::path::{Path, PathBuf};

use super::imports::Imports;

/// Files that import each other in a circle: each the next, the last the first, with the line of the import.
#[derive(Debug, PartialEq, Eq)]
pub struct Circle(pub Vec<(PathBuf, usize)>);

impl fmt::Display for Circle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} files import each other in a circle:", self.0.len())?;
        for (number, (file, line)) in self.0.iter().enumerate() {
            let next = &self.0[(number + 1) % self.0.len()].0;
            writeln!(f, "  {}:{line} imports {}", file.display(), next.display())?;
        }
        write!(f, "  Mend: move what both need to a file below both.")
    }
}

/// What was found of circles.
#[derive(Debug, Default)]
pub struct Circles {
    /// Every file that is in a circle.
    pub files: BTreeSet<PathBuf>,
    /// The shortest circle of each set of files that all reach each other; the shortest set first.
    pub shortest: Vec<Circle>,
}

/// Finds the circles.
pub fn find(imports: &Imports) -> Circles {
    let mut circles: Vec<Circle> = imports.keys().filter_map(|file| shortest_through(imports, file)).collect();
    circles.sort_by_key(|circle| circle.0.len());
    let mut found = Circles::default();
    let mut reported: BTreeSet<&Path> = BTreeSet::new();
    let reach: BTreeMap<&Path, BTreeSet<&Path>> =
        imports.keys().map(|file| (file.as_path(), reachable(imports, file))).collect();
    for circle in circles {
        found.files.extend(circle.0.iter().map(|(file, _)| file.clone()));
        let Some((first, _)) = imports.get_key_value(&circle.0[0].0) else { continue };
        if reported.contains(first.as_path()) {
            continue;
        }
        let together = reach[first.as_path()]
            .iter()
            .filter(|other| reach.get(*other).is_some_and(|back| back.contains(first.as_path())));
        reported.extend(together);
        found.shortest.push(circle);
    }
    found
}

/// The files that are imported by `from`, by what it imports, and so on.
fn reachable<'a>(imports: &'a Imports, from: &Path) -> BTreeSet<&'a Path> {
    let mut seen = BTreeSet::new();
    let mut waiting: Vec<&Path> = imports.get(from).into_iter().flatten().map(|(to, _)| to.as_path()).collect();
    while let Some(file) = waiting.pop() {
        if seen.insert(file) {
            waiting.extend(imports.get(file).into_iter().flatten().map(|(to, _)| to.as_path()));
        }
    }
    seen
}

/// The shortest circle through a file.
fn shortest_through(imports: &Imports, start: &Path) -> Option<Circle> {
    // Who reached a file first, and by the import in which line.
    let mut before: BTreeMap<&Path, (&Path, usize)> = BTreeMap::new();
    let mut waiting = VecDeque::from([start]);
    while let Some(file) = waiting.pop_front() {
        for (to, line) in imports.get(file).into_iter().flatten() {
            if before.contains_key(to.as_path()) {
                continue;
            }
            before.insert(to, (file, *line));
            if to == start {
                let mut circle = Vec::new();
                let mut at = start;
                loop {
                    let (previous, line) = before[at];
                    circle.push((previous.to_owned(), line));
                    at = previous;
                    if at == start {
                        circle.reverse();
                        return Some(Circle(circle));
                    }
                }
            }
            waiting.push_back(to);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::super::imports::{self, Imports};
    use super::super::modules::Tree;
    use super::super::sources::Sources;
    use super::*;

    fn imports(files: &[(&str, &str)]) -> Imports {
        let parse = |(path, text): &(&str, &str)| (PathBuf::from(path), syn::parse_file(text).unwrap());
        let sources: Sources = files.iter().map(parse).collect();
        let tree = Tree::new(&sources, Path::new(files[0].0)).unwrap();
        let mut found = Imports::new();
        imports::add(&sources, &tree, &mut found);
        found
    }

    fn circle(files: &[(&str, usize)]) -> Circle {
        Circle(files.iter().map(|(file, line)| (PathBuf::from(file), *line)).collect())
    }

    #[test]
    fn a_planted_circle_is_found_with_its_lines() {
        let found = find(&imports(&[
            ("x/src/main.rs", "mod a; mod b; mod c; fn main() { a::run() }"),
            ("x/src/a.rs", "\nuse crate::b::{B, C};\npub fn run() {}"),
            ("x/src/b/mod.rs", "mod deep; use std::fmt;\n\nfn f() { deep::g() }"),
            ("x/src/b/deep.rs", "pub fn g() { println!(\"{}\", crate::a::run()) }"),
            ("x/src/c.rs", "use super::a;"),
        ]));
        let planted = circle(&[("x/src/a.rs", 2), ("x/src/b/mod.rs", 3), ("x/src/b/deep.rs", 1)]);
        assert_eq!(found.shortest, [planted]);
        assert_eq!(found.files.len(), 3);
        let report = found.shortest[0].to_string();
        assert!(report.contains("x/src/b/mod.rs:3 imports x/src/b/deep.rs"), "{report}");
    }

    #[test]
    fn a_child_may_not_import_from_the_parent_that_re_exports_it() {
        let found = find(&imports(&[
            ("x/src/lib.rs", "mod a;"),
            ("x/src/a.rs", "mod child; mod other; pub use child::Item; pub struct Own;"),
            ("x/src/a/child.rs", "use super::Own; pub struct Item;"),
            ("x/src/a/other.rs", "use super::child::Item;"),
        ]));
        assert_eq!(found.shortest, [circle(&[("x/src/a/child.rs", 1), ("x/src/a.rs", 1)])]);
    }

    #[test]
    fn declarations_and_tests_close_no_circle() {
        let found = find(&imports(&[
            ("x/src/lib.rs", "#[path = \"../elsewhere/b.rs\"] mod a; pub mod c; pub(crate) fn f() {}"),
            ("x/elsewhere/b.rs", "mod e; #[cfg(test)] mod tests { use super::*; } fn f() { e::g(); crate::f() }"),
            ("x/elsewhere/e.rs", "pub(in super) fn g() {}"),
            ("x/src/c.rs", "#[cfg(test)] mod tests; use std::fmt::Debug;"),
            ("x/src/c/tests.rs", "use super::*; use crate::c::Debug;"),
        ]));
        assert_eq!(found.shortest, []);
    }

    #[test]
    fn names_of_imported_modules_lead_to_their_files() {
        let found = imports(&[
            ("x/src/lib.rs", "mod a; mod b;"),
            ("x/src/a.rs", "use crate::b as other; use other::c::D; fn f() { other::c::d() }"),
            ("x/src/b.rs", "pub mod c;"),
            ("x/src/b/c.rs", "pub struct D; pub fn d() {}"),
        ]);
        let a: Vec<_> = found[Path::new("x/src/a.rs")].keys().collect();
        assert_eq!(a, [Path::new("x/src/b/c.rs"), Path::new("x/src/b.rs")]);
    }
}
