//! The counts of every crate, and what is wrong.

use std::collections::BTreeSet;
use std::fs;

use anyhow::{Result, bail};

use super::circles::{self, Circles};
use super::counts::count_unsafe;
use super::floors;
use super::imports::{self, Imports};
use super::modules::{Tree, is_root};
use super::sources::{self, Sources, crate_of};
use crate::process::root;

/// `cargo xtask structure`: prints the counts, and fails on circles, on imports from above, and on files that no target has.
pub fn run() -> Result<()> {
    let sources = sources::read(&root())?;
    let mut imports = Imports::new();
    let mut reached = BTreeSet::new();
    for file in sources.keys().filter(|file| is_root(file)) {
        let tree = Tree::new(&sources, file)?;
        imports::add(&sources, &tree, &mut imports);
        reached.extend(tree.0.into_iter().map(|module| module.file));
    }
    let circles = circles::find(&imports);
    print_counts(&sources, &imports, &circles)?;
    let mut wrong: Vec<String> = circles.shortest.iter().map(ToString::to_string).collect();
    wrong.extend(floors::check(&imports));
    let lost = sources.keys().filter(|file| !reached.contains(*file));
    wrong.extend(lost.map(|file| format!("{} is a module of no target", file.display())));
    wrong.iter().for_each(|what| eprintln!("{what}"));
    if !wrong.is_empty() {
        bail!("{} faults in the structure", wrong.len());
    }
    Ok(())
}

fn print_counts(sources: &Sources, imports: &Imports, circles: &Circles) -> Result<()> {
    println!(
        "{:<12} {:>5} {:>10} {:>7} {:>13} {:>12}  longest file",
        "crate", "files", "in circles", "imports", "unsafe blocks", "unsafe items"
    );
    let crates: BTreeSet<&str> = sources.keys().map(|file| crate_of(file)).collect();
    for name in crates {
        let files: Vec<_> = sources.keys().filter(|file| crate_of(file) == name).collect();
        let in_circles = circles.files.iter().filter(|file| crate_of(file) == name).count();
        let import_count: usize = files.iter().filter_map(|file| imports.get(*file)).map(|targets| targets.len()).sum();
        let (mut blocks, mut items) = (0, 0);
        let mut longest = (0, String::new());
        for file in &files {
            let count = count_unsafe(&sources[*file]);
            blocks += count.blocks;
            items += count.items;
            let lines = fs::read_to_string(root().join(file))?.lines().count();
            longest = longest.max((lines, file.display().to_string()));
        }
        let (lines, file) = longest;
        println!(
            "{name:<12} {:>5} {in_circles:>10} {import_count:>7} {blocks:>13} {items:>12}  {lines} {file}",
            files.len()
        );
    }
    Ok(())
}
