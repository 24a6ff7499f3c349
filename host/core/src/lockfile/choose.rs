//! Which lock file of a folder counts, and what a person would run for it.

use std::borrow::Cow;

use super::read::{Folder, Role};
use super::{Manager, ProjectFiles, State, Status, bun, node, npm, pnpm, poetry, requirements, uv, yarn};

/// Checks the lock file of a project.
///
/// `runtime` is the manifest's: `node`, `python` or `fullstack`; any other is guessed from the files. For `fullstack` the
/// result is that of `frontend/` or `backend/`, whichever needs a fix first, else of the front end, else of the back end.
/// `at_hand` are the package managers that the person has: they decide which lock file to suggest where none is, and
/// nothing else.
///
/// The order of precedence is runtm-shared's, after what it did not know: a folder with only a back end, and the lock
/// files of pnpm, yarn, `npm-shrinkwrap.json`, `bun.lock` and requirements.
#[must_use]
pub fn check(runtime: &str, files: &dyn ProjectFiles, at_hand: &[Manager]) -> Status {
    let root = Folder { files, prefix: "" };
    match runtime {
        "node" => node_status(root, at_hand),
        "python" => python_status(root, at_hand),
        "fullstack" => {
            let halves = check_all(runtime, files, at_hand);
            let worst = halves.iter().position(Status::needs_fix);
            // The original falls back to the root where there is no front end. A sound back end beside no `package.json` is
            // then reported as a missing lock file of npm; here it is reported as what it is.
            let is_whole = files.exists("frontend") || (!halves.is_empty() && !root.has("package.json"));
            let told = worst.or(is_whole.then_some(0)).and_then(|at| halves.into_iter().nth(at));
            told.unwrap_or_else(|| node_status(root, at_hand))
        }
        _ if !root.has("package.json") && root.has("pyproject.toml") => python_status(root, at_hand),
        _ => node_status(root, at_hand),
    }
}

/// Checks each lock file of a project: both halves of a `fullstack` project that are there, else the one that [`check`] gives.
#[must_use]
pub fn check_all(runtime: &str, files: &dyn ProjectFiles, at_hand: &[Manager]) -> Vec<Status> {
    if runtime != "fullstack" {
        return vec![check(runtime, files, at_hand)];
    }
    let half = |name: &str, prefix: &'static str, status: fn(Folder<'_>, &[Manager]) -> Status| {
        files.exists(name).then(|| {
            let status = status(Folder { files, prefix }, at_hand);
            Status {
                install_cmd: format!("cd {name} && {}", status.install_cmd).into(),
                frozen_cmd: format!("cd {name} && {}", status.frozen_cmd).into(),
                ..status
            }
        })
    };
    [half("frontend", "frontend/", node_status), half("backend", "backend/", python_status)]
        .into_iter()
        .flatten()
        .collect()
}

/// The lock files of Node, the first that is there counts: bun's before npm's as in the original, and within one manager
/// as that manager reads them.
const NODE: &[(&str, Manager)] = &[
    ("bun.lock", Manager::Bun),
    ("bun.lockb", Manager::Bun),
    ("npm-shrinkwrap.json", Manager::Npm),
    ("package-lock.json", Manager::Npm),
    ("pnpm-lock.yaml", Manager::Pnpm),
    ("yarn.lock", Manager::Yarn),
];

