//! The main job as a new user does it: grant, then run Claude's adapter with the command against the mock.

use serde_json::json;

use crate::command::Home;
use crate::peer::Aimock;

#[tokio::test(flavor = "multi_thread")]
async fn the_command_runs_a_vendor_after_its_grants() {
    // A key as short as in the README's example: it must work, whatever can be redacted of it.
    let fixtures = json!({ "fixtures": [
        { "match": { "userMessage": "count", "hasToolResult": false }, "response": { "content": "Let me look.", "toolCalls": [
            { "id": "call_1", "name": "glob", "arguments": "{\"pattern\":\"*.txt\"}" },
            { "id": "call_2", "name": "write_file", "arguments": "{\"path\":\"count.md\",\"content\":\"two\\n\"}" },
        ] } },
        { "match": { "userMessage": "count", "hasToolResult": true }, "response": { "content": "There are two." } },
    ] });
    let Some(mock) = Aimock::start("x", &fixtures).await else { return };
    let config =
        json!({ "profiles": { "anthropic": { "settings": { "base_url": mock.url(), "model": "claude-mocked" } } } });
    let home = Home::new().config(&config.to_string()).env("ANTHROPIC_API_KEY", "x");
    let folder = tempfile::tempdir().expect("folder");
    std::fs::write(folder.path().join("a.txt"), "a").expect("file");
    std::fs::write(folder.path().join("b.txt"), "b").expect("file");
    let workspace = format!("{}:rw", folder.path().display());
    let arguments = ["run", "anthropic", "--goal", "count the files", "--workspace", &workspace];

    let refused = home.run(&arguments);
    assert_eq!(refused.code, Some(3), "{refused:?}");
    let line =
        refused.err.lines().find_map(|line| line.strip_prefix("hint: ")).expect("a hint").trim_matches('`').to_owned();
    let words: Vec<String> = line.split(' ').map(|word| word.trim_matches('\'').to_owned()).collect();
    assert_eq!(words[..3], ["midplane", "grant", "allow"], "{line}");
    // The line that was printed is typed, and it is all that it takes.
    let granted = home.run(&words[1..].iter().map(String::as_str).collect::<Vec<_>>());
    assert_eq!(granted.code, Some(0), "{granted:?}");

    let ran = home.run(&arguments);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(ran.out.contains("Let me look.") && ran.out.contains("There are two."), "{}", ran.out);
    assert_eq!(std::fs::read_to_string(folder.path().join("count.md")).expect("the file"), "two\n");
    assert_eq!(mock.journal().await.len(), 2);
}
