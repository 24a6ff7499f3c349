//! `shell`: one command line, in the sandbox of the run's programs. Only where the operator granted it.
//!
//! It ends with the call, whatever it started: the whole group is killed when the command has ended, when its time is up
//! and when the run is cancelled, so nothing is left behind in the background.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use midplane_core::permission::Grant;
use midplane_core::schema::Schema;
use midplane_core::{Error, Result};
use midplane_engine::ports::Exit;
use serde::Deserialize;
use serde_json::{Value, json};

use super::HostTools;
use super::answer::{Answer, Status, json_bytes, json_cut, json_cut_front};
use super::schema;
use super::tool::{Needs, Stop, Tool, stopped};
use crate::process::place::Start;
use crate::process::pump::{Sink, pump};

/// The shell that every system has.
const PROGRAM: &str = "/bin/sh";
/// How long a command may take where the call says nothing.
const TIMEOUT_MS_DEFAULT: u64 = 120_000;
/// The longest command line, in bytes: what Linux takes as one argument.
const COMMAND_BYTES_MAX: usize = 128 * 1024 - 1;

pub(super) struct Shell {
    schema: Value,
    validator: Schema,
}

#[derive(Deserialize)]
struct Arguments {
    command: String,
    timeout_ms: Option<u64>,
    cwd: Option<String>,
}

impl Shell {
    pub(super) fn new() -> Self {
        let schema = json!({
            "type": "object",
            "properties": {
                "command": { "type": "string", "minLength": 1, "description": "The command line, for `sh -c`" },
                "timeout_ms": { "type": "integer", "minimum": 1, "default": TIMEOUT_MS_DEFAULT, "description": "After this time it is killed" },
                "cwd": { "type": "string", "default": ".", "description": "Folder relative to the workspace to run it in" }
            },
            "required": ["command"],
            "additionalProperties": false
        });
        let validator = Schema::new(&schema).expect("the schema is a constant, and a test compiles it");
        Self { schema, validator }
    }
}

#[async_trait]
impl Tool for Shell {
    fn name(&self) -> &'static str {
        "shell"
    }

    fn description(&self) -> &'static str {
        "Runs a command line with `sh` in the workspace and gives its exit code and output. There is no input and no terminal. \
         Of a long output the begin and the end are kept. What it leaves in the background is killed when it ends."
    }

    fn input_schema(&self) -> &Value {
        &self.schema
    }

    fn needs(&self) -> Needs {
        Needs::Shell
    }

    fn check(&self, arguments: Value) -> Result<Value> {
        schema::check_arguments(&self.validator, arguments)
    }

    async fn run(&self, arguments: Value, host: &HostTools, stop: &Stop) -> Result<Answer> {
        let Arguments { command, timeout_ms, cwd } = serde_json::from_value(arguments)
            .map_err(|error| Error::invalid("arguments", format!("the arguments do not fit: {error}")))?;
        if command.contains('\0') || command.len() > COMMAND_BYTES_MAX {
            return Err(Error::invalid("arguments", "`command` has at most 131071 bytes and no NUL character"));
        }
        let files = host.files.as_ref().ok_or_else(|| Error::denied("tool", "this run has no workspace"))?;
        let cwd = files.workspace().folder_for_child(cwd.as_deref().unwrap_or("."))?;
        let timeout_ms = timeout_ms.unwrap_or(TIMEOUT_MS_DEFAULT).min(host.call.limits.tool_ms_max);
        // Half for each stream, of which half is begin and half is end; something is set aside for words around them.
        let stream_bytes_max = (files.answer_bytes_max - files.answer_bytes_max / 8).saturating_sub(256) / 2;

        let program = PathBuf::from(PROGRAM);
        let args = vec!["-c".to_owned(), command];
        let (group, pipes) = host
            .place
            .start(Start { program, scripts: Vec::new(), args, cwd, env: environment(host), stdin: false })
            .await?;
        // Of the first command: it is the same for all.
        if !host.sandbox_said.swap(true, Ordering::Relaxed) {
            host.call.sink.audit(group.audit("shell"));
        }
        let (stdout, stderr) = (HeadTail::new(stream_bytes_max), HeadTail::new(stream_bytes_max));
        let mut exit = group.exit();
        let work = async {
            tokio::join!(
                pump(pipes.stdout, &host.redactor, group.exit(), &stdout),
                pump(pipes.stderr, &host.redactor, group.exit(), &stderr),
            );
            exit.wait_for(Option::is_some).await.ok().and_then(|exit| exit.clone())
        };
        let exit = tokio::select! {
            exit = work => Some(exit.unwrap_or_else(|| Exit::Signal("unknown".to_owned()))),
            () = tokio::time::sleep(Duration::from_millis(timeout_ms)) => None,
            () = stop.wait() => return Err(stopped()), // dropping the group kills it
        };
        drop(group);
        Ok(answer(exit, timeout_ms, &stdout.text(), &stderr.text()))
    }
}

