use insta::assert_snapshot;
use proptest::prelude::*;
use serde_json::{Value as Json, json};

use super::path::{joined, split};
use super::*;

fn selectors(app: &str) -> Selectors<'_> {
    Selectors { app, environment: "dev", machine: "bridge", substrate: "local-process", role: "research" }
}

fn variables() -> Variables {
    let allowed = ["HOME", "UNSET"].map(str::to_owned);
    Variables::new(allowed, [("HOME", "/h"), ("SECRET", "s3cret")].map(|(name, value)| (name.into(), value.into())))
}

/// Loads an application whose files are given by layer, and resolves it.
fn loaded(files: &[(Layer, &str)], overrides: &Json) -> Result<Node, Refused> {
    let read = |path: &str| {
        let text = files.iter().find(|(layer, _)| path == format!("apps/app/{layer}.yaml"));
        Ok(text.map_or(Found::Nothing, |(_, text)| Found::Text((*text).to_owned())))
    };
    load(selectors("app"), overrides.as_object(), &variables(), read)?.resolve(&variables())
}

fn one(text: &str) -> Result<Node, Refused> {
    loaded(&[(Layer::Default, text)], &Json::Null)
}

fn described(node: &Node) -> String {
    let lines = node.leaves().into_iter().map(|(path, node)| {
        let written = node.written.as_ref().map_or(String::new(), |text| format!(" = {text}"));
        let replaced: Vec<String> = node
            .replaced
            .iter()
            .rev()
            .map(|replaced| format!("\n    replaces {} from {}", replaced.value.to_json(), replaced.origin))
            .collect();
        format!("{path}: {}{written}\n    from {}{}", node.to_json(), node.origin, replaced.concat())
    });
    lines.collect::<Vec<_>>().join("\n")
}

fn refusal(refused: &Refused) -> String {
    let lines = refused.problems.iter().map(|problem| {
        let hint = problem.hint.as_ref().map_or(String::new(), |hint| format!("\n    hint: {hint}"));
        format!("{problem} [{}]{hint}", problem.code)
    });
    lines.collect::<Vec<_>>().join("\n")
}

#[test]
fn every_value_knows_where_it_comes_from() {
    let node = loaded(
        &[
            (
                Layer::Default,
                "v: default\nonly: {default: 1}\nhome: ${oc.env:HOME}/d\ncopy: ${only}\nl: [1, 2]\ngone: {a: 1}\n",
            ),
            (Layer::Environment, "dev:\n  v: env\n  only:\n    env: '${v}!'\nprod: {v: other}\n"),
            (Layer::Machine, "bridge: {v: machine, l: [3]}\n"),
            (Layer::Role, "research:\n  v: role\n  gone: null\n"),
        ],
        &json!({"v": "override", "a.b": 1}),
    )
    .unwrap();
    assert_snapshot!(described(&node));
}

