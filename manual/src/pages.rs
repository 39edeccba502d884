//! The pages: what clap knows, rendered by clap_mangen, and the sections that no table of flags could tell.

use anyhow::Result;
use clap::Command;
use clap_mangen::Man;
use lvs_director::rules::SysctlName;
use lvsadm::grammar::Dialect;

/// What the page says of ipvsadm's command line under either name.
const DESCRIPTION: &str = include_str!("../sections/description.roff");
/// What the program's exit status means.
const EXIT_STATUS: &str = include_str!("../sections/exit-status.roff");
/// What lvsadm's own page says besides.
const OWN: &str = include_str!("../sections/own.roff");
/// What ipvsadm's page says besides.
const LITERAL: &str = include_str!("../sections/literal.roff");
/// What the page of `real-server` says besides.
const REAL_SERVER: &str = include_str!("../sections/real-server.roff");
/// `ipvsadm-save(8)`
pub const SAVE: &str = include_str!("../sections/ipvsadm-save.roff");
/// `ipvsadm-restore(8)`
pub const RESTORE: &str = include_str!("../sections/ipvsadm-restore.roff");

/// The page of the whole command.
pub fn main(command: &Command, dialect: Dialect) -> Result<Vec<u8>> {
    let man = titled(command.clone(), command.get_name());
    let mut page = Vec::new();
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    let name = command.get_name();
    page.extend(synopsis(name, dialect).into_bytes());
    page.extend(DESCRIPTION.replace("@NAME@", name).into_bytes());
    man.render_options_section(&mut page)?;
    if dialect == Dialect::Own {
        man.render_subcommands_section(&mut page)?;
    }
    page.extend(EXIT_STATUS.bytes());
    page.extend(if dialect == Dialect::Own { OWN } else { LITERAL }.bytes());
    Ok(page)
}

/// The page of a sub-command, by the words it is called with.
pub fn sub(words: &str, command: &Command) -> Result<Vec<u8>> {
    let name = words.replace(' ', "-");
    let command = command.clone().display_name(&name).bin_name(words);
    let mut page = Vec::new();
    titled(command, &name).render(&mut page)?;
    page.extend(match words {
        "lvsadm real-server" => REAL_SERVER.as_bytes().to_vec(),
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

/// A text with roff's own characters made harmless.
fn escaped(text: &str) -> String {
    text.replace('\\', "\\e").replace('-', "\\-")
}
