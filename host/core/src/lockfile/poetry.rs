//! `poetry.lock`: its hash over `pyproject.toml` computed again, and where it differs, why.
//!
//! Poetry records a hash of the parts of `pyproject.toml` that decide the lock file: SHA-256 over JSON as Python prints it,
//! with sorted keys. Which parts, depends on its version: `tool.poetry` alone up to 1.8, `project` beside it from 2.0, and
//! `dependency-groups` from 2.3.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::str::FromStr;

use pep440_rs::{Version, VersionSpecifiers};
use sha2::{Digest, Sha256};
use toml::de::{DeTable, DeValue};

use super::python::{Project, normalised};
use super::read::{Document, Folder, Role, Value, list, start, table, text};
use super::{DIFFERENCES_MAX, Difference, State, is_full, state};
use crate::problem::Problem;

/// The keys of `tool.poetry` that always count, as null where they are absent.
const LEGACY_KEYS: [&str; 4] = ["dependencies", "source", "extras", "dev-dependencies"];

const PROJECT_KEYS: [&str; 3] = ["requires-python", "dependencies", "optional-dependencies"];

pub(super) fn check(folder: &Folder<'_>) -> Result<State, Problem> {
    let source = folder.document("pyproject.toml", Role::Source)?;
    let source_tree = source.toml()?;
    let root = source_tree.get_ref();
    let document = folder.document("poetry.lock", Role::Lock)?;
    let tree = document.toml()?;
    let lock = tree.get_ref();
    let version = text(lock, &["metadata", "lock-version"]).unwrap_or("1.0");
    if !matches!(version.split('.').next(), Some("1" | "2")) {
        return Err(document.version(version, "1 and 2"));
    }
    let Some(recorded) = text(lock, &["metadata", "content-hash"]) else {
        return Err(document.whole("it has no `metadata.content-hash`"));
    };
    let made_by = made_by(&document.text);
    let before = |major: u64, minor: u64| made_by.as_ref().is_some_and(|own| *own < Version::new([major, minor]));
    let mut hashes = vec![hash_2(&source, root, true)?];
    if before(2, 3) {
        hashes.push(hash_2(&source, root, false)?);
    }
    // A lock file of 1.x may lack the line that says so.
    if before(2, 0) || made_by.is_none() {
        hashes.push(hash_1(&source, root)?);
    }
    if hashes.iter().any(|hash| hash == recorded) {
        return Ok(State::InSync);
    }

    let mut differences = structural(&source, root, lock)?;
    let short = |hash: &str| hash.get(..12).unwrap_or(hash).to_owned();
    differences.truncate(DIFFERENCES_MAX - 1);
    differences.push(Difference {
        package: String::new(),
        section: "metadata.content-hash".to_owned(),
        wanted: hashes.first().map(|hash| short(hash)),
        locked: Some(short(recorded)),
        file: document.file.clone(),
        at: None,
    });
    Ok(state(differences))
}

/// The version of poetry in the first line of its lock files.
fn made_by(text: &str) -> Option<Version> {
    let (_, after) = text.lines().next()?.split_once("Poetry ")?;
    Version::from_str(after.split(' ').next()?).ok()
}

/// The hash of poetry 2.
fn hash_2(source: &Document, root: &DeTable<'_>, with_groups: bool) -> Result<String, Problem> {
    let mut project = BTreeMap::new();
    for key in PROJECT_KEYS {
        if let Some(value) = super::read::at(root, &["project", key]) {
            project.insert(key, json(source, value, 0)?);
        }
    }
    let groups = super::read::at(root, &["dependency-groups"]).filter(|_| with_groups);
    let groups = groups.filter(|groups| groups.get_ref().as_table().is_some_and(|groups| !groups.is_empty()));
    let is_standard = !project.is_empty() || groups.is_some();
    let poetry = object(&poetry_content(source, root, !is_standard)?);
    if !is_standard {
        return Ok(sha256(&poetry));
    }
    let mut content = BTreeMap::new();
    if !project.is_empty() {
        content.insert("project", object(&project));
    }
    if let Some(groups) = groups {
        content.insert("dependency-groups", json(source, groups, 0)?);
    }
    content.insert("tool", object(&BTreeMap::from([("poetry", poetry)])));
    Ok(sha256(&object(&content)))
}

