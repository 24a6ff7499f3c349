//! A server that is a program: one JSON message a line, in both directions.

use std::sync::Arc;
use std::time::Duration;

use midplane_core::text::shown;
use midplane_core::{Error, Result};
use midplane_engine::ports::{Child, Command, Exit, Output, Process as _, StopMode};
use rmcp::RoleClient;
use rmcp::service::{RxJsonRpcMessage, TxJsonRpcMessage};

use super::Server;
use super::wire::Said;

/// How much is read at once, in bytes.
const CHUNK_BYTES: usize = 64 * 1024;
/// Lines that are no message. Some programs log there; one that does nothing else speaks another language.
const STRAY_LINES_MAX: usize = 1_000;
/// How long a program may take to end after its input has ended, before it is killed.
const END_TIME: Duration = Duration::from_millis(300);

/// A program's pipes. Dropping it kills the program with all that it started.
pub(super) struct Stdio {
    child: Box<dyn Child>,
    /// What was read of a line that has not ended.
    line: Vec<u8>,
    /// How much of it was looked at for its end.
    searched: usize,
    line_bytes_max: usize,
    strays: usize,
    said: Arc<Said>,
}

impl Stdio {
    pub(super) async fn start(server: &Server, line_bytes_max: usize, said: Arc<Said>) -> Result<Self> {
        let spec = &server.spec;
        let command = Command {
            argv: std::iter::once(&spec.command).chain(&spec.args).cloned().collect(),
            cwd: None,
            env: spec.env.clone().into_iter().collect(),
            secret_env: spec.secret_env.clone(),
        };
        let child = server.processes.spawn(command).await.map_err(|mut error| {
            error.message = format!("the MCP server `{}`: {}", shown(&spec.name, 60), error.message);
            error
        })?;
        Ok(Self { child, line: Vec::new(), searched: 0, line_bytes_max, strays: 0, said })
    }

    /// Queues a message, whole or not at all.
    pub(super) fn send(&self, message: &TxJsonRpcMessage<RoleClient>) -> Result<()> {
        let mut line = serde_json::to_vec(message)
            .map_err(|error| Error::internal("mcp-server", format!("a message cannot be written: {error}")))?;
        line.push(b'\n');
        self.child.write(line)
    }

    /// The next message; none when the program has ended or is not to be listened to any more. Safe to drop.
    pub(super) async fn receive(&mut self) -> Option<RxJsonRpcMessage<RoleClient>> {
        loop {
            while let Some(line) = self.take_line() {
                match serde_json::from_slice(&line) {
                    Ok(message) => return Some(message),
                    Err(_) if line.trim_ascii().is_empty() => {}
                    Err(error) => {
                        self.strays += 1;
                        tracing::debug!(%error, "an MCP server wrote a line that is no message");
                        if self.strays > STRAY_LINES_MAX {
                            let line = shown(String::from_utf8_lossy(&line).trim(), 100);
                            return self.broke(format!("it writes what is no JSON-RPC, such as `{line}`"));
                        }
                    }
                }
            }
            if self.line.len() > self.line_bytes_max {
                return self.broke(format!("it wrote a line of more than {} bytes", self.line_bytes_max));
            }
            match self.child.next(CHUNK_BYTES).await {
                Ok(Output::Stdout(bytes)) => self.line.extend(bytes),
                Ok(Output::Stderr(bytes)) => self.said.wrote(&bytes),
                Ok(Output::Exited(Exit::Code(code))) => return self.broke(format!("it ended with exit code {code}")),
                Ok(Output::Exited(Exit::Signal(name))) => return self.broke(format!("it was ended by {name}")),
                Err(error) => return self.broke(error.message),
            }
        }
    }

    /// Ends its input, and the program if that does not.
    pub(super) async fn close(&mut self) {
        self.child.close_stdin();
        let ended = async {
            while let Ok(output) = self.child.next(CHUNK_BYTES).await {
                if let Output::Exited(_) = output {
                    return;
                }
            }
        };
        if tokio::time::timeout(END_TIME, ended).await.is_err() {
            // Whoever ignores that is killed with the handle, a moment later; what it started always is.
            let _ = self.child.stop(StopMode::Kill);
        }
    }

    fn take_line(&mut self) -> Option<Vec<u8>> {
        let Some(end) = memchr::memchr(b'\n', &self.line[self.searched..]) else {
            self.searched = self.line.len();
            return None;
        };
        let rest = self.line.split_off(self.searched + end + 1);
        self.searched = 0;
        Some(std::mem::replace(&mut self.line, rest))
    }

    fn broke<T>(&self, why: String) -> Option<T> {
        self.said.broke(&Error::unavailable("mcp-server", why));
        None
    }
}
