#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::time::Duration;

use midplane_core::limits::Limits;
use midplane_core::schema::Schema;
use serde_json::json;

use super::*;
use crate::fakes::{Recorder, Values, call, group_is_gone, place, rights};

const SECRET: &str = "sk-live-0123456789";
/// Some lines, as the secret of a key file.
const PEM: &str = "-----BEGIN KEY-----\nabcdefghij\n0123456789\n-----END KEY-----";
const GRANTS: &[&str] = &["workspace:read-write", "shell"];

struct Rig {
    tools: Arc<HostTools>,
    recorder: Arc<Recorder>,
    folder: tempfile::TempDir,
    _home: tempfile::TempDir,
}

impl Rig {
    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn put(&self, path: &str, content: impl AsRef<[u8]>) {
        let path = self.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    fn text(&self, path: &str) -> String {
        fs::read_to_string(self.path().join(path)).unwrap()
    }

    async fn run(&self, name: &str, arguments: Value) -> ToolAnswer {
        self.tools.call_all(vec![a_call("1", name, &arguments)]).await.unwrap().remove(0)
    }

    /// Runs each call by itself, and shows call and answer.
    async fn shown(&self, calls: &[(&str, Value)]) -> String {
        let mut lines = Vec::new();
        for (name, arguments) in calls {
            let answer = self.run(name, arguments.clone()).await;
            lines.push(format!("{name} {arguments}\n{}", show(&answer)));
        }
        lines.join("\n\n")
    }
}

fn show(answer: &ToolAnswer) -> String {
    let text = answer.text.replace('\n', "\n  | ");
    let verdict = if answer.is_error { "failed" } else { "ok" };
    format!("  {verdict}\n  | {text}\n  {}", answer.structured.as_deref().unwrap_or("-"))
}

fn a_call(id: &str, name: &str, arguments: &Value) -> ToolCall {
    ToolCall { id: id.to_owned(), name: name.to_owned(), arguments: arguments.to_string() }
}

fn structured(answer: &ToolAnswer) -> Value {
    serde_json::from_str(answer.structured.as_deref().unwrap()).unwrap()
}

fn rig_with(limits: Limits, grants: &[&str], change: impl FnOnce(&mut ToolPolicy)) -> Rig {
    let folder = tempfile::tempdir().unwrap();
    let (call, recorder) = call(limits);
    let workspace = Arc::new(Workspace::open(folder.path()).unwrap());
    let mut policy = ToolPolicy { workspace: Some((workspace, true)), ..ToolPolicy::default() };
    change(&mut policy);
    let redactor = Values(BTreeMap::from([("KEY", SECRET), ("PEM", PEM)])).redactor();
    let (place, home) = place(policy.workspace.clone());
    let tools = Arc::new(HostTools::new(call, rights(&[], grants), policy, redactor, place).unwrap());
    Rig { tools, recorder, folder, _home: home }
}

fn rig() -> Rig {
    rig_with(Limits::default(), GRANTS, |_| ())
}

#[tokio::test]
async fn reading_and_writing() {
    let rig = rig();
    rig.put("a.txt", "one\ntwo\nthree\n");
    rig.put("empty", "");
    rig.put("crlf.txt", "one\r\ntwo");
    rig.put("ünï/日本.txt", "größe ✓");
    rig.put("latin1.txt", b"gr\xf6\xdfe");
    rig.put("image.png", b"\x89PNG\r\n\x1a\n\0\0\0");
    let calls = [
        ("read_file", json!({ "path": "a.txt" })),
        ("read_file", json!({ "path": "./a.txt", "offset": 2, "limit": 1 })),
        ("read_file", json!({ "path": "a.txt", "offset": 3, "limit": null })),
        ("read_file", json!({ "path": "a.txt", "limit": 99 })),
        ("read_file", json!({ "path": "a.txt", "offset": 4 })),
        ("read_file", json!({ "path": "empty" })),
        ("read_file", json!({ "path": "crlf.txt", "offset": 2 })),
        ("read_file", json!({ "path": "ünï/日本.txt" })),
        ("read_file", json!({ "path": "latin1.txt" })),
        ("read_file", json!({ "path": "image.png" })),
        ("read_file", json!({ "path": "missing/x" })),
        ("read_file", json!({ "path": "a.txt/x" })),
        ("read_file", json!({ "path": "." })),
        ("write_file", json!({ "path": "new/deep/b.txt", "content": "hello\n" })),
        ("write_file", json!({ "path": "new/deep/b.txt", "content": "" })),
        ("write_file", json!({ "path": "other/c.txt", "content": "x", "create_dirs": false })),
        ("write_file", json!({ "path": "ünï", "content": "x" })),
        ("write_file", json!({ "path": ".", "content": "x" })),
        ("write_file", json!({ "path": "a.txt/b", "content": "x" })),
        ("edit_file", json!({ "path": "a.txt", "old": "two", "new": "2" })),
        ("edit_file", json!({ "path": "a.txt", "old": "e", "new": "E" })),
        ("edit_file", json!({ "path": "a.txt", "old": "e", "new": "E", "all": true })),
        ("edit_file", json!({ "path": "a.txt", "old": "four", "new": "4" })),
        ("edit_file", json!({ "path": "a.txt", "old": " onE", "new": "4" })),
        ("edit_file", json!({ "path": "a.txt", "old": "x", "new": "x" })),
        ("edit_file", json!({ "path": "crlf.txt", "old": "one\ntwo", "new": "x" })),
        ("edit_file", json!({ "path": "image.png", "old": "PNG", "new": "x" })),
        ("edit_file", json!({ "path": "missing", "old": "a", "new": "b" })),
        ("move_file", json!({ "from": "a.txt", "to": "moved/a.txt" })),
        ("move_file", json!({ "from": "a.txt", "to": "b.txt" })),
        ("move_file", json!({ "from": "empty", "to": "crlf.txt" })),
        ("move_file", json!({ "from": "empty", "to": "crlf.txt", "overwrite": true })),
        ("move_file", json!({ "from": "new", "to": "new/deep/new" })),
        ("move_file", json!({ "from": "crlf.txt", "to": "new", "overwrite": true })),
        ("move_file", json!({ "from": "new", "to": "image.png", "overwrite": true })),
        ("move_file", json!({ "from": "new", "to": "newer" })),
        ("move_file", json!({ "from": ".", "to": "x" })),
        ("list_dir", json!({ "depth": 9 })),
    ];
    insta::assert_snapshot!(rig.shown(&calls).await);
    assert_eq!(rig.text("moved/a.txt"), "onE\n2\nthrEE\n");
    assert_eq!((rig.text("crlf.txt"), rig.text("newer/deep/b.txt")), (String::new(), String::new()));
    insta::assert_snapshot!(
        "changes_by_path",
        rig.tools
            .changes()
            .iter()
            .map(|change| format!("{} {}", change.path, change.change.as_str()))
            .collect::<Vec<_>>()
            .join("\n")
    );
}

#[tokio::test]
async fn a_written_file_keeps_its_mode_and_its_links() {
    let rig = rig();
    let mode = |path: &str| fs::metadata(rig.path().join(path)).unwrap().permissions().mode() & 0o7777;
    let set = |path: &str, mode| fs::set_permissions(rig.path().join(path), fs::Permissions::from_mode(mode)).unwrap();
    rig.put("run.sh", "old");
    set("run.sh", 0o4751);
    rig.put("locked", "old");
    set("locked", 0o444);
    symlink("run.sh", rig.path().join("link")).unwrap();
    symlink("nothing", rig.path().join("dangling")).unwrap();
    let calls = [
        ("write_file", json!({ "path": "run.sh", "content": "new" })),
        ("edit_file", json!({ "path": "link", "old": "new", "new": "newer" })),
        ("write_file", json!({ "path": "locked", "content": "new" })),
        ("write_file", json!({ "path": "dangling", "content": "new" })),
        ("move_file", json!({ "from": "link", "to": "moved-link" })),
    ];
    insta::assert_snapshot!(rig.shown(&calls).await);
    assert_eq!((rig.text("run.sh").as_str(), rig.text("locked").as_str()), ("newer", "old"));
    assert_eq!(mode("run.sh"), 0o751);
    assert!(fs::symlink_metadata(rig.path().join("moved-link")).unwrap().is_symlink());
    // Nothing that was written beside a file is left.
    let mut names: Vec<_> = fs::read_dir(rig.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["dangling", "locked", "moved-link", "run.sh"]);
}

#[tokio::test]
async fn no_tool_leaves_the_workspace() {
    let rig = rig();
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("secret.txt"), "OUTSIDE").unwrap();
    rig.put("in.txt", "inside OUT");
    rig.put("sub/in.txt", "inside");
    let name = outside.path().file_name().unwrap().to_str().unwrap().to_owned();
    for (link, target) in [
        ("absolute", outside.path().join("secret.txt")),
        ("relative", Path::new("..").join(&name).join("secret.txt")),
        ("folder", outside.path().to_owned()),
        ("up", Path::new("..").to_owned()),
        ("chain", Path::new("folder").to_owned()),
        ("sub/up", Path::new("../..").to_owned()),
        ("dangling", outside.path().join("new.txt")),
        ("loop", Path::new("loop").to_owned()),
        ("proc", Path::new("/proc/self/root").to_owned()),
    ] {
        symlink(target, rig.path().join(link)).unwrap();
    }
    // Links that stay inside are fine.
    symlink("../in.txt", rig.path().join("sub/back")).unwrap();
    assert_eq!(rig.run("read_file", json!({ "path": "sub/back" })).await.text, "inside OUT");

