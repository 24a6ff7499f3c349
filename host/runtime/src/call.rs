//! What every service behind an import needs to know of the call that it serves: whose it is, what it may do, what must
//! not leak, and where to write what the host has to say about it.

use std::sync::Arc;

use async_trait::async_trait;
use midplane_core::event::Event;
use midplane_core::limits::Limits;
use midplane_core::{ProfileName, Result, RunId};
use midplane_engine::Control;

/// One call of one plugin.
pub(crate) struct Call {
    /// The profile under which the plugin runs.
    pub(crate) profile: ProfileName,
    /// The run, in an agent's `run` and `cancel`.
    pub(crate) run_id: Option<RunId>,
    /// The bounds in force.
    pub(crate) limits: Limits,
    /// Time left and cancel.
    pub(crate) control: Arc<Control>,
    /// Where the host writes of it.
    pub(crate) sink: Arc<dyn Sink>,
}

/// Where the host writes what it has to say about a call.
#[async_trait]
pub(crate) trait Sink: Send + Sync {
    /// Appends events of the host (`tool_request`, `tool_response`, ...), redacted on the way; durable when it returns.
    async fn events(&self, events: Vec<Event>) -> Result<()>;

    /// Notes a gated act for the audit, without waiting: it is appended in order with what follows.
    fn audit(&self, audit: Audit);
}

/// One gated act.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Audit {
    /// The import and act: `http`, `tool`, `command`, `secret`, ...
    pub(crate) act: &'static str,
    /// What it was done to: method and URL without query, a path, a program.
    pub(crate) target: String,
    /// `ok`, an error code, or `denied`.
    pub(crate) outcome: String,
    /// The grant that allowed it, or the missing one.
    pub(crate) grant: Option<String>,
    /// How long it took.
    pub(crate) duration_ms: u64,
    /// How many bytes moved.
    pub(crate) size_bytes: u64,
}
