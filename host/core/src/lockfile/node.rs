//! `package.json`, and how what it asks for is compared with what a lock file recorded.

use std::collections::{BTreeMap, BTreeSet};

use jsonc_parser::ast::{Object, Value};
use nodejs_semver::{Range, Version};

use super::read::{Document, Folder, Role};
use super::{Difference, Manager, State, is_full, state};
use crate::problem::Problem;
use crate::text::shown;

/// The sections that are installed, the weakest first: a name in two of them belongs to the last.
pub(super) const SECTIONS: [&str; 3] = ["devDependencies", "dependencies", "optionalDependencies"];

pub(super) const PEERS: &str = "peerDependencies";

/// Members of a workspace that are looked at; each is a file to read.
const MEMBERS_MAX: usize = 2_000;

/// One dependency as a project asks for it.
#[derive(Clone)]
pub(super) struct Want {
    pub(super) section: &'static str,
    pub(super) range: String,
    offset: usize,
}

/// What a `package.json` says about dependencies.
#[derive(Clone)]
pub(super) struct Manifest<'d> {
    document: &'d Document,
    pub(super) wanted: BTreeMap<String, Want>,
    pub(super) peers: BTreeMap<String, Want>,
    /// Peers that nobody has to install.
    optional_peers: BTreeSet<String>,
    /// The patterns of `workspaces`.
    pub(super) workspaces: Vec<String>,
    /// Packages whose version is decided by `overrides`, `resolutions` or pnpm's overrides.
    pub(super) overridden: BTreeSet<String>,
    package_manager: Option<String>,
}

/// One dependency as a lock file recorded it.
#[derive(Default)]
pub(super) struct Entry {
    /// None where the lock file does not tell sections apart.
    pub(super) section: Option<&'static str>,
    /// None where the lock file records no ranges.
    pub(super) range: Option<String>,
    /// What was chosen, where that is a plain version.
    pub(super) version: Option<String>,
}

/// What a lock file recorded for one `package.json`.
#[derive(Default)]
pub(super) struct Recorded {
    pub(super) entries: BTreeMap<String, Entry>,
    /// Recorded peers; none where the lock file does not record those of a project.
    pub(super) peers: Option<BTreeMap<String, String>>,
    /// Whether the manager installed the peers and recorded them among the dependencies.
    pub(super) has_peers_installed: bool,
}

