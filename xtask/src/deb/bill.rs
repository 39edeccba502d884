//! The software bill of materials: which crates are in the binaries, in the form of CycloneDX 1.5.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::process::{host_cargo, output};

/// The crates that binaries are made of; the eBPF objects are part of the command and of the library.
const ROOTS: [&str; 3] = ["lvsadm", "lvs-compat", "lvs-ebpf"];

/// The bill of what [`crate::build::build`] builds. It is the same for the same `Cargo.lock`.
pub fn bill() -> Result<String> {
    let metadata = output(host_cargo().args(["metadata", "--format-version", "1", "--locked"]));
    let metadata = serde_json::from_str(&metadata.context("cargo does not say what the dependencies are")?)?;
    Ok(format!("{:#}\n", of(&metadata)?))
}

/// The same, of what `cargo metadata` says.
fn of(metadata: &Value) -> Result<Value> {
    let mut packages = BTreeMap::new();
    for package in list(&metadata["packages"])? {
        packages.insert(text(&package["id"])?, package);
    }
    let mut needs = BTreeMap::new();
    for node in list(&metadata["resolve"]["nodes"])? {
        needs.insert(text(&node["id"])?, needed(node)?);
    }
    let is_root = |package: &Value| package["name"].as_str().is_some_and(|name| ROOTS.contains(&name));
    let mut waiting: Vec<&str> = packages.iter().filter(|(_, package)| is_root(package)).map(|(id, _)| *id).collect();
    let mut found = BTreeSet::new();
    while let Some(id) = waiting.pop() {
        if found.insert(id) {
            waiting.extend(needs.get(id).into_iter().flatten());
        }
    }
    let package = |id: &str| packages.get(id).copied().with_context(|| format!("no package {id}"));
    let components: Result<Vec<Value>> = found.iter().map(|id| component(package(id)?)).collect();
    let dependencies: Result<Vec<Value>> = found
        .iter()
        .map(|id| {
            let needed: Result<BTreeSet<String>> =
                needs.get(id).into_iter().flatten().map(|id| reference(package(id)?)).collect();
            Ok(json!({ "ref": reference(package(id)?)?, "dependsOn": needed? }))
        })
        .collect();
    Ok(json!({
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": { "component": { "type": "application", "name": "lvsadm", "version": env!("CARGO_PKG_VERSION") } },
        "components": components?,
        "dependencies": dependencies?,
    }))
}

/// Ids of the packages whose code becomes part of a package's: neither build scripts' nor tests'.
fn needed(node: &Value) -> Result<Vec<&str>> {
    let is_linked =
        |need: &Value| list(&need["dep_kinds"]).is_ok_and(|kinds| kinds.iter().any(|kind| kind["kind"].is_null()));
    list(&node["deps"])?.iter().filter(|need| is_linked(need)).map(|need| text(&need["pkg"])).collect()
}

fn component(package: &Value) -> Result<Value> {
    let reference = reference(package)?;
    // cargo once took a slash for "or".
    let licence = package["license"].as_str().unwrap_or("NOASSERTION").replace('/', " OR ").replace("  ", " ");
    Ok(json!({
        "type": "library",
        "bom-ref": reference,
        "name": package["name"],
        "version": package["version"],
        "purl": reference,
        "licenses": [{ "expression": licence }],
    }))
}

/// A package's URL.
fn reference(package: &Value) -> Result<String> {
    Ok(format!("pkg:cargo/{}@{}", text(&package["name"])?, text(&package["version"])?))
}

fn list(value: &Value) -> Result<&Vec<Value>> {
    value.as_array().context("cargo metadata has another form: a list is missing")
}

fn text(value: &Value) -> Result<&str> {
    value.as_str().context("cargo metadata has another form: a text is missing")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::of;

    #[test]
    fn only_what_is_linked_is_listed() {
        let package = |name: &str| json!({ "id": name, "name": name, "version": "1.0.0", "license": "MIT/Apache-2.0" });
        let need = |name: &str, kind: Option<&str>| json!({ "pkg": name, "dep_kinds": [{ "kind": kind }] });
        let metadata = json!({
            "packages": [package("lvsadm"), package("linked"), package("built"), package("tested"), package("other")],
            "resolve": { "nodes": [
                { "id": "lvsadm", "deps": [need("linked", None), need("built", Some("build")), need("tested", Some("dev"))] },
                { "id": "linked", "deps": [] },
                { "id": "other", "deps": [] },
            ] },
        });
        let bill = of(&metadata).unwrap();
        let names: Vec<&str> =
            bill["components"].as_array().unwrap().iter().filter_map(|it| it["name"].as_str()).collect();
        assert_eq!(names, ["linked", "lvsadm"]);
        assert_eq!(bill["components"][0]["licenses"][0]["expression"], "MIT OR Apache-2.0");
        assert_eq!(bill["dependencies"][1]["dependsOn"], json!(["pkg:cargo/linked@1.0.0"]));
    }
}
