//! What the program tells of a turn, as events and as parts of the outcome.
//!
//! # What it never does
//! It takes nothing of another turn or thread: what a subagent says is not this agent's text.

use std::collections::BTreeMap;

use midplane_plugin::agent::Usage;
use midplane_plugin::error::cut;
use midplane_plugin::program::{self, Audit, CallStatus, Finished, Text};
use midplane_plugin::{Events, Host, Result, Value, json};

use crate::failure;

/// Longest text of a warning that is passed on, in bytes.
const WARNING_BYTES_MAX: usize = 2048;
/// Longest JSON of the vendor's that is passed on as it is, in bytes.
const VENDOR_BYTES_MAX: usize = 16 * 1024;
/// Most items that are remembered by id.
const ITEMS_MAX: usize = 4096;
/// Most paths of one change that are told.
const PATHS_MAX: usize = 256;

/// All that is gathered in a run.
pub struct Turn<'h> {
    host: &'h dyn Host,
    /// Where events go.
    pub events: Events<'h>,
    /// What the program ran.
    pub audit: Audit,
    /// Tokens of the run.
    pub usage: Usage,
    /// The counters of the thread before this run.
    base: Option<Counters>,
    final_answer: Option<Text>,
    last_message: Option<Text>,
    /// What was streamed of an item's text, in bytes; and what its phase is.
    streamed: BTreeMap<String, usize>,
    commentary: Vec<String>,
    /// What files an item changes, for a question about it.
    about: BTreeMap<String, String>,
    workspace: Option<String>,
    retries: u64,
    rate_limits: Value,
    /// The model, where the vendor chose another.
    pub rerouted: Option<String>,
    /// Replies of the model: the program counts tokens once after each.
    pub replies: u32,
    /// The last error that the vendor told of, for a turn that fails without one.
    pub last_error: Value,
}

/// The counters of a message; unset is unknown.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Counters {
    input: Option<u64>,
    cached: Option<u64>,
    cache_write: Option<u64>,
    output: Option<u64>,
    total: Option<u64>,
}

impl<'h> Turn<'h> {
    /// Nothing yet. Paths below `workspace` are told relative to it.
    #[must_use]
    pub fn new(host: &'h dyn Host, workspace: Option<&str>) -> Self {
        Self {
            host,
            events: Events::new(host),
            audit: Audit::default(),
            usage: Usage::default(),
            base: None,
            final_answer: None,
            last_message: None,
            streamed: BTreeMap::new(),
            commentary: Vec::new(),
            about: BTreeMap::new(),
            workspace: workspace.map(|folder| format!("{}/", folder.trim_end_matches('/'))),
            retries: 0,
            rate_limits: Value::Null,
            rerouted: None,
            replies: 0,
            last_error: Value::Null,
        }
    }

    /// The agent's answer: its last final message, or the last without a phase.
    #[must_use]
    pub fn answer(&self) -> Option<&Text> {
        self.final_answer.as_ref().or(self.last_message.as_ref())
    }

    /// Forgets the answer of the turn before: one more begins.
    pub fn next(&mut self) {
        self.final_answer = None;
        self.last_message = None;
    }

    /// What is known of an item that a question names.
    #[must_use]
    pub fn about(&self, item: &str) -> Option<&str> {
        self.about.get(item).map(String::as_str)
    }

