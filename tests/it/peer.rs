//! Real peers of the tests: started on a free loopback port, ended with the test.
//!
//! `tests/peers/install.sh` installs them. Where one is missing its tests are named on stderr and pass without having run;
//! with `CI=true` a missing peer is a failure.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// How long a peer may take until it listens. Generous: a loaded machine is not a broken peer.
const START_MAX: Duration = Duration::from_secs(60);

/// `aimock`, a mock of model vendors' HTTP APIs, answering from fixtures and keeping a journal of what it was sent.
pub(crate) struct Aimock {
    process: Group,
    url: String,
    key: String,
    /// Holds the fixtures.
    _folder: tempfile::TempDir,
}

impl Aimock {
    /// Starts one that takes `key` and nothing else as the caller's key, and with an empty one asks for none. None where it
    /// is not installed.
    pub(crate) async fn start(key: &str, fixtures: &Value) -> Option<Self> {
        Self::start_with(key, fixtures, &[]).await
    }

    /// The same, with options of its command line.
    pub(crate) async fn start_with(key: &str, fixtures: &Value, options: &[&str]) -> Option<Self> {
        let script = installed("aimock", "target/peers/node_modules/@copilotkit/aimock/dist/cli.js")?;
        let folder = tempfile::tempdir().expect("folder");
        let file = folder.path().join("fixtures.json");
        std::fs::write(&file, fixtures.to_string()).expect("fixtures");
        let mut command = Command::new("node");
        command
            .arg(script)
            .args(["--port", "0", "--strict", "--validate-on-load", "--fixtures"])
            .arg(&file)
            .args(options)
            // Nothing of the caller's: neither a real key nor an option for node.
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default());
        if !key.is_empty() {
            command.env("AIMOCK_API_KEYS", key);
        }
        let started = tokio::task::spawn_blocking(move || {
            Group::start(command, |line| line.split_once("listening on ").map(|(_, url)| url.trim().to_owned()))
        });
        let (process, url) = started.await.expect("start").unwrap_or_else(|why| panic!("aimock did not start: {why}"));
        Some(Self { process, url, key: key.to_owned(), _folder: folder })
    }

    /// Where it listens, without a slash at the end.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// What it was sent, in order. Bodies are in the form of a chat completion, whatever the wire; keys are masked.
    pub(crate) async fn journal(&self) -> Vec<Value> {
        let address = self.url.strip_prefix("http://").expect("a plain URL");
        let mut stream = TcpStream::connect(address)
            .await
            .unwrap_or_else(|error| panic!("aimock is gone: {error}\n{}", self.process.said()));
        // HTTP/1.0: the body ends with the connection, so that no client is needed to read it.
        let head = format!("GET /__aimock/journal HTTP/1.0\r\nhost: {address}\r\nx-api-key: {}\r\n\r\n", self.key);
        stream.write_all(head.as_bytes()).await.expect("request");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.expect("answer");
        let (head, body) = answer.split_once("\r\n\r\n").expect("head and body");
        assert!(head.contains(" 200 "), "{answer}");
        serde_json::from_str(body).expect("a JSON list")
    }
}

/// Antigravity's harness program, or none where it is not installed.
pub(crate) fn localharness() -> Option<PathBuf> {
    installed("localharness", "target/peers/localharness")
}

/// `@modelcontextprotocol/server-everything` over streamable HTTP.
pub(crate) struct Mcp {
    _process: Group,
    url: String,
}

impl Mcp {
    /// Starts one on a free port. None where it is not installed.
    pub(crate) fn start() -> Option<Self> {
        let script =
            installed("mcp", "target/peers/node_modules/@modelcontextprotocol/server-everything/dist/index.js")?;
        // It takes no port 0; one that was free a moment ago has to do.
        let free = std::net::TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
        let port = free.expect("a free port").port();
        let mut command = Command::new("sh");
        // It says on standard error that it listens.
        command.args(["-c", "exec node \"$0\" streamableHttp 2>&1"]).arg(script);
        command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default()).env("PORT", port.to_string());
        let (process, ()) = Group::start(command, |line| line.contains("listening on port").then_some(()))
            .unwrap_or_else(|why| panic!("the MCP server did not start: {why}"));
        Some(Self { _process: process, url: format!("http://127.0.0.1:{port}/mcp") })
    }

    /// Where it is.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }
}

/// The file of an installed peer, or none where it may be missing.
pub(crate) fn installed(peer: &str, file: &str) -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).expect("two folders down").join(file);
    if path.exists() {
        return Some(path);
    }
    let hint = "run `tests/peers/install.sh`";
    assert!(std::env::var("CI").as_deref() != Ok("true"), "the peer `{peer}` is not installed: {hint}");
    let current = std::thread::current();
    let test = current.name().unwrap_or("a test");
    let line = format!("skipped {test}: the peer `{peer}` is not installed ({hint})\n");
    // In one piece, beside other tests; and not through the macros, whose output the test harness keeps to itself when a
    // test passes. Without standard error there is nobody to tell.
    let _ = std::io::stderr().write_all(line.as_bytes());
    None
}

/// A program in a process group of its own, which ends with this value.
struct Group {
    child: Child,
    said: std::sync::Arc<std::sync::Mutex<String>>,
}

impl Group {
    /// Starts it and waits for the line of its standard output that `ready` knows.
    fn start<T: Send + 'static>(
        mut command: Command,
        ready: impl Fn(&str) -> Option<T> + Send + 'static,
    ) -> Result<(Self, T), String> {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::inherit()).process_group(0);
        let mut child = command.spawn().map_err(|error| error.to_string())?;
        let lines = BufReader::new(child.stdout.take().ok_or("no standard output")?).lines();
        let this = Self { child, said: std::sync::Arc::default() };
        let said = this.said.clone();
        let (tell, told) = mpsc::channel();
        // Reads to the end, so that the program never waits for a full pipe; ends with it.
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                if let Some(value) = ready(&line) {
                    // The starter may have given up.
                    let _ = tell.send(value);
                }
                let mut said = said.lock().expect("nothing panics while it is held");
                said.push_str(&line);
                said.push('\n');
            }
        });
        match told.recv_timeout(START_MAX) {
            Ok(value) => Ok((this, value)),
            Err(error) => Err(format!("{error}\n{}", this.said())),
        }
    }

    /// All that it wrote so far.
    fn said(&self) -> String {
        self.said.lock().expect("nothing panics while it is held").clone()
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(group) = i32::try_from(self.child.id()).ok().and_then(rustix::process::Pid::from_raw) {
            // It may have ended by itself.
            let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
        }
        let _ = self.child.wait();
    }
}
