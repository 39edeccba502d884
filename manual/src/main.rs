//! Writes lvsadm's man pages and completions into a folder, laid out as below `/usr/share`.

mod commands;
#[cfg(test)]
mod links;
mod pages;
mod roff;

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::{Command, Parser};
use clap_complete::Shell;
use lvsadm::grammar::Dialect;

#[derive(Parser)]
#[command(about = "Write lvsadm's man pages and completions")]
struct Arguments {
    /// The folder to write into; what is in it already stays
    folder: PathBuf,
}

/// Where each shell looks for completions of `lvsadm`.
const COMPLETIONS: [(Shell, &str); 3] = [
    (Shell::Bash, "bash-completion/completions/lvsadm"),
    (Shell::Zsh, "zsh/vendor-completions/_lvsadm"),
    (Shell::Fish, "fish/vendor_completions.d/lvsadm.fish"),
];

fn main() -> Result<()> {
    let folder = Arguments::parse().folder;
    for (path, text) in files()? {
        let path = folder.join(path);
        let parent = path.parent().unwrap_or(&folder);
        fs::create_dir_all(parent).with_context(|| format!("cannot create {}", parent.display()))?;
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

/// Every file: its path and what is in it.
fn files() -> Result<Vec<(PathBuf, Vec<u8>)>> {
    let command = commands::command(Dialect::Own);
    let mut files = vec![
        (page("lvsadm", 8), pages::main(&command, Dialect::Own)?),
        (page("ipvsadm", 8), pages::main(&commands::command(Dialect::Literal), Dialect::Literal)?),
    ];
    files.extend(pages::written().into_iter().map(|(name, section, text)| (page(name, section), text.into_bytes())));
    subs(&mut files, "lvsadm", &command)?;
    for (shell, path) in COMPLETIONS {
        files.push((path.into(), completion(command.clone(), shell)));
    }
    Ok(files)
}

/// The pages of a command's sub-commands, and of theirs.
fn subs(files: &mut Vec<(PathBuf, Vec<u8>)>, words: &str, command: &Command) -> Result<()> {
    for sub in command.get_subcommands() {
        let words = format!("{words} {}", sub.get_name());
        files.push((page(&words.replace(' ', "-"), 8), pages::sub(&words, sub)?));
        subs(files, &words, sub)?;
    }
    Ok(())
}

/// The path of a page.
fn page(name: &str, section: u8) -> PathBuf {
    PathBuf::from(format!("man/man{section}/{name}.{section}"))
}

fn completion(mut command: Command, shell: Shell) -> Vec<u8> {
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut command, "lvsadm", &mut text);
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use lvs_director::rules::SysctlName;
    use lvsadm::grammar::flags::{Section, flags};

    fn text(name: &str) -> String {
        let file = files().unwrap().into_iter().find(|(path, _)| path.ends_with(name)).unwrap();
        String::from_utf8(file.1).unwrap()
    }

    /// A flag as man pages spell it.
    fn escaped(long: &str) -> String {
        format!("\\-\\-{}", long.replace('-', "\\-"))
    }

    #[test]
    fn every_flag_is_explained_and_completed() {
        let page = text("lvsadm.8");
        let shells = ["completions/lvsadm", "_lvsadm", "lvsadm.fish"].map(text);
        for flag in flags().filter(|flag| !matches!(flag.section, Section::Hidden | Section::OwnHidden)) {
            assert!(page.contains(&escaped(flag.long)), "{}", flag.long);
            for shell in &shells {
                assert!(shell.contains(flag.long), "{}", flag.long);
            }
        }
        for scheduler in ["wlc", "mh", "twos"] {
            shells.iter().for_each(|shell| assert!(shell.contains(scheduler), "{scheduler}"));
        }
    }

    #[test]
    fn every_subcommand_has_a_page_and_is_completed() {
        let command = commands::command(Dialect::Own);
        let shells = ["completions/lvsadm", "_lvsadm", "lvsadm.fish"].map(text);
        let subs: Vec<&str> = command.get_subcommands().map(Command::get_name).collect();
        assert!(subs.contains(&"attach") && subs.contains(&"real-server"));
        assert!(
            text("lvsadm-mark.8").contains("lvsadm\\-mark\\-add(8)")
                && text("lvsadm-mark-add.8").contains("\\-\\-dport")
        );
        for sub in subs {
            assert!(text(&format!("lvsadm-{sub}.8")).contains(".SH NAME"), "{sub}");
            shells.iter().for_each(|shell| assert!(shell.contains(sub), "{sub}"));
        }
    }

    #[test]
    fn every_setting_is_explained() {
        let page = text("lvsadm-sysctl.8");
        for name in SysctlName::all() {
            let (name, ..) = name.explanation();
            assert!(page.contains(&format!(".B {name}\n")), "{name}");
        }
    }

    #[test]
    fn ipvsadms_page_has_nothing_of_ours() {
        let page = text("ipvsadm.8");
        for flag in flags() {
            let is_own = flag.section == Section::Own;
            assert!(!(is_own && page.contains(&escaped(flag.long))), "{}", flag.long);
        }
        assert!(page.contains(&escaped("tcp-service")) && !page.contains("vxlan"));
    }
}