    let mut lines = Vec::new();
    for path in [
        "../x",
        "sub/../../x",
        "..",
        "/etc/passwd",
        "absolute",
        "relative",
        "folder/secret.txt",
        "up/x",
        "chain/secret.txt",
        "sub/up/x",
        "dangling",
        "loop",
        "proc/etc/passwd",
        "a\0b",
    ] {
        for (tool, arguments) in [
            ("read_file", json!({ "path": path })),
            ("write_file", json!({ "path": path, "content": "x", "create_dirs": false })),
            ("write_file", json!({ "path": format!("{path}/made/x"), "content": "x" })),
            ("edit_file", json!({ "path": path, "old": "OUTSIDE", "new": "x" })),
            ("move_file", json!({ "from": format!("{path}/secret.txt"), "to": "taken" })),
            ("move_file", json!({ "from": "in.txt", "to": format!("{path}/in.txt") })),
            ("list_dir", json!({ "path": path })),
            ("glob", json!({ "pattern": "**", "path": path })),
            ("grep", json!({ "pattern": "OUT", "path": path })),
            ("shell", json!({ "command": "pwd; ls", "cwd": path })),
        ] {
            let answer = rig.run(tool, arguments).await;
            assert!(answer.is_error && answer.structured.is_none(), "{tool} {path}: {}", answer.text);
            if tool == "read_file" || tool == "list_dir" {
                lines.push(format!("{tool} {path:?}: {}", answer.text.replace('\n', " / ")));
            }
        }
    }
    insta::assert_snapshot!(lines.join("\n"));
    // Walking does not follow them either, and shows links as what they are.
    let found = rig.run("grep", json!({ "pattern": "OUT" })).await;
    assert_eq!(found.text, "in.txt:1:inside OUT");
    assert_eq!(rig.run("glob", json!({ "pattern": "**" })).await.text, "in.txt\nsub/in.txt");
    assert!(rig.run("list_dir", json!({ "depth": 3 })).await.text.contains("folder (symlink)"));
    assert_eq!(
        rig.run("glob", json!({ "pattern": "../*" })).await.text.lines().next(),
        Some("`../*` is not a glob pattern: it leads out of the folder")
    );
    // A link itself may be moved, which is no access to what it points at.
    assert!(!rig.run("move_file", json!({ "from": "absolute", "to": "absolute2" })).await.is_error);

