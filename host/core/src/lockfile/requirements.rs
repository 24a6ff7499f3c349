//! `requirements.lock` and compiled `requirements.txt`: pins against `requirements.in` or `pyproject.toml`.

use std::collections::{BTreeMap, BTreeSet};

use super::python::{Project, Requirement, Wanted};
use super::read::{Document, Folder, Role};
use super::{Difference, Manager, State, is_full, state};
use crate::problem::Problem;
use crate::text::shown;

/// The file that the pins were compiled from: `requirements.in` if there is one, else `pyproject.toml`.
pub(super) fn source(folder: &Folder<'_>) -> Option<&'static str> {
    ["requirements.in", "pyproject.toml"].into_iter().find(|name| folder.has(name))
}

/// Whether a file has requirements, each with one exact version.
pub(super) fn is_pinned(folder: &Folder<'_>, name: &str) -> bool {
    let lines = folder.document(name, Role::Lock).and_then(|document| Lines::read(&document));
    lines.is_ok_and(|lines| !lines.requirements.is_empty() && lines.requirements.iter().all(|own| own.pin().is_some()))
}

/// What writes the pins anew, with the program that wrote them as their head says, else with one that is at hand.
pub(super) fn compile_cmd(folder: &Folder<'_>, lock: &str, at_hand: &[Manager]) -> String {
    let source = source(folder).unwrap_or("pyproject.toml");
    let head = folder.document(lock, Role::Lock).map(|document| document.text).unwrap_or_default();
    let head: Vec<&str> = head.lines().take_while(|line| line.starts_with('#')).collect();
    let says = |word: &str| head.iter().any(|line| line.contains(word));
    if says("rye") {
        "rye lock".to_owned()
    } else if says("uv ") || (!says("pip-compile") && at_hand.contains(&Manager::Uv)) {
        format!("uv pip compile {source} -o {lock}")
    } else {
        format!("pip-compile --output-file={lock} {source}")
    }
}

pub(super) fn check(folder: &Folder<'_>, name: &str) -> Result<State, Problem> {
    let document = folder.document(name, Role::Lock)?;
    let pins = Lines::read(&document)?;
    if let Some(own) = pins.requirements.iter().find(|own| own.pin().is_none()) {
        let message = format!("`{}` is not pinned to one version", shown(&own.requirement.name, 100));
        return Err(document.problem(own.offset, message));
    }
    let Some(source_name) = source(folder) else { return Ok(State::Missing) };
    let source = folder.document(source_name, Role::Source)?;
    let (wanted, also, includes) = if source_name == "requirements.in" {
        let lines = Lines::read(&source)?;
        let wanted = lines.requirements.into_iter().map(|own| Wanted {
            requirement: own.requirement,
            section: source_name.to_owned(),
            offset: own.offset,
        });
        (wanted.collect::<Vec<_>>(), BTreeSet::new(), lines.includes)
    } else {
        let tree = source.toml()?;
        let project = Project::read(&source, tree.get_ref())?;
        if project.dynamic.contains("dependencies") {
            return Ok(State::Unknown("the project's dependencies are `dynamic`: its build decides them".to_owned()));
        }
        // Whether extras and groups were compiled too, the pins do not say.
        let also = project.optional.values().chain(project.groups.values()).flatten();
        let also = also.map(|own| own.requirement.name.clone()).collect();
        (project.dependencies, also, Vec::new())
    };

    let mut by_name: BTreeMap<&str, Vec<&Line>> = BTreeMap::new();
    for own in &pins.requirements {
        by_name.entry(&own.requirement.name).or_default().push(own);
    }
    let mut differences = Vec::new();
    for own in &wanted {
        if is_full(&differences) {
            break;
        }
        match by_name.get(own.requirement.name.as_str()) {
            // A marker can leave a package out for the system that compiled.
            None if own.requirement.marker.is_some() => {}
            None => differences.push(own.differs(&source, None)),
            Some(lines) => {
                let versions: Vec<&str> = lines.iter().filter_map(|line| line.pin()).collect();
                if !versions.iter().any(|version| own.requirement.allows(version)) {
                    differences.push(own.differs(&source, Some(versions.join(", "))));
                }
            }
        }
    }
    // A pin whose note says that the source asked for it, and the source does not.
    let names: BTreeSet<&str> = wanted.iter().map(|own| own.requirement.name.as_str()).collect();
    for own in pins.requirements.iter().filter(|own| own.via.iter().any(|via| via.contains(source_name))) {
        let name = own.requirement.name.as_str();
        if !is_full(&differences) && !names.contains(name) && !also.contains(name) {
            differences.push(Difference {
                package: name.to_owned(),
                section: if source_name == "requirements.in" { source_name } else { "project.dependencies" }.to_owned(),
                wanted: None,
                locked: own.pin().map(str::to_owned),
                file: document.file.clone(),
                at: Some(document.mark(own.offset)),
            });
        }
    }
    if differences.is_empty()
        && let Some(include) = includes.first()
    {
        return Ok(State::Unknown(format!("`{source_name}` has `{}`, which is not followed", shown(include, 100))));
    }
    Ok(state(differences))
}

/// One requirement of a requirements file.
struct Line {
    requirement: Requirement,
    offset: usize,
    /// Why it is there, as the compiler noted it.
    via: Vec<String>,
}

impl Line {
    /// Its one version, or its URL.
    fn pin(&self) -> Option<&str> {
        if let Some(url) = &self.requirement.url {
            return Some(url);
        }
        let rest = self.requirement.rest.split(';').next()?;
        let rest = rest.rsplit(']').next()?.trim();
        let version = rest.strip_prefix("===").or_else(|| rest.strip_prefix("=="))?.trim();
        (!version.contains([',', '*'])).then_some(version)
    }
}

/// A requirements file: lines with `\` at their end go on in the next, `#` after a space begins a comment.
struct Lines {
    requirements: Vec<Line>,
    /// Options that bring in other files or folders (`-r`, `-c`, `-e`).
    includes: Vec<String>,
}

impl Lines {
    fn read(document: &Document) -> Result<Self, Problem> {
        let mut lines = Self { requirements: Vec::new(), includes: Vec::new() };
        let mut logical = String::new();
        let mut begin = 0;
        let mut offset = 0;
        for line in document.text.split_inclusive('\n') {
            let start = offset;
            offset += line.len();
            let line = line.trim_end();
            if let Some(comment) = line.trim_start().strip_prefix('#') {
                let comment = comment.trim();
                if let Some(last) = lines.requirements.last_mut().filter(|_| line.starts_with([' ', '\t'])) {
                    last.via.push(comment.to_owned());
                }
                continue;
            }
            if logical.is_empty() {
                begin = start + (line.len() - line.trim_start().len());
            }
            match line.strip_suffix('\\') {
                Some(more) => logical.push_str(more),
                None => {
                    logical.push_str(line);
                    lines.take(document, begin, &std::mem::take(&mut logical))?;
                }
            }
        }
        lines.take(document, begin, &logical)?;
        Ok(lines)
    }

    fn take(&mut self, document: &Document, offset: usize, line: &str) -> Result<(), Problem> {
        let (line, note) = match line.split_once(" #") {
            Some((line, note)) => (line, Some(note.trim().to_owned())),
            None => (line, None),
        };
        // Options of a requirement, such as its hashes, follow it.
        let line = line.split(" --").next().unwrap_or(line).trim();
        if line.is_empty() {
            return Ok(());
        }
        if line.starts_with('-') {
            let word = line.split([' ', '=']).next().unwrap_or_default();
            if matches!(word, "-r" | "--requirement" | "-c" | "--constraint" | "-e" | "--editable") {
                self.includes.push(line.to_owned());
            }
            return Ok(());
        }
        let requirement = Requirement::parse(line).map_err(|why| document.problem(offset, why))?;
        self.requirements.push(Line { requirement, offset, via: note.into_iter().collect() });
        Ok(())
    }
}
