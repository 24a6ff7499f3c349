//! MCP servers of a task, as an operator names them, against the real ones: `@modelcontextprotocol/server-everything` (stdio and
//! streamable HTTP) and `server-filesystem`. Servers of every kind of badness are in the unit tests of the host.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::command::{Home, Printed, binary};
use crate::peer::{Mcp, installed};

const EVERYTHING: &str = "target/peers/node_modules/@modelcontextprotocol/server-everything/dist/index.js";
const FILESYSTEM: &str = "target/peers/node_modules/@modelcontextprotocol/server-filesystem/dist/index.js";

/// Runs a playbook of these steps (tool and arguments) with these servers.
fn run(home: &Home, folder: &Path, steps: &[(&str, Value)], arguments: &[&str]) -> Printed {
    let steps: Vec<Value> = steps
        .iter()
        .enumerate()
        .map(|(index, (tool, with))| json!({ "name": format!("{} {tool}", index + 1), "tool": tool, "with": with }))
        .collect();
    let playbook = json!({ "playbook": 1, "name": "mcp", "steps": steps });
    let file = home.path().join("playbook.yaml");
    std::fs::write(&file, playbook.to_string()).expect("a playbook");
    let goal = format!("@{}", file.display());
    let workspace = format!("{}:rw", folder.display());
    home.run(&[&["run", "playbook", "--json", "--goal", &goal, "--workspace", &workspace], arguments].concat())
}

/// Name, status and beginning of each answer.
fn answers(printed: &Printed) -> Vec<String> {
    let responses = printed.lines().into_iter().filter(|event| event["kind"] == "tool_response");
    let line = |event: Value| {
        let data = &event["data"];
        let text = |field: &str| data[field].as_str().unwrap_or_default().to_owned();
        format!("{} {}: {}", text("name"), text("status"), text("preview"))
    };
    responses.map(line).collect()
}

/// Processes that have this text among their arguments.
fn running(text: &str) -> usize {
    let entries = std::fs::read_dir("/proc").expect("processes").flatten();
    let arguments = entries.filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok());
    arguments.filter(|arguments| String::from_utf8_lossy(arguments).contains(text)).count()
}

#[test]
fn real_servers_over_stdio() {
    let (Some(everything), Some(filesystem)) = (installed("mcp", EVERYTHING), installed("mcp", FILESYSTEM)) else {
        return;
    };
    let (home, folder) = (Home::new(), tempfile::tempdir().expect("folder"));
    let root = folder.path().display().to_string();
    let everything = format!("node {} stdio", everything.display());
    let filesystem = format!("node {} {root}", filesystem.display());
    let note = format!("{root}/note.txt");
    let steps = [
        ("everything__echo", json!({ "message": "hello" })),
        ("everything__get-sum", json!({ "a": 19, "b": 23 })),
        ("everything__get-tiny-image", json!({})),
        ("fs__write_file", json!({ "path": note, "content": "by a server\n" })),
        ("read_file", json!({ "path": "note.txt" })),
    ];
    let servers = [format!("everything={everything}"), format!("fs={filesystem}")];
    let named = ["--mcp", &servers[0], "--mcp", &servers[1]];

    // Nothing is started that was not granted, and what is missing is named.
    let refused = run(&home, folder.path(), &steps, &named);
    assert_eq!(refused.code, Some(3), "{refused:?}");
    assert!(refused.err.contains("command:node") && refused.err.contains("server-everything"), "{}", refused.err);

    let grants = [format!("command:{everything}"), format!("command:{filesystem}")];
    let granted = ["--allow", &grants[0], "--allow", &grants[1]];
    let ran = run(&home, folder.path(), &steps, &[named, granted].concat());
    assert_eq!(ran.code, Some(0), "{ran:?}");
    insta::assert_snapshot!(answers(&ran).join("\n").replace(&root, "WORKSPACE"));
    assert_eq!(std::fs::read_to_string(folder.path().join("note.txt")).expect("the note"), "by a server\n");
    assert_eq!(running(&root), 0, "a server is still running");

    // A playbook of tools that the task does not allow is refused before its first step.
    let steps = [("fs__write_file", json!({ "path": note, "content": "x" }))];
    let denied =
        run(&home, folder.path(), &steps, &[&named[..], &granted, &["--deny-tool", "fs__write_file"]].concat());
    assert_ne!(denied.code, Some(0), "{denied:?}");
    assert_eq!(std::fs::read_to_string(folder.path().join("note.txt")).expect("the note"), "by a server\n");
}

#[test]
fn a_real_server_over_http() {
    let Some(server) = Mcp::start() else { return };
    let (home, folder) = (Home::new(), tempfile::tempdir().expect("folder"));
    let list = home.path().join("servers.yaml");
    std::fs::write(&list, format!("- name: far\n  url: {}\n", server.url())).expect("a list");
    let (list, url) = (list.display().to_string(), format!("http:{}", server.url()));
    let steps = [
        ("far__echo", json!({ "message": "hello" })),
        ("far__trigger-long-running-operation", json!({ "duration": 1, "steps": 3 })),
        ("far__get-structured-content", json!({ "location": "Chicago" })),
    ];
    let refused = run(&home, folder.path(), &steps, &["--mcp", &list]);
    assert_eq!(refused.code, Some(3), "{refused:?}");
    assert!(refused.err.contains(&url), "{}", refused.err);
    let ran = run(&home, folder.path(), &steps, &["--mcp", &list, "--allow", &url]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    insta::assert_snapshot!(answers(&ran).join("\n"));
}

#[test]
fn the_bridge_moves_bytes_and_ends_with_either_side() {
    let folder = tempfile::tempdir().expect("folder");
    let socket = folder.path().join("0.sock");
    let listener = UnixListener::bind(&socket).expect("a socket");
    let bridge = |socket: &Path| {
        let mut command = Command::new(binary());
        command.env_clear().args(["helper", "mcp-bridge"]).arg(socket);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the bridge")
    };
    let mut child = bridge(&socket);
    let (mut host, _) = listener.accept().expect("the bridge connects");
    let (mut input, mut output) = (child.stdin.take().expect("stdin"), child.stdout.take().expect("stdout"));
    input.write_all(b"{\"id\":1}\n").expect("a line");
    let mut buffer = [0; 9];
    host.read_exact(&mut buffer).expect("the line");
    assert_eq!(&buffer, b"{\"id\":1}\n");
    host.write_all(b"{}\n").expect("an answer");
    output.read_exact(&mut buffer[..3]).expect("the answer, at once");
    assert_eq!(&buffer[..3], b"{}\n");
    drop(input);
    assert_eq!(host.read(&mut buffer).expect("the end"), 0, "the end of its input is told");
    drop(host);
    assert_eq!(child.wait().expect("an end").code(), Some(0));

    drop(listener);
    std::fs::remove_file(&socket).expect("removed");
    let late = bridge(&socket).wait_with_output().expect("an end");
    assert_eq!(late.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&late.stderr).contains("the run of this MCP server has ended"));
}
