//! The host's firewall, which balanced packets do not pass: chains that look as if they were meant for services.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::io::Read;
use std::net::IpAddr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use lvs_director::rules::Prefix;
use serde::Serialize;
use serde_json::Value;

/// How long a program may take to tell its rules.
const PATIENCE: Duration = Duration::from_secs(2);
/// Where programs of administrators are, if the search path does not have them.
const FOLDER: &str = "/usr/sbin";
/// The tables of iptables that come by modules of their own; the file is there if any is.
const LEGACY: [(&str, &str); 2] =
    [("/proc/net/ip_tables_names", "iptables"), ("/proc/net/ip6_tables_names", "ip6tables")];

/// A chain that balanced packets do not pass.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Chain {
    /// `nftables`, `iptables` or `ip6tables`.
    program: &'static str,
    table: String,
    chain: String,
    /// The hook, as nftables names it.
    hook: String,
    /// Whether packets are dropped or rejected that would come in.
    drops: bool,
    /// Whether a service's address is named.
    names_services: bool,
    /// Whether packets are dropped or rejected that the connection tracker does not know.
    #[serde(skip)]
    pub drops_untracked: bool,
}

impl Chain {
    /// Whether it looks as if it were meant for services.
    pub fn concerns_services(&self) -> bool {
        self.drops || self.names_services
    }
}

impl fmt::Display for Chain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Chain { program, table, chain, hook, drops, names_services, .. } = self;
        let what = match (drops, names_services) {
            (true, true) => "drops packets, and names the address of a service",
            (false, true) => "names the address of a service",
            _ => "drops packets",
        };
        write!(f, "{program}, table {table}, chain {chain} ({hook}): {what}")
    }
}

/// The chains for people, with what to do; empty if there are none.
pub fn text(chains: &[Chain]) -> String {
    let mut text = String::new();
    for chain in chains {
        if text.is_empty() {
            text += "warning: balanced packets do not pass these chains of the host's firewall; who may come in is said by `lvsadm \
                     block' and `lvsadm allow':\n";
        }
        text += &format!("  {chain}\n");
    }
    text
}

/// Asks nftables and iptables, as far as they are there and answer.
pub fn chains(services: &HashSet<IpAddr>) -> Vec<Chain> {
    if services.is_empty() {
        return Vec::new();
    }
    let mut chains = Vec::new();
    let nftables = output("nft", &["--json", "--terse", "list", "ruleset"]);
    if let Some(text) = &nftables {
        chains.extend(nft(text, services));
    }
    for (names, program) in LEGACY {
        let is_legacy = std::fs::read_to_string(names).is_ok_and(|names| !names.trim().is_empty());
        // nft tells of those that are its own, too.
        let saved = match (is_legacy, &nftables) {
            (true, _) => {
                output(&format!("{program}-legacy-save"), &[]).or_else(|| output(&format!("{program}-save"), &[]))
            }
            (false, None) => output(&format!("{program}-save"), &[]),
            (false, Some(_)) => None,
        };
        chains.extend(saved.into_iter().flat_map(|text| iptables(program, &text, services)));
    }
    chains
}

/// What a program prints, if it is there, and ends well and in time.
fn output(program: &str, arguments: &[&str]) -> Option<String> {
    let run = |program: &Path| {
        let mut command = Command::new(program);
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        command.spawn().ok()
    };
    let mut child = run(Path::new(program)).or_else(|| run(&Path::new(FOLDER).join(program)))?;
    let (mut pipe, (sender, receiver)) = (child.stdout.take()?, mpsc::channel());
    thread::spawn(move || {
        let mut text = String::new();
        let whole = pipe.read_to_string(&mut text).map(|_| text);
        // Nobody listens any more if it was late.
        let _ = sender.send(whole);
    });
    let text = receiver.recv_timeout(PATIENCE);
    if text.is_err() {
        // It ends by itself if this fails.
        let _ = child.kill();
    }
    let succeeded = child.wait().is_ok_and(|status| status.success());
    text.ok()?.ok().filter(|_| succeeded)
}

/// What a chain, or a rule, does.
#[derive(Clone, Debug, Default)]
struct Effect {
    drops: bool,
    names_services: bool,
    drops_untracked: bool,
    /// Chains that it goes on to.
    jumps: Vec<String>,
}

impl Effect {
    fn add(&mut self, other: Effect) {
        self.drops |= other.drops;
        self.names_services |= other.names_services;
        self.drops_untracked |= other.drops_untracked;
        self.jumps.extend(other.jumps);
    }
}

/// What chain `start` of a table does, with all that it goes on to.
fn whole(start: &str, chains: &HashMap<String, Effect>) -> Effect {
    let (mut effect, mut seen, mut due) = (Effect::default(), HashSet::new(), vec![start.to_owned()]);
    while let Some(chain) = due.pop() {
        if let Some(of) = chains.get(&chain)
            && seen.insert(chain)
        {
            due.extend(of.jumps.iter().cloned());
            effect.add(of.clone());
        }
    }
    effect
}

