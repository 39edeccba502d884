//! The pages: what clap knows, rendered by clap_mangen; the sections of `docs/man`; and the chapters of the user's guide.

use anyhow::Result;
use clap::Command;
use clap_mangen::Man;
use lvs_director::rules::SysctlName;
use lvsadm::grammar::Dialect;

use crate::roff::{self, escaped};

/// A file of `docs`.
macro_rules! document {
    ($path:literal) => {
        include_str!(concat!("../../docs/", $path))
    };
}

/// What the page says of ipvsadm's command line under either name.
const DESCRIPTION: &str = document!("man/description.md");
/// What the program's exit status means.
const EXIT_STATUS: &str = document!("man/exit-status.md");
/// What lvsadm's own page says besides.
const OWN: &str = document!("man/lvsadm.md");
/// What ipvsadm's page says besides.
const LITERAL: &str = document!("man/ipvsadm.md");
/// What the page of `real-server` says besides.
const REAL_SERVER: &str = document!("man/real-server.md");

macro_rules! chapters {
    ($($name:literal)+) => {
        /// The chapters of the user's guide, each a page of section 7.
        const CHAPTERS: &[(&str, &str)] = &[$((concat!("lvsadm-", $name), include_str!(concat!("../../docs/guide/", $name, ".md")))),+];
    };
}

chapters! {
    "install" "first-service" "real-servers" "fullnat-and-toa" "marks" "access" "floods" "operations" "rules-files"
    "keepalived-and-ldirectord" "pair" "fleet" "monitoring" "what-is-wrong" "from-ipvsadm"
}

/// Pages that no table of flags has anything to say about: name, section and text.
pub fn written() -> Vec<(&'static str, u8, String)> {
    let plain = |name, markdown| (name, 8, roff::heading(name, 8) + &roff::sections(markdown));
    let chapters = CHAPTERS.iter().map(|(name, markdown)| (*name, 7, roff::chapter(name, markdown)));
    let commands = [
        plain("ipvsadm-save", document!("man/ipvsadm-save.md")),
        plain("ipvsadm-restore", document!("man/ipvsadm-restore.md")),
    ];
    commands.into_iter().chain(chapters).collect()
}

/// The page of the whole command.
pub fn main(command: &Command, dialect: Dialect) -> Result<Vec<u8>> {
    let man = titled(command.clone(), command.get_name());
    let mut page = Vec::new();
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    let name = command.get_name();
    page.extend(synopsis(name, dialect).into_bytes());
    page.extend(roff::sections(&DESCRIPTION.replace("@NAME@", name)).into_bytes());
    man.render_options_section(&mut page)?;
    if dialect == Dialect::Own {
        man.render_subcommands_section(&mut page)?;
    }
    page.extend(roff::sections(EXIT_STATUS).into_bytes());
    page.extend(roff::sections(if dialect == Dialect::Own { OWN } else { LITERAL }).into_bytes());
    Ok(page)
}

/// The page of a sub-command, by the words it is called with.
pub fn sub(words: &str, command: &Command) -> Result<Vec<u8>> {
    let name = words.replace(' ', "-");
    let command = command.clone().display_name(&name).bin_name(words);
    let mut page = Vec::new();
    titled(command, &name).render(&mut page)?;
    page.extend(match words {
        "lvsadm real-server" => roff::sections(REAL_SERVER).into_bytes(),
        "lvsadm sysctl" => settings().into_bytes(),
        _ => Vec::new(),
    });
    page.extend(b".SH \"SEE ALSO\"\n.BR lvsadm (8)\n");
    Ok(page)
}

/// What the settings mean.
fn settings() -> String {
    let one = |name: SysctlName| {
        let (name, range, meaning) = name.explanation();
        format!(".TP\n.B {name}\n({range}) {}\n", escaped(&meaning))
    };
    format!(".SH SETTINGS\n{}", SysctlName::all().map(one).collect::<String>())
}

fn titled(command: Command, name: &str) -> Man {
    Man::new(command)
        .title(name.to_uppercase())
        .section("8")
        .manual("System Manager's Manual")
        .source(format!("lvsadm {}", env!("CARGO_PKG_VERSION")))
}

/// How commands are written, by the lines that the help has too.
fn synopsis(name: &str, dialect: Dialect) -> String {
    let lines = lvsadm::grammar::SYNOPSIS.iter().map(|line| format!(".B {name}\n{}\n", escaped(line)));
    let own = format!(".B {name}\n\\fIsub-command\\fR [options]\n");
    let lines = lines.chain((dialect == Dialect::Own).then_some(own));
    format!(".SH SYNOPSIS\n{}", lines.collect::<Vec<_>>().join(".br\n"))
}