    assert_eq!(fs::read_to_string(outside.path().join("secret.txt")).unwrap(), "OUTSIDE");
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 1);
    assert!(rig.tools.changes().iter().all(|change| change.path.starts_with("absolute")), "{:?}", rig.tools.changes());
}

#[tokio::test]
async fn what_is_no_file_is_not_opened() {
    let rig = rig();
    let fifo = rig.path().join("fifo");
    rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, rustix::fs::Mode::from_raw_mode(0o600), 0)
        .unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(rig.path().join("socket")).unwrap();
    symlink("fifo", rig.path().join("link")).unwrap();
    rig.put(".gitignore/x", "a folder with this name");
    let calls = [
        ("read_file", json!({ "path": "fifo" })),
        ("read_file", json!({ "path": "link" })),
        ("read_file", json!({ "path": "socket" })),
        ("write_file", json!({ "path": "fifo", "content": "x" })),
        ("write_file", json!({ "path": "link", "content": "x" })),
        ("edit_file", json!({ "path": "fifo", "old": "a", "new": "b" })),
        ("grep", json!({ "pattern": "x" })),
        ("grep", json!({ "pattern": "x", "path": "fifo" })),
        ("glob", json!({ "pattern": "*" })),
        ("list_dir", json!({})),
        ("list_dir", json!({ "path": "fifo" })),
    ];
    insta::assert_snapshot!(rig.shown(&calls).await);
    // An ignore file that would block is not read either.
    fs::rename(&fifo, rig.path().join(".ignore")).unwrap();
    assert_eq!(rig.run("glob", json!({ "pattern": "*" })).await.text, "no file matches");
}

#[tokio::test]
async fn searching_respects_gitignore() {
    let rig = rig();
    for (path, content) in [
        (".gitignore", "*.log\n/build/\n!keep.log\nnode_modules\n# comment\nsub/only-here.txt\n\\#odd\n[bad\n"),
        (".git/config", "needle"),
        (".github/ci.yml", "needle"),
        (".hidden", "needle"),
        ("a.log", "needle"),
        ("a.txt", "first\nneedle one\nthird\nfourth\nfifth\nNeedle two\nlast"),
        ("a/z.txt", "needle"),
        ("a-b.txt", "needle"),
        ("build/out.txt", "needle"),
        ("deep/build/in.txt", "needle"),
        ("deep/node_modules/x.js", "needle"),
        ("keep.log", "needle"),
        ("sub/.gitignore", "!again.log\n*.tmp\n"),
        ("sub/.ignore", "secret.txt\n"),
        ("sub/again.log", "needle"),
        ("sub/only-here.txt", "needle"),
        ("sub/secret.txt", "needle"),
        ("sub/x.tmp", "needle"),
        ("sub/y.txt", "größe: needle ✓"),
        ("top.tmp", "needle"),
        ("#odd", "needle"),
        ("binary.bin", "needle\0"),
        ("utf16.txt", "\u{feff}x"),
    ] {
        rig.put(path, content);
    }
    let calls = [
        ("glob", json!({ "pattern": "**" })),
        ("glob", json!({ "pattern": "*.txt" })),
        ("glob", json!({ "pattern": "**/*.{txt,log}", "path": "sub" })),
        ("glob", json!({ "pattern": ".github/**" })),
        ("glob", json!({ "pattern": "**/.*" })),
        ("glob", json!({ "pattern": "**/*", "path": "build" })),
        ("glob", json!({ "pattern": "*.rs" })),
        ("glob", json!({ "pattern": "a[" })),
        ("glob", json!({ "pattern": "*", "path": "a.txt" })),
        ("glob", json!({ "pattern": "*", "path": "missing" })),
        ("grep", json!({ "pattern": "needle" })),
        ("grep", json!({ "pattern": "needle", "ignore_case": true, "path": "a.txt", "context": 1 })),
        ("grep", json!({ "pattern": "needle", "context": 1, "glob": "a*.txt" })),
        ("grep", json!({ "pattern": "^needle$", "glob": "**/z.txt" })),
        ("grep", json!({ "pattern": "needle", "glob": ".hidden" })),
        ("grep", json!({ "pattern": "needle", "max": 2 })),
        ("grep", json!({ "pattern": "absent" })),
        ("grep", json!({ "pattern": "(unclosed" })),
        ("grep", json!({ "pattern": "a\nb" })),
        ("grep", json!({ "pattern": "(?=look)" })),
        ("grep", json!({ "pattern": "(x{1000}){1000}" })),
        ("grep", json!({ "pattern": "x", "path": "missing" })),
        ("list_dir", json!({ "depth": 2 })),
        ("list_dir", json!({ "path": "sub" })),
    ];
    insta::assert_snapshot!(rig.shown(&calls).await);
}

