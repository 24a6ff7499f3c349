//! The steps of a script, as JSON.
//!
//! ```json
//! {
//!   "record": "~/seen.jsonl",
//!   "when": [{"args": ["--version"], "steps": [{"write": "2.1.300 (Claude Code)"}]}],
//!   "steps": [
//!     {"expect": {"type": "control_request"}, "capture": {"id": "/request_id"}},
//!     {"write": {"type": "control_response", "response": {"subtype": "success", "request_id": "{{id}}"}}},
//!     {"sleep_ms": 10},
//!     {"until_eof": true}
//!   ],
//!   "exit": 0
//! }
//! ```

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

/// A script.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Script {
    /// Where to write what was seen; `~/` is the home. Unset keeps no record.
    #[serde(default)]
    pub record: Option<String>,
    /// Other steps for other arguments: the first entry counts all of whose `args` were given.
    #[serde(default)]
    pub when: Vec<When>,
    /// What it does, in order.
    pub steps: Vec<Step>,
    /// The code that it ends with after its last step.
    #[serde(default)]
    pub exit: u8,
}

/// Steps for certain arguments.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct When {
    /// Arguments that must all be among those given; a `*` at the end of one stands for whatever follows.
    pub args: Vec<String>,
    /// What it does then.
    pub steps: Vec<Step>,
    /// The code that it ends with.
    #[serde(default)]
    pub exit: u8,
}

/// One step. `Value`s may hold `{{name}}` of what was captured before, and `{{env.NAME}}`.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged, deny_unknown_fields)]
pub enum Step {
    /// Reads a line, which must fit; `skip` passes over lines that do not.
    Expect {
        /// Text for the whole line, or JSON that it must contain (`{"$any": true}`, `{"$has": ".."}` inside).
        expect: Value,
        /// JSON pointers into the line, by the name to keep the value under.
        #[serde(default)]
        capture: BTreeMap<String, String>,
        /// Whether lines that do not fit are passed over.
        #[serde(default)]
        skip: bool,
    },
    /// Answers line after line by the first rule that fits, until a rule with `last` was taken or stdin has ended. A
    /// line that no rule fits is passed over.
    Serve {
        /// The rules.
        serve: Vec<Rule>,
    },
    /// Reads to the end of stdin.
    UntilEof {
        /// Any value.
        until_eof: bool,
    },
    /// Writes a line to stdout: text as it is, else JSON.
    Write {
        /// The line without its end.
        write: Value,
    },
    /// Writes text to stdout as it is, without a line's end.
    Raw {
        /// The text.
        raw: String,
    },
    /// Writes bytes to stdout.
    Bytes {
        /// The bytes.
        bytes: Vec<u8>,
    },
    /// Writes text to stderr as it is.
    Stderr {
        /// The text.
        stderr: String,
    },
    /// Waits.
    Sleep {
        /// Milliseconds.
        sleep_ms: u64,
    },
    /// Writes the same line again and again.
    Flood {
        /// What to write.
        flood: Flood,
    },
    /// Closes a standard stream, `stdin`, `stdout` or `stderr`, or the `websocket`.
    Close {
        /// Its name.
        close: String,
    },
    /// Goes on when one of these signals comes: `INT`, `TERM`, `HUP`.
    Ignore {
        /// Their names.
        ignore: Vec<String>,
    },
    /// Starts a program of its own and does not wait for it.
    Spawn {
        /// Program and arguments.
        spawn: Vec<String>,
        /// Whether it leaves the process group.
        #[serde(default)]
        own_group: bool,
        /// Keeps its process id under this name.
        #[serde(default)]
        name: Option<String>,
    },
    /// Asks an `http://` URL and keeps status and body (`{"status": .., "body": ..}`) in the record and under a name.
    Http {
        /// The request.
        http: Request,
    },
    /// Serves a websocket on the loopback address and waits for a connection. From then on messages are what lines were:
    /// `expect` and `serve` read them, `write` and `raw` send one each, and `{"close": "websocket"}` closes it. The port
    /// is captured as `port`.
    Websocket {
        /// How it is served.
        websocket: Served,
    },
    /// Writes a file; `~/` is the home.
    File {
        /// Where.
        file: String,
        /// What.
        text: Value,
    },
    /// Does steps several times.
    Repeat {
        /// How often.
        repeat: u32,
        /// The steps.
        steps: Vec<Step>,
    },
    /// Does nothing for ever.
    Hang {
        /// Any value.
        hang: bool,
    },
    /// Ends at once with this code.
    Exit {
        /// The code.
        exit: u8,
    },
    /// Ends at once by a signal (`SIGABRT`).
    Abort {
        /// Any value.
        abort: bool,
    },
}

/// What is done for a line that fits.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// As in [`Step::Expect`].
    pub on: Value,
    /// As in [`Step::Expect`].
    #[serde(default)]
    pub capture: BTreeMap<String, String>,
    /// What is done.
    #[serde(default)]
    pub steps: Vec<Step>,
    /// Whether this ends the serving.
    #[serde(default)]
    pub last: bool,
}

/// A flood.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Flood {
    /// `stdout` or `stderr`.
    #[serde(default)]
    pub stream: Option<String>,
    /// What is repeated; a line's end is part of it or not.
    pub text: String,
    /// How often; unset is until it is stopped.
    #[serde(default)]
    pub times: Option<u64>,
}

/// A websocket.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Served {
    /// What is written to stdout when it listens, in parts: a byte, a text, `{"varint": "{{port}}"}`, `{"sized": [..]}`
    /// with its length before it.
    #[serde(default)]
    pub greeting: Vec<Value>,
    /// Headers without which a connection is refused.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
}

/// A request.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Request {
    /// `GET` without a body, `POST` with one, unless named.
    #[serde(default)]
    pub method: Option<String>,
    /// An `http://` URL.
    pub url: String,
    /// Headers.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// A JSON body.
    #[serde(default)]
    pub body: Option<Value>,
    /// The name under which the answer is kept.
    #[serde(default)]
    pub name: Option<String>,
}

impl Script {
    /// Reads a script.
    ///
    /// # Errors
    /// When it is no JSON, or no script; an unknown step is shown whole, since all that can be said of it is that it is none.
    pub fn parse(text: &str) -> Result<Self, String> {
        serde_json::from_str(text).map_err(|error| error.to_string())
    }

    /// The steps and the code for these arguments.
    #[must_use]
    pub fn chosen(&self, args: &[String]) -> (&[Step], u8) {
        let given = |wanted: &String| match wanted.strip_suffix('*') {
            Some(start) => args.iter().any(|arg| arg.starts_with(start)),
            None => args.contains(wanted),
        };
        let when = self.when.iter().find(|when| when.args.iter().all(given));
        when.map_or((&self.steps, self.exit), |when| (&when.steps, when.exit))
    }
}
