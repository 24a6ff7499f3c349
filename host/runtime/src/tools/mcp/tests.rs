//! Servers of every kind of badness, as shell scripts and scripted HTTP servers; the real ones are in `tests/it/mcp.rs`. No test
//! asserts a time.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::collections::HashMap;
use std::time::Duration;

use midplane_core::limits::Limits;
use midplane_core::permission::Origin;
use midplane_core::redact::{Redactor, Secrets};
use midplane_engine::ports::{ToolAnswer, ToolCall, Tools as _};
use serde_json::json;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::UnixStream;

use super::bridge::{Bridges, Sockets};
use super::*;
use crate::egress::tests::harness::{Peer, Server as HttpPeer, Setup, Values, answer as http_answer, header};
use crate::fakes::{self, Recorder};
use crate::placeholder::Placeholders;
use crate::rights::{Rights, grants_text};
use crate::tools::ToolPolicy;

const SECRET: &str = "mcp-secret-0123456789";

/// What every script begins with. `answer` reads a request and answers it, `shake` shakes hands, `list` lists tools.
const PRELUDE: &str = r#"
answer() { read -r line || exit 0; id=$(expr "$line" : '.*"id":\([0-9]*\)'); printf '{"jsonrpc":"2.0","id":%s,%s}\n' "$id" "$1"; }
shake() { answer '"result":{"protocolVersion":"2025-06-18","capabilities":{"tools":{}},"serverInfo":{"name":"s","version":"1"}}'; read -r note; }
list() { answer "\"result\":{\"tools\":[$1]}"; }
tool() { printf '{"name":"%s","description":"d","inputSchema":{"type":"object"}}' "$1"; }
say() { answer "\"result\":{\"content\":[{\"type\":\"text\",\"text\":\"$1\"}]}"; }
"#;

struct Rig {
    tools: HostTools,
    servers: Vec<Arc<Server>>,
    recorder: Arc<Recorder>,
    _folders: [tempfile::TempDir; 2],
}

fn script(name: &str, text: &str) -> McpServer {
    let args = vec!["-c".to_owned(), format!("{PRELUDE}\n{text}")];
    McpServer { name: name.to_owned(), command: "sh".to_owned(), args, ..McpServer::default() }
}

fn rig(specs: Vec<McpServer>) -> Rig {
    rig_of(specs, Limits::default(), ToolPolicy::default(), &["command:sh", "env:PLAIN", "secret:KEY"], None)
}

fn rig_of(
    specs: Vec<McpServer>,
    limits: Limits,
    policy: ToolPolicy,
    grants: &[&str],
    http: Option<Arc<dyn Http>>,
) -> Rig {
    let (call, recorder) = fakes::call(limits);
    let values = HashMap::from([("KEY".to_owned(), SECRET.to_owned())]);
    let redactor = Redactor::new(Secrets::new(&values).unwrap());
    let secrets = Arc::new(Values(values));
    let folder = tempfile::tempdir().unwrap();
    let (place, home) = fakes::place(None);
    let plain = fakes::rights(&[], grants);
    let granted: midplane_core::permission::Grants =
        grants.iter().map(|text| (text.parse().unwrap(), Origin::Once)).collect();
    let granted = Arc::new(granted);
    let servers: Vec<Arc<Server>> = specs
        .into_iter()
        .map(|spec| {
            let permission = spec.permission().unwrap();
            let argv = match &permission {
                midplane_core::permission::Permission::Command { argv, .. } => argv.clone(),
                _ => Vec::new(),
            };
            let asked = Requested { permission, optional: false, reason: String::new() };
            let rights = Arc::new(Rights {
                profile: call.profile.clone(),
                permissions: Arc::new(Permissions::from_iter([asked])),
                grants: granted.clone(),
            });
            let request = midplane_core::gate::Request::Command { argv: &argv };
            let grants = rights.check(&request).ok().as_ref().and_then(grants_text);
            let placeholders = Placeholders::new().unwrap();
            let processes =
                Processes::new(call.clone(), rights, place.clone(), secrets.clone(), placeholders, redactor.clone());
            let http = http.clone().unwrap_or_else(|| Setup::empty().build().egress);
            Arc::new(Server { spec, call: call.clone(), processes, http, grants })
        })
        .collect();
    let tools = HostTools::new(call.clone(), plain, policy, redactor, place).unwrap();
    let tools = tools.with_servers(Servers::new(servers.clone(), call));
    Rig { tools, servers, recorder, _folders: [folder, home] }
}