    /// Takes one notification of this turn (`turn/completed` aside).
    pub fn notification(&mut self, method: &str, params: &Value) -> Result<()> {
        match method {
            "item/started" => self.item(&params["item"], false),
            "item/completed" => self.item(&params["item"], true),
            "item/agentMessage/delta" => self.delta(params),
            "item/reasoning/textDelta" | "item/reasoning/summaryTextDelta" => {
                self.events.thinking(params["delta"].as_str().unwrap_or_default())
            }
            // Parts of a summary are paragraphs.
            "item/reasoning/summaryPartAdded" if params["summaryIndex"].as_u64() > Some(0) => {
                self.events.thinking("\n\n")
            }
            "turn/plan/updated" => self.plan(params),
            "thread/tokenUsage/updated" => self.token_usage(&params["tokenUsage"]),
            "error" => self.error(params),
            "model/rerouted" => {
                self.rerouted = params["toModel"].as_str().map(|model| cut(model.to_owned(), 256));
                self.vendor("model_rerouted", params)
            }
            "account/rateLimits/updated" => self.limits(&params["rateLimits"]),
            "item/autoApprovalReview/completed" => self.vendor("approval_review", params),
            "warning" | "configWarning" | "guardianWarning" | "deprecationNotice" => {
                let message = params["message"].as_str().or(params["summary"].as_str()).unwrap_or_default();
                let message = cut(message.to_owned(), WARNING_BYTES_MAX);
                self.events.notification("log", json!({ "level": "warn", "message": message }))
            }
            _ => Ok(()),
        }
    }

    fn item(&mut self, item: &Value, is_done: bool) -> Result<()> {
        let id = cut(item["id"].as_str().unwrap_or_default().to_owned(), 256);
        match item["type"].as_str().unwrap_or_default() {
            "agentMessage" => self.message(&id, item, is_done),
            "plan" if is_done => {
                let text = cut(item["text"].as_str().unwrap_or_default().to_owned(), VENDOR_BYTES_MAX);
                self.events.notification("plan", json!({ "text": text }))
            }
            "commandExecution" => {
                let status = match (item["status"].as_str(), item["exitCode"].as_i64()) {
                    (Some("declined"), _) => CallStatus::Declined,
                    // Completed says that it ran to its end, not that it did what it should.
                    (Some("completed"), None | Some(0)) => CallStatus::Ok,
                    _ => CallStatus::Error,
                };
                let arguments = json!({ "command": item["command"].as_str().unwrap_or_default() });
                let result = item["aggregatedOutput"].as_str().unwrap_or_default();
                self.call(&id, "command", &arguments, is_done.then_some((status, result)), item)
            }
            "fileChange" => self.file_change(&id, item, is_done),
            "mcpToolCall" => {
                let failed = item["status"].as_str() != Some("completed") || !item["error"].is_null();
                let why = item["error"]["message"].as_str().unwrap_or_default();
                let status = match failed {
                    // All that tells a call that was not allowed from one that failed.
                    true if why.starts_with("user rejected") => CallStatus::Declined,
                    true => CallStatus::Error,
                    false => CallStatus::Ok,
                };
                let result = texts(&item["result"]["content"], "text");
                let name = item["tool"].as_str().unwrap_or("mcp");
                self.call(&id, name, &item["arguments"], is_done.then_some((status, &result)), item)
            }
            "dynamicToolCall" => {
                let failed = item["status"].as_str() != Some("completed") || item["success"].as_bool() == Some(false);
                let status = if failed { CallStatus::Error } else { CallStatus::Ok };
                let result = texts(&item["contentItems"], "text");
                let name = item["tool"].as_str().unwrap_or("tool");
                self.call(&id, name, &item["arguments"], is_done.then_some((status, &result)), item)
            }
            // When it starts, what it looks for is not known yet.
            "webSearch" if is_done => {
                let arguments = json!({ "query": item["query"].as_str().unwrap_or_default() });
                self.call(&id, "web_search", &arguments, Some((CallStatus::Ok, "")), item)
            }
            "collabAgentToolCall" => {
                let failed = item["status"].as_str() == Some("failed");
                let status = if failed { CallStatus::Error } else { CallStatus::Ok };
                let arguments = json!({ "prompt": item["prompt"] });
                let name = item["tool"].as_str().unwrap_or("subagent");
                self.call(&id, name, &arguments, is_done.then_some((status, "")), item)
            }
            _ => Ok(()),
        }
    }