#[test]
fn broken_configurations_say_layer_and_line() {
    let cases: &[&[(Layer, &str)]] = &[
        &[],
        &[(Layer::Default, "- a\n")],
        &[(Layer::Default, "a: [\n")],
        &[(Layer::Default, "a: 1\nb:\n  c: 1\n  c: 2\nnull: 3\n? [x]\n: 4\n")],
        &[(Layer::Default, "a: !!binary aGk=\nb: !!python/name:os.system\nc: !!set {x}\n")],
        &[(Layer::Default, "a: ${b\nc: [1, '${}', '${d e}']\n")],
        &[(Layer::Default, "alpha: 1\n"), (Layer::Role, "research:\n  b: ${alpah}\n  c: ${a.b.c}\n")],
        &[(Layer::Default, "a: ${b}\n"), (Layer::Environment, "dev:\n  b: ${c}\n  c: ${a}\n")],
        &[(Layer::Default, "a: {x: '${b}'}\nb: {y: '${a}'}\nc: {d: '${c}'}\n")],
        &[(Layer::Default, "a: ???\nb: ${a}\n")],
        &[(Layer::Default, "a: ${oc.env:SECRET}\nb: ${oc.env:UNSET}\nc: ${oc.env:HOEM,x}\n")],
        &[(Layer::Default, "a: ${oc.evn:HOME}\nb: '${oc.env:}'\nc: ${oc.decode:5}\nd: ${oc.dict.keys:e}\ne: 1\n")],
        &[(Layer::Default, "a: 1\n"), (Layer::Environment, "Dev: {a: 1}\nprod: {a: 2}\n")],
        &[(Layer::Default, "a: 1\n"), (Layer::Machine, "")],
        &[(Layer::Default, "a: 1\n"), (Layer::Role, "research: 5\n")],
        &[(Layer::Default, "a:\n  l: [1]\n"), (Layer::Substrate, "local-process:\n  a:\n    l: {b: 1}\n")],
        &[(Layer::Default, "a: {b: 1}\nl: [1]\nc: '${a.b.x}'\nd: '${l.x}'\ne: '${...a}'\nf: '${${a}}'\n")],
    ];
    let shown: Vec<String> = cases
        .iter()
        .map(|files| {
            let texts: Vec<String> = files.iter().map(|(layer, text)| format!("{layer}: {text:?}")).collect();
            let refused = loaded(files, &Json::Null).unwrap_err();
            assert!(refused.problems.iter().all(|problem| CODES.iter().any(|code| code.code == problem.code)));
            format!("{}\n{}", texts.join(" | "), refusal(&refused))
        })
        .collect();
    assert_snapshot!(shown.join("\n\n"));
}

#[test]
fn the_name_of_an_application_is_a_folder() {
    for app in ["", ".", "..", "../apps/app", "app/.", "/app", "a\\b", "a\nb"] {
        let refused = load(selectors(app), None, &variables(), |path| panic!("read {path}")).unwrap_err();
        assert_eq!(refused.problems[0].code, "config-default", "{app:?}");
    }
}

#[test]
fn expressions() {
    let base =
        "s: t\nn: 5\nf: 1e-7\nz: null\nb: true\nm: {x: 1, y: [2, 3]}\nl: [p, {q: r}]\nk: m\na-b: 6\nd: {e.f: 7}\n";
    let cases = [
        ("${s}", json!("t")),
        ("${ n }", json!(5)),
        ("${m.y}", json!([2, 3])),
        ("${m.y[1]}", json!(3)),
        ("${l.-1.q}", json!("r")),
        ("${[m][x]}", json!(1)),
        ("${a-b}", json!(6)),
        ("${d.e\\.f}", json!(7)),
        ("${.n}", json!(5)),
        ("${${k}.x}", json!(1)),
        ("v${z}|${b}|${n}|${f}|${m}|${l}", json!("vNone|True|5|1e-07|{'x': 1, 'y': [2, 3]}|['p', {'q': 'r'}]")),
        ("\\${s}", json!("${s}")),
        ("\\\\${s}", json!("\\t")),
        ("\\\\\\${s}", json!("\\${s}")),
        ("a\\b$c", json!("a\\b$c")),
        ("$${s}", json!("$t")),
        ("\\???", json!("???")),
        ("${oc.env:HOME}/x", json!("/h/x")),
        ("${oc.env:UNSET,5}", json!("5")),
        ("${oc.env:UNSET,null}", json!(null)),
        ("${oc.env:UNSET,}", json!("")),
        ("${oc.env:UNSET,'a, b'}", json!("a, b")),
        ("${oc.env:UNSET,[1, ${n}]}", json!("[1, 5]")),
        ("${oc.select:nope}", json!(null)),
        ("${oc.select:nope.x,4}", json!(4)),
        ("${oc.select:m.x,4}", json!(1)),
        ("${oc.decode:'{x: 1, y: [a, 2.5, null, True]}'}", json!({"x": 1, "y": ["a", 2.5, null, true]})),
        ("${oc.decode:'${k}'}", json!("m")),
        ("${oc.decode:'1_000'}", json!(1000)),
        ("${oc.decode:'inf'}", json!(".inf")),
        ("${oc.create:{a: ${n}}}", json!({"a": 5})),
        ("${oc.create:'a: [1, \"\\${n}\"]'}", json!({"a": [1, "${n}"]})),
        ("${oc.dict.keys:m}", json!(["x", "y"])),
        ("${oc.dict.values:m}", json!([1, [2, 3]])),
        ("${oc.coerce:int,'7'}", json!(7)),
        ("${oc.coerce:bool,off}", json!(false)),
        ("${oc.deprecated:n}", json!(5)),
    ];
    for (text, wanted) in cases {
        let quoted = text.replace('\'', "''");
        let node = one(&format!("{base}v: '{quoted}'\n")).unwrap_or_else(|refused| panic!("{text}: {refused}"));
        assert_eq!(node.child("v").unwrap().to_json(), wanted, "{text}");
    }
}