impl Rig {
    async fn names(&self) -> Result<Vec<String>> {
        Ok(self.tools.offered().await?.into_iter().map(|tool| tool.name).collect())
    }

    async fn call(&self, name: &str, arguments: Value) -> ToolAnswer {
        let call = ToolCall { id: "1".to_owned(), name: name.to_owned(), arguments: arguments.to_string() };
        self.tools.call_all(vec![call]).await.unwrap().remove(0)
    }
}

fn shown(answer: &ToolAnswer) -> String {
    format!("{} {:?}", if answer.is_error { "failed" } else { "ok" }, answer.text)
}

fn error_line(error: &Error) -> String {
    let hint = error.hint.as_ref().map(|hint| format!(" (hint: {hint})")).unwrap_or_default();
    format!("{} {}: {}{hint}", error.kind, error.code, error.message)
}

/// Processes that have this text among their arguments.
fn running(text: &str) -> usize {
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    entries
        .filter(|entry| {
            let arguments = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
            let state = std::fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
            String::from_utf8_lossy(&arguments).contains(text) && !state.contains(") Z ")
        })
        .count()
}

async fn none_is_left(text: &str) {
    for _ in 0..1000 {
        if running(text) == 0 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("a server is still running");
}

#[tokio::test]
async fn tools_of_a_server_beside_those_of_the_host() {
    let text = r#"shake; list "$(tool 'say it'),$(tool plain)"; say hello
        answer '"error":{"code":-32602,"message":"Tool nix not found"}'
        answer '"result":{"isError":true,"content":[{"type":"text","text":"Tool nix not found"}]}'
        answer '"result":{"content":[{"type":"image","mimeType":"image/png","data":"aGVsbG8="}],"structuredContent":{"n":1}}'
        read -r rest; echo marker-of-a-full-life"#;
    let rig = rig(vec![script("my fs", text)]);
    assert_eq!(running("marker-of-a-full-life"), 0, "nothing is started before it is asked for");
    let mut lines = vec![rig.names().await.unwrap().join(" ")];
    for arguments in [json!({}), json!({}), json!({}), json!({ "deep": [1, null] })] {
        let answer = rig.call("my_fs__say_it", arguments).await;
        lines.push(format!("{} {:?}", shown(&answer), answer.structured));
    }
    lines.push(shown(&rig.call("my_fs__say", json!({})).await));
    lines.extend(rig.recorder.events());
    // What the kernel offers for a sandbox differs from machine to machine.
    lines.extend(rig.recorder.audits().into_iter().filter(|line| !line.starts_with("sandbox")));
    insta::assert_snapshot!(lines.join("\n"));
    rig.tools.close().await;
    none_is_left("marker-of-a-full-life").await;
}

#[tokio::test]
async fn servers_that_cannot_be_used() {
    let cases = [
        ("missing", McpServer { command: "no-such-mcp-server".to_owned(), args: Vec::new(), ..script("missing", "") }),
        ("ends", script("ends", "echo 'cannot open /etc/x' >&2; exit 3")),
        ("killed", script("killed", "kill -9 $$")),
        (
            "refuses",
            script("refuses", r#"answer '"error":{"code":-32600,"message":"I want another client"}'; read -r x"#),
        ),
        ("prints", script("prints", "while echo 'Starting server ...'; do :; done")),
        ("long line", script("long", "while printf xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx; do :; done")),
        ("silent", script("silent", "sleep 1000")),
        ("silent later", script("later", "shake; sleep 1000")),
        ("dies in the list", script("lists", "shake; read -r x; exit 1")),
        ("closes", script("closes", "exec >&- <&-; sleep 1000")),
    ];
    let mut lines = Vec::new();
    for (name, spec) in cases {
        let limits = Limits { mcp_start_ms_max: 3_000, mcp_message_bytes_max: 10_000, ..Limits::default() };
        let grants = ["command:sh", "command:no-such-mcp-server"];
        let rig = rig_of(vec![spec], limits, ToolPolicy::default(), &grants, None);
        let error = rig.names().await.unwrap_err();
        assert_eq!(rig.names().await.unwrap_err(), error, "it is not started again and again");
        lines.push(format!("{name}: {}", error_line(&error)));
    }
    insta::assert_snapshot!(lines.join("\n"));
    none_is_left(PRELUDE).await;
}

#[tokio::test]
async fn a_server_that_fails_in_a_call() {
    let text = r#"shake; list "$(tool a)"; read -r call; echo 'out of memory' >&2; exit 9"#;
    let rig = rig(vec![script("s", text)]);
    assert_eq!(rig.names().await.unwrap(), ["s__a"]);
    let lines = [shown(&rig.call("s__a", json!({})).await), shown(&rig.call("s__a", json!({})).await)];
    insta::assert_snapshot!(lines.join("\n"));

    // One that never answers: the call's own bound ends the wait, and the server lives on for the next.
    let text = r#"shake; list "$(tool a)"; read -r call; read -r cancelled; say again"#;
    let limits = Limits { tool_ms_max: 300, ..Limits::default() };
    let rig = rig_of(vec![script("s", text)], limits, ToolPolicy::default(), &["command:sh"], None);
    assert_eq!(rig.names().await.unwrap(), ["s__a"]);
    assert_eq!(shown(&rig.call("s__a", json!({})).await), "failed \"timed out after 300 ms; may have happened\"");
    assert_eq!(shown(&rig.call("s__a", json!({})).await), "ok \"again\"");
}

#[tokio::test]
async fn a_server_asks_and_nobody_answers() {
    // It asks in the middle of a call and tells what it was answered.
    let text = r#"shake; list "$(tool a)"; read -r call; id=$(expr "$call" : '.*"id":\([0-9]*\)')
        for method in sampling/createMessage elicitation/create roots/list other/thing ping; do
          case $method in
            sampling*) params='{"messages":[],"maxTokens":1}';;
            elicit*) params='{"message":"your password?","requestedSchema":{"type":"object","properties":{}}}';;
            *) params='{}';;
          esac
          printf '{"jsonrpc":"2.0","id":"%s","method":"%s","params":%s}\n' $method $method "$params"; read -r reply
          said="$said $(printf %s "$reply" | tr -d '"' | tr '{},' '   ');"
        done
        printf '{"jsonrpc":"2.0","id":%s,"result":{"content":[{"type":"text","text":"%s"}]}}\n' "$id" "$said"; read -r x"#;
    let rig = rig(vec![script("s", text)]);
    rig.names().await.unwrap();
    insta::assert_snapshot!(rig.call("s__a", json!({})).await.text.replace("; ", ";\n"));
}