/// The environment of a command, beside what every child gets: what makes programs behave without a terminal, and the
/// host's values of the variables that were granted.
fn environment(host: &HostTools) -> Vec<(OsString, OsString)> {
    let language = std::env::var_os("LANG").unwrap_or_else(|| "C.UTF-8".into());
    let mut env = vec![("TERM".into(), "dumb".into()), ("LANG".into(), language)];
    for (grant, _) in host.rights.grants.iter() {
        if let Grant::Env(name) = grant
            && let Some(value) = std::env::var_os(name)
        {
            env.push((name.into(), value));
        }
    }
    env
}

/// Puts together what came of a command; `exit` is unset when its time was up.
fn answer(exit: Option<Exit>, timeout_ms: u64, stdout: &str, stderr: &str) -> Answer {
    let (exit_code, ending) = match &exit {
        Some(Exit::Code(code)) => (Some(i64::from(*code)), format!("[exit code {code}]")),
        Some(Exit::Signal(name)) => (None, format!("[ended by {name}]")),
        None => (None, format!("[killed after {timeout_ms} ms]")),
    };
    let mut text = stdout.to_owned();
    let mut line = |part: &str| {
        if !text.is_empty() && !text.ends_with('\n') {
            text.push('\n');
        }
        text.push_str(part);
    };
    if !stderr.is_empty() {
        line("[stderr]\n");
        line(stderr);
    }
    if exit_code != Some(0) || (stdout.is_empty() && stderr.is_empty()) {
        line(&ending);
    }
    let structured = json!({
        "exit_code": exit_code,
        "stdout": stdout,
        "stderr": stderr,
        "timed_out": exit.is_none(),
    });
    // For a model and for a playbook alike a command that fails is a call that failed.
    let status = if exit_code == Some(0) { Status::Ok } else { Status::Error };
    Answer { text, structured: Some(structured), status }
}

/// Keeps the begin and the end of a stream, however long it is.
struct HeadTail {
    part_bytes_max: usize,
    state: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    head: Vec<u8>,
    tail: VecDeque<u8>,
    bytes: u64,
}

impl HeadTail {
    fn new(bytes_max: usize) -> Self {
        Self { part_bytes_max: bytes_max / 2, state: Mutex::default() }
    }

    /// What was kept, saying what was not; short enough also as JSON.
    fn text(&self) -> String {
        let kept = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let held = (kept.head.len() + kept.tail.len()) as u64;
        let mut all = kept.head.clone();
        all.extend(kept.tail.iter());
        if held == kept.bytes {
            // Together, since a character may be in both parts.
            let all = String::from_utf8_lossy(&all);
            if json_bytes(&all) <= 2 * self.part_bytes_max {
                return all.into_owned();
            }
        }
        let (head, tail) = all.split_at(kept.head.len());
        let (head, tail) = (String::from_utf8_lossy(head), String::from_utf8_lossy(tail));
        let head = json_cut(&head, self.part_bytes_max);
        let tail = json_cut_front(&tail, self.part_bytes_max);
        let lost = kept.bytes.saturating_sub((head.len() + tail.len()) as u64);
        format!("{head}\n[{lost} bytes are left out here]\n{tail}")
    }
}

impl Sink for HeadTail {
    async fn room(&self) -> usize {
        usize::MAX
    }

    fn push(&self, bytes: &[u8]) {
        let mut kept = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let (head, rest) = bytes.split_at(bytes.len().min(self.part_bytes_max - kept.head.len()));
        kept.head.extend_from_slice(head);
        kept.tail.extend(rest);
        let lost = kept.tail.len().saturating_sub(self.part_bytes_max);
        kept.tail.drain(..lost);
        kept.bytes += bytes.len() as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn begin_and_end_are_kept() {
        let kept = HeadTail::new(8);
        for piece in ["ab", "cdef", "", "ghijkl", "m"] {
            kept.push(piece.as_bytes());
        }
        assert_eq!(kept.text(), "abcd\n[5 bytes are left out here]\njklm");
        let short = HeadTail::new(8);
        short.push(b"abcdefgh");
        assert_eq!(short.text(), "abcdefgh");
        // A character in both parts stays whole; one that needs more room in JSON counts as what it needs.
        let (across, quotes) = (HeadTail::new(8), HeadTail::new(8));
        across.push("abcédef".as_bytes());
        quotes.push(b"a\"b\"c\"d\"");
        assert_eq!(across.text(), "abcédef");
        assert_eq!(quotes.text(), "a\"b\n[3 bytes are left out here]\nd\"");
    }
}