/// The chain, if it concerns services, or packets of theirs that the stack forwards.
fn concern(program: &'static str, table: &str, chain: &str, hook: &str, effect: &Effect) -> Option<Chain> {
    let names_services = effect.names_services;
    let drops = effect.drops && matches!(hook, "ingress" | "prerouting" | "input");
    let drops_untracked = effect.drops_untracked && matches!(hook, "prerouting" | "forward" | "postrouting");
    let (table, chain, hook) = (table.to_owned(), chain.to_owned(), hook.to_owned());
    let chain = Chain { program, table, chain, hook, drops, names_services, drops_untracked };
    (drops_untracked || chain.concerns_services()).then_some(chain)
}

/// Whether addresses have one of a service among them. A prefix of everything names nobody.
fn names(prefix: &str, services: &HashSet<IpAddr>) -> bool {
    let Ok(prefix) = Prefix::parse(prefix) else { return false };
    let covers =
        |service: &IpAddr| Prefix::parse(&format!("{service}/{}", prefix.length)).is_ok_and(|other| other == prefix);
    prefix.length != 0 && services.iter().any(covers)
}

/// The chains in nftables' JSON.
fn nft(text: &str, services: &HashSet<IpAddr>) -> Vec<Chain> {
    let Ok(ruleset) = serde_json::from_str::<Value>(text) else { return Vec::new() };
    let word = |object: &Value, member: &str| object[member].as_str().unwrap_or_default().to_owned();
    let table = |object: &Value| format!("{} {}", word(object, "family"), word(object, "table"));
    let (mut tables, mut hooked) = (HashMap::<String, HashMap<String, Effect>>::new(), Vec::new());
    for item in ruleset["nftables"].as_array().into_iter().flatten() {
        if let Some(chain) = item.get("chain") {
            let name = word(chain, "name");
            let effect = Effect { drops: chain["policy"] == "drop", ..Effect::default() };
            tables.entry(table(chain)).or_default().entry(name.clone()).or_default().add(effect);
            if chain.get("hook").is_some() {
                hooked.push((table(chain), name, word(chain, "hook")));
            }
        } else if let Some(rule) = item.get("rule") {
            let mut effect = Effect::default();
            look(&rule["expr"], services, &mut effect);
            effect.drops_untracked = effect.drops && rule["expr"].to_string().contains("\"invalid\"");
            tables.entry(table(rule)).or_default().entry(word(rule, "chain")).or_default().add(effect);
        }
    }
    let chain = |(table, chain, hook): &(String, String, String)| {
        concern("nftables", table, chain, hook, &whole(chain, tables.get(table)?))
    };
    hooked.iter().filter_map(chain).collect()
}

/// Looks through an expression of nftables.
fn look(expression: &Value, services: &HashSet<IpAddr>, effect: &mut Effect) {
    match expression {
        Value::String(text) => effect.names_services |= names(text, services),
        Value::Array(items) => items.iter().for_each(|item| look(item, services, effect)),
        Value::Object(members) => {
            for (name, value) in members {
                match name.as_str() {
                    "drop" | "reject" => effect.drops = true,
                    "jump" | "goto" => effect.jumps.extend(value["target"].as_str().map(str::to_owned)),
                    "prefix" => {
                        let address = value["addr"].as_str().unwrap_or_default();
                        effect.names_services |= names(&format!("{address}/{}", value["len"]), services);
                    }
                    _ => look(value, services, effect),
                }
            }
        }
        _ => {}
    }
}

/// The chains in what `iptables-save` prints.
fn iptables(program: &'static str, text: &str, services: &HashSet<IpAddr>) -> Vec<Chain> {
    let mut found = Vec::new();
    for part in text.split("\n*").map(|part| part.trim_start_matches('*')) {
        let table = part.lines().next().unwrap_or_default();
        let (mut chains, mut hooked) = (HashMap::<String, Effect>::new(), Vec::new());
        for line in part.lines() {
            let words: Vec<&str> = line.split_whitespace().collect();
            match words[..] {
                [chain, policy, ..] if chain.starts_with(':') => {
                    let name = chain[1..].to_owned();
                    let effect = Effect { drops: policy == "DROP", ..Effect::default() };
                    chains.entry(name.clone()).or_default().add(effect);
                    // A chain without a policy has no hook.
                    hooked.extend((policy != "-").then_some(name));
                }
                ["-A", chain, ref rule @ ..] => {
                    let after = |options: [&str; 2]| {
                        let at = rule.iter().position(|word| options.contains(word))?;
                        rule.get(at + 1).copied()
                    };
                    let target = after(["-j", "-g"]).unwrap_or_default();
                    let effect = Effect {
                        drops: matches!(target, "DROP" | "REJECT"),
                        names_services: rule.iter().any(|word| names(word, services)),
                        drops_untracked: matches!(target, "DROP" | "REJECT")
                            && rule.iter().any(|word| word.split(',').any(|state| state == "INVALID")),
                        jumps: vec![target.to_owned()],
                    };
                    chains.entry(chain.to_owned()).or_default().add(effect);
                }
                _ => {}
            }
        }
        let chain = |name: &String| concern(program, table, name, &name.to_lowercase(), &whole(name, &chains));
        found.extend(hooked.iter().filter_map(chain));
    }
    found
}

