//! `package-lock.json` and `npm-shrinkwrap.json`, format versions 1, 2 and 3.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use super::node::{Entry, Manifest, Recorded, SECTIONS, judge};
use super::read::{Document, Folder, Role};
use super::{Difference, State, is_full, state};
use crate::problem::Problem;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Lock {
    lockfile_version: Option<serde_json::Value>,
    /// Versions 2 and 3: by folder, the project under the empty name.
    packages: Option<BTreeMap<String, Package>>,
    /// Version 1 (and 2, for old readers): the installed tree.
    #[serde(default)]
    dependencies: BTreeMap<String, Node>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Package {
    version: Option<String>,
    #[serde(default)]
    link: bool,
    #[serde(default)]
    dependencies: BTreeMap<String, String>,
    #[serde(default)]
    dev_dependencies: BTreeMap<String, String>,
    #[serde(default)]
    optional_dependencies: BTreeMap<String, String>,
    #[serde(default)]
    peer_dependencies: BTreeMap<String, String>,
}

/// A package of version 1. Deeper levels are read by serde_json, which bounds its own depth.
#[derive(Deserialize)]
struct Node {
    version: Option<String>,
    #[serde(default)]
    requires: Requires,
    #[serde(default)]
    dependencies: BTreeMap<String, Node>,
}

/// `true` at the top, ranges by name below.
#[derive(Deserialize)]
#[serde(untagged)]
enum Requires {
    Of(BTreeMap<String, serde::de::IgnoredAny>),
    Whether(#[allow(dead_code, reason = "only its shape matters")] bool),
}

impl Default for Requires {
    fn default() -> Self {
        Self::Whether(false)
    }
}

pub(super) fn check(folder: &Folder<'_>, manifest: &Manifest<'_>, name: &str) -> Result<State, Problem> {
    let document = folder.document(name, Role::Lock)?;
    let lock: Lock = document.json()?;
    let version = lock.lockfile_version.as_ref().map(ToString::to_string);
    match (version.as_deref(), lock.packages) {
        (None, _) => Err(document.whole("it has no `lockfileVersion`")),
        (Some("1"), _) => Ok(state(of_tree(manifest, &document, &lock.dependencies))),
        (Some("2" | "3"), Some(packages)) => {
            let recorded = of_packages(packages);
            judge(folder, manifest, &document.file, &recorded, &manifest.workspaces)
        }
        (Some("2" | "3"), None) => Err(document.whole("it has no `packages`")),
        (Some(found), _) => Err(document.version(found, "1, 2 and 3")),
    }
}

/// What versions 2 and 3 recorded for the project and for each member of its workspace.
fn of_packages(packages: BTreeMap<String, Package>) -> BTreeMap<String, Recorded> {
    let version = |name: &str| {
        let installed = packages.get(&format!("node_modules/{name}"))?;
        installed.version.clone().filter(|_| !installed.link)
    };
    let mut recorded = BTreeMap::new();
    for (path, package) in &packages {
        // What lies in `node_modules` was installed; the rest are folders of the project.
        if path.split('/').any(|part| part == "node_modules") {
            continue;
        }
        let mut entries = BTreeMap::new();
        let sections = [&package.dev_dependencies, &package.dependencies, &package.optional_dependencies];
        for (section, ranges) in SECTIONS.into_iter().zip(sections) {
            for (name, range) in ranges {
                // A member's own copy may lie deeper, so that only the project's are looked up.
                let version = if path.is_empty() { version(name) } else { None };
                entries.insert(name.clone(), Entry { section: Some(section), range: Some(range.clone()), version });
            }
        }
        recorded.insert(
            path.clone(),
            Recorded { entries, peers: Some(package.peer_dependencies.clone()), ..Recorded::default() },
        );
    }
    recorded
}

/// Version 1 records no ranges of the project: each dependency must be installed at the top in a version that answers,
/// and nothing may be there that no one needs.
fn of_tree(manifest: &Manifest<'_>, document: &Document, tree: &BTreeMap<String, Node>) -> Vec<Difference> {
    let mut entries = BTreeMap::new();
    for name in manifest.wanted.keys().chain(manifest.peers.keys()) {
        if let Some(node) = tree.get(name) {
            entries.insert(name.clone(), Entry { version: node.version.clone(), ..Entry::default() });
        }
    }
    let mut differences = manifest.compare(&Recorded { entries, peers: None, ..Recorded::default() }, &document.file);

    // By name alone: which copy of a package a name means does not matter to whether anyone needs it.
    let mut needs: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    let mut level: Vec<(&String, &Node)> = tree.iter().collect();
    while let Some((name, node)) = level.pop() {
        if let Requires::Of(names) = &node.requires {
            needs.entry(name).or_default().extend(names.keys().map(String::as_str));
        }
        level.extend(&node.dependencies);
    }
    let mut needed: BTreeSet<&str> = BTreeSet::new();
    let mut next: Vec<&str> = manifest.wanted.keys().chain(manifest.peers.keys()).map(String::as_str).collect();
    while let Some(name) = next.pop() {
        if needed.insert(name) {
            next.extend(needs.get(name).into_iter().flatten());
        }
    }
    // A tree that no package says it requires was written by a very old npm, which recorded no such edges.
    if is_full(&differences) || needs.is_empty() && tree.len() > manifest.wanted.len() + manifest.peers.len() {
        return differences;
    }
    differences.extend(tree.iter().filter(|(name, _)| !needed.contains(name.as_str())).map(|(name, node)| {
        Difference {
            package: name.clone(),
            section: "dependencies".to_owned(),
            wanted: None,
            locked: node.version.clone(),
            file: document.file.clone(),
            at: None,
        }
    }));
    differences
}
