//! The text of each chapter.

use std::fmt::Write;
use std::path::Path;

use anyhow::Result;

use super::tables;

/// A chapter: its file, and what is to be in it.
pub struct Chapter {
    /// The path below the workspace's root.
    pub file: &'static str,
    /// Markdown.
    pub text: String,
}

/// Where the tables are.
const EXITS: &str = "lvs-common/src/exit.rs";
const MAPS: &str = "lvs-ebpf/src/maps.rs";
const SETTINGS: &str = "lvs-common/src/abi/sysctls.rs";
const PROGRAMS: &str = "lvs-common/src/programs.rs";

/// All of them.
pub fn all(root: &Path) -> Result<Vec<Chapter>> {
    Ok(vec![
        Chapter { file: "docs/reference/exits.md", text: exits(root)? },
        Chapter { file: "docs/reference/maps.md", text: maps(root)? },
        Chapter { file: "docs/reference/settings.md", text: settings(root)? },
        Chapter { file: "docs/reference/programs.md", text: programs(root)? },
    ])
}

/// The beginning of a chapter.
fn head(title: &str, source: &str) -> String {
    format!("<!-- Written by `cargo xtask docs` from {source}: change that file, not this one. -->\n\n# {title}\n\n")
}

fn exits(root: &Path) -> Result<String> {
    let mut text = head("Exits", EXITS);
    text.push_str(
        "Every packet that a program of the data plane finishes is counted by the way it left. `lvsadm status` prints the \
         counts; the numbers are indices into the map `EXITS`.\n\n| Number | Name | Meaning |\n| ---: | --- | --- |\n",
    );
    for (number, exit) in tables::exits(&tables::parse(root, EXITS)?)?.iter().enumerate() {
        writeln!(text, "| {number} | `{}` | {} |", exit.name, cell(&exit.meaning))?;
    }
    Ok(text)
}

fn maps(root: &Path) -> Result<String> {
    let mut text = head("Maps", MAPS);
    text.push_str(
        "The maps of the data plane. The types of keys and values are in `lvs-common/src/abi`, those that only the data \
         plane reads in `lvs-ebpf/src/values`. An array's key is an index.\n\n\
         | Map | Kind | Key | Value | Contents |\n| --- | --- | --- | --- | --- |\n",
    );
    for map in tables::maps(&tables::parse(root, MAPS)?) {
        let code = |code: Option<&String>| code.map_or(String::new(), |code| format!("`{}`", cell(code)));
        // Names of constants that follow are types to the parser.
        let (key, value) = match map.kind.as_str() {
            "HashMap" | "LruHashMap" => (map.types.first(), map.types.get(1)),
            _ => (None, map.types.first()),
        };
        writeln!(text, "| `{}` | {} | {} | {} | {} |", map.name, map.kind, code(key), code(value), cell(&map.meaning))?;
    }
    Ok(text)
}

fn settings(root: &Path) -> Result<String> {
    let mut text = head("Settings", SETTINGS);
    text.push_str(
        "`lvsadm sysctl NAME=VALUE` changes a setting, `lvsadm sysctl` prints them. The names are those of \
         `net.ipv4.vs.*`.\n\n| Setting | Default | Values | Beside IPVS | Meaning |\n| --- | ---: | --- | --- | --- |\n",
    );
    for setting in tables::settings(&tables::parse(root, SETTINGS)?)? {
        let kind = match setting.kind.as_str() {
            "Same" => "the same",
            "Other" => "differs",
            _ => "not in IPVS",
        };
        let meaning = cell(&setting.meaning);
        let range = setting.range.replace("..=", " to ");
        writeln!(text, "| `{}` | {} | {range} | {kind} | {meaning} |", setting.name, setting.default)?;
    }
    Ok(text)
}

fn programs(root: &Path) -> Result<String> {
    let programs = tables::programs(&tables::parse(root, PROGRAMS)?)?;
    let mut text = head("Programs", PROGRAMS);
    text.push_str(
        "The programs that tail calls reach. A function is of IPv4 or IPv6, or of both. A test compares the jumps with the \
         instructions of the eBPF object.\n\n| Program | Does | XDP | TC |\n| --- | --- | --- | --- |\n",
    );
    for program in &programs {
        let [xdp, tc] = program.functions.each_ref().map(|names| {
            let names: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
            names.join(" ")
        });
        writeln!(text, "| `{}` | {} | {xdp} | {tc} |", program.name, cell(&program.meaning))?;
    }
    text.push_str(
        "\nThe programs that are attached come first: `lvs_xdp` is the IPv4 function of `Receive`; `lvs_ingress` and `lvs_egress` \
         jump to `Receive`. Where the log is on, every program may jump to `Log`, which goes on where the program before it \
         would have. XDP has the programs with bold borders.\n\n```mermaid\nflowchart LR\n    \
         ingress([lvs_ingress, lvs_egress]) --> Receive\n",
    );
    for program in &programs {
        for to in &program.to {
            writeln!(text, "    {} --> {to}", program.name)?;
        }
    }
    let in_xdp = programs.iter().filter(|program| !program.functions[0].is_empty() && program.name != "Log");
    let names: Vec<&str> = in_xdp.map(|program| program.name.as_str()).collect();
    writeln!(text, "    classDef xdp stroke-width:3px\n    class {} xdp\n```", names.join(","))?;
    Ok(text)
}

/// Text that ends no cell of a table.
fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}