#[tokio::test]
async fn a_long_answer_says_where_to_go_on() {
    let limits = Limits { tool_answer_bytes_max: 1000, tool_file_bytes_max: 100_000, ..Limits::default() };
    let rig = rig_with(limits, GRANTS, |_| ());
    let content: String = (1..=400).map(|line| format!("line {line} \"{}\"\n", "é".repeat(line % 40))).collect();
    rig.put("long.txt", &content);
    // Following the notes gives the whole file.
    let (mut read, mut offset) = (String::new(), 1);
    loop {
        let answer = rig.run("read_file", json!({ "path": "long.txt", "offset": offset })).await;
        assert!(answer.text.len() <= 1000 && answer.structured.as_ref().unwrap().len() <= 1000);
        let part = structured(&answer)["content"].as_str().unwrap().to_owned();
        let Some((_, next)) = answer.text.rsplit_once("go on with `offset` ") else {
            read.push_str(&part);
            break;
        };
        let next: usize = next.trim_end_matches(']').parse().unwrap();
        // A line that was cut comes again.
        read.extend(part.split_inclusive('\n').take(next - offset));
        offset = next;
    }
    assert_eq!(read, content);

    rig.put("one-line.txt", "x".repeat(5000));
    rig.put("too-large.txt", "x".repeat(100_001));
    for index in 0..100 {
        rig.put(&format!("many/file-{index:03}.txt"), "match\nmatch\n");
    }
    let calls = [
        ("read_file", json!({ "path": "one-line.txt" })),
        ("read_file", json!({ "path": "too-large.txt" })),
        ("edit_file", json!({ "path": "too-large.txt", "old": "x", "new": "y", "all": true })),
        ("write_file", json!({ "path": "w", "content": "x".repeat(100_001) })),
        ("list_dir", json!({ "path": "many" })),
        ("glob", json!({ "pattern": "**/*.txt" })),
        ("grep", json!({ "pattern": "match" })),
        ("grep", json!({ "pattern": "x" })),
        ("shell", json!({ "command": "seq 1 100000; seq 1 100000 >&2" })),
        ("shell", json!({ "command": "head -c 3000 /dev/zero | tr '\\0' '\"'" })),
    ];
    for (name, arguments) in &calls {
        let answer = rig.run(name, arguments.clone()).await;
        assert!(answer.text.len() <= 1000 && answer.structured.is_none_or(|json| json.len() <= 1000), "{name}");
    }
    let shown = rig.shown(&calls).await;
    insta::assert_snapshot!(shown.replace(&"x".repeat(100_001), "(x 100001 times)"));
}

#[tokio::test]
async fn no_secret_reaches_the_guest_or_the_events() {
    let rig = rig();
    rig.put(".env", format!("KEY={SECRET}\nother\n"));
    rig.put("key.pem", format!("{PEM}\n"));
    rig.put(&format!("{SECRET}.txt"), "named");
    let calls = [
        ("read_file", json!({ "path": ".env" })),
        ("read_file", json!({ "path": "key.pem", "offset": 1, "limit": 1 })),
        ("grep", json!({ "pattern": ".", "path": ".env" })),
        // Whether a part matches would tell the value letter by letter.
        ("grep", json!({ "pattern": "sk-live-0", "path": ".env" })),
        ("grep", json!({ "pattern": "abcdefghij", "path": "key.pem" })),
        ("glob", json!({ "pattern": "*.txt" })),
        ("list_dir", json!({})),
        ("shell", json!({ "command": "cat .env; cut -c 5- .env | head -1 | tr -d '\\n' | base64 >&2" })),
        ("edit_file", json!({ "path": ".env", "old": "KEY=[redacted:KEY]", "new": "KEY=x" })),
        ("write_file", json!({ "path": "copy", "content": SECRET })),
        ("read_file", json!({ "path": SECRET })),
    ];
    let shown = rig.shown(&calls).await;
    let events = rig.recorder.events().join("\n");
    let audits = rig.recorder.audits().join("\n");
    for (what, text) in [("events", &events), ("audits", &audits)] {
        assert!(!text.contains(SECRET) && !text.contains("abcdefghij\\n0123"), "{what}: {text}");
    }
    let answers: String = shown.lines().filter(|line| line.starts_with("  ")).collect();
    assert!(!answers.contains(SECRET) && !answers.contains("abcdefghij"));
    insta::assert_snapshot!(shown);
    // A guest that put the secret together from pieces cannot have a tool act on it.
    assert_eq!(rig.text("copy"), "[redacted:KEY]");
}

