//! `pyproject.toml` and requirements: names by PEP 503, versions by PEP 440, requirements by PEP 508.

use std::collections::{BTreeMap, BTreeSet};
use std::str::FromStr;

use pep440_rs::{Operator, Version, VersionSpecifier, VersionSpecifiers};
use toml::de::DeTable;

use super::Difference;
use super::read::{Document, Value, at, list, start, table};
use crate::problem::Problem;
use crate::text::shown;

/// Groups that are read for one group, with all that they include: without a bound they could multiply or never end.
const GROUPS_MAX: usize = 1_000;

/// Requirements of one list.
pub(super) const REQUIREMENTS_MAX: usize = 10_000;

/// One requirement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Requirement {
    /// Normalised.
    pub(super) name: String,
    pub(super) extras: BTreeSet<String>,
    pub(super) specifiers: VersionSpecifiers,
    /// Set for `name @ url`.
    pub(super) url: Option<String>,
    pub(super) marker: Option<String>,
    /// As written, without its name.
    pub(super) rest: String,
}

/// A requirement, and where the project asks for it.
#[derive(Debug, Clone)]
pub(super) struct Wanted {
    pub(super) requirement: Requirement,
    /// As the file calls it: `project.dependencies`, `dependency-groups.dev`.
    pub(super) section: String,
    pub(super) offset: usize,
}

/// What a `pyproject.toml` asks for by the standards.
pub(super) struct Project {
    pub(super) dependencies: Vec<Wanted>,
    /// By normalised extra.
    pub(super) optional: BTreeMap<String, Vec<Wanted>>,
    /// By normalised group, with what each includes.
    pub(super) groups: BTreeMap<String, Vec<Wanted>>,
    pub(super) requires_python: Option<(String, usize)>,
    /// Fields that are made at build time.
    pub(super) dynamic: BTreeSet<String>,
}

impl Project {
    pub(super) fn read(document: &Document, root: &DeTable<'_>) -> Result<Self, Problem> {
        let dependencies = requirements(document, list(root, &["project", "dependencies"]), "project.dependencies")?;
        let mut optional = BTreeMap::new();
        for (extra, value) in table(root, &["project", "optional-dependencies"]).into_iter().flat_map(|own| own.iter())
        {
            let section = format!("project.optional-dependencies.{}", extra.get_ref());
            let own =
                requirements(document, value.get_ref().as_array().into_iter().flat_map(|own| own.iter()), &section)?;
            optional.insert(normalised(extra.get_ref()), own);
        }
        let mut groups = BTreeMap::new();
        if let Some(all) = table(root, &["dependency-groups"]) {
            for name in all.keys() {
                let group = normalised(name.get_ref());
                groups.insert(group.clone(), of_group(document, all, &group)?);
            }
        }
        // uv's own spelling of the group `dev`, from before there were groups.
        let uv_dev = list(root, &["tool", "uv", "dev-dependencies"]);
        let uv_dev = requirements(document, uv_dev, "tool.uv.dev-dependencies")?;
        if !uv_dev.is_empty() {
            groups.entry("dev".to_owned()).or_default().extend(uv_dev);
        }
        let python = at(root, &["project", "requires-python"]);
        let requires_python = python.and_then(|own| Some((own.get_ref().as_str()?.to_owned(), start(own.span()))));
        let dynamic = list(root, &["project", "dynamic"]).filter_map(|own| own.get_ref().as_str());
        Ok(Self { dependencies, optional, groups, requires_python, dynamic: dynamic.map(str::to_owned).collect() })
    }
}

impl Wanted {
    /// A difference at this requirement.
    pub(super) fn differs(&self, document: &Document, locked: Option<String>) -> Difference {
        Difference {
            package: self.requirement.name.clone(),
            section: self.section.clone(),
            wanted: Some(self.requirement.rest.clone()),
            locked,
            file: document.file.clone(),
            at: Some(document.mark(self.offset)),
        }
    }
}

/// The requirements of a group and of the groups that it includes.
fn of_group(document: &Document, all: &DeTable<'_>, group: &str) -> Result<Vec<Wanted>, Problem> {
    let mut wanted = Vec::new();
    let mut next = vec![group.to_owned()];
    let mut left = GROUPS_MAX;
    while let Some(group) = next.pop() {
        let Some((name, value)) = all.iter().find(|(name, _)| normalised(name.get_ref()) == group) else {
            let message = format!("there is no dependency group `{}`", shown(&group, 100));
            return Err(document.whole(message).field("dependency-groups"));
        };
        let field = format!("dependency-groups.{}", name.get_ref());
        let problem = |message| document.problem(start(value.span()), message).field(field.as_str());
        left = left.checked_sub(1).ok_or_else(|| problem("groups include each other without end, or too many"))?;
        let elements = || value.get_ref().as_array().into_iter().flat_map(|own| own.iter());
        let is_include = |own: &&Value<'_>| own.get_ref().is_table();
        wanted.extend(requirements(document, elements().filter(|own| !is_include(own)), &field)?);
        if wanted.len() > REQUIREMENTS_MAX {
            return Err(problem("it includes too much"));
        }
        let include = |own: &Value<'_>| Some(normalised(own.get_ref().get("include-group")?.get_ref().as_str()?));
        next.extend(elements().filter(is_include).filter_map(include));
        if next.len() > GROUPS_MAX {
            return Err(problem("it includes too much"));
        }
    }
    Ok(wanted)
}