    /// Tells of a call that has begun, and with `end` of its end.
    fn call(
        &mut self,
        id: &str,
        name: &str,
        arguments: &Value,
        end: Option<(CallStatus, &str)>,
        item: &Value,
    ) -> Result<()> {
        self.audit.requested(&mut self.events, self.host, id, name, arguments)?;
        let Some((status, result)) = end else { return Ok(()) };
        let finished = Finished { status, result, duration_ms: item["durationMs"].as_u64() };
        self.audit.finished(&mut self.events, self.host, id, finished).map(drop)
    }

    fn file_change(&mut self, id: &str, item: &Value, is_done: bool) -> Result<()> {
        let changes = item["changes"].as_array().map_or(&[][..], Vec::as_slice);
        let told: Vec<(String, &str)> = changes
            .iter()
            .take(PATHS_MAX)
            .filter_map(|change| {
                // The kind is an object; an older program said a word.
                let kind = change["kind"]["type"].as_str().or(change["kind"].as_str()).unwrap_or("update");
                Some((self.relative(change["path"].as_str()?), kind))
            })
            .collect();
        let words: Vec<String> = told.iter().map(|(path, kind)| format!("{kind} {path}")).collect();
        if self.about.len() < ITEMS_MAX {
            self.about.insert(id.to_owned(), cut(words.join(", "), WARNING_BYTES_MAX));
        }
        let list: Vec<Value> = told.iter().map(|(path, kind)| json!({ "path": path, "change": kind })).collect();
        let mut arguments = json!({ "changes": list });
        if changes.len() > PATHS_MAX {
            arguments["left_out"] = json!(changes.len() - PATHS_MAX);
        }
        let status = match item["status"].as_str() {
            Some("completed") => CallStatus::Ok,
            Some("declined") => CallStatus::Declined,
            _ => CallStatus::Error,
        };
        self.call(id, "file_change", &arguments, is_done.then_some((status, "")), item)?;
        if is_done && status == CallStatus::Ok {
            for (path, kind) in &told {
                program::file_change(&mut self.events, path, kind)?;
            }
        }
        Ok(())
    }

    fn message(&mut self, id: &str, item: &Value, is_done: bool) -> Result<()> {
        let phase = item["phase"].as_str();
        if !is_done {
            if phase == Some("commentary") && self.commentary.len() < ITEMS_MAX {
                self.commentary.push(id.to_owned());
            }
            return Ok(());
        }
        let text = item["text"].as_str().unwrap_or_default();
        // What was streamed is told already; the rest, or all where nothing was, is told now.
        let streamed = self.streamed.remove(id).unwrap_or(0);
        if let Some(rest) = text.get(streamed..) {
            self.say(phase == Some("commentary"), rest)?;
        }
        let kept = match phase {
            Some("final_answer") => &mut self.final_answer,
            None => &mut self.last_message,
            _ => return Ok(()),
        };
        kept.get_or_insert_default().set(text);
        Ok(())
    }

    fn delta(&mut self, params: &Value) -> Result<()> {
        let (Some(id), Some(delta)) = (params["itemId"].as_str(), params["delta"].as_str()) else { return Ok(()) };
        let id = cut(id.to_owned(), 256);
        let is_commentary = self.commentary.contains(&id);
        // Of an item that is not remembered nothing is streamed: its text is told when it is complete.
        if self.streamed.len() >= ITEMS_MAX && !self.streamed.contains_key(&id) {
            return Ok(());
        }
        *self.streamed.entry(id).or_default() += delta.len();
        self.say(is_commentary, delta)
    }

    /// Commentary is not part of the answer, so it is told as thinking.
    fn say(&mut self, is_commentary: bool, text: &str) -> Result<()> {
        if is_commentary { self.events.thinking(text) } else { self.events.text(text) }
    }