#[tokio::test]
async fn lists_are_bounded_and_broken_tools_left_out() {
    let many = r#"shake; read -r line; id=$(expr "$line" : '.*"id":\([0-9]*\)')
        printf '{"jsonrpc":"2.0","id":%s,"result":{"tools":[' "$id"
        i=0; while [ $i -lt 10000 ]; do printf '{"name":"t%s","inputSchema":{"type":"object"}},' $i; i=$((i+1)); done
        printf '{"name":"last","inputSchema":{"type":"object"}}]}}\n'; read -r x"#;
    let odd = r#"shake; list "$(tool a),$(tool a),{\"name\":\"bad\",\"inputSchema\":{\"properties\":{\"x\":{\"type\":\"nothing\"}}}},{\"name\":\"untyped\",\"inputSchema\":{}}"; read -r x"#;
    let again = r#"shake; while :; do answer '"result":{"tools":[],"nextCursor":"same"}'; done"#;
    let limits = Limits { mcp_tools_max: 5, ..Limits::default() };
    let specs = vec![script("odd", odd), script("many", many), script("again", again)];
    let rig = rig_of(specs, limits, ToolPolicy::default(), &["command:sh"], None);
    let mut lines = vec![rig.names().await.unwrap().join(" ")];
    lines.extend(rig.recorder.events());
    insta::assert_snapshot!(lines.join("\n"));
}

