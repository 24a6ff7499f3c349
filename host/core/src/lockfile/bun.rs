//! `bun.lock`: bun's text format, JSON with trailing commas. The binary one is `bun_binary`.

use std::collections::BTreeMap;

use jsonc_parser::ast::{Object, Value};

use super::node::{Entry, Manifest, PEERS, Recorded, SECTIONS, judge, last};
use super::read::{Folder, Role};
use super::{State, bun_binary};
use crate::problem::Problem;

pub(super) fn check(folder: &Folder<'_>, manifest: &Manifest<'_>) -> Result<State, Problem> {
    let document = folder.document("bun.lock", Role::Lock)?;
    let tree = document.json_tree(true)?;
    let version = match last(&tree, "lockfileVersion") {
        Some(Value::NumberLit(number)) => number.value,
        _ => return Err(document.whole("it has no `lockfileVersion`")),
    };
    if !matches!(version, "0" | "1") {
        return Err(document.version(version, "0 and 1"));
    }
    let object = |key: &str| last(&tree, key).and_then(Value::as_object);
    let workspaces = object("workspaces").ok_or_else(|| document.whole("it has no `workspaces`"))?;
    // By name, not by `Object::get`, which walks the list each time.
    let versions: BTreeMap<&str, String> = object("packages")
        .map(|packages| &packages.properties[..])
        .unwrap_or_default()
        .iter()
        .filter_map(|own| Some((own.name.as_str(), version_of(own.name.as_str(), &own.value)?)))
        .collect();

    let mut recorded = BTreeMap::new();
    for own in &workspaces.properties {
        let Value::Object(workspace) = &own.value else {
            return Err(document.problem(own.range.start, "a workspace must be an object"));
        };
        let mut entries = BTreeMap::new();
        for section in SECTIONS {
            for (name, range) in ranges(workspace, section) {
                let version = versions.get(name.as_str()).filter(|_| own.name.as_str().is_empty()).cloned();
                entries.insert(name, Entry { section: Some(section), range: Some(range), version });
            }
        }
        let peers = ranges(workspace, PEERS).collect();
        recorded.insert(own.name.as_str().to_owned(), Recorded { entries, peers: Some(peers), ..Recorded::default() });
    }
    let overrides = object("overrides").map(|overrides| &overrides.properties[..]).unwrap_or_default();
    let manifest = manifest.with_overrides(overrides.iter().map(|own| own.name.as_str()));
    judge(folder, &manifest, &document.file, &recorded, &manifest.workspaces)
}

pub(super) fn check_binary(folder: &Folder<'_>, manifest: &Manifest<'_>) -> Result<State, Problem> {
    let bytes = folder.bytes("bun.lockb", Role::Lock)?;
    let file = folder.path("bun.lockb");
    let recorded = bun_binary::read(&bytes, &file)?;
    judge(folder, manifest, &file, &recorded, &manifest.workspaces)
}

/// The ranges of a section.
fn ranges<'o>(workspace: &'o Object<'_>, section: &str) -> impl Iterator<Item = (String, String)> + use<'o> {
    let properties = last(workspace, section).and_then(Value::as_object).map(|object| &object.properties[..]);
    let pair = |own: &'o jsonc_parser::ast::ObjectProp<'_>| {
        Some((own.name.as_str().to_owned(), own.value.as_string_lit()?.value.to_string()))
    };
    properties.unwrap_or_default().iter().filter_map(pair)
}

/// `7.0.0` of `"is-number": ["is-number@7.0.0", ...]`; none for a link or another package under this name.
fn version_of(name: &str, package: &Value<'_>) -> Option<String> {
    let first = package.as_array()?.elements.first()?.as_string_lit()?;
    let version = first.value.strip_prefix(name)?.strip_prefix('@')?;
    version.starts_with(|c: char| c.is_ascii_digit()).then(|| version.to_owned())
}
