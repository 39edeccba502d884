//! Reads the code's tables from its source.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use proc_macro2::{Delimiter, TokenStream, TokenTree};
use syn::parse::{ParseStream, Parser};
use syn::{
    Attribute, Expr, File, GenericArgument, Ident, Item, Lit, LitStr, Meta, MetaNameValue, PathArguments, Token, Type,
};

/// A way a packet leaves the data plane.
#[derive(Debug, PartialEq, Eq)]
pub struct Exit {
    /// Its name.
    pub name: String,
    /// What it means.
    pub meaning: String,
}

/// A setting.
#[derive(Debug, PartialEq, Eq)]
pub struct Setting {
    /// Its name, without the prefix `net.ipv4.vs.`.
    pub name: String,
    /// Its value where nobody set it, as the code writes it.
    pub default: String,
    /// The values it takes, as the code writes them.
    pub range: String,
    /// What it is, beside the kernel's: `Same`, `Other` or `Own`.
    pub kind: String,
    /// What it means.
    pub meaning: String,
}

/// A map of the data plane.
#[derive(Debug, PartialEq, Eq)]
pub struct Map {
    /// Its name.
    pub name: String,
    /// Its type in the code: `Array`, `HashMap`, …
    pub kind: String,
    /// Its type arguments: key and value, or the value alone; after them may come names of constants.
    pub types: Vec<String>,
    /// Its doc comment.
    pub meaning: String,
}

/// A program that tail calls reach.
#[derive(Debug, PartialEq, Eq)]
pub struct Program {
    /// Its name in the table.
    pub name: String,
    /// What it does.
    pub meaning: String,
    /// Its functions in XDP, then those in TC.
    pub functions: [Vec<String>; 2],
    /// The programs that it jumps to.
    pub to: Vec<String>,
}

/// Parses a file of the workspace.
pub fn parse(root: &Path, file: &str) -> Result<File> {
    let text = fs::read_to_string(root.join(file)).with_context(|| format!("cannot read {file}"))?;
    syn::parse_file(&text).with_context(|| format!("cannot parse {file}"))
}

/// The rows of `exits!`, without those that only a feature has.
pub fn exits(file: &File) -> Result<Vec<Exit>> {
    let rows = rows(file, "exits", |input| {
        let attributes = Attribute::parse_outer(input)?;
        let _: Ident = input.parse()?;
        let exit = Exit { name: input.parse::<LitStr>()?.value(), meaning: input.parse::<LitStr>()?.value() };
        let _: Option<Token![,]> = input.parse()?;
        Ok((!attributes.iter().any(is_of_feature)).then_some(exit))
    })?;
    Ok(rows.into_iter().flatten().collect())
}

/// Whether it is `#[cfg(feature = …)]`.
fn is_of_feature(attribute: &Attribute) -> bool {
    attribute.path().is_ident("cfg") && attribute.parse_args::<MetaNameValue>().is_ok()
}

/// The rows of `settings!`.
pub fn settings(file: &File) -> Result<Vec<Setting>> {
    rows(file, "settings", |input| {
        let name: Ident = input.parse()?;
        let _: Token![=] = input.parse()?;
        let default: Expr = input.parse()?;
        let _: Token![,] = input.parse()?;
        let range: Expr = input.parse()?;
        let _: Token![,] = input.parse()?;
        let kind: Ident = input.parse()?;
        Ok(Setting {
            name: name.to_string(),
            default: source(&default),
            range: source(&range),
            kind: kind.to_string(),
            meaning: input.parse::<LitStr>()?.value(),
        })
    })
}

/// The rows of `for_each_program!`, which is a macro that gives them to another.
pub fn programs(file: &File) -> Result<Vec<Program>> {
    let tokens = file.items.iter().find_map(|item| match item {
        Item::Macro(item) if item.ident.as_ref().is_some_and(|name| name == "for_each_program") => {
            Some(item.mac.tokens.clone())
        }
        _ => None,
    });
    let tokens = tokens.context("no macro for_each_program!")?;
    // `($with:ident) => { $with! { ROWS } };`
    let rows = last_group(last_group(tokens)?)?;
    repeated(program).parse2(rows).context("the rows of for_each_program!")
}

/// What is in the last braces of some tokens.
fn last_group(tokens: TokenStream) -> Result<TokenStream> {
    let groups = tokens.into_iter().filter_map(|token| match token {
        TokenTree::Group(group) if group.delimiter() == Delimiter::Brace => Some(group.stream()),
        _ => None,
    });
    groups.last().context("no rows in braces")
}

/// `Name "meaning" { xdp [function = path, …], tc […], to [Name, …], }`.
fn program(input: ParseStream) -> syn::Result<Program> {
    let (name, meaning) = (input.parse::<Ident>()?.to_string(), input.parse::<LitStr>()?.value());
    let columns;
    syn::braced!(columns in input);
    let (mut functions, mut to) = ([Vec::new(), Vec::new()], Vec::new());
    while !columns.is_empty() {
        let column: Ident = columns.parse()?;
        let cells;
        syn::bracketed!(cells in columns);
        while !cells.is_empty() {
            let name = cells.parse::<Ident>()?.to_string();
            match column.to_string().as_str() {
                "xdp" => functions[0].push(name),
                "tc" => functions[1].push(name),
                _ => to.push(name),
            }
            if cells.parse::<Option<Token![=]>>()?.is_some() {
                let _: Expr = cells.parse()?;
            }
            let _: Option<Token![,]> = cells.parse()?;
        }
        let _: Option<Token![,]> = columns.parse()?;
    }
    Ok(Program { name, meaning, functions, to })
}