#[tokio::test]
async fn the_task_says_which_tools() {
    let text = r#"shake; list "$(tool a),$(tool b),{\"name\":\"look\",\"inputSchema\":{},\"annotations\":{\"readOnlyHint\":true}}"; say done"#;
    let list = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    let grants = ["command:sh"];
    let only = ToolPolicy { allowed_tools: list(&["s__a"]), ..ToolPolicy::default() };
    let only = rig_of(vec![script("s", text)], Limits::default(), only, &grants, None);
    assert_eq!(only.names().await.unwrap(), ["s__a"]);
    let not = ToolPolicy { disallowed_tools: list(&["s__a"]), ..ToolPolicy::default() };
    let not = rig_of(vec![script("s", text)], Limits::default(), not, &grants, None);
    assert_eq!(not.names().await.unwrap(), ["s__b", "s__look"]);
    let looking = ToolPolicy { filesystem_read_only: true, ..ToolPolicy::default() };
    let looking = rig_of(vec![script("s", text)], Limits::default(), looking, &grants, None);
    assert_eq!(looking.names().await.unwrap(), ["s__look"]);
    insta::assert_snapshot!(shown(&looking.call("s__a", json!({})).await));
    assert_eq!(shown(&looking.call("s__look", json!({})).await), "ok \"done\"");
}

#[tokio::test]
async fn a_server_gets_what_was_granted_and_its_secret_does_not_come_back() {
    let text = r#"shake; list "$(tool a)"; say "key $KEY plain $PLAIN home ${SHOULD_NOT_BE-unset}"; read -r x"#;
    let spec = McpServer {
        env: [("PLAIN".to_owned(), "value".to_owned())].into(),
        secret_env: vec!["KEY".to_owned()],
        ..script("s", text)
    };
    let rig_with = |grants: &[&str]| rig_of(vec![spec.clone()], Limits::default(), ToolPolicy::default(), grants, None);
    let rig = rig_with(&["command:sh", "env:PLAIN", "secret:KEY"]);
    assert_eq!(
        shown(&rig.call("s__a", json!({})).await),
        "ok \"key [redacted:KEY] plain value home unset\"",
        "also where nobody asked what is offered"
    );
    let mut lines = Vec::new();
    assert_eq!(rig_with(&["env:PLAIN", "secret:KEY"]).names().await.unwrap_err().code, "command");
    for grants in [&["command:sh", "secret:KEY"][..], &["command:sh", "env:PLAIN"]] {
        lines.push(error_line(&rig_with(grants).names().await.unwrap_err()));
    }
    insta::assert_snapshot!(lines.join("\n").replace(PRELUDE, ""));
}

#[tokio::test]
async fn a_cancel_ends_a_call() {
    let text = r#"shake; list "$(tool a)"; read -r call; echo called >&2; sleep 1000; echo marker-of-a-cancel"#;
    let rig = Arc::new(rig(vec![script("s", text)]));
    rig.names().await.unwrap();
    let called = rig.clone();
    let call = tokio::spawn(async move { called.call("s__a", json!({})).await });
    // Its request is written before it is run.
    while !rig.recorder.events().iter().any(|event| event.starts_with("tool_request")) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    rig.servers[0].call.control.cancel(Duration::from_secs(600));
    assert!(call.await.unwrap().text.starts_with("cancelled"));
    rig.tools.close().await;
    none_is_left("marker-of-a-cancel").await;
}

/// A server at a URL: answers each message by what a function makes of head and message; `None` is `202`.
async fn http_server(respond: impl Fn(&str, &Value) -> Option<String> + Send + Sync + 'static) -> HttpPeer {
    let respond = Arc::new(respond);
    HttpPeer::scripted(move |mut peer: Peer| {
        let respond = respond.clone();
        async move {
            let head = peer.head().await;
            let body = peer.body(&head).await;
            let message = serde_json::from_slice(&body).unwrap_or(Value::Null);
            let answer = respond(&head, &message).unwrap_or_else(|| http_answer("202 Accepted", "", ""));
            peer.send(answer).await;
            peer.closed().await;
        }
    })
    .await
}

fn result(message: &Value, result: &Value) -> String {
    json!({ "jsonrpc": "2.0", "id": message["id"], "result": result }).to_string()
}

const JSON: &str = "content-type: application/json\r\nmcp-session-id: s-1\r\n";
const SSE: &str = "content-type: text/event-stream\r\n";