#[test]
fn a_variable_is_data() {
    let allowed = Variables::new(["X".to_owned()], [("X".to_owned(), "${oc.env:SECRET} ${a}".to_owned())]);
    let source = Source::parse(Layer::Default, "f", "a: 1\nb: ${oc.env:X}\nc: '${b}'\n").unwrap();
    let node = merge([source], &allowed).unwrap().resolve(&allowed).unwrap();
    assert_eq!(node.child("c").unwrap().to_json(), json!("${oc.env:SECRET} ${a}"));
}

#[test]
fn blocks() {
    let parse = |text| Source::parse(Layer::Machine, "machine.yaml", text).unwrap();
    let none = Variables::default();
    let file = parse(
        "on: {a: 1}\n10: {a: 2}\n'017': {a: 3}\n0x1F: {a: 4}\n_: {a: 5}\nbase: {a: 6}\nref: ${base}\na.b: {a: 7}\n",
    );
    for (selector, wanted) in
        [("on", 1), ("10", 2), ("017", 3), ("0x1F", 4), ("31", 4), ("nope", 5), ("ref", 6), ("a.b", 7)]
    {
        let block = file.select(selector, Some("_"), &none).unwrap();
        assert_eq!(block.root().to_json(), json!({"a": wanted}), "{selector}");
    }
    assert_eq!(file.select("nope", None, &none).unwrap_err().kind(), ErrorKind::NotFound);
}

#[test]
fn assignments() {
    let set = |assignments: &[&str]| Source::assignments("--set", assignments).map(|source| source.root().to_json());
    assert_eq!(
        set(&["a.b=1", "a.c=[x, 2]", "l[k]=true", "x\\.y=t=u", "n=", "a.b='2'"]).unwrap(),
        json!({"a": {"b": "2", "c": ["x", 2]}, "l": {"k": true}, "x.y": "t=u", "n": null})
    );
    let refused = ["a", "=1", "a..b=1", "a=[", "a=${", "a=!!set {x}"].map(|text| refusal(&set(&[text]).unwrap_err()));
    assert_snapshot!(refused.join("\n"));
    assert_eq!(set(&["a=[1]", "a.b=1"]).unwrap_err().problems[0].code, "config-merge");
}

#[test]
fn views() {
    let data = json!({"a": {"b": {"c": "${s}"}}, "s": "t", "l": [1, {"x": 2}], "j": "${a.b}", "n": null});
    let source = Source::from_data(Layer::Default, "data", data.as_object().unwrap()).unwrap();
    let none = Variables::default();
    let merged = merge([source], &none).unwrap();
    let view = |path: &str| merged.view(path, &none);
    assert_eq!(view("a").unwrap().node().to_json(), json!({"b": {"c": "${s}"}}));
    assert_eq!(view("j").unwrap().resolve().unwrap().to_json(), json!({"c": "t"}));
    assert_eq!(view("l[1]").unwrap().resolve().unwrap().to_json(), json!({"x": 2}));
    for path in ["..", "a.", "a..b", "x", "n", "s.t", "l.9", "["] {
        assert_eq!(view(path).unwrap_err().kind(), ErrorKind::NotFound, "{path}");
    }
    for path in ["s", "l", "l.0", "l.x"] {
        assert_eq!(view(path).unwrap_err().kind(), ErrorKind::Invalid, "{path}");
    }
}

