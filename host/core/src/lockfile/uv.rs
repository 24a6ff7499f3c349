//! `uv.lock`, format version 1: what it recorded of the project's metadata against `pyproject.toml`.
//!
//! `uv sync --frozen`, which the original ran, does not look at `pyproject.toml` at all; this is what `uv lock --check` compares.

use std::collections::{BTreeMap, BTreeSet};
use std::str::FromStr;

use pep440_rs::VersionSpecifiers;
use toml::de::DeTable;

use super::python::{Project, Requirement, Wanted, normalised, parts, same_pythons};
use super::read::{Document, Folder, Role, Value, list, start, table, text};
use super::{Difference, State, state};
use crate::problem::Problem;

/// One requirement that the lock file recorded.
struct Locked {
    requirement: Requirement,
    /// Set where it comes from elsewhere than a registry, or from a named one.
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

    let sourced: BTreeSet<String> = table(root, &["tool", "uv", "sources"])
        .map(|sources| sources.keys().map(|name| normalised(name.get_ref())).collect())
        .unwrap_or_default();
    let versions = versions(&packages);
    let compare = Compare { source: &source, document: &document, sourced: &sourced, versions: &versions };

    let locked = compare.locked(list(own, &["metadata", "requires-dist"]))?;
    let extras =
        project.optional.iter().flat_map(|(extra, wanted)| wanted.iter().map(move |own| (Some(extra.as_str()), own)));
    let wanted: Vec<_> = project.dependencies.iter().map(|own| (None, own)).chain(extras).collect();
    differences.extend(compare.section(&wanted, &locked, "project.dependencies"));

    let none = DeTable::new();
    let locked_groups = table(own, &["metadata", "requires-dev"]).unwrap_or(&none);
    let names = locked_groups.keys().map(|name| normalised(name.get_ref()));
    let names: BTreeSet<String> = names.chain(project.groups.keys().cloned()).collect();
    for group in names {
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
    /// Names for which `tool.uv.sources` says where they come from.
    sourced: &'a BTreeSet<String>,
    versions: &'a BTreeMap<String, Vec<&'a str>>,
}

impl Compare<'_> {
    /// Reads the inline tables of a recorded list.
    fn locked<'t, 'd: 't>(&self, values: impl Iterator<Item = &'t Value<'d>>) -> Result<Vec<Locked>, Problem> {
        values
            .map(|value| {
                let offset = start(value.span());
                let problem = |message: &str| self.document.problem(offset, message);
                let own = value.get_ref().as_table().ok_or_else(|| problem("a requirement must be a table"))?;
                let name = text(own, &["name"]).ok_or_else(|| problem("a requirement has no `name`"))?;
                let rest = text(own, &["specifier"]).unwrap_or_default();
                let specifiers = VersionSpecifiers::from_str(rest).map_err(|_| problem("`specifier` is malformed"))?;
                let extras =
                    list(own, &["extras"]).filter_map(|extra| extra.get_ref().as_str()).map(normalised).collect();
                let is_sourced =
                    own.keys().any(|key| !matches!(key.get_ref().as_ref(), "name" | "specifier" | "marker" | "extras"));
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
        for (extra, own) in wanted {
            match left.iter().position(|locked| self.same(*extra, &own.requirement, locked)) {
                Some(index) => {
                    left.swap_remove(index);
                    let requirement = &own.requirement;
                    // A marker may leave a package out; a source decides the version itself.
                    let is_plain = requirement.marker.is_none() && !self.is_sourced(requirement);
                    let versions = self.versions.get(&requirement.name).map(Vec::as_slice).unwrap_or_default();
                    if is_plain && !versions.iter().any(|version| requirement.allows(version)) {
                        let locked = (!versions.is_empty()).then(|| versions.join(", "));
                        differences.push(own.differs(self.source, locked));
                    }
                }
                None => unpaired.push((*extra, *own)),
            }
        }
        for (extra, own) in unpaired {
            // The recorded requirement of the same name, which says what has changed.
            let of_name = |locked: &&Locked| {
                locked.requirement.name == own.requirement.name && self.extra_of(locked).as_deref() == extra
            };
            let index = left.iter().position(|locked| of_name(locked));
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
        requirement.url.is_some() || self.sourced.contains(&requirement.name)
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
            && same_marker(wanted.marker.as_deref(), own.marker.as_deref())
    }
}

fn shown_of(requirement: &Requirement) -> String {
    match &requirement.marker {
        Some(marker) => format!("{} ; {marker}", requirement.rest),
        None => requirement.rest.clone(),
    }
}

/// Whether two markers can mean the same. uv rewrites markers: it reorders them, spells out Python versions, and drops what
/// `requires-python` implies. So all but versions of Python is compared, as the set of the compared texts.
fn same_marker(wanted: Option<&str>, locked: Option<&str>) -> bool {
    let atoms = |marker: &str| -> BTreeSet<String> {
        let marker = marker.replace('"', "'");
        let mut texts = marker.split('\'');
        let mut atoms = BTreeSet::new();
        // Outside and inside of quotes take turns; the variable stands on either side.
        while let (Some(outside), Some(inside)) = (texts.next(), texts.next()) {
            let is_python = outside.contains("python_version")
                || outside.contains("python_full_version")
                || inside.starts_with(|c: char| c.is_ascii_digit());
            if !is_python && !outside.contains("extra") {
                atoms.insert(inside.to_owned());
            }
        }
        atoms
    };
    let atoms = |marker: Option<&str>| marker.map(atoms).unwrap_or_default();
    atoms(wanted) == atoms(locked)
}
