//! No text and no bytes make a check panic, and what is malformed is said with its place.

use std::collections::BTreeMap;
use std::path::Path;

use proptest::prelude::*;

use super::*;

const SOURCES: [&str; 4] = ["package.json", "pyproject.toml", "requirements.in", "pnpm-workspace.yaml"];

const LOCKS: [&str; 9] = [
    "package-lock.json",
    "npm-shrinkwrap.json",
    "pnpm-lock.yaml",
    "yarn.lock",
    "bun.lock",
    "bun.lockb",
    "uv.lock",
    "poetry.lock",
    "requirements.lock",
];

fn files<const N: usize>(files: [(&str, &[u8]); N]) -> BTreeMap<String, Vec<u8>> {
    files.into_iter().map(|(name, bytes)| (name.to_owned(), bytes.to_vec())).collect()
}

/// The problem of a lock file beside a project file.
fn problem(source: (&str, &str), lock: (&str, &str)) -> String {
    let files = files([(source.0, source.1.as_bytes()), (lock.0, lock.1.as_bytes())]);
    match check("", &files, &[]).state {
        State::Unreadable(problem) => format!("{}: {problem}", problem.code),
        other => format!("{other:?}"),
    }
}

#[test]
fn malformed_files() {
    let node = ("package.json", r#"{"dependencies": {"ms": "1"}}"#);
    let python = ("pyproject.toml", "[project]\nname = \"a\"\n");
    let shown = [
        problem(node, ("package-lock.json", "{")),
        problem(node, ("package-lock.json", "{}")),
        problem(node, ("package-lock.json", "{\n  \"lockfileVersion\": 3,\n  \"packages\": []\n}")),
        problem(node, ("package-lock.json", r#"{"lockfileVersion": 4}"#)),
        problem(node, ("package-lock.json", r#"{"lockfileVersion": 3, "packages": {}}"#)),
        problem(node, ("package-lock.json", "{\n<<<<<<< HEAD\n")),
        problem(("package.json", "{\"dependencies\": {\n\"ms\": 1}}"), ("package-lock.json", "{}")),
        problem(("package.json", "{\"dependencies\": [],}"), ("package-lock.json", "{}")),
        problem(("package.json", "[]"), ("package-lock.json", "{}")),
        problem(node, ("pnpm-lock.yaml", "")),
        problem(node, ("pnpm-lock.yaml", "lockfileVersion: '9.0'\nimporters: [")),
        problem(node, ("pnpm-lock.yaml", "lockfileVersion: 4\n")),
        problem(node, ("yarn.lock", "ms@1:\n  resolved \"x\"\n")),
        problem(node, ("yarn.lock", "ms@1\n")),
        problem(node, ("yarn.lock", "__metadata:\n  version: 99\n")),
        problem(node, ("bun.lock", "{\"lockfileVersion\": 1, // ok\n}")),
        problem(node, ("bun.lock", "{\"lockfileVersion\": 1,,}")),
        problem(node, ("bun.lockb", "x")),
        problem(node, ("bun.lockb", "#!/usr/bin/env bun\nbun-lockfile-format-v0\n\u{2}\0\0\0")),
        problem(node, ("bun.lockb", "#!/usr/bin/env bun\nbun-lockfile-format-v0\n\u{9}\0\0\0")),
        problem(python, ("uv.lock", "version = 2\n")),
        problem(python, ("uv.lock", "version = \n")),
        problem(python, ("poetry.lock", "x")),
        problem(python, ("poetry.lock", "[metadata]\nlock-version = \"3.0\"\n")),
        problem(python, ("requirements.lock", "six==1\ntoml>=1\n")),
        problem(("pyproject.toml", "[project]\nname = \"a\"\ndependencies = [\"?\"]\n"), ("uv.lock", "version = 1\n")),
    ];
    insta::assert_snapshot!(shown.join("\n"));
}

#[test]
fn a_file_that_is_too_large_is_refused() {
    let files = files([("package.json", b"{}"), ("yarn.lock", &vec![b'#'; FILE_BYTES_MAX + 1])]);
    let status = check("node", &files, &[]);
    assert!(matches!(status.state, State::Unreadable(problem) if problem.code == "lock-too-large"));
}

#[test]
fn groups_that_include_each_other_end() {
    let project = |groups: &str| format!("[project]\nname = \"a\"\n[dependency-groups]\n{groups}");
    let round = project("a = [{ include-group = \"b\" }]\nb = [{ include-group = \"A\" }]\n");
    let said = problem(("pyproject.toml", &round), ("uv.lock", "version = 1\n"));
    assert!(said.contains("include each other"), "{said}");
    // Each of twenty groups includes the next a hundred times.
    let many: String = (0..20)
        .map(|own| format!("g{own} = [{}]\n", format!("{{ include-group = \"g{}\" }},", own + 1).repeat(100)))
        .collect();
    let said = problem(("pyproject.toml", &project(&(many + "g20 = []\n"))), ("uv.lock", "version = 1\n"));
    assert!(said.starts_with("lock-source-unreadable"), "{said}");
}

#[test]
fn deep_nesting_is_refused() {
    for open in ["[", "{\"a\":", "a = [", "a = { b = ", "- ", "? ", "a:\n "] {
        let (head, rest) = open.split_at(open.find(['[', '{']).unwrap_or(0));
        let deep = format!("{head}{}", rest.repeat(100_000));
        for name in LOCKS {
            let python = name.starts_with(['u', 'r']) || name == "poetry.lock";
            let source = if python { ("pyproject.toml", "[project]\nname = \"a\"\n") } else { ("package.json", "{}") };
            let said = problem(source, (name, &deep));
            assert!(said.starts_with("lock-") || said == "InSync", "{name}: {said}");
        }
        let said = problem(("package.json", &deep), ("package-lock.json", "{}"));
        assert!(said.starts_with("lock-source-unreadable"), "{said}");
        let said = problem(("pyproject.toml", &deep), ("uv.lock", "version = 1\n"));
        assert!(said.starts_with("lock-source-unreadable"), "{said}");
    }
}

#[test]
fn differences_are_bounded() {
    let wanted: Vec<String> = (0..5000).map(|own| format!("\"p{own}\": \"1\"")).collect();
    let source = format!("{{\"dependencies\": {{{}}}}}", wanted.join(", "));
    let lock = r#"{"lockfileVersion": 3, "packages": {"": {}}}"#;
    let files = files([("package.json", source.as_bytes()), ("package-lock.json", lock.as_bytes())]);
    assert_eq!(check("node", &files, &[]).differences().len(), DIFFERENCES_MAX);
}

#[test]
fn a_lock_file_does_not_lead_out_of_the_project() {
    let lock = r#"{"lockfileVersion": 3, "packages": {"": {}, "../other": {"dependencies": {"a": "1"}}}}"#;
    let mut files = files([("package.json", b"{}"), ("package-lock.json", lock.as_bytes())]);
    files.insert("../other/package.json".to_owned(), b"{}".to_vec());
    assert!(matches!(check("node", &files, &[]).state, State::Unknown(reason) if reason.contains("../other")));
}

#[test]
fn the_named_manager_wins_over_leftovers() {
    let both: [(&str, &[u8]); 3] =
        [("package.json", br#"{"packageManager": "yarn@1.22.0"}"#), ("package-lock.json", b"{}"), ("yarn.lock", b"")];
    assert_eq!(check("node", &files(both), &[]).manager, Manager::Yarn);
    assert_eq!(check("node", &files([both[0], both[1]]), &[]).manager, Manager::Npm);
    let status = check("node", &files([both[0]]), &[]);
    assert_eq!((status.lockfile_path.as_str(), status.exists()), ("yarn.lock", false));
}

#[test]
fn every_problem_has_a_code_that_is_explained() {
    let state = |state| Status {
        manager: Manager::Npm,
        lockfile_path: "package-lock.json".to_owned(),
        state,
        install_cmd: "npm install".into(),
        frozen_cmd: "npm ci".into(),
    };
    let difference = Difference {
        package: "a".to_owned(),
        section: "b".to_owned(),
        wanted: None,
        locked: None,
        file: "c".to_owned(),
        at: None,
    };
    for state in [State::Missing, State::Unknown(String::new()), State::Drifted(vec![difference])].map(state) {
        for problem in state.problems() {
            assert!(CODES.iter().any(|code| code.code == problem.code), "{problem}");
        }
    }
}

/// Real lock files with a few bytes changed come nearer to the parsers' corners than random text does.
fn damaged() -> impl Strategy<Value = (String, Vec<u8>, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/lockfiles");
    let mut cases = Vec::new();
    for entry in std::fs::read_dir(folder).expect("the folder of cases") {
        let path = entry.expect("an entry").path();
        let read = |name: &&str| Some(((*name).to_owned(), std::fs::read(path.join(name)).ok()?));
        if let (Some(lock), Some(source)) = (LOCKS.iter().find_map(read), SOURCES.iter().find_map(read)) {
            cases.push((lock, source));
        }
    }
    let changes = proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 1..6);
    (proptest::sample::select(cases), changes, any::<proptest::sample::Index>(), any::<bool>()).prop_map(
        |(((name, mut lock), (_, source)), changes, end, is_cut)| {
            for (at, byte) in changes {
                let at = at.index(lock.len());
                lock[at] = byte;
            }
            if is_cut {
                lock.truncate(end.index(lock.len()));
            }
            (name, lock, source)
        },
    )
}

proptest! {
    #[test]
    fn arbitrary_bytes(lock in proptest::collection::vec(any::<u8>(), 0..300), source in any::<Vec<u8>>(), sound in any::<bool>()) {
        for name in LOCKS {
            for own in SOURCES {
                let sound_source: &[u8] = if own.ends_with("json") { br#"{"dependencies": {"a": "^1"}}"# } else { b"" };
                let files = files([(own, if sound { sound_source } else { &source }), (name, &lock)]);
                for runtime in ["node", "python", "fullstack", ""] {
                    let _ = check_all(runtime, &files, &[]).iter().map(Status::problems).collect::<Vec<_>>();
                }
            }
        }
    }

    #[test]
    fn arbitrary_binary(body in proptest::collection::vec(any::<u8>(), 0..400), version in 2u8..4) {
        let mut bytes = b"#!/usr/bin/env bun\nbun-lockfile-format-v0\n".to_vec();
        bytes.extend([version, 0, 0, 0]);
        bytes.extend(body);
        let _ = bun_binary::read(&bytes, "bun.lockb");
    }

    #[test]
    fn damaged_files((name, lock, source) in damaged()) {
        let own = if source.first() == Some(&b'{') { "package.json" } else { "pyproject.toml" };
        let files = files([(own, &source), (&name, &lock)]);
        let _ = check("", &files, &[]).problems();
    }

    #[test]
    fn arbitrary_requirements(text in "\\PC{0,80}", range in "[ -~]{0,30}", version in "[0-9a-z.+-]{0,20}") {
        if let Ok(requirement) = python::Requirement::parse(&text) {
            let _ = requirement.allows(&version);
            prop_assert_eq!(python::normalised(&requirement.name), requirement.name);
        }
        let _ = node::satisfies(&range, &version);
        let _ = poetry::allows(&range, &version);
        let _ = python::same_pythons(&range, &version);
    }
}