#[test]
fn growth_and_depth_are_bounded() {
    let doubling = |value: fn(usize) -> String, first: &str| {
        let lines: Vec<String> = (1..60).map(|at| format!("a{at}: {}\n", value(at - 1))).collect();
        format!("a0: {first}\n{}", lines.concat())
    };
    let deep = format!("a: {}{}\n", "[".repeat(100), "]".repeat(100));
    let chain: String = (0..1000).map(|at| format!("a{at}: ${{a{}}}\n", at + 1)).collect::<String>() + "a1000: 1\n";
    let nested = format!("a: '{}x{}'\n", "${".repeat(100), "}".repeat(100));
    let lists = format!("a: '${{oc.decode:{}{}}}'\n", "[".repeat(100), "]".repeat(100));
    for (what, text, code) in [
        ("text", doubling(|n| format!("${{a{n}}}${{a{n}}}"), "x"), "config-too-large"),
        ("empty text", doubling(|n| format!("${{a{n}}}${{a{n}}}"), "''"), "config-too-large"),
        ("lists", doubling(|n| format!("['${{a{n}}}', '${{a{n}}}']"), "x"), "config-too-large"),
        ("depth", deep, "config-too-large"),
        ("a chain", chain, "config-too-large"),
        ("nesting", nested, "config-expression"),
        ("nested lists", lists, "config-expression"),
    ] {
        let refused = one(&text).expect_err(what);
        assert_eq!(refused.problems[0].code, code, "{what}: {refused}");
    }
    // Each layer's key doubles what the key before it copied.
    let default = doubling(|_| "${base}".to_owned(), "1") + "base: {x: 1}\n";
    let role: String = (2..60).map(|at| format!("  a{at}: {{l: '${{a{}}}', m: {{n: 1}}}}\n", at - 1)).collect();
    assert!(loaded(&[(Layer::Default, &default), (Layer::Role, &format!("research:\n{role}"))], &Json::Null).is_ok());
}

/// Trees that agree on which keys are mappings, so that none replaces another's shape.
fn shaped(depth: u32) -> BoxedStrategy<Json> {
    let leaf = prop_oneof![any::<i32>().prop_map(Json::from), "[a-z]{0,3}".prop_map(Json::from), Just(json!([1]))];
    let leaves = prop::collection::btree_map("[a-d]", leaf, 0..4);
    let maps = if depth == 0 {
        Just(Vec::new()).boxed()
    } else {
        prop::collection::vec(("[M-P]", shaped(depth - 1)), 0..3).boxed()
    };
    (leaves, maps).prop_map(|(leaves, maps)| Json::Object(leaves.into_iter().chain(maps).collect())).boxed()
}

fn any_data() -> impl Strategy<Value = Json> {
    let leaf = prop_oneof![
        Just(Json::Null),
        any::<bool>().prop_map(Json::from),
        any::<i64>().prop_map(Json::from),
        "(\\$\\{[.]{0,2}[a-c]([.][a-c01])?\\}|[a-c$\\\\{}' ]|\\?\\?\\?){0,3}".prop_map(Json::from),
    ];
    let tree = leaf.prop_recursive(3, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Json::from),
            prop::collection::btree_map("[a-c]", inner, 0..4).prop_map(|map| Json::Object(map.into_iter().collect())),
        ]
    });
    prop::collection::btree_map("[a-c]", tree, 0..4).prop_map(|map| Json::Object(map.into_iter().collect()))
}

fn source(layer: Layer, data: &Json) -> Option<Source> {
    Source::from_data(layer, "data", data.as_object()?).ok()
}

/// A document with a value of its own in each leaf.
fn document(tree: &Json, path: &str, indent: usize, out: &mut String) {
    for (key, value) in tree.as_object().into_iter().flatten() {
        let path = format!("{path}_{key}");
        match value {
            Json::Object(map) if !map.is_empty() => {
                out.push_str(&format!("{}{key}:\n", " ".repeat(indent)));
                document(value, &path, indent + 2, out);
            }
            _ => out.push_str(&format!("{}{key}:  value{path}\n", " ".repeat(indent))),
        }
    }
}

