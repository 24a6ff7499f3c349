//! Parts of the documentation that are generated from the code. With `MIDPLANE_BLESS=1` a test writes what it would compare.

use std::fmt::Write as _;
use std::path::Path;

use midplane::core::limits::TABLE;
use serde_json::{Value, json};

use crate::command::Home;
use crate::peer::Aimock;
use crate::world::KEY;

/// Replaces what stands between the two markers of a name.
fn section(file: &Path, name: &str, generated: &str) {
    let text = std::fs::read_to_string(file).expect("file");
    let (begin, end) = (format!("<!-- {name}: "), format!("<!-- /{name} -->"));
    let from = text.find(&begin).and_then(|at| text[at..].find("-->\n").map(|to| at + to + 4)).expect("begin marker");
    let to = text.find(&end).expect("end marker");
    if text[from..to] == *generated {
        return;
    }
    assert!(
        std::env::var_os("MIDPLANE_BLESS").is_some(),
        "{}: the section `{name}` is out of date; run the tests once with MIDPLANE_BLESS=1",
        file.display()
    );
    std::fs::write(file, format!("{}{generated}{}", &text[..from], &text[to..])).expect("write");
}

#[test]
fn limits_in_the_readme() {
    let mut table = String::from("| limit | default | | bounds |\n|---|--:|---|---|\n");
    for info in TABLE {
        let plus = if info.raisable { "+" } else { "" };
        writeln!(table, "| `{}` | {} | {plus} | {} |", info.name, info.default, info.doc.trim()).expect("write");
    }
    let readme = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../README.md");
    section(&readme, "limits", &table);
}

#[test]
fn the_worked_example_in_the_readme() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let readme = root.join("README.md");
    // The file that is shown is the one that is checked.
    let example = std::fs::read_to_string(root.join("examples/broken-manifest/runtm.yaml")).expect("example");
    assert!(std::fs::read_to_string(&readme).expect("readme").contains(&example), "the README shows another file");
    let home = Home::new();
    let run = |arguments: &[&str]| {
        let output = home.command(arguments).current_dir(&root).output().expect("the command runs");
        crate::command::printed(output)
    };
    let checked = run(&["check", "examples/broken-manifest"]);
    assert_eq!(checked.code, Some(1), "{}", checked.err);
    let typed = |command: &str, out: &str| format!("```console\n$ midplane {command}\n{out}```\n");
    section(&readme, "check", &typed("check examples/broken-manifest", &checked.out));
    let code = "env-default-secret";
    let explained = run(&["explain", code]);
    assert_eq!(explained.code, Some(0), "{}", explained.err);
    section(&readme, "explain", &typed(&format!("explain {code}"), &explained.out));
}

#[test]
fn the_matrix_of_agents_in_the_readme() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let home = Home::new();
    let output = home.command(&["agents", "--markdown"]).output().expect("the command runs");
    let printed = crate::command::printed(output);
    assert_eq!(printed.code, Some(0), "{}", printed.err);
    section(&root.join("README.md"), "agents", &printed.out);
}

/// The blocks of code of a language in a text, in order.
fn blocks<'t>(text: &'t str, language: &str) -> Vec<&'t str> {
    let begin = format!("```{language}\n");
    text.match_indices(&begin)
        .filter_map(|(at, _)| text[at + begin.len()..].split_once("```"))
        .map(|(code, _)| code)
        .collect()
}

/// One more compatible vendor is configuration only: each example of the documentation, typed as it stands there, with the
/// mock in the vendor's place.
#[tokio::test(flavor = "multi_thread")]
async fn the_compatible_vendors_in_the_docs_are_configuration_only() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let text = std::fs::read_to_string(root.join("plugins/agent-openai/README.md")).expect("the documentation");
    let (_, text) = text.split_once("## Another vendor is a profile\n").expect("the section");
    let (text, _) = text.split_once("\n## ").expect("the next section");
    let (configs, lines) = (blocks(text, "yaml"), blocks(text, "sh"));
    assert!(configs.len() >= 2 && configs.len() == lines.len(), "{} examples", configs.len());
    let fixtures = json!({ "fixtures": [
        { "match": { "userMessage": "explain this repository" }, "response": { "content": "It is empty." } }] });
    for (config, lines) in configs.into_iter().zip(lines) {
        // One without keys is a server that asks for none.
        let key = if config.contains("credential: anonymous") { "" } else { KEY };
        let Some(mock) = Aimock::start(key, &fixtures).await else { return };
        let of = |name: &str| {
            let (_, value) = config.split_once(&format!(" {name}: ")).expect("in each example");
            value.split(['\n', '#']).next().unwrap_or_default().trim().to_owned()
        };
        let (vendor, model) = (of("base_url"), of("model"));
        let here = |text: &str| {
            text.replace(&vendor, &format!("{}/v1", mock.url())).replace("_KEY=... ", &format!("_KEY='{KEY}' "))
        };
        let home = Home::new().config(&here(config));
        let folder = tempfile::tempdir().expect("folder");
        let mut last = String::new();
        for line in lines.lines() {
            let ran = home.shell(folder.path(), &here(line));
            assert_eq!(ran.code, Some(0), "{line}: {ran:?}");
            last = ran.out;
        }
        assert!(last.contains("It is empty."), "{last}");
        let journal = mock.journal().await;
        assert_eq!((journal.len(), &journal[0]["path"]), (1, &json!("/v1/chat/completions")));
        let (head, body) = (&journal[0]["headers"], &journal[0]["body"]);
        assert_eq!(body["model"], model.as_str());
        assert_eq!(head["authorization"].is_null(), key.is_empty());
        // A field of the operator's own, where the example has one.
        let max = config.contains("max_tokens: 32768").then_some(json!(32768)).unwrap_or(Value::Null);
        assert_eq!(body["max_tokens"], max);
    }
}