#[tokio::test]
async fn shell_commands() {
    let rig = rig();
    rig.put("sub/x", "");
    let calls = [
        ("shell", json!({ "command": "echo out; echo err >&2" })),
        ("shell", json!({ "command": "true" })),
        ("shell", json!({ "command": "echo partly; exit 3" })),
        ("shell", json!({ "command": "kill -9 $$" })),
        ("shell", json!({ "command": "ls", "cwd": "sub" })),
        ("shell", json!({ "command": "cat; echo $TERM" })),
        ("shell", json!({ "command": "printf '\\377\\000'" })),
        ("shell", json!({ "command": "sleep 1000 & echo left something behind" })),
        ("shell", json!({ "command": "echo begun; sleep 1000", "timeout_ms": 300 })),
        ("shell", json!({ "command": "x", "cwd": "missing" })),
        ("shell", json!({ "command": "" })),
        ("shell", json!({ "command": "a\0b" })),
    ];
    insta::assert_snapshot!(rig.shown(&calls).await);
    let names = structured(&rig.run("shell", json!({ "command": "env | cut -d= -f1 | sort" })).await)["stdout"].clone();
    let names: Vec<&str> =
        names.as_str().unwrap().split_whitespace().filter(|name| !name.starts_with("XDG_")).collect();
    assert_eq!(names, ["HOME", "LANG", "PATH", "PWD", "TERM", "TMPDIR"]);
}

#[tokio::test]
async fn a_granted_variable_reaches_the_shell() {
    // A variable that every test process has.
    let rig = rig_with(Limits::default(), &["workspace:read-write", "shell", "env:CARGO_MANIFEST_DIR"], |_| ());
    let answer = rig.run("shell", json!({ "command": "printf %s \"$CARGO_MANIFEST_DIR\"" })).await;
    assert_eq!(answer.text, std::env::var("CARGO_MANIFEST_DIR").unwrap());
}

/// Starts a batch whose shell command says through a FIFO that it runs, and of which group it is; then it never ends.
async fn blocked_batch(rig: &Rig, calls: Vec<ToolCall>) -> (tokio::task::JoinHandle<Result<Vec<ToolAnswer>>>, i32) {
    let fifo = rig.path().join("fifo");
    rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, rustix::fs::Mode::from_raw_mode(0o600), 0)
        .unwrap();
    let tools = Arc::clone(&rig.tools);
    let batch = tokio::spawn(async move { tools.call_all(calls).await });
    let text = tokio::task::spawn_blocking(move || fs::read_to_string(fifo).unwrap()).await.unwrap();
    (batch, text.trim().parse().unwrap())
}

const BLOCKS: &str = "sleep 1000 & echo $$ > fifo; sleep 1000";

#[tokio::test]
async fn a_cancel_answers_every_call() {
    let rig = rig();
    rig.put("a.txt", "content");
    let calls = vec![
        a_call("1", "read_file", &json!({ "path": "a.txt" })),
        a_call("2", "write_file", &json!({ "path": "b.txt", "content": "x" })),
        a_call("3", "shell", &json!({ "command": BLOCKS })),
        a_call("4", "read_file", &json!({ "path": "a.txt" })),
        a_call("5", "write_file", &json!({ "path": "c.txt", "content": "x" })),
        a_call("6", "nope", &json!({})),
    ];
    let (batch, group) = blocked_batch(&rig, calls).await;
    rig.tools.call.control.cancel(Duration::from_secs(60));
    let answers = batch.await.unwrap().unwrap();
    let shown: Vec<String> = answers.iter().map(|answer| format!("{}\n{}", answer.id, show(answer))).collect();
    insta::assert_snapshot!(format!(
        "{}\n{}\n{}",
        shown.join("\n"),
        rig.recorder.events().join("\n"),
        rig.recorder.audits().join("\n")
    ));
    group_is_gone(group).await;
    assert!(rig.path().join("b.txt").exists() && !rig.path().join("c.txt").exists());
    let error = rig.tools.call_all(vec![a_call("7", "read_file", &json!({ "path": "a.txt" }))]).await.unwrap_err();
    assert_eq!((error.kind.as_str(), error.code.as_ref()), ("cancelled", "cancelled"));
}

#[tokio::test]
async fn a_dropped_batch_leaves_no_process() {
    let rig = rig();
    let (batch, group) = blocked_batch(&rig, vec![a_call("1", "shell", &json!({ "command": BLOCKS }))]).await;
    batch.abort();
    assert!(batch.await.unwrap_err().is_cancelled());
    group_is_gone(group).await;
}

