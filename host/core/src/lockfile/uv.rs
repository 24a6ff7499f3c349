//! `uv.lock`, format version 1: what it recorded of the project's metadata against `pyproject.toml`.
//!
//! `uv sync --frozen`, which the original ran, does not look at `pyproject.toml` at all; this is what `uv lock --check` compares.

use std::collections::{BTreeMap, BTreeSet};
use std::str::FromStr;

use pep440_rs::{Version, VersionSpecifiers};
use toml::de::DeTable;

use super::python::{Project, REQUIREMENTS_MAX, Requirement, Wanted, normalised, parts, same_pythons};
use super::read::{Document, Folder, Role, Value, list, start, table, text};
use super::{DIFFERENCES_MAX, Difference, State, is_full, marker, state};
use crate::problem::Problem;

/// What `tool.uv.sources` says of a package.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Sourced {
    /// It comes from a path, a URL or a repository, which takes the place of its specifier.
    Elsewhere,
    /// It depends on a marker where it comes from: one requirement is recorded as several.
    Split,
}

/// One requirement that the lock file recorded.
struct Locked {
    requirement: Requirement,
    /// Set where it comes from elsewhere than a registry.
    is_sourced: bool,
    offset: usize,
}

pub(super) fn check(folder: &Folder<'_>) -> Result<State, Problem> {
    let source = folder.document("pyproject.toml", Role::Source)?;
    let source_tree = source.toml()?;
    let root = source_tree.get_ref();
    let document = folder.document("uv.lock", Role::Lock)?;
    let tree = document.toml()?;
    let lock = tree.get_ref();
    match lock.get("version").and_then(|version| version.get_ref().as_integer()).map(|version| version.as_str()) {
        None => return Err(document.whole("it has no `version`")),
        Some("1") => {}
        Some(version) => return Err(document.version(version, "1")),
    }
    let project = Project::read(&source, root)?;

    let mut differences = Vec::new();
    let locked_python = text(lock, &["requires-python"]);
    if let (Some((wanted, offset)), Some(locked)) = (&project.requires_python, locked_python)
        // In a workspace the lock file holds what all members agree on.
        && table(lock, &["manifest"]).is_none_or(|manifest| manifest.get("members").is_none())
        && !same_pythons(wanted, locked)
    {
        differences.push(Difference {
            package: String::new(),
            section: "project.requires-python".to_owned(),
            wanted: Some(wanted.clone()),
            locked: Some(locked.to_owned()),
            file: source.file.clone(),
            at: Some(source.mark(*offset)),
        });
    }

    let packages: Vec<&DeTable<'_>> = list(lock, &["package"]).filter_map(|own| own.get_ref().as_table()).collect();
    if table(root, &["project"]).is_none() {
        return Ok(State::Unknown("without `[project]`, what uv locks comes from elsewhere".to_owned()));
    }
    let Some(name) = text(root, &["project", "name"]).map(normalised) else {
        return Err(source.whole("`project.name` is missing").field("project.name"));
    };
    let is_root = |package: &&&DeTable<'_>| {
        let at = |key| text(package, &["source", key]) == Some(".");
        at("virtual") || at("editable") || at("directory")
    };
    let own = packages.iter().find(is_root);
    let Some(own) = own.filter(|own| text(own, &["name"]).map(normalised).as_ref() == Some(&name)) else {
        differences.push(Difference {
            package: String::new(),
            section: "project.name".to_owned(),
            wanted: Some(name),
            locked: own.and_then(|own| text(own, &["name"])).map(str::to_owned),
            file: source.file.clone(),
            at: None,
        });
        return Ok(state(differences));
    };
    if project.dynamic.contains("dependencies") || project.dynamic.contains("optional-dependencies") {
        return Ok(State::Unknown("the project's dependencies are `dynamic`: its build decides them".to_owned()));
    }

    let mut differs = |section: String, wanted: Option<&str>, locked: Option<&str>| {
        differences.push(Difference {
            package: String::new(),
            section,
            wanted: wanted.map(str::to_owned),
            locked: locked.map(str::to_owned),
            file: source.file.clone(),
            at: None,
        });
    };
    if let (Some(wanted), Some(locked)) = (text(root, &["project", "version"]), text(own, &["version"])) {
        let version = |text| Version::from_str(text).ok();
        if wanted != locked && (version(wanted) != version(locked) || version(wanted).is_none()) {
            differs("project.version".to_owned(), Some(wanted), Some(locked));
        }
    }
    // Extras and groups with nothing in them; the rest shows in what they need.
    let none = DeTable::new();
    let empty = |all: &BTreeMap<String, Vec<Wanted>>| -> Vec<String> {
        all.iter().filter(|(_, own)| own.is_empty()).map(|(name, _)| name.clone()).take(DIFFERENCES_MAX).collect()
    };
    if let Some(extras) = table(own, &["metadata"]).and_then(|metadata| metadata.get("provides-extras")) {
        let extras = extras.get_ref().as_array().into_iter().flat_map(|array| array.iter());
        let extras: BTreeSet<String> = extras.filter_map(|extra| extra.get_ref().as_str()).map(normalised).collect();
        for extra in empty(&project.optional).iter().filter(|extra| !extras.contains(*extra)) {
            differs("project.optional-dependencies".to_owned(), Some(extra), None);
        }
    }
    let locked_groups = table(own, &["metadata", "requires-dev"]).unwrap_or(&none);
    let is_locked = |group: &str| locked_groups.keys().any(|name| normalised(name.get_ref()) == group);
    for group in empty(&project.groups).iter().filter(|group| !is_locked(group)) {
        differs("dependency-groups".to_owned(), Some(group), None);
    }

    let sources = table(root, &["tool", "uv", "sources"]).unwrap_or(&none);
    let mut sourced = BTreeMap::new();
    for (name, value) in sources {
        let kind = match value.get_ref().as_table() {
            Some(one) if ["marker", "extra", "group"].iter().all(|key| !one.contains_key(*key)) => {
                if one.contains_key("index") { continue } else { Sourced::Elsewhere }
            }
            _ => Sourced::Split,
        };
        sourced.insert(normalised(name.get_ref()), kind);
    }
    let versions = versions(&packages);
    let compare =
        Compare { source: &source, document: &document, sourced: &sourced, versions: &versions, python: locked_python };

    let locked = compare.locked(list(own, &["metadata", "requires-dist"]))?;
    let extras =
        project.optional.iter().flat_map(|(extra, wanted)| wanted.iter().map(move |own| (Some(extra.as_str()), own)));
    let wanted: Vec<_> = project.dependencies.iter().map(|own| (None, own)).chain(extras).collect();
    differences.extend(compare.section(&wanted, &locked, "project.dependencies"));

    let names = locked_groups.keys().map(|name| normalised(name.get_ref()));
    let names: BTreeSet<String> = names.chain(project.groups.keys().cloned()).collect();
    for group in names {
        if is_full(&differences) {
            break;
        }
        let locked = locked_groups.iter().find(|(name, _)| normalised(name.get_ref()) == group);
        let locked = locked.and_then(|(_, list)| list.get_ref().as_array()).into_iter().flat_map(|array| array.iter());
        let locked = compare.locked(locked)?;
        let wanted: Vec<_> = project.groups.get(&group).into_iter().flatten().map(|own| (None, own)).collect();
        differences.extend(compare.section(&wanted, &locked, &format!("dependency-groups.{group}")));
    }

    let members = list(lock, &["manifest", "members"]).count();
    if differences.is_empty() && (members > 1 || table(root, &["tool", "uv", "workspace"]).is_some()) {
        return Ok(State::Unknown("the members of the workspace are not compared, only its root is".to_owned()));
    }
    Ok(state(differences))
}