impl<'d> Manifest<'d> {
    pub(super) fn read(document: &'d Document) -> Result<Self, Problem> {
        let tree = document.json_tree(false)?;
        let mut wanted = BTreeMap::new();
        for section in SECTIONS {
            wanted.append(&mut dependencies(document, &tree, section)?);
        }
        let peers = dependencies(document, &tree, PEERS)?;
        let optional_peers = last(&tree, "peerDependenciesMeta").and_then(Value::as_object);
        let optional_peers = optional_peers.into_iter().flat_map(|meta| &meta.properties);
        let is_optional = |meta: &Object<'_>| {
            last(meta, "optional").and_then(Value::as_boolean_lit).is_some_and(|optional| optional.value)
        };
        let optional_peers = optional_peers.filter(|own| own.value.as_object().is_some_and(is_optional));
        let workspaces = match last(&tree, "workspaces") {
            Some(Value::Object(object)) => last(object, "packages").map(texts),
            list => list.map(texts),
        };
        let pnpm = last(&tree, "pnpm").and_then(Value::as_object).and_then(|pnpm| last(pnpm, "overrides"));
        let overrides = [last(&tree, "overrides"), last(&tree, "resolutions"), pnpm];
        let overridden = overrides.into_iter().flatten().filter_map(Value::as_object);
        let overridden =
            overridden.flat_map(|object| &object.properties).map(|own| package_of(own.name.as_str()).to_owned());
        let package_manager = last(&tree, "packageManager").and_then(Value::as_string_lit);
        Ok(Self {
            document,
            wanted,
            peers,
            optional_peers: optional_peers.map(|own| own.name.as_str().to_owned()).collect(),
            workspaces: workspaces.unwrap_or_default(),
            overridden: overridden.collect(),
            package_manager: package_manager.map(|text| text.value.to_string()),
        })
    }

    /// The manager that the field `packageManager` names (`pnpm@9.1.0`).
    pub(super) fn manager(&self) -> Option<Manager> {
        match self.package_manager.as_deref()?.split('@').next()? {
            "npm" => Some(Manager::Npm),
            "pnpm" => Some(Manager::Pnpm),
            "yarn" => Some(Manager::Yarn),
            "bun" => Some(Manager::Bun),
            _ => None,
        }
    }

    /// The same, with more packages whose version is decided elsewhere.
    pub(super) fn with_overrides<'k>(&self, keys: impl Iterator<Item = &'k str>) -> Manifest<'d> {
        let more = keys.map(|key| package_of(key).to_owned()).collect();
        Self { overridden: &self.overridden | &more, ..self.clone() }
    }

    /// A difference at a dependency of this file.
    pub(super) fn differs(&self, name: &str, want: &Want, locked: Option<String>) -> Difference {
        Difference {
            package: name.to_owned(),
            section: want.section.to_owned(),
            wanted: Some(want.range.clone()),
            locked,
            file: self.document.file.clone(),
            at: Some(self.document.mark(want.offset)),
        }
    }

    /// How the dependencies differ from what was recorded for this file, by section and name.
    pub(super) fn compare(&self, recorded: &Recorded, lock_file: &str) -> Vec<Difference> {
        let mut differences = Vec::new();
        for (name, want) in &self.wanted {
            if is_full(&differences) {
                break;
            }
            let Some(entry) = recorded.entries.get(name) else {
                differences.push(self.differs(name, want, None));
                continue;
            };
            let is_overridden = self.overridden.contains(name);
            let range = entry.range.as_ref().filter(|range| !is_overridden && plain(range) != plain(&want.range));
            if let Some(range) = range {
                differences.push(self.differs(name, want, Some(range.clone())));
            } else if let Some(section) = entry.section.filter(|section| *section != want.section) {
                let range = entry.range.as_ref().unwrap_or(&want.range);
                differences.push(self.differs(name, want, Some(format!("{range} in {section}"))));
            } else if let Some(version) = &entry.version
                && !is_overridden
                && satisfies(&want.range, version) == Some(false)
            {
                differences.push(self.differs(name, want, Some(version.clone())));
            }
        }
        let extra = |name: &str, section: &str, range: Option<&String>| Difference {
            package: name.to_owned(),
            section: section.to_owned(),
            wanted: None,
            locked: range.cloned(),
            file: lock_file.to_owned(),
            at: None,
        };
        for (name, entry) in &recorded.entries {
            // Peers are installed by some managers, which then record them among the dependencies.
            if !is_full(&differences) && !self.wanted.contains_key(name) && !self.peers.contains_key(name) {
                let locked = entry.range.as_ref().or(entry.version.as_ref());
                differences.push(extra(name, entry.section.unwrap_or("dependencies"), locked));
            }
        }
        if recorded.has_peers_installed {
            let is_installed = |name: &String| !self.wanted.contains_key(name) && !self.optional_peers.contains(name);
            for (name, want) in self.peers.iter().filter(|(name, _)| is_installed(name)) {
                let range = recorded.entries.get(name).and_then(|entry| entry.range.as_ref());
                if !is_full(&differences) && range != Some(&want.range) && !self.overridden.contains(name) {
                    differences.push(self.differs(name, want, range.cloned()));
                }
            }
        }
        if let Some(peers) = &recorded.peers {
            for (name, want) in &self.peers {
                match peers.get(name) {
                    Some(range) if *range == want.range => {}
                    _ if is_full(&differences) => break,
                    range => differences.push(self.differs(name, want, range.cloned())),
                }
            }
            // What only `peerDependenciesMeta` names is recorded as any version.
            let gone = peers.iter().filter(|(name, range)| !self.peers.contains_key(*name) && *range != "*");
            differences.extend(gone.map(|(name, range)| extra(name, PEERS, Some(range))));
        }
        // Stable, so that names stay in order within a section.
        differences.sort_by_key(|difference| {
            ["dependencies", "devDependencies", "optionalDependencies"]
                .iter()
                .position(|section| *section == difference.section)
                .unwrap_or(usize::MAX)
        });
        differences
    }
}