#[tokio::test]
async fn a_tool_that_takes_too_long_is_a_failed_answer() {
    let rig = rig_with(Limits { tool_ms_max: 200, ..Limits::default() }, GRANTS, |_| ());
    let calls = vec![
        a_call("1", "shell", &json!({ "command": BLOCKS, "timeout_ms": 100_000 })),
        a_call("2", "list_dir", &json!({})),
    ];
    let (batch, group) = blocked_batch(&rig, calls).await;
    let answers = batch.await.unwrap().unwrap();
    // Which of the two bounds ends it is the same to the model.
    assert!(answers[0].is_error && (answers[0].text.contains("200 ms")), "{}", answers[0].text);
    assert!(!answers[1].is_error);
    group_is_gone(group).await;
}

#[tokio::test]
async fn batches() {
    let rig = rig();
    rig.put("a.txt", "old");
    // In the order given: a look after a change sees it.
    let calls = vec![
        a_call("r1", "read_file", &json!({ "path": "a.txt" })),
        a_call("w", "write_file", &json!({ "path": "a.txt", "content": "new" })),
        a_call("r2", "read_file", &json!({ "path": "a.txt" })),
        a_call("m", "move_file", &json!({ "from": "a.txt", "to": "b.txt" })),
        a_call("r3", "read_file", &json!({ "path": "a.txt" })),
        a_call("unknown", "read_fil", &json!({})),
        a_call("missing", "read_file", &json!({})),
        a_call("type", "read_file", &json!({ "path": 7, "offset": 0 })),
        a_call("extra", "read_file", &json!({ "path": "b.txt", "mode": "r" })),
        ToolCall { id: "text".to_owned(), name: "read_file".to_owned(), arguments: "not json".to_owned() },
        ToolCall { id: "list".to_owned(), name: "read_file".to_owned(), arguments: "[1]".to_owned() },
        ToolCall { id: "none".to_owned(), name: "list_dir".to_owned(), arguments: String::new() },
    ];
    let answers = rig.tools.call_all(calls).await.unwrap();
    let shown: Vec<String> = answers.iter().map(|answer| format!("{}\n{}", answer.id, show(answer))).collect();
    insta::assert_snapshot!(format!(
        "{}\n{}\n{}",
        shown.join("\n"),
        rig.recorder.events().join("\n"),
        rig.recorder.audits().join("\n")
    ));
}

#[tokio::test]
async fn batches_that_are_refused() {
    let rig = rig_with(Limits { tool_calls_max: 3, ..Limits::default() }, GRANTS, |_| ());
    let look = |id: &str| a_call(id, "list_dir", &json!({}));
    let refused = async |calls: Vec<ToolCall>| {
        let error = rig.tools.call_all(calls).await.unwrap_err();
        format!("{} {}: {}", error.kind, error.code, error.message)
    };
    let shown = [
        refused(vec![]).await,
        refused((0..65).map(|index| look(&index.to_string())).collect()).await,
        refused(vec![look("a"), look("b"), look("a")]).await,
        refused(vec![look("")]).await,
        refused(vec![look(&"x".repeat(257))]).await,
    ];
    insta::assert_snapshot!(shown.join("\n"));
    assert_eq!(rig.tools.call_all(vec![look("a"), look("b")]).await.unwrap().len(), 2);
    // The same id in a later turn is a model's habit, and harmless.
    assert_eq!(rig.tools.call_all(vec![look("a")]).await.unwrap().len(), 1);
    assert_eq!(refused(vec![look("c")]).await, "limit tool-calls: a run has at most 3 tool calls");
    assert_eq!(rig.recorder.events().len(), 6);
}

#[tokio::test]
async fn many_looks_side_by_side_keep_their_order() {
    let rig = rig();
    let calls = (0..64).map(|index| {
        rig.put(&format!("{index}.txt"), index.to_string());
        a_call(&index.to_string(), "read_file", &json!({ "path": format!("{index}.txt") }))
    });
    let calls: Vec<ToolCall> = calls.collect();
    for answer in rig.tools.call_all(calls).await.unwrap() {
        assert_eq!(answer.text, answer.id);
    }
    assert_eq!(rig.recorder.events().len(), 128);
}

#[tokio::test]
async fn long_arguments_are_abridged_in_the_event_alone() {
    let rig = rig_with(Limits { event_bytes_max: 10_000, ..Limits::default() }, GRANTS, |_| ());
    let content = "é".repeat(100_000);
    rig.run("write_file", json!({ "path": "a", "content": content })).await;
    assert_eq!(rig.text("a"), content);
    let many: serde_json::Map<String, Value> = (0..5000).map(|index| (index.to_string(), json!(index))).collect();
    rig.run("write_file", Value::Object(many)).await;
    let events = rig.recorder.events();
    let requests: Vec<&String> = events.iter().filter(|event| event.starts_with("tool_request")).collect();
    assert!(requests.iter().all(|event| event.len() < 10_000));
    assert!(requests[0].contains("é… [200000 bytes in all]"), "{}", requests[0]);
    assert!(requests[1].contains("abridged") && requests[1].contains("size_bytes"), "{}", requests[1]);
}

