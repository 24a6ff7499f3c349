//! `yarn.lock`: the classic format (version 1) and that of yarn 2 and later ("berry", YAML).

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use super::node::{Entry, Manifest, Recorded, judge, satisfies};
use super::read::{Document, Folder, Role};
use super::{Difference, State, is_full, state};
use crate::problem::Problem;

pub(super) fn check(folder: &Folder<'_>, manifest: &Manifest<'_>) -> Result<State, Problem> {
    let document = folder.document("yarn.lock", Role::Lock)?;
    if has_metadata(&document.text) { berry(folder, manifest, &document) } else { classic(manifest, &document) }
}

/// Whether the folder's lock file is of yarn 2 or later, which has other options.
pub(super) fn is_berry(folder: &Folder<'_>) -> bool {
    folder.document("yarn.lock", Role::Lock).is_ok_and(|document| has_metadata(&document.text))
}

fn has_metadata(text: &str) -> bool {
    text.lines().any(|line| line.trim_end() == "__metadata:")
}

/// A resolved package of the classic format.
#[derive(Default)]
struct Block {
    version: Option<String>,
    /// `name@range` of what it needs.
    needs: Vec<String>,
}

/// The classic format keys each package by `name@range`, with no word on who asks: each wanted pair must be a key, its version
/// must answer the range, and no package may be there that nothing asks for.
fn classic(manifest: &Manifest<'_>, document: &Document) -> Result<State, Problem> {
    let (blocks, keys) = parse_classic(document)?;
    let mut differences = Vec::new();
    let mut next = Vec::new();
    for (name, want) in &manifest.wanted {
        if is_full(&differences) {
            break;
        }
        // Not in the lock file: what lies in the project itself.
        if ["link:", "portal:", "workspace:"].iter().any(|protocol| want.range.starts_with(protocol)) {
            continue;
        }
        let key = format!("{name}@{}", want.range);
        match keys.get(&key) {
            Some(index) => {
                let version = blocks[*index].version.as_deref().unwrap_or_default();
                if !manifest.overridden.contains(name) && satisfies(&want.range, version) == Some(false) {
                    differences.push(manifest.differs(name, want, Some(version.to_owned())));
                }
                next.push(*index);
            }
            None => {
                // What is there under that name says best what happened.
                let prefix = format!("{name}@");
                let found = keys.range(prefix.clone()..).next().filter(|(key, _)| key.starts_with(&prefix));
                let locked = found.map(|(key, _)| key[prefix.len()..].to_owned());
                differences.push(manifest.differs(name, want, locked));
                next.extend(found.map(|(_, index)| *index));
            }
        }
    }

    // The members of a workspace ask too, and the lock file does not say who they are.
    if let Some(pattern) = manifest.workspaces.first() {
        let reason = format!("yarn's classic format does not say what the workspace members (`{pattern}`) asked for");
        return Ok(if differences.is_empty() { State::Unknown(reason) } else { state(differences) });
    }
    // `resolutions` put other packages in place of those that are asked for.
    if manifest.overridden.is_empty() && !is_full(&differences) {
        let mut needed = BTreeSet::new();
        while let Some(index) = next.pop() {
            if needed.insert(index) {
                next.extend(blocks[index].needs.iter().filter_map(|key| keys.get(key)));
            }
        }
        for (key, _) in keys.iter().filter(|(_, index)| !needed.contains(*index)) {
            let at = key.char_indices().skip(1).find(|(_, c)| *c == '@').map_or(key.len(), |(at, _)| at);
            differences.push(Difference {
                package: key[..at].to_owned(),
                section: "dependencies".to_owned(),
                wanted: None,
                locked: key.get(at + 1..).map(str::to_owned),
                file: document.file.clone(),
                at: None,
            });
        }
    }
    Ok(state(differences))
}

/// The packages, and which one each key names.
fn parse_classic(document: &Document) -> Result<(Vec<Block>, BTreeMap<String, usize>), Problem> {
    let mut blocks: Vec<Block> = Vec::new();
    let mut keys = BTreeMap::new();
    let mut in_needs = false;
    let mut offset = 0;
    for line in document.text.split_inclusive('\n') {
        let start = offset;
        offset += line.len();
        let line = line.trim_end();
        let content = line.trim_start_matches(' ');
        if content.is_empty() || content.starts_with('#') {
            continue;
        }
        let problem = |message: &str| document.problem(start, message);
        match line.len() - content.len() {
            0 => {
                let list = content.strip_suffix(':').ok_or_else(|| problem("a package's line must end with `:`"))?;
                for key in list.split(", ") {
                    let key = unquoted(key);
                    if !key.get(1..).is_some_and(|rest| rest.contains('@')) {
                        return Err(problem("a package's line must be of the form `name@range:`"));
                    }
                    keys.insert(key.to_owned(), blocks.len());
                }
                blocks.push(Block::default());
                in_needs = false;
            }
            2 => {
                let block = blocks.last_mut().ok_or_else(|| problem("a field without a package"))?;
                in_needs = matches!(content, "dependencies:" | "optionalDependencies:");
                if let Some(version) = content.strip_prefix("version ") {
                    block.version = Some(unquoted(version).to_owned());
                }
            }
            4 if in_needs => {
                let block = blocks.last_mut().ok_or_else(|| problem("a field without a package"))?;
                let (name, range) =
                    content.split_once(' ').ok_or_else(|| problem("a dependency must be `name range`"))?;
                block.needs.push(format!("{}@{}", unquoted(name), unquoted(range)));
            }
            4 => {}
            _ => return Err(problem("a line is indented by 0, 2 or 4")),
        }
    }
    if let Some(index) = blocks.iter().position(|block| block.version.is_none()) {
        let key = keys.iter().find(|(_, own)| **own == index).map_or("", |(key, _)| key);
        return Err(document.whole(format!("`{}` has no version", crate::text::shown(key, 200))));
    }
    Ok((blocks, keys))
}

fn unquoted(text: &str) -> &str {
    text.trim().strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(text.trim())
}

#[derive(Deserialize)]
struct Resolved {
    version: Option<serde_json::Value>,
    #[serde(default)]
    resolution: String,
    dependencies: Option<BTreeMap<String, String>>,
    #[serde(rename = "peerDependencies")]
    peers: Option<BTreeMap<String, String>>,
}

/// Yarn 2 and later record each `package.json` as a package that is resolved as `name@workspace:folder`, all its sections in one.
fn berry(folder: &Folder<'_>, manifest: &Manifest<'_>, document: &Document) -> Result<State, Problem> {
    let packages = document.yaml::<BTreeMap<String, Resolved>>()?.pop().unwrap_or_default();
    let version = packages.get("__metadata").and_then(|own| own.version.as_ref());
    let version = version.map(|version| version.to_string().trim_matches('"').to_owned()).unwrap_or_default();
    if !version.parse::<u32>().is_ok_and(|version| (3..=12).contains(&version)) {
        return Err(document.version(&version, "1 and 3 to 12"));
    }
    let mut recorded = BTreeMap::new();
    for own in packages.into_values() {
        let Some((_, path)) = own.resolution.split_once("@workspace:") else { continue };
        let path = if path == "." { String::new() } else { path.to_owned() };
        let entry = |(name, range)| (name, Entry { range: Some(range), ..Entry::default() });
        let entries = own.dependencies.unwrap_or_default().into_iter().map(entry).collect();
        recorded.insert(path, Recorded { entries, peers: Some(own.peers.unwrap_or_default()), ..Recorded::default() });
    }
    judge(folder, manifest, &document.file, &recorded, &manifest.workspaces)
}