/// Compares a project and the members of its workspace that a lock file knows.
///
/// `recorded` is by folder, the project's own under the empty name; `patterns` are the members the project names.
pub(super) fn judge(
    folder: &Folder<'_>,
    root: &Manifest<'_>,
    lock_file: &str,
    recorded: &BTreeMap<String, Recorded>,
    patterns: &[String],
) -> Result<State, Problem> {
    let own = recorded.get("").ok_or_else(|| {
        Problem::new(lock_file, "lock-unreadable", "it says nothing about the project itself")
            .hint("restore the file from version control, or delete it and write it anew")
    })?;
    let mut differences = root.compare(own, lock_file);
    let mut unseen = None;
    let mut members_left = MEMBERS_MAX;
    for (path, recorded) in recorded.iter().filter(|(path, _)| !path.is_empty()) {
        // A lock file decides nothing about paths: what it names outside of the project is not followed.
        let is_inside = !path.contains(['\\', '\0']) && path.split('/').all(|part| !matches!(part, "" | "." | ".."));
        if !is_inside || members_left == 0 {
            unseen = Some(path);
            continue;
        }
        members_left -= 1;
        let name = format!("{path}/package.json");
        if folder.has(&name) {
            let document = folder.document(&name, Role::Source)?;
            let member = Manifest::read(&document)?;
            let member = Manifest { overridden: &member.overridden | &root.overridden, ..member };
            differences.extend(member.compare(recorded, lock_file));
        } else {
            differences.push(Difference {
                package: String::new(),
                section: format!("member `{path}` of the workspace"),
                wanted: None,
                locked: Some(path.clone()),
                file: lock_file.to_owned(),
                at: None,
            });
        }
    }
    let is_glob = |pattern: &&String| pattern.contains(['*', '?', '[', '{', '!']);
    for pattern in patterns.iter().filter(|pattern| !is_glob(pattern)) {
        let path = pattern.trim_start_matches("./").trim_end_matches('/');
        if path != "." && folder.has(&format!("{path}/package.json")) && !recorded.contains_key(path) {
            differences.push(Difference {
                package: String::new(),
                section: format!("member `{path}` of the workspace"),
                wanted: Some(path.to_owned()),
                locked: None,
                file: root.document.file.clone(),
                at: None,
            });
        }
    }
    if differences.is_empty()
        && let Some(path) = unseen
    {
        return Ok(State::Unknown(format!("the member `{}` of the workspace is not looked at", shown(path, 200))));
    }
    if differences.is_empty()
        && let Some(pattern) = patterns.iter().find(is_glob)
    {
        let pattern = shown(pattern, 200);
        let reason = format!("the workspace pattern `{pattern}` may name folders that the lock file does not know");
        return Ok(State::Unknown(reason));
    }
    Ok(state(differences))
}

/// A range without the `npm:` that yarn writes before all that come from a registry.
fn plain(range: &str) -> &str {
    range.strip_prefix("npm:").unwrap_or(range)
}

/// Whether a version answers a range; none where either is no plain semantic version (a tag, a URL, a path).
///
/// Pre-releases count as inside: managers choose them when nothing else is there.
pub(super) fn satisfies(range: &str, version: &str) -> Option<bool> {
    // `npm:other@^1` asks for another package under this name.
    let range = match range.strip_prefix("npm:") {
        Some(alias) => alias.rsplit_once('@').filter(|(name, _)| !name.is_empty()).map_or(alias, |(_, range)| range),
        None => range,
    };
    if matches!(range.trim(), "" | "*" | "x" | "X" | "latest") {
        return None;
    }
    let version = Version::parse(version).ok()?;
    Some(Range::parse(range).ok()?.satisfies_with_prerelease(&version, true))
}

/// `react` of an override's key: `react`, `react@^18`, `**/react`, `a/react`, `a>react`, `@scope/name@1`.
fn package_of(key: &str) -> &str {
    let key = key.rsplit('>').next().unwrap_or(key);
    let start = key.rfind("/@").map(|at| at + 1).or_else(|| if key.starts_with('@') { Some(0) } else { None });
    let name = match start {
        Some(start) => &key[start..],
        None => key.rsplit('/').next().unwrap_or(key),
    };
    let end = name.char_indices().skip(1).find(|(_, c)| *c == '@').map_or(name.len(), |(at, _)| at);
    &name[..end]
}

/// The value of a key; a repeated key means its last, as it does to every manager.
pub(super) fn last<'o, 'd>(object: &'o Object<'d>, key: &str) -> Option<&'o Value<'d>> {
    object.properties.iter().rev().find(|own| own.name.as_str() == key).map(|own| &own.value)
}

/// The texts of a list.
fn texts(value: &Value<'_>) -> Vec<String> {
    let elements = value.as_array().map_or(&[][..], |array| &array.elements);
    elements.iter().filter_map(|element| Some(element.as_string_lit()?.value.to_string())).collect()
}

fn dependencies(
    document: &Document,
    tree: &Object<'_>,
    section: &'static str,
) -> Result<BTreeMap<String, Want>, Problem> {
    let mut wants = BTreeMap::new();
    let object = match last(tree, section) {
        None | Some(Value::NullKeyword(_)) => return Ok(wants),
        Some(Value::Object(object)) => object,
        Some(_) => return Err(document.whole("it must be an object of names and ranges").field(section)),
    };
    for own in &object.properties {
        let name = own.name.as_str().to_owned();
        let Value::StringLit(range) = &own.value else {
            let problem = document.problem(own.range.start, "a range must be a text");
            return Err(problem.field(format!("{section}.{name}")));
        };
        wants.insert(name, Want { section, range: range.value.to_string(), offset: own.range.start });
    }
    Ok(wants)
}