/// The hash of poetry 1.
fn hash_1(source: &Document, root: &DeTable<'_>) -> Result<String, Problem> {
    Ok(sha256(&object(&poetry_content(source, root, true)?)))
}

fn poetry_content(
    source: &Document,
    root: &DeTable<'_>,
    with_nulls: bool,
) -> Result<BTreeMap<&'static str, String>, Problem> {
    let mut content = BTreeMap::new();
    for key in LEGACY_KEYS.into_iter().chain(["group"]) {
        match super::read::at(root, &["tool", "poetry", key]) {
            Some(value) => {
                content.insert(key, json(source, value, 0)?);
            }
            None if with_nulls && LEGACY_KEYS.contains(&key) => {
                content.insert(key, "null".to_owned());
            }
            None => {}
        }
    }
    Ok(content)
}

fn sha256(text: &str) -> String {
    Sha256::digest(text.as_bytes()).iter().fold(String::new(), |mut out, byte| {
        let _ = write!(out, "{byte:02x}"); // a String takes all
        out
    })
}

fn object(fields: &BTreeMap<&str, String>) -> String {
    let fields: Vec<String> = fields.iter().map(|(key, value)| format!("{}: {value}", quoted(key))).collect();
    format!("{{{}}}", fields.join(", "))
}

/// A value as Python's `json.dumps(sort_keys=True)` prints it. The parser bounds the depth; the bound here says so.
fn json(source: &Document, value: &Value<'_>, depth: usize) -> Result<String, Problem> {
    let problem = |message: &str| source.problem(start(value.span()), message);
    if depth > 128 {
        return Err(problem("it is nested too deep"));
    }
    Ok(match value.get_ref() {
        DeValue::String(text) => quoted(text),
        DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix())
            .map_err(|_| problem("the number is out of range"))?
            .to_string(),
        DeValue::Float(number) => {
            let number: f64 = number.as_str().parse().map_err(|_| problem("it is not a number"))?;
            // Debug prints the shortest text that reads back, with `.0`, as Python does; exponents differ and are no part of
            // any dependency.
            format!("{number:?}")
        }
        DeValue::Boolean(yes) => yes.to_string(),
        DeValue::Datetime(_) => return Err(problem("a date cannot be a part of a dependency")),
        DeValue::Array(elements) => {
            let elements: Result<Vec<String>, Problem> =
                elements.iter().map(|own| json(source, own, depth + 1)).collect();
            format!("[{}]", elements?.join(", "))
        }
        DeValue::Table(fields) => {
            let mut sorted = BTreeMap::new();
            for (key, own) in fields {
                sorted.insert(key.get_ref().as_ref(), json(source, own, depth + 1)?);
            }
            object(&sorted)
        }
    })
}

/// A text as Python's JSON prints it: ASCII only.
fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for unit in text.encode_utf16() {
        match char::from_u32(u32::from(unit)) {
            Some('"') => out.push_str("\\\""),
            Some('\\') => out.push_str("\\\\"),
            Some('\n') => out.push_str("\\n"),
            Some('\r') => out.push_str("\\r"),
            Some('\t') => out.push_str("\\t"),
            Some('\u{8}') => out.push_str("\\b"),
            Some('\u{c}') => out.push_str("\\f"),
            Some(c @ ' '..='\u{7f}') => out.push(c),
            _ => {
                let _ = write!(out, "\\u{unit:04x}"); // a String takes all
            }
        }
    }
    out.push('"');
    out
}

