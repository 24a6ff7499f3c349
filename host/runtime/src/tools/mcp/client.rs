//! One connection to one server: opened, listed, called, closed, each within its time and with an error that says which
//! server it was and why.

use std::sync::Arc;
use std::time::Duration;

use midplane_core::text::{escape_controls, shown};
use midplane_core::{Error, ErrorKind, Result};
use rmcp::ServiceError;
use rmcp::model::{
    CallToolRequestParams, CallToolResponse, ClientCapabilities, ClientConfig, Implementation, PaginatedRequestParams,
    Tool,
};
use rmcp::service::{Peer, RoleClient, RunningService, serve_client};
use serde_json::{Map, Value};
use tokio::sync::Mutex;

use super::Server;
use super::wire::{Said, Wire};
use crate::tools::answer::{Answer, Status};

/// Pages of a list of tools that are read.
const PAGES_MAX: usize = 100;
/// How long a server may take to end before it is killed, with what is around it.
const END_TIME: Duration = Duration::from_secs(2);

/// A server that has answered.
pub(super) struct Connection {
    server: Arc<Server>,
    peer: Peer<RoleClient>,
    /// Taken when it is closed.
    service: Mutex<Option<RunningService<RoleClient, ClientConfig>>>,
    said: Arc<Said>,
}

impl Connection {
    /// Starts the server, or reaches it, and shakes hands.
    pub(super) async fn open(server: &Arc<Server>) -> Result<Self> {
        let said = Arc::new(Said::default());
        let ms_max = server.call.limits.mcp_start_ms_max;
        let opening = async {
            let wire = Wire::open(server, &said).await?;
            // No capability: there is no sampling, no elicitation and no root here.
            let info = Implementation::new("midplane", env!("CARGO_PKG_VERSION"));
            let config = ClientConfig::new(ClientCapabilities::default(), info);
            serve_client(config, wire).await.map_err(|error| failed(server, &said, &error.to_string()))
        };
        let opened = tokio::time::timeout(Duration::from_millis(ms_max), opening).await;
        let service = opened.unwrap_or_else(|_| {
            Err(failed(server, &said, &format!("it did not answer `initialize` within {ms_max} ms")))
        })?;
        let peer = service.peer().clone();
        Ok(Self { server: server.clone(), peer, service: Mutex::new(Some(service)), said })
    }

    /// The name of the server, as the task has it.
    pub(super) fn name(&self) -> &str {
        &self.server.spec.name
    }

    /// The grants that it rests on.
    pub(super) fn grants(&self) -> Option<String> {
        self.server.grants.clone()
    }

    /// Its tools, page by page.
    pub(super) async fn list(&self) -> Result<Vec<Tool>> {
        let ms_max = self.server.call.limits.mcp_start_ms_max;
        let listing = async {
            let mut tools = Vec::new();
            let mut params = PaginatedRequestParams::default();
            for _ in 0..PAGES_MAX {
                let page = self.peer.list_tools(Some(params.clone())).await.map_err(|error| self.failed(&error))?;
                tools.extend(page.tools);
                match page.next_cursor {
                    // One that gives the same page again and again would never end.
                    Some(cursor) if params.cursor.as_ref() != Some(&cursor) => {
                        params = params.with_cursor(Some(cursor))
                    }
                    _ => break,
                }
            }
            Ok(tools)
        };
        tokio::time::timeout(Duration::from_millis(ms_max), listing).await.unwrap_or_else(|_| {
            Err(failed(&self.server, &self.said, &format!("it did not list its tools within {ms_max} ms")))
        })
    }

    /// Calls a tool. The caller bounds the time; a server that answers with an error gives a failed answer.
    pub(super) async fn call(&self, tool: &str, arguments: Map<String, Value>) -> Result<Answer> {
        let request = CallToolRequestParams::new(tool.to_owned()).with_arguments(arguments);
        match self.peer.call_tool_once(request).await {
            Ok(CallToolResponse::Complete(result)) => Ok(super::answer::answer(result)),
            Ok(_) => Err(failed(&self.server, &self.said, "it wants more than arguments, and there is nobody to ask")),
            // An unknown tool, and whatever else it has no result for.
            Err(ServiceError::McpError(error)) => Ok(Answer::failed(Status::Error, error.message)),
            Err(error) => Err(self.failed(&error)),
        }
    }

    /// Ends the connection and the server, waiting a moment for both.
    pub(super) async fn close(&self) {
        if let Some(mut service) = self.service.lock().await.take() {
            // Whatever came of it, the wire is dropped with the task, and a program with the wire.
            let _ = service.close_with_timeout(END_TIME).await;
        }
    }

    fn failed(&self, error: &ServiceError) -> Error {
        failed(&self.server, &self.said, &error.to_string())
    }
}

/// What is wrong with a server: what its wire knows, else what the protocol says; and the end of its stderr.
fn failed(server: &Server, said: &Said, otherwise: &str) -> Error {
    let name = shown(&server.spec.name, 60);
    let cause = said.cause();
    let why = cause.as_ref().map_or(otherwise, |cause| cause.message.as_str());
    let mut message = format!("the MCP server `{name}` cannot be used: {}", shown(why, 600));
    let tail = said.stderr();
    if !tail.trim().is_empty() {
        message.push_str(&format!("; it wrote to stderr: {}", escape_controls(tail.trim(), false)));
    }
    let mut error = Error::unavailable("mcp-server", message);
    if let Some(cause) = cause {
        error.hint = cause.hint;
        // A denial of the gate is one of the run, with the grant that helps.
        if cause.kind == ErrorKind::Denied {
            error.kind = ErrorKind::Denied;
            error.code = cause.code;
        }
    }
    error
}