/// What a proper server answers.
fn proper(head: &str, message: &Value) -> Option<String> {
    if header(head, "authorization") != Some(format!("Bearer {SECRET}").as_str()) {
        return Some(http_answer("401 Unauthorized", "www-authenticate: Bearer\r\n", "who are you?"));
    }
    if head.starts_with("GET ") {
        return Some(http_answer("405 Method Not Allowed", "", ""));
    }
    match message["method"].as_str()? {
        "initialize" => {
            let info = json!({ "protocolVersion": "2025-06-18", "capabilities": { "tools": {} }, "serverInfo": { "name": "h", "version": "1" } });
            Some(http_answer("200 OK", JSON, &result(message, &info)))
        }
        "tools/list" => {
            assert_eq!(header(head, "mcp-session-id"), Some("s-1"), "{head}");
            let tools = json!({ "tools": [{ "name": "echo", "inputSchema": { "type": "object" } }] });
            Some(http_answer("200 OK", SSE, &format!("event: message\ndata: {}\n\n", result(message, &tools))))
        }
        "tools/call" => {
            let text = format!("{} with {SECRET}", message["params"]["arguments"]);
            let content = json!({ "content": [{ "type": "text", "text": text }] });
            Some(http_answer("200 OK", JSON, &result(message, &content)))
        }
        _ => None,
    }
}

fn at_url(server: &HttpPeer, secret: Option<&str>) -> (McpServer, Setup) {
    let url = format!("http://api.test:{}/mcp", server.port());
    let spec = McpServer {
        name: "far".to_owned(),
        url: Some(url.clone()),
        secret: secret.map(str::to_owned),
        ..McpServer::default()
    };
    let midplane_core::permission::Permission::Http { credential, .. } = spec.permission().unwrap() else { panic!() };
    (spec, Setup::empty().allow(&url, &["GET", "POST", "DELETE"], credential).value("KEY", SECRET))
}

#[tokio::test]
async fn a_server_at_a_url() {
    let server = http_server(proper).await;
    let (spec, setup) = at_url(&server, Some("KEY"));
    let gate = setup.build();
    let rig = rig_of(vec![spec], Limits::default(), ToolPolicy::default(), &[], Some(gate.egress.clone()));
    assert_eq!(rig.names().await.unwrap(), ["far__echo"]);
    let answer = rig.call("far__echo", json!({ "a": 1 })).await;
    assert_eq!(shown(&answer), "ok \"{\\\"a\\\":1} with [redacted:KEY]\"");
    rig.tools.close().await;
    let mut lines: Vec<String> = gate.log.shown(server.port());
    lines.sort();
    lines.dedup();
    insta::assert_snapshot!(lines.join("\n"));
}

#[tokio::test]
async fn urls_that_cannot_be_used() {
    let mut lines = Vec::new();
    let html = |_: &str, _: &Value| Some(http_answer("200 OK", "content-type: text/html\r\n", "<html>sign in</html>"));
    let failing = |_: &str, _: &Value| Some(http_answer("500 Internal Server Error", "", "oops"));
    let nothing = |_: &str, _: &Value| Some(http_answer("200 OK", SSE, ""));
    let endless = |_: &str, _: &Value| Some(http_answer("200 OK", SSE, &format!("data: {}", "x".repeat(50_000))));
    let large = |_: &str, _: &Value| Some(http_answer("200 OK", JSON, &"x".repeat(50_000)));
    let servers = [
        ("html", http_server(html).await),
        ("500", http_server(failing).await),
        ("an empty stream", http_server(nothing).await),
        ("an event without end", http_server(endless).await),
        ("a large answer", http_server(large).await),
        ("another key", http_server(proper).await),
    ];
    for (name, server) in &servers {
        let (spec, setup) = at_url(server, None);
        let limits = Limits { mcp_message_bytes_max: 10_000, mcp_start_ms_max: 3_000, ..Limits::default() };
        let gate = setup.build();
        let rig = rig_of(vec![spec], limits, ToolPolicy::default(), &[], Some(gate.egress.clone()));
        lines.push(format!("{name}: {}", error_line(&rig.names().await.unwrap_err())));
    }
    let (spec, _) = at_url(&servers[0].1, None);
    let rig = rig_of(vec![spec], Limits::default(), ToolPolicy::default(), &[], None);
    lines.push(format!("not granted: {}", error_line(&rig.names().await.unwrap_err())));
    let text =
        servers.iter().fold(lines.join("\n"), |text, (_, server)| text.replace(&server.port().to_string(), "PORT"));
    insta::assert_snapshot!(text);
}

