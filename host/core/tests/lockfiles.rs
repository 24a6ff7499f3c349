//! Each folder of `tests/lockfiles` is a project and a test: `expect.snap` has the whole status. To add a case add a folder.
//!
//! The lock files were written by the package managers themselves. A folder whose name ends with `-in-sync` must be in sync and
//! one with `-drifted` must not, so that a snapshot cannot be accepted by mistake.

use std::collections::BTreeMap;
use std::path::Path;

use midplane_core::lockfile::{State, check_all};

/// The files below a folder, by path relative to it.
fn read(folder: &Path, prefix: &str, files: &mut BTreeMap<String, Vec<u8>>) {
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        let name = path.file_name().expect("a name").to_string_lossy().into_owned();
        if path.is_dir() {
            read(&path, &format!("{prefix}{name}/"), files);
        } else if name != "expect.snap" {
            files.insert(format!("{prefix}{name}"), std::fs::read(&path).expect("bytes"));
        }
    }
}

#[test]
fn lockfiles() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/lockfiles");
    let mut cases = BTreeMap::new();
    for entry in std::fs::read_dir(&folder).expect("the folder of cases") {
        let path = entry.expect("an entry").path();
        let mut files = BTreeMap::new();
        read(&path, "", &mut files);
        cases.insert(path.file_name().expect("a name").to_string_lossy().into_owned(), files);
    }
    assert!(cases.len() > 30, "the cases are there");

    let mut wrong = Vec::new();
    for (name, files) in &cases {
        // Any other runtime is found out from the files.
        let runtime = match name.split('-').next() {
            Some("fullstack") => "fullstack",
            Some("requirements") => "python",
            _ => "",
        };
        let statuses = check_all(runtime, files, &[]);
        let mut shown = serde_json::to_string_pretty(&statuses).expect("JSON");
        for problem in statuses.iter().flat_map(|status| status.problems()) {
            shown += &format!("\n{problem}");
            if let Some(hint) = problem.hint {
                shown += &format!("\n  hint: {hint}");
            }
        }
        let expected: fn(&State) -> bool = match name.rsplit('-').next() {
            Some("sync") => |state| *state == State::InSync,
            Some("drifted") => |state| matches!(state, State::Drifted(_)),
            Some("unreadable") => |state| matches!(state, State::Unreadable(_)),
            Some("unknown") => |state| matches!(state, State::Unknown(_)),
            Some("missing") => |state| *state == State::Missing,
            _ => panic!("{name}: the name does not say what is expected"),
        };
        if !statuses.iter().any(|status| expected(&status.state)) {
            wrong.push(format!("{name}: {shown}"));
        }
        let mut settings = insta::Settings::clone_current();
        settings.set_snapshot_path(folder.join(name));
        settings.set_prepend_module_to_snapshot(false);
        settings.set_omit_expression(true);
        settings.bind(|| insta::assert_snapshot!("expect", shown));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}