fn requirements<'t, 'd: 't>(
    document: &Document,
    values: impl Iterator<Item = &'t Value<'d>>,
    section: &str,
) -> Result<Vec<Wanted>, Problem> {
    values
        .enumerate()
        .map(|(index, value)| {
            let offset = start(value.span());
            let problem = |message: String| document.problem(offset, message).field(section);
            if index >= REQUIREMENTS_MAX {
                return Err(problem(format!("there are more than {REQUIREMENTS_MAX} requirements")));
            }
            let text = value.get_ref().as_str().ok_or_else(|| problem("a requirement must be a text".to_owned()))?;
            let requirement = Requirement::parse(text).map_err(problem)?;
            Ok(Wanted { requirement, section: section.to_owned(), offset })
        })
        .collect()
}

impl Requirement {
    /// Reads PEP 508: `name[extra,extra] >=1,<2 ; marker` or `name[extra] @ url ; marker`. The error is the reason.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let fail = |why: &str| format!("`{}` is not a requirement: {why}", shown(text, 100));
        let whole = text.trim();
        let end =
            whole.find(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))).unwrap_or(whole.len());
        let (name, rest) = whole.split_at(end);
        let edge = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
        if !edge(name.chars().next()) || !edge(name.chars().next_back()) {
            return Err(fail("it must begin with a package's name"));
        }
        let rest = rest.trim_start();
        let (extras, after) = match rest.strip_prefix('[') {
            None => (BTreeSet::new(), rest),
            Some(list) => {
                let (list, after) = list.split_once(']').ok_or_else(|| fail("`[` is not closed"))?;
                let extras = list.split(',').map(str::trim).filter(|extra| !extra.is_empty());
                (extras.map(normalised).collect(), after.trim_start())
            }
        };
        // A URL may contain `;`, so that there only one after a space begins a marker.
        let is_url = after.starts_with('@');
        let (own, marker) = match if is_url { after.split_once(" ;") } else { after.split_once(';') } {
            Some((own, marker)) => (own.trim(), Some(marker.trim().to_owned())),
            None => (after.trim(), None),
        };
        let (url, specifiers) = match own.strip_prefix('@') {
            Some(url) => (Some(url.trim().to_owned()), ""),
            None => (None, own.strip_prefix('(').and_then(|own| own.strip_suffix(')')).unwrap_or(own)),
        };
        let specifiers = VersionSpecifiers::from_str(specifiers)
            .map_err(|_| fail(&format!("`{}` is not a version specifier", shown(specifiers, 60))))?;
        let name = normalised(name);
        let rest = if rest.is_empty() { "*".to_owned() } else { rest.to_owned() };
        Ok(Self { name, extras, specifiers, url, marker, rest })
    }

    /// Whether a version answers; a text that is no version does.
    pub(super) fn allows(&self, version: &str) -> bool {
        self.url.is_some() || Version::from_str(version).map_or(true, |version| self.specifiers.contains(&version))
    }
}

/// A name by PEP 503: lower case, runs of `-`, `_` and `.` as one `-`.
pub(super) fn normalised(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    for c in name.trim().chars() {
        match c {
            '-' | '_' | '.' if out.ends_with('-') => {}
            '-' | '_' | '.' => out.push('-'),
            c => out.extend(c.to_lowercase()),
        }
    }
    out
}

/// The parts of specifiers, in one order and spelling: `4.0` is `4`, but not where the number of parts has a meaning.
pub(super) fn parts(specifiers: &VersionSpecifiers) -> BTreeSet<String> {
    let part = |own: &VersionSpecifier| {
        let text = own.to_string();
        let is_counted =
            own.operator().is_star() || matches!(own.operator(), Operator::TildeEqual | Operator::ExactEqual);
        let is_release = text.chars().all(|c| c.is_ascii_digit() || !c.is_ascii_alphanumeric());
        if is_counted || !is_release {
            return text;
        }
        let mut text = text.as_str();
        while let Some(shorter) = text.strip_suffix(".0") {
            text = shorter;
        }
        text.to_owned()
    };
    specifiers.iter().map(part).collect()
}

/// Whether two `requires-python` allow the same versions. Tools rewrite them (`~=3.9` becomes `>=3.9, <4`), so that not the texts
/// are compared but what they say of every version that Python is likely to have.
pub(super) fn same_pythons(one: &str, other: &str) -> bool {
    let (Ok(one), Ok(other)) = (VersionSpecifiers::from_str(one), VersionSpecifiers::from_str(other)) else {
        return one.trim() == other.trim();
    };
    let minors = (5..=7).map(|minor| (2, minor)).chain((0..=40).map(|minor| (3, minor))).chain([(4, 0)]);
    let mut versions = minors.flat_map(|(major, minor)| (0..=30).map(move |patch| Version::new([major, minor, patch])));
    versions.all(|version| one.contains(&version) == other.contains(&version))
}