#[tokio::test]
async fn what_a_run_may_use() {
    type Change = fn(&mut ToolPolicy);
    let cases: [(&str, &[&str], Change); 11] = [
        ("all", GRANTS, |_| ()),
        ("no grant", &[], |_| ()),
        ("read grant", &["workspace:read", "shell"], |_| ()),
        ("no shell grant", &["workspace:read-write"], |_| ()),
        ("no workspace", GRANTS, |policy| policy.workspace = None),
        ("read-only workspace", GRANTS, |policy| policy.workspace.as_mut().unwrap().1 = false),
        ("read-only task", GRANTS, |policy| policy.filesystem_read_only = true),
        ("allowed", GRANTS, |policy| {
            policy.allowed_tools = vec!["grep".to_owned(), "write_file".to_owned(), "other".to_owned()]
        }),
        ("disallowed", GRANTS, |policy| policy.disallowed_tools = vec!["shell".to_owned(), "return_result".to_owned()]),
        ("with a result", GRANTS, |policy| policy.output_schema = Some(json!({ "type": "object" }))),
        ("a result alone", &[], |policy| {
            policy.workspace = None;
            policy.allowed_tools = vec!["none".to_owned()];
            policy.output_schema = Some(json!({ "type": "object" }));
        }),
    ];
    let mut lines = Vec::new();
    for (name, grants, change) in cases {
        let rig = rig_with(Limits::default(), grants, change);
        let offered: Vec<String> = rig.tools.offered().await.unwrap().into_iter().map(|tool| tool.name).collect();
        lines.push(format!("{name}: {}", offered.join(" ")));
        // What is not offered is refused, too.
        for tool in ["read_file", "write_file", "shell", "return_result"] {
            if !offered.iter().any(|name| name == tool) {
                let answer = rig.run(tool, json!({})).await;
                assert!(answer.is_error);
                lines.push(format!("  {tool}: {}", answer.text.replace('\n', " / ")));
            }
        }
        lines.push(format!("  {}", rig.recorder.audits().join("\n  ")));
    }
    insta::assert_snapshot!(lines.join("\n"));
}

#[tokio::test]
async fn every_tool_is_described() {
    let rig = rig_with(Limits::default(), GRANTS, |policy| policy.output_schema = Some(json!({ "type": "string" })));
    for tool in rig.tools.offered().await.unwrap() {
        assert!(
            tool.name.len() <= 64 && tool.name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
        );
        assert!(!tool.description.contains("  ") && tool.description.ends_with('.'), "{}", tool.description);
        let schema: Value = serde_json::from_str(&tool.input_schema).unwrap();
        assert_eq!(
            (&schema["type"], &schema["additionalProperties"]),
            (&json!("object"), &json!(false)),
            "{}",
            tool.name
        );
        for (field, of) in schema["properties"].as_object().unwrap() {
            assert!(of["description"].is_string() || tool.name == "return_result", "{}.{field}", tool.name);
        }
        Schema::new(&schema).unwrap();
    }
}

#[tokio::test]
async fn results() {
    let cases = [
        (
            json!({ "type": "object", "properties": { "n": { "type": "integer" }, "s": { "type": "string" } }, "required": ["n"], "additionalProperties": false }),
            vec![
                json!({}),
                json!({ "n": "1", "s": 2, "x": 3 }),
                json!({ "n": 1, "s": null }),
                json!({ "n": 1 }),
                json!({ "n": 2, "s": "x" }),
            ],
        ),
        (
            json!({ "type": "array", "items": { "$ref": "#/$defs/item" }, "$defs": { "item": { "type": "integer" } } }),
            vec![json!([1]), json!({}), json!({ "value": ["x"] }), json!({ "value": [1, 2] })],
        ),
        (json!({ "type": ["object", "null"] }), vec![json!({ "value": 1 }), json!({ "value": null })]),
        (json!({ "type": "object" }), vec![json!({ "long": "x".repeat(2000) }), json!({ "a": [1] })]),
    ];
    let mut lines = Vec::new();
    for (schema, answers) in cases {
        let rig = rig_with(Limits { output_bytes_max: 1000, ..Limits::default() }, &[], |policy| {
            policy.output_schema = Some(schema.clone())
        });
        let offered = rig.tools.offered().await.unwrap();
        lines.push(format!("{schema}\n{}", offered[0].input_schema));
        for arguments in answers {
            let answer = rig.run("return_result", arguments.clone()).await;
            let value = rig.tools.parsed_output().map_or("-".to_owned(), |value| value.to_string());
            let shown: String = arguments.to_string().chars().take(60).collect();
            lines.push(format!("{shown}\n{}\n  kept: {value}", show(&answer)));
        }
    }
    insta::assert_snapshot!(lines.join("\n"));
}

#[tokio::test]
async fn schemas_that_are_none() {
    let lines = [
        json!("x"),
        json!({ "type": "objekt" }),
        json!({ "properties": 5 }),
        json!({ "pattern": "(" }),
        json!({ "$ref": "#/$defs/missing" }),
        json!({ "$ref": "https://example.com/schema.json" }),
        json!({ "$ref": "file:///etc/passwd" }),
        json!({ "$schema": "https://example.com/own" }),
    ]
    .map(|schema| {
        let error = Schema::new(&schema).err().unwrap();
        assert_eq!(error.kind.as_str(), "invalid");
        format!("{schema}\n  {}: {}", error.code, error.message)
    });
    insta::assert_snapshot!(lines.join("\n"));
    assert!(Schema::new(&json!({ "type": "string", "pattern": "^(?!x)" })).is_ok());
}