/// Speaks lines to a bridged server, as the bridge would.
async fn speak(bridges: &std::path::Path, lines: &[Value]) -> Vec<Value> {
    let (read, mut write) = UnixStream::connect(bridges).await.unwrap().into_split();
    let mut read = BufReader::new(read).lines();
    let mut answers = Vec::new();
    for line in lines {
        write.write_all(format!("{line}\n").as_bytes()).await.unwrap();
        if line.get("id").is_some() {
            answers.push(serde_json::from_str(&read.next_line().await.unwrap().unwrap()).unwrap());
        }
    }
    answers
}

fn bridged(task: &Task, servers: &[Arc<Server>]) -> (Bridges, Vec<std::path::PathBuf>) {
    let helper = std::path::PathBuf::from("/usr/bin/midplane");
    let sockets = Sockets::new(task, Some(&helper)).unwrap();
    let handed = sockets.servers(task);
    let paths = handed.iter().filter(|server| server.argv[0] == "/usr/bin/midplane");
    let paths = paths.map(|server| server.argv[3].clone().into()).collect();
    (sockets.listen(servers).unwrap(), paths)
}

#[tokio::test]
async fn a_vendors_program_reaches_servers_behind_a_bridge() {
    let text = r#"shake; list "$(tool a)"; say "key $KEY"; read -r x; echo marker-of-a-bridge"#;
    let near = McpServer { secret_env: vec!["KEY".to_owned()], ..script("near", text) };
    let server = http_server(proper).await;
    let (far, setup) = at_url(&server, Some("KEY"));
    let plain = McpServer { env: [("A".to_owned(), "1".to_owned())].into(), ..script("plain", "x") };
    let mut task = Task::new("x");
    task.mcp_servers = vec![near.clone(), plain.clone(), far.clone()];

    // What the program is told has no secret in it, and what needs none is as the task says.
    let helper = std::path::PathBuf::from("/usr/bin/midplane");
    let handed = Sockets::new(&task, Some(&helper)).unwrap().servers(&task);
    assert!(handed[0].argv[..3] == ["/usr/bin/midplane", "helper", "mcp-bridge"] && handed[0].env.is_empty());
    assert_eq!((handed[1].argv.len(), handed[1].env.clone()), (3, vec![("A".to_owned(), "1".to_owned())]));
    assert!(handed[2].argv[..3] == ["/usr/bin/midplane", "helper", "mcp-bridge"]);
    assert_eq!(Sockets::new(&task, None).err().unwrap().code, "helper-missing");

    let gate = setup.build();
    let rig = rig_of(
        vec![near, plain, far],
        Limits::default(),
        ToolPolicy::default(),
        &["command:sh", "env:A", "secret:KEY"],
        Some(gate.egress.clone()),
    );
    let (bridges, paths) = bridged(&task, &rig.servers);
    let folder = paths[0].parent().unwrap().to_owned();
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&folder).unwrap().permissions());
    assert_eq!(mode & 0o077, 0, "nobody else may enter the folder");
    let hello =
        json!({ "protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": { "name": "v", "version": "1" } });
    let messages = [
        json!({ "jsonrpc": "2.0", "id": 1, "method": "initialize", "params": hello }),
        json!({ "jsonrpc": "2.0", "method": "notifications/initialized" }),
        json!({ "jsonrpc": "2.0", "id": 2, "method": "tools/list" }),
        json!({ "jsonrpc": "2.0", "id": 3, "method": "tools/call", "params": { "name": "echo", "arguments": { "b": 2 } } }),
    ];
    let mut texts = Vec::new();
    for path in &paths {
        let answers = speak(path, &messages).await;
        assert_eq!(answers[0]["result"]["protocolVersion"], "2025-06-18");
        texts.push(answers[2]["result"]["content"][0]["text"].as_str().unwrap().to_owned());
    }
    assert_eq!(texts, ["key [redacted:KEY]", "{\"b\":2} with [redacted:KEY]"]);

    // A connection that is open when the run ends is closed, and the server behind it with it.
    let mut open = UnixStream::connect(&paths[0]).await.unwrap();
    open.write_all(format!("{}\n", messages[0]).as_bytes()).await.unwrap();
    let mut first = [0; 1];
    open.read_exact(&mut first).await.unwrap();
    assert!(running("marker-of-a-bridge") > 0);
    drop(bridges);
    let mut rest = Vec::new();
    let _ = open.read_to_end(&mut rest).await;
    none_is_left("marker-of-a-bridge").await;
    assert!(!folder.exists());
}
