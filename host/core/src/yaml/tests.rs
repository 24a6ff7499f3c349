use super::*;

/// A tree in one line, to compare.
fn show(node: &Node) -> String {
    let tag = node.tag.as_ref().map_or_else(String::new, |tag| format!("<{tag}>"));
    let value = match &node.value {
        Yaml::Scalar { text, plain: true } => text.clone(),
        Yaml::Scalar { text, plain: false } => format!("{text:?}"),
        Yaml::Sequence(items) => format!("[{}]", items.iter().map(show).collect::<Vec<_>>().join(", ")),
        Yaml::Mapping(entries) => {
            let entries: Vec<String> =
                entries.iter().map(|(key, value)| format!("{}: {}", show(key), show(value))).collect();
            format!("{{{}}}", entries.join(", "))
        }
    };
    format!("{tag}{value}")
}

fn tree(text: &str) -> String {
    match read(text) {
        Ok(Some(node)) => show(&node),
        Ok(None) => "nothing".to_owned(),
        Err(fault) => format!("! {fault}"),
    }
}

#[test]
fn trees() {
    let cases = [
        ("", "nothing"),
        ("# only a comment\n", "nothing"),
        ("a: 1\nb: [x, 'y']\n", r#"{a: 1, b: [x, "y"]}"#),
        ("a: &x {b: 1}\nc: [*x, *x]\n", "{a: {b: 1}, c: [{b: 1}, {b: 1}]}"),
        ("a: !!str 5\nb: !e x\nc: ! '5'\n", r#"{a: <tag:yaml.org,2002:str>"5", b: <!e>"x", c: 5}"#),
        ("a: 1\u{85}b: 2\u{85}", "{a: 1, b: 2}"),
        ("\u{feff}a: 1\r\nb: \"x\u{85} y\"\r", r#"{a: 1, b: "x y"}"#),
        ("a: 1 # a\ttab in a comment\nb: \"\t\"\n", "{a: 1, b: \"\\t\"}"),
        ("a: 'x\ny' # c\nb: \"p\u{85}q\"\n", r#"{a: "x y", b: "p q"}"#),
        ("a: x\u{2028}b: \"y\"\u{2028}", r#"{a: x, b: "y"}"#),
        ("a: 'x\u{2028}y'\n", "{a: \"x\\u{2028}y\"}"),
        ("a: 1\na: 2\n", "{a: 1, a: 2}"),
        ("a: [\n  b,\n]\n", "{a: [b]}"),
        ("{\"a\":1,\"b\":{\"c\":[true,null]}}", r#"{"a": 1, "b": {"c": [true, null]}}"#),
    ];
    for (text, expected) in cases {
        assert_eq!(tree(text), expected, "{text:?}");
    }
}

#[test]
fn refusals_know_their_place() {
    let cases = [
        ("name:\ta\n", "! 1:6: a tab cannot separate or indent: use spaces"),
        ("a:\n\tb: 1\n", "! 2:2: tabs"),
        ("a: x\ty\n", "! 1:5: a tab cannot separate or indent: use spaces"),
        ("a: 1\n---\nb: 2\n", "! 2:1: a second document begins here, and a file is one document"),
        ("a: 1\n---\n", "! 2:1: a second document begins here, and a file is one document"),
        ("a: *x\n", "! 1:4: "),
        ("a: &v [*v]\n", "! 1:8: this alias stands inside the node that it names"),
        ("a: &v 1\nb: &v 2\n", "! 2:4: the anchor `v` is defined twice"),
        ("a: x\u{0}\n", "! 1:5: the character U+0000 cannot stand in YAML"),
        ("a: {b: x?y}\n", "! 1:9: this character cannot stand in text without quotes here: put the text in quotes"),
        ("a: [\n", "! 1:4: "),
        ("a: b: c\n", "! 1:5: "),
    ];
    for (text, expected) in cases {
        let found = tree(text);
        assert!(found.starts_with(expected), "{text:?}: {found}");
    }
}

#[test]
fn places_are_those_of_values() {
    let root = read("a:\n  - é: x\n    b: 'y'\n").unwrap().unwrap();
    let Yaml::Mapping(entries) = &root.value else { panic!("a mapping") };
    let Yaml::Sequence(items) = &entries[0].1.value else { panic!("a list") };
    let Yaml::Mapping(inner) = &items[0].value else { panic!("a mapping") };
    let places: Vec<(usize, usize)> =
        inner.iter().flat_map(|(k, v)| [k.at, v.at]).map(|at| (at.line, at.column)).collect();
    assert_eq!(places, [(2, 5), (2, 8), (3, 5), (3, 8)]);
}

#[test]
fn places_survive_the_indentation_of_quoted_lines() {
    let root = read("a: ['x\ny', z]\n").unwrap().unwrap();
    let Yaml::Mapping(entries) = &root.value else { panic!("a mapping") };
    let Yaml::Sequence(items) = &entries[0].1.value else { panic!("a list") };
    assert_eq!((items[0].at, items[1].at), (Mark { line: 1, column: 5 }, Mark { line: 2, column: 5 }));
    assert!(tree("a: 'x\n---\ny'\n").starts_with('!'));
}

#[test]
fn cycles_are_kept_on_request_only() {
    let root = read_with_cycles("a: &v [*v]\nb: &m {c: *m}\n").unwrap().unwrap();
    assert_eq!(show(&root), "{a: [<tag:midplane,cycle>[]], b: {c: <tag:midplane,cycle>{}}}");
}

#[test]
fn growth_is_bounded() {
    // Each line names the line before ten times.
    let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for i in 1..12 {
        let before = format!("*a{}", i - 1);
        bomb += &format!("a{i}: &a{i} [{}]\n", [before.as_str(); 10].join(", "));
    }
    assert!(tree(&bomb).contains("more than 100000 nodes"), "{}", tree(&bomb));
    // Few nodes, much text.
    let mut long = format!("a: &a {}\nb:\n", "x".repeat(1 << 20));
    long += &"- *a\n".repeat(20);
    assert!(tree(&long).contains("bytes"));
    for deep in ["[".repeat(5000), "{a: ".repeat(5000), "- ".repeat(5000), "? ".repeat(5000)] {
        assert!(tree(&deep).starts_with('!'), "{}", &deep[..10]);
    }
    // Depth through aliases.
    let mut chain = format!("a0: &a0 {}{}\n", "[".repeat(200), "]".repeat(200));
    chain += "a1: [[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[*a0]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]\n";
    assert!(tree(&chain).contains("nested more than"));
}

#[test]
fn size_takes_time_in_proportion() {
    // Keys, aliases and quoted lines in numbers that would show a square.
    let keys: String = (0..20_000).map(|i| format!("k{i}: 1\n")).collect();
    let anchors: String = (0..5_000).map(|i| format!("- &a{i} [x]\n- *a{i}\n")).collect();
    for text in [&keys, &anchors] {
        assert!(read(text).unwrap().is_some());
    }
}

#[test]
fn merge_keys() {
    let text = "<<: [{a: 1, b: 1}, {a: 2, c: 2}]\nb: 3\n";
    let root = read(text).unwrap().unwrap();
    let Yaml::Mapping(entries) = &root.value else { panic!("a mapping") };
    let flat: Vec<String> = merged(entries).unwrap().iter().map(|(k, v)| format!("{}={}", show(k), show(v))).collect();
    assert_eq!(flat, ["a=2", "c=2", "a=1", "b=1", "b=3"]);
    let root = read("<<: 1\n").unwrap().unwrap();
    let Yaml::Mapping(entries) = &root.value else { panic!("a mapping") };
    assert_eq!(merged(entries).unwrap_err().at, Mark { line: 1, column: 5 });
}

#[test]
fn scalars_by_dialect() {
    let one = |text: &str, dialect| {
        let node = read(text).map_err(|fault| fault.to_string())?.expect("a node");
        scalar(&node, dialect).map(|scalar| format!("{scalar:?}")).map_err(|fault| fault.to_string())
    };
    let mut out = String::new();
    for text in [
        "~",
        "yes",
        "Off",
        "true",
        "017",
        "0o17",
        "08080",
        "0x1F",
        "0b11",
        "1_000",
        "8:30",
        "190:20:30.15",
        "1e3",
        "1.5e3",
        "1.5e+3",
        ".5",
        "+.inf",
        ".NaN",
        "1.",
        "-0",
        "2024-01-01",
        "2024-1-1",
        "2024-01-01 10:30:00 +2",
        "=",
        "<<",
        "'5'",
        "\"yes\"",
        "! '5'",
        "!!str 5",
        "!!int '0x10'",
        "!!int x",
        "!!float 3",
        "!!bool ON",
        "!!bool x",
        "!!null x",
        "!!binary aGk=",
        "!!binary '*'",
        "!x 5",
        "12345678901234567890123",
        "0x",
        "0b_",
        "0x_",
        "NULL",
        "nULL",
        "-.5",
        "1__0",
        "+12",
        "1:60",
        "10:59",
    ] {
        out += &format!("{text}\n");
        for dialect in [Dialect::Core, Dialect::Yaml11, Dialect::Config] {
            out += &match one(text, dialect) {
                Ok(value) => format!("    {dialect:?}: {value}\n"),
                Err(why) => format!("    {dialect:?}: ! {why}\n"),
            };
        }
    }
    insta::assert_snapshot!(out);
}

proptest::proptest! {
    #[test]
    fn no_text_panics(text in r#"[ \t\n\r:?,\-\[\]{}#&*!|>'"%@`~\\.ab01=_<\u{85}\u{2028}é\u{feff}]{0,60}"#) {
        for node in [read(&text), read_with_cycles(&text)].into_iter().flatten().flatten() {
            for dialect in [Dialect::Core, Dialect::Yaml11, Dialect::Config] {
                let _ = scalar(&node, dialect);
            }
            if let Yaml::Mapping(entries) = &node.value {
                let _ = merged(entries);
            }
        }
    }
}