#[tokio::test]
async fn a_pattern_that_goes_back_for_ever_is_stopped() {
    let schema = json!({ "type": "object", "properties": { "s": { "type": "string", "pattern": "^(a|aa)+$(?<!b)" } } });
    let rig = rig_with(Limits::default(), &[], |policy| policy.output_schema = Some(schema));
    let answer = rig.run("return_result", json!({ "s": format!("{}!", "a".repeat(64)) })).await;
    assert!(answer.is_error, "{}", answer.text);
}

#[tokio::test]
async fn a_walk_is_stopped_at_any_entry() {
    let rig = rig();
    for index in 0..10 {
        rig.put(&format!("{index}/x"), "");
    }
    let files = rig.tools.files.clone().unwrap();
    let what = || walk::Walk { start: crate::workspace::RelPath::root(), hidden: false, ignored: false, depth_max: 9 };
    let stop = tool::Stop::new();
    let mut seen = 0;
    let error = walk::walk(&files, &what(), &stop, |_| {
        seen += 1;
        if seen == 3 {
            stop.set();
        }
        Ok(std::ops::ControlFlow::Continue(()))
    })
    .unwrap_err();
    assert_eq!((error.code.as_ref(), seen), ("cancelled", 3));
}

#[test]
fn several_changes_of_one_file_are_one() {
    use Change::{Created, Deleted, Modified};
    let cases: [(&[Change], Option<Change>); 9] = [
        (&[Created], Some(Created)),
        (&[Created, Modified], Some(Created)),
        (&[Created, Deleted], None),
        (&[Created, Deleted, Created], Some(Created)),
        (&[Modified, Modified], Some(Modified)),
        (&[Modified, Deleted], Some(Deleted)),
        (&[Modified, Deleted, Created], Some(Modified)),
        (&[Deleted, Created], Some(Modified)),
        (&[Deleted, Created, Deleted], Some(Deleted)),
    ];
    let rig = rig();
    let files = rig.tools.files.as_ref().unwrap();
    for (index, (changes, _)) in cases.iter().enumerate() {
        changes.iter().for_each(|change| files.changed(&index.to_string(), *change));
    }
    let found: BTreeMap<String, Change> =
        files.changes().into_iter().map(|change| (change.path, change.change)).collect();
    for (index, (changes, want)) in cases.iter().enumerate() {
        assert_eq!(found.get(&index.to_string()), want.as_ref(), "{changes:?}");
    }
}

#[test]
fn what_is_in_a_moved_folder_moves_with_it() {
    use Change::{Created, Deleted, Modified};
    let rig = rig();
    let files = rig.tools.files.as_ref().unwrap();
    for (path, change) in [("a/new", Created), ("a/old", Modified), ("a/gone", Deleted), ("ab", Created)] {
        files.changed(path, change);
    }
    files.moved_folder("a", "b");
    files.moved_folder("b", "c/d");
    let found: Vec<_> = files.changes().into_iter().map(|change| (change.path, change.change)).collect();
    let want = [("a", Deleted), ("ab", Created), ("c/d", Created), ("c/d/new", Created), ("c/d/old", Created)];
    assert_eq!(found, want.map(|(path, change)| (path.to_owned(), change)));
}

#[test]
fn a_folder_of_the_workspace_can_be_made_durable() {
    let rig = rig();
    let folder = rig.tools.files.as_ref().unwrap().dir().open_dir(".").unwrap();
    files::sync_folder(&folder).unwrap();
}

#[tokio::test]
async fn a_git_folder_is_not_changed() {
    let rig = rig();
    rig.put(".git/config", "[core]\n");
    rig.put("sub/.git/hooks/x", "");
    symlink(".git", rig.path().join("link")).unwrap();
    symlink(".git/config", rig.path().join("config")).unwrap();
    rig.put("hook", "#!/bin/sh\n");
    for (name, arguments) in [
        ("write_file", json!({ "path": ".git/hooks/pre-commit", "content": "x" })),
        ("write_file", json!({ "path": ".GIT/config", "content": "x" })),
        ("write_file", json!({ "path": "link/hooks/pre-commit", "content": "x" })),
        ("write_file", json!({ "path": "config", "content": "x" })),
        ("edit_file", json!({ "path": ".git/config", "old": "core", "new": "alias" })),
        ("move_file", json!({ "from": "hook", "to": ".git/hooks/pre-commit" })),
        ("move_file", json!({ "from": "hook", "to": "sub/.git/hooks/x", "overwrite": true })),
        ("move_file", json!({ "from": ".git", "to": "moved" })),
    ] {
        let answer = rig.run(name, arguments.clone()).await;
        assert!(answer.is_error && answer.text.contains(".git"), "{name} {arguments}: {answer:?}");
    }
    assert_eq!(rig.text(".git/config"), "[core]\n");
    assert!(!rig.path().join(".git/hooks").exists() && rig.path().join("hook").exists());
    // Looking is free.
    assert!(!rig.run("read_file", json!({ "path": ".git/config" })).await.is_error);
}
