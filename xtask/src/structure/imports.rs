//! Which files a target's files import: by `use`, and by paths in the code.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;

use proc_macro2::{Delimiter, TokenStream, TokenTree};
use syn::visit::{self, Visit};
use syn::{ItemMod, ItemUse, Macro, UseTree, VisRestricted};

use super::modules::{Tree, name};
use super::sources::Sources;

/// The files that each file imports, with the line of the first such import.
pub type Imports = BTreeMap<PathBuf, BTreeMap<PathBuf, usize>>;

/// Adds the imports of a target's files. A `mod` declaration is none; a `pub use` is.
pub fn add(sources: &Sources, tree: &Tree, imports: &mut Imports) {
    let mut names = HashMap::new();
    // An import may go through a name that another import makes: a second round knows the first one's names.
    for _ in 0..2 {
        each_file(sources, tree, |module, file| {
            let mut collector = Collector { tree, module, names: &mut names };
            collector.visit_file(file);
        });
    }
    each_file(sources, tree, |module, file| {
        let mut finder = Finder { tree, module, names: &names, imports };
        finder.visit_file(file);
    });
}

/// Calls `visit` with every module that is a file.
fn each_file(sources: &Sources, tree: &Tree, mut visit: impl FnMut(usize, &syn::File)) {
    for (number, module) in tree.0.iter().enumerate() {
        let inline = module.parent.is_some_and(|parent| tree.0[parent].file == module.file);
        if let (false, Some(file)) = (inline, sources.get(&module.file)) {
            visit(number, file);
        }
    }
}

/// Names that `use` gives to modules, by the module that they are used in.
type Names = HashMap<(usize, String), usize>;

/// The deepest module on a path that begins in `module`; `None` if it leads to another crate or to a name in the module.
fn resolve(tree: &Tree, names: &Names, module: usize, path: &[String]) -> Option<usize> {
    let (first, rest) = path.split_first()?;
    let mut at = match first.as_str() {
        "crate" => 0,
        "self" => module,
        "super" => tree.0[module].parent?,
        other => *tree.0[module].children.get(other).or_else(|| names.get(&(module, other.to_owned())))?,
    };
    for segment in rest {
        let next = match segment.as_str() {
            "self" => Some(at),
            "super" => tree.0[at].parent,
            other => tree.0[at].children.get(other).copied(),
        };
        let Some(next) = next else { break };
        at = next;
    }
    Some(at)
}

/// Calls `leaf` with each path of a `use`, the name that it makes, and its line.
fn leaves(tree: &UseTree, path: &mut Vec<String>, leaf: &mut impl FnMut(&[String], String, usize)) {
    let (ident, made) = match tree {
        UseTree::Path(step) => {
            path.push(name(&step.ident));
            leaves(&step.tree, path, leaf);
            path.pop();
            return;
        }
        UseTree::Group(group) => return group.items.iter().for_each(|item| leaves(item, path, leaf)),
        UseTree::Glob(glob) => return leaf(path, String::new(), glob.star_token.spans[0].start().line),
        UseTree::Name(last) if last.ident == "self" => (&last.ident, path.last().cloned().unwrap_or_default()),
        UseTree::Name(last) => (&last.ident, name(&last.ident)),
        UseTree::Rename(last) => (&last.ident, name(&last.rename)),
    };
    path.push(name(ident));
    leaf(path, made, ident.span().start().line);
    path.pop();
}

/// Collects the names that `use` gives to modules.
struct Collector<'a> {
    tree: &'a Tree,
    module: usize,
    names: &'a mut Names,
}

impl<'ast> Visit<'ast> for Collector<'_> {
    fn visit_item_mod(&mut self, item: &'ast ItemMod) {
        let outer = self.module;
        if let (Some((_, items)), Some(inner)) = (&item.content, self.tree.0[outer].children.get(&name(&item.ident))) {
            self.module = *inner;
            items.iter().for_each(|item| self.visit_item(item));
            self.module = outer;
        }
    }

    fn visit_item_use(&mut self, item: &'ast ItemUse) {
        if item.leading_colon.is_some() {
            return;
        }
        leaves(&item.tree, &mut Vec::new(), &mut |path, made, _| {
            let Some(found) = resolve(self.tree, self.names, self.module, path) else { return };
            let whole = path.iter().rfind(|segment| *segment != "self");
            let is_module = path.last().is_some_and(|last| last == "super" || last == "crate")
                || whole.is_some_and(|last| {
                    self.tree.0[found]
                        .parent
                        .is_some_and(|parent| self.tree.0[parent].children.get(last) == Some(&found))
                });
            if is_module && !made.is_empty() {
                self.names.insert((self.module, made), found);
            }
        });
    }
}

/// Finds what a file imports.
struct Finder<'a> {
    tree: &'a Tree,
    module: usize,
    names: &'a Names,
    imports: &'a mut Imports,
}

impl Finder<'_> {
    fn import(&mut self, path: &[String], line: usize) {
        let Some(found) = resolve(self.tree, self.names, self.module, path) else { return };
        let (from, to) = (&self.tree.0[self.module].file, &self.tree.0[found].file);
        if from != to {
            let lines = self.imports.entry(from.clone()).or_default();
            let first = lines.entry(to.clone()).or_insert(line);
            *first = line.min(*first);
        }
    }

    /// Paths in what a macro is given or made of, which has no syntax of its own.
    fn tokens(&mut self, tokens: TokenStream) {
        let tokens: Vec<_> = tokens.into_iter().collect();
        let mut at = 0;
        while at < tokens.len() {
            match &tokens[at] {
                TokenTree::Group(group) if group.delimiter() != Delimiter::None || !group.stream().is_empty() => {
                    self.tokens(group.stream());
                }
                TokenTree::Ident(first) => {
                    let mut path = vec![name(first)];
                    while let [TokenTree::Punct(one), TokenTree::Punct(two), TokenTree::Ident(next), ..] =
                        &tokens[at + 1..]
                        && one.as_char() == ':'
                        && two.as_char() == ':'
                    {
                        path.push(name(next));
                        at += 3;
                    }
                    if path.len() > 1 {
                        self.import(&path, first.span().start().line);
                    }
                }
                _ => {}
            }
            at += 1;
        }
    }
}

impl<'ast> Visit<'ast> for Finder<'_> {
    fn visit_item_mod(&mut self, item: &'ast ItemMod) {
        let outer = self.module;
        if let (Some((_, items)), Some(inner)) = (&item.content, self.tree.0[outer].children.get(&name(&item.ident))) {
            self.module = *inner;
            items.iter().for_each(|item| self.visit_item(item));
            self.module = outer;
        }
    }

    fn visit_item_use(&mut self, item: &'ast ItemUse) {
        if item.leading_colon.is_none() {
            leaves(&item.tree, &mut Vec::new(), &mut |path, _, line| self.import(path, line));
        }
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        if path.leading_colon.is_none() && path.segments.len() > 1 {
            let segments: Vec<_> = path.segments.iter().map(|segment| name(&segment.ident)).collect();
            self.import(&segments, path.segments[0].ident.span().start().line);
        }
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, called: &'ast Macro) {
        self.visit_path(&called.path);
        self.tokens(called.tokens.clone());
    }

    /// `pub(in path)` limits who may import; it imports nothing.
    fn visit_vis_restricted(&mut self, _: &'ast VisRestricted) {}
}