/// The locked versions by name.
fn versions<'t>(packages: &[&'t DeTable<'_>]) -> BTreeMap<String, Vec<&'t str>> {
    let mut versions: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for package in packages {
        if let Some(name) = text(package, &["name"]) {
            versions.entry(normalised(name)).or_default().extend(text(package, &["version"]));
        }
    }
    versions
}

struct Compare<'a> {
    source: &'a Document,
    document: &'a Document,
    /// By name.
    sourced: &'a BTreeMap<String, Sourced>,
    versions: &'a BTreeMap<String, Vec<&'a str>>,
    /// What `requires-python` implies, markers leave out.
    python: Option<&'a str>,
}

impl Compare<'_> {
    /// Reads the inline tables of a recorded list.
    fn locked<'t, 'd: 't>(&self, values: impl Iterator<Item = &'t Value<'d>>) -> Result<Vec<Locked>, Problem> {
        values
            .enumerate()
            .map(|(index, value)| {
                let offset = start(value.span());
                let problem = |message: &str| self.document.problem(offset, message);
                if index >= REQUIREMENTS_MAX {
                    return Err(problem("there are too many requirements"));
                }
                let own = value.get_ref().as_table().ok_or_else(|| problem("a requirement must be a table"))?;
                let name = text(own, &["name"]).ok_or_else(|| problem("a requirement has no `name`"))?;
                let rest = text(own, &["specifier"]).unwrap_or_default();
                let specifiers = VersionSpecifiers::from_str(rest).map_err(|_| problem("`specifier` is malformed"))?;
                let extras =
                    list(own, &["extras"]).filter_map(|extra| extra.get_ref().as_str()).map(normalised).collect();
                let is_sourced = own
                    .keys()
                    .any(|key| !matches!(key.get_ref().as_ref(), "name" | "specifier" | "marker" | "extras" | "index"));
                let requirement = Requirement {
                    name: normalised(name),
                    extras,
                    specifiers,
                    url: None,
                    marker: text(own, &["marker"]).map(str::to_owned),
                    rest: if rest.is_empty() { "*".to_owned() } else { rest.to_owned() },
                };
                Ok(Locked { requirement, is_sourced, offset })
            })
            .collect()
    }

    /// Pairs what is wanted, with the extra it belongs to, with what was recorded.
    fn section(&self, wanted: &[(Option<&str>, &Wanted)], locked: &[Locked], section: &str) -> Vec<Difference> {
        let mut differences = Vec::new();
        let mut left: Vec<&Locked> = locked.iter().collect();
        let mut unpaired = Vec::new();
        // What is asked for twice is recorded once.
        let mut seen = BTreeSet::new();
        let first = |(extra, own): &&(Option<&str>, &Wanted)| {
            seen.insert((extra.map(str::to_owned), own.requirement.name.clone(), own.requirement.rest.clone()))
        };
        for (extra, own) in wanted.iter().filter(first) {
            let requirement = &own.requirement;
            if self.sourced.get(&requirement.name) == Some(&Sourced::Split) {
                let is_part = |locked: &&Locked| {
                    let parts_of_it = parts(&locked.requirement.specifiers);
                    locked.requirement.name == requirement.name
                        && self.extra_of(locked).as_deref() == *extra
                        && (locked.is_sourced || parts_of_it == parts(&requirement.specifiers))
                };
                let before = left.len();
                left.retain(|locked| !is_part(locked));
                if left.len() == before {
                    unpaired.push((*extra, *own));
                }
                continue;
            }
            match left.iter().position(|locked| self.same(*extra, &own.requirement, locked)) {
                Some(index) => {
                    left.swap_remove(index);
                    let requirement = &own.requirement;
                    // A marker may leave a package out; a source decides the version itself.
                    let is_plain = requirement.marker.is_none() && !self.is_sourced(requirement);
                    let versions = self.versions.get(&requirement.name).map(Vec::as_slice).unwrap_or_default();
                    if is_plain && !is_full(&differences) && !versions.iter().any(|version| requirement.allows(version))
                    {
                        let locked = (!versions.is_empty()).then(|| versions.join(", "));
                        differences.push(own.differs(self.source, locked));
                    }
                }
                None => unpaired.push((*extra, *own)),
            }
        }
        for (extra, own) in unpaired.into_iter().take(DIFFERENCES_MAX) {
            // The recorded requirement of the same name, which says what has changed.
            let of_name = |locked: &&Locked| {
                locked.requirement.name == own.requirement.name && self.extra_of(locked).as_deref() == extra
            };
            let index = left.iter().position(of_name);
            let locked = index.map(|index| shown_of(&left.swap_remove(index).requirement));
            differences.push(own.differs(self.source, locked));
        }
        left.sort_by_key(|locked| locked.offset);
        differences.extend(left.into_iter().map(|locked| {
            Difference {
                package: locked.requirement.name.clone(),
                section: self
                    .extra_of(locked)
                    .map_or(section.to_owned(), |extra| format!("project.optional-dependencies.{extra}")),
                wanted: None,
                locked: Some(shown_of(&locked.requirement)),
                file: self.document.file.clone(),
                at: Some(self.document.mark(locked.offset)),
            }
        }));
        differences
    }

    fn is_sourced(&self, requirement: &Requirement) -> bool {
        requirement.url.is_some() || self.sourced.get(&requirement.name) == Some(&Sourced::Elsewhere)
    }

    /// The extra of a recorded requirement, which uv writes as a part of its marker.
    fn extra_of(&self, locked: &Locked) -> Option<String> {
        let marker = locked.requirement.marker.as_deref()?;
        let (_, after) = marker.split_once("extra == '")?;
        Some(normalised(after.split_once('\'')?.0))
    }

    fn same(&self, extra: Option<&str>, wanted: &Requirement, locked: &Locked) -> bool {
        let own = &locked.requirement;
        // The source of a requirement takes the place of its specifier.
        let same_version = match (self.is_sourced(wanted), locked.is_sourced) {
            (false, false) => parts(&wanted.specifiers) == parts(&own.specifiers),
            (wanted, locked) => wanted == locked,
        };
        own.name == wanted.name
            && own.extras == wanted.extras
            && same_version
            && self.extra_of(locked).as_deref() == extra
            && marker::same(wanted.marker.as_deref(), own.marker.as_deref(), self.python)
    }
}

fn shown_of(requirement: &Requirement) -> String {
    match &requirement.marker {
        Some(marker) => format!("{} ; {marker}", requirement.rest),
        None => requirement.rest.clone(),
    }
}