/// The rows of a call of the macro `name`.
fn rows<T>(file: &File, name: &str, row: impl Fn(ParseStream) -> syn::Result<T>) -> Result<Vec<T>> {
    let call = file.items.iter().find_map(|item| match item {
        Item::Macro(item) if item.ident.is_none() && item.mac.path.is_ident(name) => Some(item.mac.tokens.clone()),
        _ => None,
    });
    let tokens: TokenStream = call.with_context(|| format!("no call of {name}!"))?;
    repeated(row).parse2(tokens).with_context(|| format!("the rows of {name}!"))
}

/// Parses rows until the end.
fn repeated<T>(row: impl Fn(ParseStream) -> syn::Result<T>) -> impl FnOnce(ParseStream) -> syn::Result<Vec<T>> {
    move |input| {
        let mut rows = Vec::new();
        while !input.is_empty() {
            rows.push(row(input)?);
        }
        Ok(rows)
    }
}

/// The statics with the attribute `btf_map`.
pub fn maps(file: &File) -> Vec<Map> {
    let statics = file.items.iter().filter_map(|item| match item {
        Item::Static(item) if item.attrs.iter().any(|attribute| attribute.path().is_ident("btf_map")) => Some(item),
        _ => None,
    });
    statics
        .filter_map(|item| {
            let Type::Path(path) = &*item.ty else { return None };
            let last = path.path.segments.last()?;
            let PathArguments::AngleBracketed(arguments) = &last.arguments else { return None };
            let types = arguments.args.iter().filter_map(|argument| match argument {
                GenericArgument::Type(argument) => Some(source(argument)),
                _ => None,
            });
            Some(Map {
                name: item.ident.to_string(),
                kind: last.ident.to_string(),
                types: types.collect(),
                meaning: documentation(&item.attrs),
            })
        })
        .collect()
}

/// The text of a doc comment, links without their targets.
fn documentation(attributes: &[Attribute]) -> String {
    let lines = attributes.iter().filter_map(|attribute| {
        let Meta::NameValue(pair) = &attribute.meta else { return None };
        let Expr::Lit(value) = &pair.value else { return None };
        match &value.lit {
            Lit::Str(text) if pair.path.is_ident("doc") => Some(text.value().trim().to_owned()),
            _ => None,
        }
    });
    without_targets(&lines.collect::<Vec<_>>().join(" "))
}

/// ``[`Name`](path::Name)`` becomes `` `Name` ``.
fn without_targets(text: &str) -> String {
    let mut plain = String::new();
    let mut rest = text;
    while let Some((before, link)) = rest.split_once("[`") {
        plain.push_str(before);
        let Some((name, after)) = link.split_once("`]") else {
            plain.push_str("[`");
            rest = link;
            continue;
        };
        plain.push_str(&format!("`{name}`"));
        rest = match after.strip_prefix('(').and_then(|target| target.split_once(')')) {
            Some((_, after)) => after,
            None => after,
        };
    }
    plain + rest
}

/// The code as it stands in the file.
fn source(code: &impl syn::spanned::Spanned) -> String {
    let text = code.span().source_text().unwrap_or_default();
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_read() {
        let file = syn::parse_file(
            "exits! { #[cfg(feature = \"x\")] X \"x\" \"x\", Nat \"nat\" \"forwarded\", Drop \"drop\" \"dropped\", }
             settings! { conntrack = 0, 0..=1, Other \"Kept.\" toa = 1, 0..=MAX, Own \"Two \\
                 lines.\" }
             /// Sources, by [`source`](a::source).
             #[btf_map]
             pub static VERIFIED: LruHashMap<u64, Seen<[u32; 4]>, 1> = LruHashMap::new();",
        )
        .unwrap();
        let exit = |name: &str, meaning: &str| Exit { name: name.to_owned(), meaning: meaning.to_owned() };
        assert_eq!(exits(&file).unwrap(), [exit("nat", "forwarded"), exit("drop", "dropped")]);
        let settings = settings(&file).unwrap();
        assert_eq!((settings[1].range.as_str(), settings[1].meaning.as_str()), ("0..=MAX", "Two lines."));
        let map = &maps(&file)[0];
        assert_eq!(
            (map.kind.as_str(), &map.types[..]),
            ("LruHashMap", &["u64".to_owned(), "Seen<[u32; 4]>".to_owned()][..])
        );
        assert_eq!(map.meaning, "Sources, by `source`.");
    }

    #[test]
    fn programs_are_read() {
        let file = syn::parse_file(
            "macro_rules! for_each_program {
                 ($with:ident) => {
                     $with! {
                         Serve \"serves\" { xdp [], tc [serve4 = a::serve::<V4>, serve6 = a::serve::<V6>], to [Log], }
                         Log \"logs\" { xdp [xdp_log = log::run], tc [log = log::run], to [], }
                     }
                 };
             }",
        )
        .unwrap();
        let programs = programs(&file).unwrap();
        assert_eq!(programs[0].functions, [vec![], vec!["serve4".to_owned(), "serve6".to_owned()]]);
        assert_eq!((programs[0].meaning.as_str(), &programs[0].to[..]), ("serves", &["Log".to_owned()][..]));
        assert_eq!((programs[1].name.as_str(), programs[1].functions[0].len()), ("Log", 1));
    }
}