/// The chains of what `iptables-save` prints, for tests of other files.
#[cfg(test)]
pub fn parse_iptables(text: &str, services: &HashSet<IpAddr>) -> Vec<Chain> {
    iptables("iptables", text, services)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn services() -> HashSet<IpAddr> {
        ["10.10.10.10", "2001:db8:a::10"].map(|address| address.parse().unwrap()).into()
    }

    fn shown(chains: &[Chain]) -> Vec<String> {
        text(chains).lines().skip(1).map(|line| line.trim().to_owned()).collect()
    }

    /// A table of nftables with a chain on a hook, another that it jumps to, and a rule in each.
    fn ruleset(hook: &str, policy: &str, first: &str, second: &str) -> String {
        format!(
            r#"{{"nftables": [{{"metainfo": {{"json_schema_version": 1}}}},
            {{"chain": {{"family": "inet", "table": "f", "name": "a", "hook": "{hook}", "policy": "{policy}"}}}},
            {{"chain": {{"family": "inet", "table": "f", "name": "b"}}}},
            {{"rule": {{"family": "inet", "table": "f", "chain": "a", "expr": [{first}]}}}},
            {{"rule": {{"family": "inet", "table": "f", "chain": "b", "expr": [{second}]}}}}]}}"#
        )
    }

    #[test]
    fn nftables_chains_that_drop_or_name_a_service_are_found() {
        let named =
            |right: &str| format!(r#"{{"match": {{"op": "==", "left": "x", "right": {right}}}}}, {{"accept": null}}"#);
        let (jump, accept, drop) = (r#"{"jump": {"target": "b"}}"#, r#"{"accept": null}"#, r#"{"drop": null}"#);
        let chain = |hook: &str, what: &str| vec![format!("nftables, table inet f, chain a ({hook}): {what}")];
        let names = "names the address of a service";
        for (hook, policy, first, second, expected) in [
            ("input", "accept", accept, drop, vec![]),
            ("input", "accept", jump, drop, chain("input", "drops packets")),
            ("input", "drop", accept, accept, chain("input", "drops packets")),
            (
                "prerouting",
                "accept",
                r#"{"reject": {"type": "tcp reset"}}"#,
                accept,
                chain("prerouting", "drops packets"),
            ),
            ("forward", "drop", drop, drop, vec![]),
            ("postrouting", "accept", &named(r#""10.10.10.10""#), accept, chain("postrouting", names)),
            ("input", "accept", &named(r#"{"set": ["10.0.0.1", "2001:db8:a::10"]}"#), accept, chain("input", names)),
            (
                "input",
                "accept",
                &named(r#"{"prefix": {"addr": "10.10.10.0", "len": 24}}"#),
                accept,
                chain("input", names),
            ),
            ("input", "accept", &named(r#"{"prefix": {"addr": "10.10.11.0", "len": 24}}"#), accept, vec![]),
            ("input", "accept", &named(r#"{"prefix": {"addr": "0.0.0.0", "len": 0}}"#), accept, vec![]),
            (
                "ingress",
                "accept",
                r#"{"vmap": {"key": "x", "data": {"set": [[80, {"goto": {"target": "b"}}]]}}}"#,
                &format!("{drop}, {}", named(r#""10.10.10.10""#)),
                chain("ingress", "drops packets, and names the address of a service"),
            ),
        ] {
            assert_eq!(
                shown(&nft(&ruleset(hook, policy, first, second), &services())),
                expected,
                "{hook} {first} {second}"
            );
        }
        for text in
            ["", "nonsense", "{}", r#"{"nftables": 7}"#, r#"{"nftables": [{"rule": 7}, {"chain": {"hook": 1}}]}"#]
        {
            assert_eq!(nft(text, &services()), []);
        }
    }

    #[test]
    fn iptables_chains_are_found_likewise() {
        let saved = "# by iptables-save\n*filter\n:INPUT DROP [0:0]\n:FORWARD DROP [0:0]\n:ours - [0:0]\nCOMMIT\n\
                     *mangle\n:PREROUTING ACCEPT [0:0]\n:POSTROUTING ACCEPT [0:0]\n:ours - [0:0]\n\
                     -A PREROUTING -i eth0 -j ours\n-A ours -s 198.51.100.1/32 -j DROP\n\
                     -A POSTROUTING -d 10.10.10.10/32 -m ipvs -j ACCEPT\nCOMMIT\n";
        assert_eq!(
            shown(&iptables("iptables", saved, &services())),
            [
                "iptables, table filter, chain INPUT (input): drops packets",
                "iptables, table mangle, chain PREROUTING (prerouting): drops packets",
                "iptables, table mangle, chain POSTROUTING (postrouting): names the address of a service",
            ]
        );
        assert_eq!(iptables("iptables", "", &services()), []);
        assert_eq!(text(&[]), "");
    }
}