fn node_status(folder: Folder<'_>, at_hand: &[Manager]) -> Status {
    if !folder.has("package.json") {
        // A lock file without a project belongs to nothing.
        return node_result(folder, Manager::Npm, "package-lock.json", State::Missing);
    }
    let source = folder.document("package.json", Role::Source);
    let source = source.as_ref().map_err(Clone::clone).and_then(node::Manifest::read);
    let named = source.as_ref().ok().and_then(node::Manifest::manager);
    let there = |manager: Option<Manager>| {
        let of = |(_, own): &&(&str, Manager)| manager.is_none_or(|manager| manager == *own);
        NODE.iter().filter(of).find(|(name, _)| folder.has(name))
    };
    // What `packageManager` names is what the project uses; a lock file of another one is a leftover.
    let Some((lock, manager)) = named.and_then(|named| there(Some(named))).or_else(|| there(None)).copied() else {
        let manager = named.unwrap_or(if at_hand.contains(&Manager::Bun) { Manager::Bun } else { Manager::Npm });
        let lock = match manager {
            // The name that the original reports; which of its two formats bun writes depends on its version.
            Manager::Bun => "bun.lockb",
            other => NODE.iter().rev().find(|(_, own)| *own == other).map_or("package-lock.json", |(name, _)| name),
        };
        return node_result(folder, manager, lock, State::Missing);
    };
    let state = source.and_then(|source| match lock {
        "bun.lock" => bun::check(&folder, &source),
        "bun.lockb" => bun::check_binary(&folder, &source),
        "pnpm-lock.yaml" => pnpm::check(&folder, &source),
        "yarn.lock" => yarn::check(&folder, &source),
        npm_lock => npm::check(&folder, &source, npm_lock),
    });
    node_result(folder, manager, lock, state.unwrap_or_else(State::Unreadable))
}

fn node_result(folder: Folder<'_>, manager: Manager, lock: &str, state: State) -> Status {
    let (install_cmd, frozen_cmd) = match manager {
        Manager::Bun => ("bun install", "bun install --frozen-lockfile"),
        Manager::Pnpm => ("pnpm install", "pnpm install --frozen-lockfile"),
        Manager::Yarn if yarn::is_berry(&folder) => ("yarn install", "yarn install --immutable"),
        Manager::Yarn => ("yarn install", "yarn install --frozen-lockfile"),
        _ => ("npm install", "npm ci"),
    };
    result(folder, manager, lock, state, install_cmd, frozen_cmd)
}

fn python_status(folder: Folder<'_>, at_hand: &[Manager]) -> Status {
    let pip = |lock: &str, state| {
        if state == State::Missing {
            return result(folder, Manager::Pip, lock, state, "pip install -e .", "pip install -e .");
        }
        let install = requirements::compile_cmd(&folder, lock, at_hand);
        result(folder, Manager::Pip, lock, state, install, format!("pip install -r {lock}"))
    };
    let requirements = |lock: &str| pip(lock, requirements::check(&folder, lock).unwrap_or_else(State::Unreadable));
    // Compiled requirements: a lock file by its own name, or by being all pins beside what they were compiled from.
    let compiled = || {
        let source = requirements::source(&folder)?;
        let all_pins = || source == "requirements.in" || requirements::is_pinned(&folder, "requirements.txt");
        match () {
            () if folder.has("requirements.lock") => Some("requirements.lock"),
            () if folder.has("requirements.txt") && all_pins() => Some("requirements.txt"),
            () => None,
        }
    };
    if !folder.has("pyproject.toml") {
        return compiled().map_or_else(|| pip("requirements.lock", State::Missing), requirements);
    }
    if folder.has("uv.lock") {
        let state = uv::check(&folder).unwrap_or_else(State::Unreadable);
        return result(folder, Manager::Uv, "uv.lock", state, "uv sync", "uv sync --frozen");
    }
    if folder.has("poetry.lock") {
        let state = poetry::check(&folder).unwrap_or_else(State::Unreadable);
        return result(folder, Manager::Poetry, "poetry.lock", state, "poetry lock --no-update", "poetry check --lock");
    }
    if let Some(lock) = compiled() {
        return requirements(lock);
    }
    if at_hand.contains(&Manager::Uv) {
        return result(folder, Manager::Uv, "uv.lock", State::Missing, "uv sync", "uv sync --frozen");
    }
    if at_hand.contains(&Manager::Poetry) {
        return result(folder, Manager::Poetry, "poetry.lock", State::Missing, "poetry lock", "poetry check --lock");
    }
    pip("requirements.lock", State::Missing)
}

fn result(
    folder: Folder<'_>,
    manager: Manager,
    lock: &str,
    state: State,
    install_cmd: impl Into<Cow<'static, str>>,
    frozen_cmd: impl Into<Cow<'static, str>>,
) -> Status {
    let lockfile_path = folder.path(lock);
    Status { manager, lockfile_path, state, install_cmd: install_cmd.into(), frozen_cmd: frozen_cmd.into() }
}