    fn plan(&mut self, params: &Value) -> Result<()> {
        let mut text = String::new();
        for step in params["plan"].as_array().map_or(&[][..], Vec::as_slice) {
            let mark = match step["status"].as_str() {
                Some("completed") => "x",
                Some("inProgress") => ">",
                _ => " ",
            };
            text.push_str(&format!("[{mark}] {}\n", step["step"].as_str().unwrap_or_default()));
            if text.len() > VENDOR_BYTES_MAX {
                break;
            }
        }
        self.events.notification("plan", json!({ "text": cut(text, VENDOR_BYTES_MAX).trim_end() }))
    }

    fn token_usage(&mut self, usage: &Value) -> Result<()> {
        self.replies = self.replies.saturating_add(1);
        let (last, total) = (Counters::read(&usage["last"]), Counters::read(&usage["total"]));
        // `last` is of the last request alone and `total` of the whole thread, with runs before this one: what this run
        // used is what the thread gained since before the first request.
        let base = *self.base.get_or_insert_with(|| total.minus(last));
        let used = if total == Counters::default() { last } else { total.minus(base) };
        self.usage = used.usage();
        let usage = self.usage;
        self.events.usage(&usage)
    }

    fn error(&mut self, params: &Value) -> Result<()> {
        let error = &params["error"];
        let typed = failure::of_turn(error);
        if params["willRetry"].as_bool() == Some(true) {
            self.retries += 1;
            // It waits by itself and does not say how long.
            let fields = json!({ "attempt": self.retries, "wait_ms": 0, "code": typed.code });
            return self.events.notification("retry", fields);
        }
        self.last_error = error.clone();
        self.events.stream_error(&typed.code, &typed.message, typed.is_retryable())
    }

    fn limits(&mut self, limits: &Value) -> Result<()> {
        let says_something = ["primary", "secondary", "credits", "rateLimitReachedType", "spendControlReached"];
        if says_something.iter().all(|name| limits[name].is_null()) || *limits == self.rate_limits {
            return Ok(());
        }
        self.rate_limits = limits.clone();
        self.vendor("rate_limits", limits)
    }

    fn vendor(&mut self, name: &str, value: &Value) -> Result<()> {
        if value.to_string().len() > VENDOR_BYTES_MAX {
            return Ok(());
        }
        self.events.notification("vendor", json!({ name: value }))
    }

    fn relative(&self, path: &str) -> String {
        let inside = self.workspace.as_deref().and_then(|folder| path.strip_prefix(folder));
        inside.unwrap_or(path).to_owned()
    }
}

impl Counters {
    fn read(value: &Value) -> Self {
        let of = |name: &str| value[name].as_u64();
        Self {
            input: of("inputTokens"),
            cached: of("cachedInputTokens"),
            cache_write: of("cacheWriteInputTokens"),
            output: of("outputTokens"),
            total: of("totalTokens"),
        }
    }

    fn minus(self, other: Self) -> Self {
        let minus = |a: Option<u64>, b: Option<u64>| a.map(|a| a.saturating_sub(b.unwrap_or(0)));
        Self {
            input: minus(self.input, other.input),
            cached: minus(self.cached, other.cached),
            cache_write: minus(self.cache_write, other.cache_write),
            output: minus(self.output, other.output),
            total: minus(self.total, other.total),
        }
    }

    /// As the contract counts: input without what came from a cache, unknown where one of the two is.
    fn usage(self) -> Usage {
        Usage {
            input_tokens: self.input.zip(self.cached).map(|(input, cached)| input.saturating_sub(cached)),
            output_tokens: self.output,
            cache_read_tokens: self.cached,
            cache_creation_tokens: self.cache_write,
            total_tokens: self
                .total
                .or(self.input.zip(self.output).map(|(input, output)| input.saturating_add(output))),
            cost_usd: None,
        }
    }
}

/// The texts of a list of parts, joined by line ends.
fn texts(parts: &Value, field: &str) -> String {
    let parts = parts.as_array().map_or(&[][..], Vec::as_slice);
    let texts: Vec<&str> = parts.iter().filter_map(|part| part[field].as_str()).collect();
    texts.join("\n")
}
