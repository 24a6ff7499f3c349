//! MCP servers of a task: their tools beside the host's own, and a way for a vendor's program to reach those that it cannot
//! start itself.
//!
//! ```text
//!   tools.offered / call-all ─► [`Servers`] ─► [`client`] ─┬─ [`stdio`] ─► a program, by the process gate
//!                                                          └─ [`http`]  ─► a URL, by the egress gate
//!   vendor's program ─► `midplane helper mcp-bridge` ─► [`bridge`] ─┘ (servers with a secret, or without a program)
//! ```
//! A task that names a server asks for it; the operator grants it, by the grants of a program (`command:`, `env:`, `secret:`) or of a URL
//! (`http:`, `secret:`, `address:`). Each server has gates of its own, so that what was granted for one is not used by
//! another. The protocol is spoken by the `rmcp` crate; bytes move through the host's gates only.
//!
//! # What it never does
//! It starts no server before its tools are asked for, none twice, and leaves none behind. It answers no request of a
//! server: there is no sampling, no elicitation and no root. No secret of a server reaches the plugin or its program.

mod answer;
pub(crate) mod bridge;
mod client;
mod http;
mod names;
mod stdio;
// They start programs and look at `/proc`.
#[cfg(all(test, target_os = "linux"))]
mod tests;
mod wire;

use std::sync::Arc;

use midplane_core::event::Event;
use midplane_core::permission::{Permissions, Requested};
use midplane_core::schema::Schema;
use midplane_core::task::{McpServer, Task};
use midplane_core::text::{cut, shown};
use midplane_core::{Error, Result};
use midplane_engine::ports::Http;
use serde_json::{Value, json};
use tokio::sync::OnceCell;

use self::client::Connection;
use super::HostTools;
use super::answer::Answer;
use super::schema;
use super::tool::{Needs, Stop, Tool, stopped};
use crate::call::Call;
use crate::process::Processes;

/// Bytes of the schema of one tool. What is larger would fill a model's context by itself.
const SCHEMA_BYTES_MAX: usize = 64 * 1024;
/// Bytes of the description of one tool.
const DESCRIPTION_BYTES_MAX: usize = 4 * 1024;

/// What the servers of a task take, for the gates: one request each, in the order of the task.
pub(crate) fn permissions(task: &Task) -> Permissions {
    let asked = |server: &McpServer| {
        let reason = format!("the task names the MCP server `{}`", shown(&server.name, 60));
        // One that has none was refused with the task.
        server.permission().ok().map(|permission| Requested { permission, optional: false, reason })
    };
    task.mcp_servers.iter().filter_map(asked).collect()
}

/// A server and the gates that it is reached by.
pub(crate) struct Server {
    pub(crate) spec: McpServer,
    pub(crate) call: Arc<Call>,
    /// For its program.
    pub(crate) processes: Processes,
    /// For its URL.
    pub(crate) http: Arc<dyn Http>,
    /// The grants that it rests on, for audits.
    pub(crate) grants: Option<String>,
}

/// The servers of a run.
pub(crate) struct Servers {
    servers: Vec<Arc<Server>>,
    call: Arc<Call>,
    started: OnceCell<Result<Started>>,
}

/// What came of starting all servers.
struct Started {
    connections: Vec<Arc<Connection>>,
    tools: Vec<Arc<dyn Tool>>,
}

impl Servers {
    pub(crate) fn new(servers: Vec<Arc<Server>>, call: Arc<Call>) -> Self {
        Self { servers, call, started: OnceCell::new() }
    }

    /// The tools of all servers that pass `wanted` (by their names here), which starts the servers once.
    ///
    /// # Errors
    /// `unavailable` code `mcp-server` naming the server and why; `denied` as the gates say it.
    pub(super) async fn tools(&self, wanted: impl Fn(&str) -> bool) -> Result<&[Arc<dyn Tool>]> {
        match self.started.get_or_init(|| self.start(wanted)).await {
            Ok(started) => Ok(&started.tools),
            Err(error) => Err(error.clone()),
        }
    }

    /// The tools, where the servers were started.
    pub(super) fn known(&self) -> &[Arc<dyn Tool>] {
        match self.started.get() {
            Some(Ok(started)) => &started.tools,
            _ => &[],
        }
    }

