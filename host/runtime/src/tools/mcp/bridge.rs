//! A server for a vendor's program that must not have what the server needs: the program starts `midplane helper mcp-bridge SOCKET` as
//! its server, and the host speaks to the real one.
//!
//! ```text
//!   vendor's program ─stdio─► mcp-bridge ─socket─► here ─► program with its secret, or URL with its credential
//! ```
//! The socket lies in a folder that only this user can enter, which lives as long as the run. So neither the arguments nor the
//! environment of the bridge hold a secret, however an adapter hands them over.

use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::sync::Arc;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use midplane_core::task::{McpServer, Task};
use midplane_core::{Error, Result};
use midplane_engine::plugin;
use rmcp::transport::Transport as _;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::task::{JoinHandle, JoinSet};

use super::Server;
use super::wire::{Said, Wire};

/// The verb of the helper program.
pub(crate) const VERB: &str = "mcp-bridge";
/// Programs that use one server at once: a vendor's subagents start it again.
const CONNECTIONS_MAX: usize = 8;
/// Messages under way to one server.
const SENDING_MAX: usize = 64;

/// The sockets of a run, before anybody listens.
pub(crate) struct Sockets {
    folder: Option<tempfile::TempDir>,
    helper: Option<PathBuf>,
}

impl Sockets {
    /// A folder for the sockets of a task, if it needs any. `unsupported` code `helper-missing` without a helper program.
    pub(crate) fn new(task: &Task, helper: Option<&PathBuf>) -> Result<Self> {
        if !task.mcp_servers.iter().any(McpServer::is_bridged) {
            return Ok(Self { folder: None, helper: None });
        }
        let Some(helper) = helper else {
            return Err(Error::unsupported(
                "helper-missing",
                "an MCP server with a secret or a URL needs the helper program",
            )
            .hint("name it with `Host::builder().helper(path)`; the `midplane` command is one"));
        };
        // Readable by this user alone, and short: the path of a socket has about a hundred bytes.
        let private = std::fs::Permissions::from_mode(0o700);
        let made = tempfile::Builder::new().prefix("midplane-mcp-").permissions(private).tempdir();
        let folder = made.map_err(|error| {
            Error::unavailable("mcp-bridge", format!("no folder for the sockets of MCP servers can be made: {error}"))
        })?;
        Ok(Self { folder: Some(folder), helper: Some(helper.clone()) })
    }

    /// The servers as a vendor's program is to start them: as they are, or the bridge.
    pub(crate) fn servers(&self, task: &Task) -> Vec<plugin::McpServer> {
        let servers = task.mcp_servers.iter().enumerate();
        servers
            .map(|(index, server)| match (self.path(index), &self.helper) {
                (Some(socket), Some(helper)) if server.is_bridged() => plugin::McpServer {
                    name: server.name.clone(),
                    argv: vec![
                        helper.display().to_string(),
                        "helper".to_owned(),
                        VERB.to_owned(),
                        socket.display().to_string(),
                    ],
                    env: Vec::new(),
                },
                _ => plugin::McpServer {
                    name: server.name.clone(),
                    argv: std::iter::once(&server.command).chain(&server.args).cloned().collect(),
                    env: server.env.clone().into_iter().collect(),
                },
            })
            .collect()
    }

    fn path(&self, index: usize) -> Option<PathBuf> {
        self.folder.as_ref().map(|folder| folder.path().join(format!("{index}.sock")))
    }

    /// Listens for the bridges of these servers, which are those of the task in its order. `unavailable` code `mcp-bridge`.
    pub(crate) fn listen(self, servers: &[Arc<Server>]) -> Result<Bridges> {
        let mut tasks = Vec::new();
        for (index, server) in servers.iter().enumerate().filter(|(_, server)| server.spec.is_bridged()) {
            let Some(path) = self.path(index) else { continue };
            let listener = UnixListener::bind(path).map_err(|error| {
                Error::unavailable("mcp-bridge", format!("a socket for an MCP server cannot be made: {error}"))
            })?;
            tasks.push(tokio::spawn(accept(listener, server.clone())));
        }
        Ok(Bridges { tasks, _folder: self.folder })
    }
}