proptest! {
    #[test]
    fn merging_is_associative_where_shapes_agree(a in shaped(2), b in shaped(2), c in shaped(2)) {
        let none = Variables::default();
        let parts = || [&a, &b, &c].map(|data| source(Layer::Default, data).unwrap());
        let [first, second, third] = parts();
        let upper = merge([second, third], &none).unwrap().into_root();
        let upper = Source::from_data(Layer::Default, "data", upper.to_json().as_object().unwrap()).unwrap();
        let right = merge([first, upper], &none).unwrap();
        prop_assert_eq!(merge(parts(), &none).unwrap().root().to_json(), right.root().to_json());
    }

    #[test]
    fn merging_once_more_changes_nothing(a in shaped(2), b in shaped(2)) {
        let none = Variables::default();
        let [low, high] = [&a, &b].map(|data| source(Layer::Default, data).unwrap());
        let once = merge([low.clone(), high.clone()], &none).unwrap();
        let twice = merge([low, high.clone(), high], &none).unwrap();
        prop_assert_eq!(once.root().to_json(), twice.root().to_json());
    }

    #[test]
    fn any_text_is_answered(text in "\\PC{0,40}", value in "[${}a-c.:,\\[\\]'\"\\\\ 0-9oenv_-]{0,40}") {
        let _ = Source::parse(Layer::Default, "f", &text);
        let _ = Source::assignments("--set", [&text]);
        let data = json!({"a": format!("${{{value}}}"), "b": value, "c": [1, {"x": 2}]});
        if let Some(source) = source(Layer::Default, &data) {
            let merged = merge([source], &variables()).unwrap();
            let _ = merged.resolve(&variables());
            let _ = merged.view(&value, &variables()).map(View::resolve);
        }
    }

    #[test]
    fn any_layers_are_answered(a in any_data(), b in any_data(), c in any_data()) {
        let sources = [&a, &b, &c].into_iter().filter_map(|data| source(Layer::Default, data));
        if let Ok(node) = merge(sources, &variables()).and_then(|merged| merged.resolve(&variables())) {
            let open = node.leaves().into_iter().find(|(_, node)| matches!(node.value, Value::Expression(_)));
            prop_assert!(open.is_none());
        }
    }

    #[test]
    fn every_leaf_points_at_its_text(low in shaped(2), high in shaped(2)) {
        let texts = [&low, &high].map(|tree| {
            let mut text = String::new();
            document(tree, "", 0, &mut text);
            text
        });
        let sources = [(Layer::Default, "0"), (Layer::Role, "1")]
            .into_iter()
            .zip(&texts)
            .map(|((layer, file), text)| Source::parse(layer, file, text).unwrap());
        // The same text in both layers comes from the higher one.
        let merged = merge(sources, &Variables::default()).unwrap();
        for (path, node) in merged.root().leaves() {
            let Value::Text(value) = &node.value else { continue };
            let at = node.origin.at.unwrap();
            let text = &texts[usize::from(node.origin.layer == Layer::Role)];
            let line = text.lines().nth(at.line - 1).unwrap();
            prop_assert!(line[at.column - 1..].starts_with(value.as_str()), "{} at {:?} in {:?}", path, at, line);
            prop_assert_eq!(&*node.origin.file, if node.origin.layer == Layer::Role { "1" } else { "0" });
            let is_above = texts[1].contains(&format!(":  {value}\n"));
            prop_assert!(!is_above || node.origin.layer == Layer::Role);
        }
    }

    #[test]
    fn paths_round_trip(keys in prop::collection::vec("[a-z0-9.\\[\\] -]{1,4}", 1..4)) {
        let path = keys.iter().fold(String::new(), |path, key| joined(&path, key));
        prop_assert_eq!(split(&path), keys);
    }
}
