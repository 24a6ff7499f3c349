//! Whether profiles could run, as a fresh machine says it step by step; and what a refused task is told at once.

use std::time::Duration;

use midplane::config::ProfileConfig;
use midplane::core::ProfileName;
use midplane::core::task::Task;
use midplane::readiness::ProfileReadiness;
use midplane::{Config, FIRST_PARTY, Host};
use serde_json::json;

const KEY: &str = "sk-readiness-0123456789abcdefghijklmnop";

/// A host whose environment has a key or not, with a setting of a profile.
async fn host(key: bool, setting: Option<(&str, &str, serde_json::Value)>) -> Host {
    let mut config = Config::default();
    if let Some((profile, name, value)) = setting {
        let settings = [(name.to_owned(), value)].into();
        let of_profile = ProfileConfig { settings, ..ProfileConfig::default() };
        config.profiles.insert(ProfileName::new(profile).expect("a name"), of_profile);
    }
    let builder = Host::builder()
        .config(config)
        .cache(concat!(env!("CARGO_TARGET_TMPDIR"), "/cache"))
        .env(move |name| (key && name.ends_with("_API_KEY")).then(|| KEY.to_owned()));
    FIRST_PARTY.iter().fold(builder, |builder, plugin| builder.plugin(*plugin)).open().await.expect("host")
}

async fn allow(host: &Host, profile: &str, grants: &[&str]) {
    for grant in grants {
        host.allow(profile, &grant.parse().expect("a grant")).await.expect("allowed");
    }
}

/// In one line, with the parts that are not in order and what is said to do about them.
async fn told(host: &Host, profile: &str) -> String {
    let found = host.readiness(profile, Duration::ZERO).await.expect("an answer");
    let text = serde_json::to_string(&found).expect("JSON");
    assert!(!text.contains(KEY), "{text}");
    let ProfileReadiness { readiness, parts } = found;
    let lacking = parts.iter().filter(|part| !part.ok).map(|part| {
        let hint = part.hint.as_deref().unwrap_or("-");
        format!("\n    {} {}: {} ({hint})", part.what, part.name, part.detail)
    });
    let (status, reason) = (readiness.status.as_str(), readiness.reason.as_str());
    format!("{status} {reason} {}{}", json!(readiness.metadata), lacking.collect::<String>())
}

const HTTP: [&str; 2] = ["http:https://api.anthropic.com", "secret:ANTHROPIC_API_KEY"];

#[tokio::test]
async fn each_thing_that_is_missing_is_named_with_what_to_do() {
    let mut lines = Vec::new();
    let bare = host(false, None).await;
    lines.push(told(&bare, "anthropic").await);
    allow(&bare, "anthropic", &HTTP).await;
    lines.push(told(&bare, "anthropic").await);
    let whole = host(true, None).await;
    allow(&whole, "anthropic", &HTTP).await;
    // A program for its tasks, such as an MCP server.
    allow(&whole, "anthropic", &["command:no-such-mcp-server --stdio"]).await;
    lines.push(told(&whole, "anthropic").await);

    let program = "/no/such/claude";
    let missing = host(true, Some(("claude-code", "program", json!(program)))).await;
    lines.push(told(&missing, "claude-code").await);
    // Any program that is there: nothing is started where there is no time for it.
    let there = host(true, Some(("claude-code", "program", json!("/bin/sh")))).await;
    let variables = [
        "command:/bin/sh",
        "env:ANTHROPIC_AUTH_TOKEN",
        "env:ANTHROPIC_BASE_URL",
        "env:CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC",
        "env:CLAUDE_CODE_ENTRYPOINT",
        "env:CLAUDE_CODE_SDK_READS_SESSION_STATE",
    ];
    allow(&there, "claude-code", &variables).await;
    lines.push(told(&there, "claude-code").await);
    allow(&there, "claude-code", &HTTP).await;
    lines.push(told(&there, "claude-code").await);
    // It drives the program that it is told to, and needs one of them.
    lines.push(told(&whole, "acp").await);
    insta::assert_snapshot!(lines.join("\n"));
}

#[tokio::test]
async fn a_refused_task_is_told_all_reasons_by_the_names_that_it_uses() {
    let host = host(true, Some(("codex", "models", json!(["m-a"])))).await;
    let mut task = Task::new("x");
    task.permissions.allowed_tools = vec!["shell".to_owned()];
    task.metadata.insert("model".to_owned(), json!("m-z"));
    let fields =
        |issues: Vec<midplane::core::task::Issue>| issues.into_iter().map(|issue| issue.field).collect::<Vec<_>>();
    let wanted = ["permissions.allowed_tools", "metadata.model"];
    assert_eq!(fields(host.issues("codex", &task).await.expect("an answer")), wanted);
    let request = midplane::RunRequest { profile: "codex".to_owned(), task, allow: Vec::new() };
    let refusal = host.run(request).await.err().expect("refused before a grant is asked for");
    assert_eq!(fields(refusal.issues), wanted);
    assert_eq!(refusal.error.code, "task-unsupported");
}
