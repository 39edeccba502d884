//! Holds every relative link of every Markdown file in the repository to a file, and to a heading if it names one.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

use pulldown_cmark::{Event, Options, Parser, Tag, TagEnd};

/// The root of the repository.
fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// The Markdown files below a folder.
fn documents(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() && name != "target" && !name.starts_with('.') {
            documents(&path, found);
        } else if name.ends_with(".md") {
            found.push(path);
        }
    }
}

fn events(text: &str) -> impl Iterator<Item = Event<'_>> {
    Parser::new_ext(text, Options::ENABLE_TABLES)
}

/// The anchors of a file's headings, made as GitHub makes them: lower case, spaces as hyphens, other punctuation left out.
fn anchors(text: &str) -> HashSet<String> {
    let (mut found, mut heading) = (HashSet::new(), None::<String>);
    for event in events(text) {
        match event {
            Event::Start(Tag::Heading { .. }) => heading = Some(String::new()),
            Event::Text(text) | Event::Code(text) => {
                if let Some(heading) = &mut heading {
                    heading.push_str(&text);
                }
            }
            Event::End(TagEnd::Heading(_)) => {
                let kept = |c: &char| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_');
                let text = heading.take().unwrap_or_default().to_lowercase();
                found.insert(text.chars().filter(kept).collect::<String>().replace(' ', "-"));
            }
            _ => {}
        }
    }
    found
}

/// Why a link of `file` leads nowhere, if it does.
fn fault(file: &Path, link: &str) -> Option<String> {
    if link.contains("://") || link.starts_with("mailto:") {
        return None;
    }
    let (path, anchor) = link.split_once('#').unwrap_or((link, ""));
    let target = if path.is_empty() { file.to_owned() } else { file.parent().unwrap().join(path) };
    if !target.exists() {
        return Some(format!("{}: no file {link}", file.strip_prefix(root()).unwrap().display()));
    }
    let known = anchor.is_empty() || anchors(&fs::read_to_string(&target).ok()?).contains(anchor);
    (!known).then(|| format!("{}: no heading {link}", file.strip_prefix(root()).unwrap().display()))
}

#[test]
fn every_relative_link_leads_somewhere() {
    let mut files = Vec::new();
    documents(root(), &mut files);
    assert!(files.len() > 20, "{files:?}");
    let mut faults = Vec::new();
    for file in &files {
        for event in events(&fs::read_to_string(file).unwrap()) {
            if let Event::Start(Tag::Link { dest_url, .. } | Tag::Image { dest_url, .. }) = event {
                faults.extend(fault(file, &dest_url));
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn headings_have_github_s_anchors() {
    let text = "# One `code`, and more\n\n## /proc/net/ip_vs does not exist\n";
    let expected = ["one-code-and-more", "procnetip_vs-does-not-exist"];
    assert_eq!(anchors(text), expected.map(str::to_owned).into());
}
