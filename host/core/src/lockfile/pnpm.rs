//! `pnpm-lock.yaml`, format versions 5 to 9.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use super::State;
use super::node::{Entry, Manifest, Recorded, SECTIONS, judge};
use super::read::{Folder, Role};
use crate::problem::Problem;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Lock {
    lockfile_version: Option<Version>,
    /// The projects of a workspace, and from version 9 on also a single one, under `.`.
    #[serde(default)]
    importers: BTreeMap<String, Importer>,
    /// A single project, up to version 6.
    #[serde(flatten)]
    root: Importer,
    #[serde(default)]
    overrides: BTreeMap<String, serde::de::IgnoredAny>,
    #[serde(default)]
    settings: Settings,
}

/// What pnpm was told when it wrote the lock file.
#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase")]
struct Settings {
    #[serde(default)]
    auto_install_peers: bool,
}

/// `5.4` or `'6.0'`.
#[derive(Deserialize)]
#[serde(untagged)]
enum Version {
    Number(f64),
    Text(String),
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase")]
struct Importer {
    /// Ranges by name, in version 5.
    specifiers: Option<BTreeMap<String, String>>,
    #[serde(default)]
    dependencies: BTreeMap<String, Dependency>,
    #[serde(default)]
    dev_dependencies: BTreeMap<String, Dependency>,
    #[serde(default)]
    optional_dependencies: BTreeMap<String, Dependency>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Dependency {
    /// From version 6 on.
    Full { specifier: String, version: String },
    /// Version 5: the chosen version; the range stands in `specifiers`.
    Version(String),
}

/// `pnpm-workspace.yaml`.
#[derive(Deserialize)]
struct Workspace {
    #[serde(default)]
    packages: Vec<String>,
    #[serde(default)]
    overrides: BTreeMap<String, serde::de::IgnoredAny>,
}

pub(super) fn check(folder: &Folder<'_>, manifest: &Manifest<'_>) -> Result<State, Problem> {
    let document = folder.document("pnpm-lock.yaml", Role::Lock)?;
    // Newer versions put a document with pnpm's own dependencies before the project's.
    let Some(lock) = document.yaml::<Lock>()?.pop() else {
        return Err(document.whole("it is empty"));
    };
    let version = match &lock.lockfile_version {
        None => return Err(document.whole("it has no `lockfileVersion`")),
        Some(Version::Number(number)) => number.to_string(),
        Some(Version::Text(text)) => text.clone(),
    };
    let major = version.split('.').next().unwrap_or_default();
    if !matches!(major, "5" | "6" | "7" | "8" | "9") {
        return Err(document.version(&version, "5 to 9"));
    }

    let mut recorded: BTreeMap<String, Recorded> = lock
        .importers
        .into_iter()
        .map(|(path, importer)| (if path == "." { String::new() } else { path }, of_importer(importer, &lock.settings)))
        .collect();
    recorded.entry(String::new()).or_insert_with(|| of_importer(lock.root, &lock.settings));

    let mut patterns = Vec::new();
    let mut overridden: BTreeSet<String> = lock.overrides.into_keys().collect();
    if folder.has("pnpm-workspace.yaml") {
        let workspace = folder.document("pnpm-workspace.yaml", Role::Source)?;
        if let Some(workspace) = workspace.yaml::<Option<Workspace>>()?.into_iter().flatten().next() {
            patterns = workspace.packages;
            overridden.extend(workspace.overrides.into_keys());
        }
    }
    // pnpm rewrites the ranges of a project by its overrides before it records them.
    let manifest = manifest.with_overrides(overridden.iter().map(String::as_str));
    judge(folder, &manifest, &document.file, &recorded, &patterns)
}

fn of_importer(importer: Importer, settings: &Settings) -> Recorded {
    let Importer { specifiers, dependencies, dev_dependencies, optional_dependencies } = importer;
    let mut entries = BTreeMap::new();
    for (section, of) in SECTIONS.into_iter().zip([dev_dependencies, dependencies, optional_dependencies]) {
        for (name, dependency) in of {
            let (range, version) = match dependency {
                Dependency::Full { specifier, version } => (Some(specifier), version),
                Dependency::Version(version) => {
                    (specifiers.as_ref().and_then(|ranges| ranges.get(&name)).cloned(), version)
                }
            };
            entries.insert(name, Entry { section: Some(section), range, version: plain(&version) });
        }
    }
    // Version 5 keeps the range of what it could not install, such as an optional dependency for another system.
    for (name, range) in specifiers.into_iter().flatten() {
        entries.entry(name).or_insert(Entry { range: Some(range), ..Entry::default() });
    }
    Recorded { entries, peers: None, has_peers_installed: settings.auto_install_peers }
}

/// The version without the peers it was resolved with (`18.2.0(react@18.2.0)`, `18.2.0_react@18.2.0`); none for a link, a path
/// or another package's name.
fn plain(version: &str) -> Option<String> {
    let version = version.split(['(', '_']).next().unwrap_or_default();
    version.starts_with(|c: char| c.is_ascii_digit()).then(|| version.to_owned())
}