/// Which packages are not locked, or in a version that does not answer: the reasons behind a changed hash, as far as the packages
/// show them.
fn structural(source: &Document, root: &DeTable<'_>, lock: &DeTable<'_>) -> Result<Vec<Difference>, Problem> {
    let mut locked: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for package in list(lock, &["package"]).filter_map(|own| own.get_ref().as_table()) {
        if let Some(name) = text(package, &["name"]) {
            locked.entry(normalised(name)).or_default().extend(text(package, &["version"]));
        }
    }
    let project = Project::read(source, root)?;
    let standard = project.dependencies.iter();
    let standard = standard.chain(project.optional.values().flatten()).chain(project.groups.values().flatten());
    let mut differences = Vec::new();
    for own in standard {
        let requirement = &own.requirement;
        if is_full(&differences) {
            break;
        }
        match locked.get(&requirement.name) {
            None if requirement.marker.is_none() => differences.push(own.differs(source, None)),
            Some(versions) if !versions.iter().any(|version| requirement.allows(version)) => {
                differences.push(own.differs(source, Some(versions.join(", "))));
            }
            _ => {}
        }
    }

    let none = DeTable::new();
    let groups = table(root, &["tool", "poetry", "group"]).unwrap_or(&none);
    let groups = groups.iter().filter_map(|(name, group)| {
        let own = table(group.get_ref().as_table()?, &["dependencies"])?;
        Some((format!("tool.poetry.group.{}.dependencies", name.get_ref()), own))
    });
    let own = |key: &str| Some((format!("tool.poetry.{key}"), table(root, &["tool", "poetry", key])?));
    for (section, dependencies) in own("dependencies").into_iter().chain(own("dev-dependencies")).chain(groups) {
        for (name, value) in dependencies {
            let name_text = normalised(name.get_ref());
            let constraint = match value.get_ref() {
                DeValue::String(text) => Some(text.as_ref()),
                DeValue::Table(table) => text(table, &["version"]),
                _ => None,
            };
            if name_text == "python" || is_full(&differences) {
                continue;
            }
            let versions = locked.get(&name_text).map(Vec::as_slice).unwrap_or_default();
            let answers = |version: &&str| constraint.is_none_or(|constraint| allows(constraint, version));
            if !versions.iter().any(answers) {
                differences.push(Difference {
                    package: name_text,
                    section: section.clone(),
                    wanted: Some(constraint.unwrap_or("*").to_owned()),
                    locked: (!versions.is_empty()).then(|| versions.join(", ")),
                    file: source.file.clone(),
                    at: Some(source.mark(start(name.span()))),
                });
            }
        }
    }
    Ok(differences)
}

/// Whether a version answers a constraint in poetry's words (`^1.2`, `~1.2`, `1.*`, `>=1,<2`, `^1 || ^2`); what cannot be read
/// does not count as a difference.
pub(super) fn allows(constraint: &str, version: &str) -> bool {
    let Ok(version) = Version::from_str(version) else { return true };
    let alternatives = constraint.split('|').filter(|part| !part.trim().is_empty());
    let mut alternatives = alternatives.map(|part| part.split(',').all(|bound| is_within(bound.trim(), &version)));
    alternatives.any(|answers| answers)
}

fn is_within(bound: &str, version: &Version) -> bool {
    let standard = |text: &str| VersionSpecifiers::from_str(text).map_or(true, |bounds| bounds.contains(version));
    let caret = bound.strip_prefix('^');
    let Some(from) = caret.or_else(|| bound.strip_prefix('~').filter(|rest| !rest.starts_with('='))) else {
        let is_version = bound.starts_with(|c: char| c.is_ascii_digit());
        return match bound {
            "" | "*" => true,
            _ if is_version => standard(&format!("=={bound}")),
            _ => standard(bound),
        };
    };
    let Ok(from) = Version::from_str(from.trim()) else { return true };
    let parts = from.release();
    // A caret keeps the first part that is not 0 (or the last there is), a tilde the first two.
    let kept = match caret {
        Some(_) => parts.iter().position(|part| *part != 0).unwrap_or(parts.len() - 1) + 1,
        None => parts.len().min(2),
    };
    let mut until = parts[..kept].to_vec();
    if let Some(last) = until.last_mut() {
        *last = last.saturating_add(1);
    }
    *version >= from && *version < Version::new(until)
}