/// The open sockets of a run. Dropping them closes every connection, and ends the servers behind them.
pub(crate) struct Bridges {
    tasks: Vec<JoinHandle<()>>,
    _folder: Option<tempfile::TempDir>,
}

impl Drop for Bridges {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

async fn accept(listener: UnixListener, server: Arc<Server>) {
    let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    // They end with this task.
    let mut connections = JoinSet::new();
    loop {
        let Ok(permit) = Arc::clone(&room).acquire_owned().await else { return };
        let Ok((stream, _)) = listener.accept().await else { return };
        while connections.try_join_next().is_some() {}
        let server = server.clone();
        connections.spawn(async move {
            if let Err(error) = relay(stream, &server).await {
                tracing::warn!(server = %server.spec.name, %error, "an MCP server behind a bridge failed");
            }
            drop(permit);
        });
    }
}

/// Moves messages between a bridge and a server of its own until one of them ends.
async fn relay(stream: UnixStream, server: &Server) -> Result<()> {
    let said = Arc::new(Said::default());
    let mut wire = Wire::open(server, &said).await?;
    let bytes_max = server.call.limits.mcp_message_bytes_max;
    let (reader, mut writer) = stream.into_split();
    let mut reader = BufReader::new(reader);
    let mut line = Vec::new();
    let mut sending = FuturesUnordered::new();
    loop {
        tokio::select! {
            // Kept over the turns of the loop: what was read of a line stays in `line`.
            read = async { (&mut reader).take(bytes_max + 1).read_until(b'\n', &mut line).await },
                if sending.len() < SENDING_MAX =>
            {
                let size = read.unwrap_or(0);
                if size == 0 || line.len() as u64 > bytes_max {
                    break;
                }
                if line.ends_with(b"\n") {
                    // What is no message cannot be answered either: it has no id.
                    if let Ok(message) = serde_json::from_slice(&line) {
                        sending.push(wire.send(message));
                    }
                    line.clear();
                }
            }
            message = wire.receive() => {
                let Some(message) = message else { break };
                let mut text = serde_json::to_vec(&message)
                    .map_err(|error| Error::internal("mcp-bridge", format!("a message cannot be written: {error}")))?;
                text.push(b'\n');
                if writer.write_all(&text).await.is_err() {
                    break;
                }
            }
            Some(sent) = sending.next() => {
                if sent.is_err() {
                    break;
                }
            }
        }
    }
    drop(sending);
    let _ = wire.close().await; // it says what it has to say through `said`
    said.cause().map_or(Ok(()), Err)
}

/// The bridge itself: what `<helper> helper mcp-bridge SOCKET` runs. It moves bytes between its standard streams and the socket,
/// and ends with either. Returns the exit code.
pub(crate) fn main(socket: &str) -> u8 {
    let connect = || -> std::io::Result<_> {
        let stream = std::os::unix::net::UnixStream::connect(socket)?;
        Ok((stream.try_clone()?, stream))
    };
    let (mut out, mut back) = match connect() {
        Ok(pair) => pair,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "error: the run of this MCP server has ended ({error})");
            return 1;
        }
    };
    std::thread::spawn(move || {
        let _ = std::io::copy(&mut std::io::stdin().lock(), &mut out);
        let _ = out.shutdown(std::net::Shutdown::Write);
    });
    let (mut buffer, mut stdout) = (vec![0; 64 * 1024], std::io::stdout().lock());
    loop {
        match back.read(&mut buffer) {
            Ok(0) | Err(_) => return 0,
            // Each message as it comes: standard output is not flushed by itself where it is a pipe.
            Ok(size) => {
                if stdout.write_all(&buffer[..size]).and_then(|()| stdout.flush()).is_err() {
                    return 0;
                }
            }
        }
    }
}
