//! Env files: what the language means, what is reported, and that what is written reads back.

use proptest::prelude::*;

use super::*;

fn added(text: &str, existing: &[(&str, &str)]) -> BTreeMap<String, String> {
    let file = EnvFile::parse(text, ".env").expect("a small file");
    let lookup = |name: &str| existing.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned());
    file.additions(lookup).expect("names and values that an environment can hold")
}

#[test]
fn the_language() {
    let table = [
        ("three kinds", "A=x y # c\nB='x # y'\nC=\"x # y\"\n", "A=x y|B=x # y|C=x # y"),
        (
            "escapes",
            r#"A="\a\n\\n\q"
B='\n\'\\'"#,
            "A=\u{7}\n\\n\\q|B=\\n'\\",
        ),
        ("over lines", "A=\"x\ny\"\nB='x\r\ny'\n", "A=x\ny|B=x\ny"),
        ("comments", "A= # c\nB=#c\nC=x#c\nD=\"x\"#c\n# E=1\n", "A=|B=#c|C=x#c|D=x"),
        ("names", "export A=1\nexport=2\n'B C' = 3\n1.x-y=4\né=5\n", "1.x-y=4|A=1|B C=3|export=2|é=5"),
        ("no value", "A\nB=1\nB\n", ""),
        ("skipped", "=1\n''=1\nA='x'y\nB=\"x\nC D=1\n'E\nF=1", "F=1"),
        (
            "references",
            "A=1\nB=${A}${N:-d}${N}-$A-${A:x}-${A\nC='${B}'\nD=${X:-${A}}",
            "A=1|B=1d-$A-${A:x}-${A|C=1d-$A-${A:x}-${A|D=${A}",
        ),
        ("empty is set", "A=\nB=${A:-d}\nC\nD=${C:-d}", "A=|B=|D="),
        ("mark and old line ends", "\u{feff}A=1\rB=2", "A=1|B=2"),
        ("spaces of all kinds", "\u{1f}A\u{2003}=\u{a0}x\u{85}#c\n", "A=x"),
    ];
    for (what, text, expected) in table {
        let list: Vec<String> = added(text, &[]).iter().map(|(name, value)| format!("{name}={value}")).collect();
        assert_eq!(list.join("|"), expected, "{what}");
    }
}

#[test]
fn what_exists_wins() {
    let added = added("A=1\nB=${A}\nE=1\n", &[("A", "9"), ("E", "")]);
    assert_eq!(added, BTreeMap::from([("B".to_owned(), "9".to_owned())]));
}

#[test]
fn bad_lines_are_reported_with_their_place_and_never_their_text() {
    let file =
        EnvFile::parse("A=1\n\n!!! hunter2\nB='x\n# c\nC=\"hunter2\"hunter2\n=hunter2\nD=1\n", ".env").expect("small");
    let shown: Vec<String> = file.problems.iter().map(ToString::to_string).collect();
    insta::assert_snapshot!(format!("{}\n{file:?}", shown.join("\n")));
    assert!(!format!("{file:?}{shown:?}").contains("hunter2"));
}

#[test]
fn what_no_environment_holds_is_refused_without_the_value() {
    let cases = [("'A=B'=hunter2", "env-file-name"), ("A\0=hunter2", "env-file-name"), ("A=hunter2\0", "env-nul")];
    for (text, code) in cases {
        let error = EnvFile::parse(text, ".env").expect("small").additions(|_| None).expect_err(text);
        assert_eq!(error.code, code);
        assert!(!error.message.contains("hunter2"), "{}", error.message);
    }
}

#[test]
fn sizes_are_bounded() {
    assert_eq!(EnvFile::parse(&"#".repeat(FILE_BYTES_MAX + 1), ".env").expect_err("large").code, "env-file-size");
    let doubling: String = (1..64).map(|n| format!("A{n}=${{A{}}}${{A{}}}\n", n - 1, n - 1)).collect();
    let file = EnvFile::parse(&format!("A0=x\n{doubling}"), ".env").expect("small");
    assert_eq!(file.additions(|_| None).expect_err("2^63 bytes").code, "env-values-size");
    // In one pass, not one for each `${`.
    let opened = format!("A={}:\nB={}\n", "${".repeat(200_000), "${".repeat(200_000));
    assert_eq!(EnvFile::parse(&opened, ".env").expect("small").additions(|_| None).expect("no reference").len(), 2);
    assert_eq!(EnvFile::parse(&"=\n".repeat(500), ".env").expect("small").problems.len(), PROBLEMS_MAX);
}

#[test]
fn the_root_of_a_project() {
    let tree = ["/p/pyproject.toml", "/p/docs/README.md", "/q/infra/docker-compose.yml"];
    let root = |start: &str| {
        let root = project_root(Path::new(start), |path| tree.iter().any(|one| Path::new(one) == path));
        root.map(|root| root.display().to_string())
    };
    assert_eq!(root("/p/a/b").as_deref(), Some("/p"));
    assert_eq!(root("/p/docs/x").as_deref(), Some("/p/docs"));
    assert_eq!(root("/q").as_deref(), Some("/q"));
    assert_eq!(root("/q/infra").as_deref(), Some("/q"));
    assert_eq!(root("/r"), None);
}

proptest! {
    #[test]
    fn any_text_is_read(text in "(\\PC|[\n\r\t #='\"\\\\${}:-]|export )*") {
        let file = EnvFile::parse(&text, ".env").expect("small");
        let lines = text.lines().count().max(1) + text.matches('\r').count();
        prop_assert!(file.assignments.iter().all(|one| one.line <= lines && !one.name.is_empty()));
        let _ = file.additions(|name| (name.len() == 1).then(|| "x".to_owned()));
    }

    #[test]
    fn what_is_written_reads_back(values in proptest::collection::btree_map("[A-Za-z_][A-Za-z0-9_]{0,8}", "(\\PC|[\n\r\t #='\"\\\\${}\u{b}])*", 0..6)) {
        let text: Vec<String> =
            values.iter().filter_map(|(name, value)| Some(format!("{name}={}", written(value)?))).collect();
        let expected: BTreeMap<String, String> =
            values.into_iter().filter(|(_, value)| written(value).is_some()).collect();
        prop_assert_eq!(added(&text.join("\n"), &[]), expected);
    }
}