    /// Ends all servers, and waits until they have ended.
    pub(crate) async fn close(&self) {
        if let Some(Ok(started)) = self.started.get() {
            futures_util::future::join_all(started.connections.iter().map(|connection| connection.close())).await;
        }
    }

    async fn start(&self, wanted: impl Fn(&str) -> bool) -> Result<Started> {
        // Side by side: some take seconds, to download themselves.
        let opened = futures_util::future::join_all(self.servers.iter().map(Connection::open)).await;
        let mut connections = Vec::new();
        for connection in opened {
            connections.push(Arc::new(connection?));
        }
        let mut tools: Vec<Arc<dyn Tool>> = Vec::new();
        let mut names = names::Names::default();
        let most = usize::try_from(self.call.limits.mcp_tools_max).unwrap_or(usize::MAX);
        for connection in &connections {
            let mut left_out = Vec::new();
            for listed in connection.list().await? {
                let name = names.of(connection.name(), &listed.name);
                if !wanted(&name) {
                    continue;
                }
                let why = if tools.len() >= most {
                    Err("there are too many")
                } else {
                    ServerTool::new(name, &listed, connection).map(|tool| tools.push(Arc::new(tool)))
                };
                if let Err(why) = why {
                    left_out.push((listed.name, why));
                }
            }
            self.tell(connection.name(), &left_out).await;
        }
        Ok(Started { connections, tools })
    }

    /// Says in the log of the run what is not offered, and why.
    async fn tell(&self, server: &str, left_out: &[(std::borrow::Cow<'static, str>, &'static str)]) {
        let Some((name, why)) = left_out.first() else { return };
        let message = format!(
            "tools of the MCP server `{}` that are not offered: {}, the first being `{}` ({why})",
            shown(server, 60),
            left_out.len(),
            shown(name, 80)
        );
        let event = Event::notification("log", json!({ "level": "warn", "message": message }));
        // The log of the run is full or closed: then the run ends by that.
        let _ = self.call.sink.events(vec![event]).await;
    }
}

/// A tool of a server.
struct ServerTool {
    name: String,
    /// Its name at the server.
    remote: String,
    description: String,
    schema: Value,
    validator: Schema,
    /// Whether the server says that it changes nothing.
    looks: bool,
    connection: Arc<Connection>,
}

impl ServerTool {
    /// The error is why it cannot be offered.
    fn new(name: String, listed: &rmcp::model::Tool, connection: &Arc<Connection>) -> Result<Self, &'static str> {
        let mut schema = Value::Object((*listed.input_schema).clone());
        // Some servers leave out what the protocol fixes.
        schema["type"] = json!("object");
        if schema.to_string().len() > SCHEMA_BYTES_MAX {
            return Err("its schema is too large");
        }
        let validator = Schema::new(&schema).map_err(|_| "its schema is none")?;
        let description = listed.description.as_deref().or(listed.title.as_deref()).unwrap_or_default();
        let hints = listed.annotations.as_ref();
        Ok(Self {
            name,
            remote: listed.name.clone().into_owned(),
            description: cut(description, DESCRIPTION_BYTES_MAX).to_owned(),
            schema,
            validator,
            looks: hints.and_then(|hints| hints.read_only_hint).unwrap_or(false),
            connection: connection.clone(),
        })
    }
}

#[async_trait::async_trait]
impl Tool for ServerTool {
    fn name(&self) -> &str {
        &self.name
    }

    fn description(&self) -> &str {
        &self.description
    }

    fn input_schema(&self) -> &Value {
        &self.schema
    }

    fn needs(&self) -> Needs {
        Needs::Elsewhere { looks: self.looks }
    }

    fn grants(&self) -> Option<String> {
        self.connection.grants()
    }

    fn check(&self, arguments: Value) -> Result<Value> {
        if schema::problems(&self.validator, &arguments, "").is_none() {
            return Ok(arguments);
        }
        // Only then: to a server a `null` may mean something.
        schema::check_arguments(&self.validator, arguments)
    }

    async fn run(&self, arguments: Value, _host: &HostTools, stop: &Stop) -> Result<Answer> {
        let Value::Object(arguments) = arguments else {
            return Err(Error::invalid("arguments", "the arguments are not a JSON object"));
        };
        tokio::select! {
            // Dropping the call tells the server that nobody waits for it.
            result = self.connection.call(&self.remote, arguments) => result,
            () = stop.wait() => Err(stopped()),
        }
    }
}
