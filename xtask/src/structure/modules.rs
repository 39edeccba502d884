//! The tree of modules that a crate's root file makes.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use anyhow::{Result, bail};
use syn::{Attribute, Expr, Item, Lit, Meta};

use super::sources::Sources;

/// A module: a file, or a part of one between braces.
pub struct Module {
    /// The module that declares it; the root has none.
    pub parent: Option<usize>,
    /// The file that holds its items.
    pub file: PathBuf,
    /// The modules that it declares, by name.
    pub children: BTreeMap<String, usize>,
}

/// A target's modules by number; 0 is the root.
pub struct Tree(pub Vec<Module>);

/// Whether cargo compiles the file as a target of its own.
pub fn is_root(file: &Path) -> bool {
    let below: Vec<_> = file.iter().skip(1).filter_map(|name| name.to_str()).collect();
    match below[..] {
        ["build.rs"] | ["src", "lib.rs"] | ["src", "bin", _] | ["tests", _] => true,
        _ => below.first() != Some(&"target") && below.last() == Some(&"main.rs"),
    }
}

impl Tree {
    /// Follows the `mod` declarations from a root file.
    pub fn new(sources: &Sources, root: &Path) -> Result<Self> {
        let mut tree = Tree(Vec::new());
        let folder = root.parent().unwrap_or(Path::new("")).to_owned();
        tree.add_file(sources, root.to_owned(), None, &folder)?;
        Ok(tree)
    }

    /// Adds a file's module, whose children have their files in `folder`.
    fn add_file(&mut self, sources: &Sources, file: PathBuf, parent: Option<usize>, folder: &Path) -> Result<usize> {
        let Some(parsed) = sources.get(&file) else { bail!("there is no file {}", file.display()) };
        let module = self.push(parent, file);
        self.add_items(sources, module, &parsed.items, folder)?;
        Ok(module)
    }

    fn add_items(&mut self, sources: &Sources, module: usize, items: &[Item], folder: &Path) -> Result<()> {
        for item in items {
            let Item::Mod(item) = item else { continue };
            let name = name(&item.ident);
            let child = match &item.content {
                Some((_, items)) => {
                    let child = self.push(Some(module), self.0[module].file.clone());
                    self.add_items(sources, child, items, &folder.join(&name))?;
                    child
                }
                None => {
                    let (file, folder) = place(sources, &self.0[module].file, folder, &name, &item.attrs);
                    self.add_file(sources, file, Some(module), &folder)?
                }
            };
            self.0[module].children.insert(name, child);
        }
        Ok(())
    }

    fn push(&mut self, parent: Option<usize>, file: PathBuf) -> usize {
        self.0.push(Module { parent, file, children: BTreeMap::new() });
        self.0.len() - 1
    }
}

/// An identifier without the `r#` of a keyword.
pub fn name(ident: &syn::Ident) -> String {
    let text = ident.to_string();
    text.strip_prefix("r#").map_or(text.clone(), str::to_owned)
}

/// The file of `mod name;`, and the folder of that module's own children.
fn place(sources: &Sources, file: &Path, folder: &Path, name: &str, attributes: &[Attribute]) -> (PathBuf, PathBuf) {
    if let Some(path) = attributes.iter().find_map(path_attribute) {
        let file = clean(&file.parent().unwrap_or(Path::new("")).join(path));
        let folder = file.parent().unwrap_or(Path::new("")).to_owned();
        return (file, folder);
    }
    let own = folder.join(name);
    let inside = own.join("mod.rs");
    if sources.contains_key(&inside) { (inside, own) } else { (own.with_extension("rs"), own) }
}

/// The value of `#[path = "…"]`.
fn path_attribute(attribute: &Attribute) -> Option<String> {
    let Meta::NameValue(pair) = &attribute.meta else { return None };
    let Expr::Lit(value) = &pair.value else { return None };
    match &value.lit {
        Lit::Str(text) if pair.path.is_ident("path") => Some(text.value()),
        _ => None,
    }
}

/// The path without `..`.
fn clean(path: &Path) -> PathBuf {
    let mut clean = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => {
                clean.pop();
            }
            Component::CurDir => {}
            part => clean.push(part),
        }
    }
    clean
}
