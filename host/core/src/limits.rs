//! Every bound of the host, with its unit, in one table.
//!
//! A plugin's manifest may ask for less, an operator may lower each and may raise those marked `operator`. The defaults
//! that the contract promises to plugins (`wit/v0`, doc comments) are these numbers. A test prints the table into the
//! README, so this file is the only home of each number.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::{Error, Result};

/// What is known of one bound.
#[derive(Debug, Clone, Copy)]
pub struct LimitInfo {
    /// Its name, with the unit last.
    pub name: &'static str,
    /// Its default.
    pub default: u64,
    /// Whether the operator may raise it above the default.
    pub raisable: bool,
    /// What it bounds.
    pub doc: &'static str,
}

macro_rules! limits {
    ($($(#[doc = $doc:literal])+ $name:ident = $default:expr, $raisable:literal;)*) => {
        /// The bounds in force for one call of a plugin.
        #[derive(Debug, Clone, PartialEq, Eq, Serialize)]
        pub struct Limits { $($(#[doc = $doc])+ pub $name: u64,)* }

        impl Default for Limits {
            fn default() -> Self {
                Self { $($name: $default,)* }
            }
        }

        /// All bounds, in the order of the documentation.
        pub const TABLE: &[LimitInfo] = &[
            $(LimitInfo { name: stringify!($name), default: $default, raisable: $raisable, doc: concat!($($doc),+) },)*
        ];

        impl Limits {
            fn field(&mut self, name: &str) -> Option<&mut u64> {
                match name { $(stringify!($name) => Some(&mut self.$name),)* _ => None }
            }

            /// The value of a bound by name.
            #[must_use]
            pub fn get(&self, name: &str) -> Option<u64> {
                match name { $(stringify!($name) => Some(self.$name),)* _ => None }
            }
        }
    };
}

const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;

limits! {
    /// bytes of one linear memory of a guest
    memory_bytes_max = 256 * MIB, true;
    /// linear memories of one instance tree
    memories_max = 32, false;
    /// core instances of one component (a Python guest has about 14)
    instances_max = 64, false;
    /// tables of one component
    tables_max = 64, false;
    /// elements of one table
    table_elements_max = 100_000, false;
    /// bytes of native stack that guest code may use
    stack_bytes_max = 512 * KIB, false;
    /// bytes that one host call may carry out of the guest; more is a trap
    hostcall_bytes_max = 16 * MIB, false;
    /// resource handles that a guest may hold
    handles_max = 1_000, false;
    /// bytes of one random request
    random_bytes_max = 64 * KIB, false;
    /// milliseconds of guest computation in one call; waiting in the host is free
    cpu_ms_max = 120_000, true;
    /// milliseconds from the start of a run to its deadline, where the task says nothing
    run_ms_default = 3_600_000, true;
    /// milliseconds from the call of an agent to the first thing that comes from it
    first_event_ms_max = 600_000, true;
    /// milliseconds between two things that come from an agent or its tools
    idle_ms_max = 1_800_000, true;
    /// milliseconds that a short call (capabilities, availability, validate) may take
    query_ms_max = 10_000, true;
    /// milliseconds between cancel and the end of the instance
    grace_ms = 3_000, true;
    /// events of one run
    run_events_max = 1_000_000, true;
    /// events of one batch
    batch_events_max = 256, false;
    /// bytes of one event's data
    event_bytes_max = 256 * KIB, false;
    /// bytes of one batch of events
    batch_bytes_max = MIB, false;
    /// bytes of an outcome's output and of its parsed output
    output_bytes_max = 4 * MIB, true;
    /// model turns of one run, where the task says nothing
    rounds_default = 100, true;
    /// bytes sent and received over HTTP in one run
    http_bytes_max = 1024 * MIB, true;
    /// bytes of a request body given as bytes
    http_request_bytes_max = 4 * MIB, false;
    /// requests of one run
    http_requests_max = 10_000, true;
    /// milliseconds until a response head must be there
    http_head_ms_max = 300_000, true;
    /// milliseconds between two chunks of a response body
    http_idle_ms_max = 120_000, true;
    /// redirects followed
    http_redirects_max = 10, false;
    /// requests to the loopback endpoints of one run at once; more wait
    endpoint_connections_max = 32, false;
    /// bytes that blobs of one run may hold on the host
    blob_bytes_max = 1024 * MIB, true;
    /// tool calls of one run
    tool_calls_max = 10_000, true;
    /// calls in one `tools.call-all`
    tool_batch_max = 64, false;
    /// bytes of one tool answer
    tool_answer_bytes_max = 256 * KIB, false;
    /// tools of the MCP servers of one run that are offered
    mcp_tools_max = 512, true;
    /// bytes of one message of an MCP server
    mcp_message_bytes_max = 4 * MIB, true;
    /// milliseconds that an MCP server may take to start, and to list its tools
    mcp_start_ms_max = 60_000, true;
    /// bytes of a file that a tool reads or writes
    tool_file_bytes_max = 16 * MIB, true;
    /// milliseconds that one tool call may take
    tool_ms_max = 600_000, true;
    /// bytes of one key of `kv`
    kv_key_bytes_max = 512, false;
    /// bytes of one value of `kv`
    kv_value_bytes_max = MIB, false;
    /// bytes of all values of one profile
    kv_total_bytes_max = 64 * MIB, true;
    /// bytes of one log line of a guest
    log_line_bytes_max = 8 * KIB, false;
    /// log lines of a guest in one second; more are dropped and counted
    log_lines_per_s_max = 200, true;
    /// programs that run at once in one run
    children_max = 8, true;
    /// bytes queued for a child's standard input
    child_stdin_bytes_max = 4 * MIB, false;
    /// bytes of one output stream of a child that are held unread
    child_output_bytes_max = MIB, false;
    /// websockets to children that are open at once in one run
    sockets_max = 8, true;
    /// bytes of one message of a websocket
    socket_frame_bytes_max = 4 * MIB, false;
    /// bytes queued on a websocket, each way
    socket_queue_bytes_max = 8 * MIB, false;
    /// milliseconds that an approval waits for a person
    approval_ms_max = 300_000, true;
    /// steering messages that wait for a run
    signals_max = 64, false;
    /// bytes of one steering message
    signal_bytes_max = 64 * KIB, false;
    /// bytes of a component file
    component_bytes_max = 48 * MIB, true;
    /// functions of a component
    component_functions_max = 60_000, true;
    /// milliseconds that compiling a component may take
    compile_ms_max = 120_000, true;
    /// bytes of memory that compiling a component may take
    compile_bytes_max = 4096 * MIB, true;
    /// runs of this host process at once
    runs_max = 64, true;
}

impl Limits {
    /// These bounds with a plugin's wishes applied: each may only be lower than what is in force.
    pub fn lowered(mut self, wishes: &BTreeMap<String, u64>) -> Result<Self> {
        for (name, wish) in wishes {
            let field = self.field(name).ok_or_else(|| unknown(name))?;
            if *wish > *field {
                return Err(Error::invalid(
                    "limit-raised",
                    format!("`limits.{name}` asks for {wish}, more than the {field} in force"),
                )
                .hint("a plugin may only lower a limit; an operator may raise it in the configuration"));
            }
            *field = *wish;
        }
        Ok(self)
    }

    /// These bounds with the operator's settings: lower at will, higher where the table allows.
    pub fn configured(mut self, settings: &BTreeMap<String, u64>) -> Result<Self> {
        for (name, value) in settings {
            let info = TABLE.iter().find(|info| info.name == name).ok_or_else(|| unknown(name))?;
            if *value > info.default && !info.raisable {
                return Err(Error::invalid(
                    "limit-raised",
                    format!("`limits.{name}` may not be above {}", info.default),
                )
                .hint("this bound is part of the contract with plugins and can only be lowered"));
            }
            *self.field(name).ok_or_else(|| unknown(name))? = *value;
        }
        Ok(self)
    }
}

fn unknown(name: &str) -> Error {
    let near = crate::text::near(name, TABLE.iter().map(|info| info.name));
    let error = Error::invalid("limit-unknown", format!("there is no limit `{}`", crate::text::shown(name, 60)));
    match near.first() {
        Some(near) => error.hint(format!("did you mean `{near}`?")),
        None => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wishes_only_lower() {
        let wish = |name: &str, value| BTreeMap::from([(name.to_owned(), value)]);
        let lowered = Limits::default().lowered(&wish("memory_bytes_max", MIB)).expect("lower");
        assert_eq!(lowered.memory_bytes_max, MIB);
        assert_eq!(
            Limits::default().lowered(&wish("memory_bytes_max", 1 << 40)).expect_err("raise").code,
            "limit-raised"
        );
        let error = Limits::default().lowered(&wish("memory_byte_max", 1)).expect_err("unknown");
        assert_eq!(error.hint.as_deref(), Some("did you mean `memory_bytes_max`?"));
        assert_eq!(
            Limits::default().configured(&wish("stack_bytes_max", 1 << 40)).expect_err("raise").code,
            "limit-raised"
        );
        assert_eq!(Limits::default().configured(&wish("cpu_ms_max", 1 << 40)).expect("raise").cpu_ms_max, 1 << 40);
    }
}
