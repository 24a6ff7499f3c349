//! One model turn: send the request, pass on what streams in, and repeat it if nothing was heard yet.

use serde_json::json;

use super::{Delta, Reply, Run, Turn, retry};
use crate::error::{Error, ErrorKind, Result, cut};
use crate::http::Response;

/// Most bytes of one stream.
const STREAM_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Most bytes of text of one reply. What is longer could not be sent back: the host takes 4 MiB in a request.
const TEXT_BYTES_MAX: usize = 3 * 1024 * 1024;
/// How often the counters are made an event while a reply arrives, in milliseconds: some vendors count with each word.
const USAGE_EVERY_MS: u64 = 1_000;
/// Most bytes of an error body that are read.
const ERROR_BYTES_MAX: usize = 64 * 1024;

/// Why one try ended.
struct Broken {
    error: Error,
    /// The stream had begun.
    in_stream: bool,
    /// Output was heard: repeating would give it twice.
    heard: bool,
}

impl Broken {
    fn before(error: Error) -> Self {
        Self { error, in_stream: false, heard: false }
    }
}

impl Run<'_> {
    /// The next reply of the model.
    pub(super) fn exchange(&mut self, force_tool: Option<&str>) -> Result<Reply> {
        let mut repeats = 0;
        loop {
            let broken = match self.attempt(force_tool) {
                Ok(reply) => return Ok(reply),
                Err(broken) => broken,
            };
            self.close_usage()?;
            let error = broken.error;
            if error.is_cancelled() {
                return Err(error);
            }
            let wait = if broken.heard || repeats >= self.options.retries_max {
                None
            } else {
                retry::wait_ms(&error, repeats, self.host.random(), self.options.retry_wait_max_ms)
                    // A wait that outlives the run helps nobody: better to say now when it would have worked.
                    .filter(|wait| *wait < self.host.remaining_ms())
            };
            let Some(wait_ms) = wait else {
                if broken.in_stream {
                    self.events.stream_error(&error.code, &error.message, error.is_retryable())?;
                }
                return Err(error);
            };
            repeats += 1;
            self.retries += 1;
            self.events.notification("retry", json!({ "attempt": repeats, "wait_ms": wait_ms, "code": error.code }))?;
            self.events.flush()?;
            self.pause(wait_ms)?;
        }
    }

    fn attempt(&mut self, force_tool: Option<&str>) -> Result<Reply, Broken> {
        let turn = Turn {
            model: &self.options.model,
            effort: self.task.reasoning_effort.as_deref(),
            system: &self.system,
            messages: self.transcript.messages(),
            tools: &self.tools,
            force_tool,
        };
        let request = self.vendor.request(&turn).map_err(Broken::before)?;
        self.events.flush().map_err(Broken::before)?;
        let response = request.send(self.host).map_err(|error| Broken::before(harmless(error)))?;
        if !(200..300).contains(&response.status) {
            let (status, headers) = (response.status, response.headers.clone());
            let body = response.bytes_lossy(ERROR_BYTES_MAX);
            if self.host.cancelled() {
                return Err(Broken::before(Error::cancelled("cancelled", "the run was cancelled")));
            }
            return Err(Broken::before(self.vendor.error(status, &headers, &body)));
        }
        if let Some(kind) =
            response.header("content-type").filter(|kind| !kind.to_ascii_lowercase().starts_with("text/event-stream"))
        {
            let kind = cut(kind.to_owned(), 100);
            return Err(Broken::before(
                Error::internal(
                    "not-event-stream",
                    format!("the vendor answered with `{kind}`, not a stream of events"),
                )
                .hint("check the setting `base_url`, and that no proxy answers in its place"),
            ));
        }
        self.announce().map_err(Broken::before)?;
        self.stream(response)
    }

    /// The vendor has taken a request with the system prompt: what it names is known from now on.
    fn announce(&mut self) -> Result<()> {
        if !std::mem::replace(&mut self.attached, true) {
            for attachment in &self.task.attachments {
                self.events.attached(attachment)?;
            }
        }
        Ok(())
    }

    fn stream(&mut self, response: Response<'_>) -> Result<Reply, Broken> {
        let mut decoder = self.vendor.decoder();
        let mut stream = response.events();
        let mut heard = false;
        let mut bytes = 0;
        let mut deltas = Vec::new();
        while !decoder.is_complete() {
            // Everything that has arrived is passed on before waiting for more.
            self.events.flush().map_err(|error| Broken { error, in_stream: true, heard: true })?;
            let batch =
                stream.next_batch().map_err(|error| Broken { error: harmless(error), in_stream: true, heard })?;
            let Some(batch) = batch else {
                if decoder.ends_whole() {
                    break;
                }
                let error =
                    Error::unavailable("stream-truncated", "the vendor's stream ended before its reply was whole");
                return Err(Broken { error, in_stream: true, heard });
            };
            for event in batch {
                bytes += event.data.len();
                let decoded = if bytes > STREAM_BYTES_MAX {
                    Err(Error::limit("reply-size", format!("the reply is longer than {STREAM_BYTES_MAX} bytes")))
                } else {
                    decoder.event(&event, &mut deltas)
                };
                for delta in deltas.drain(..) {
                    heard |= self.pass_on(delta).map_err(|error| Broken { error, in_stream: true, heard: true })?;
                }
                decoded.map_err(|error| Broken { error, in_stream: true, heard })?;
                if decoder.is_complete() {
                    break;
                }
            }
        }
        self.close_usage().map_err(|error| Broken { error, in_stream: true, heard: true })?;
        decoder.reply().map_err(|error| Broken { error, in_stream: true, heard })
    }

    /// Makes an event of a delta; says whether it was output.
    fn pass_on(&mut self, delta: Delta) -> Result<bool> {
        match delta {
            Delta::Text(text) => {
                if self.text.len() + text.len() > TEXT_BYTES_MAX {
                    let message = format!("the reply has more than {TEXT_BYTES_MAX} bytes of text");
                    return Err(Error::limit("reply-size", message));
                }
                self.events.text(&text)?;
                self.text.push_str(&text);
                Ok(true)
            }
            Delta::Thinking(text) => {
                self.events.thinking(&text)?;
                Ok(true)
            }
            Delta::Silent => Ok(true),
            Delta::Usage(usage) => {
                self.usage_untold |= self.ledger.note(usage);
                let now_ms = self.host.now_ms();
                if self.usage_told_ms.is_none_or(|told_ms| now_ms.saturating_sub(told_ms) >= USAGE_EVERY_MS) {
                    self.tell_usage()?;
                }
                Ok(false)
            }
            Delta::Model(model) => {
                self.model_seen = Some(model);
                Ok(false)
            }
        }
    }

    /// Makes an event of the counters, if there is something new: the host stops a run by them whose budget is spent.
    fn tell_usage(&mut self) -> Result<()> {
        if std::mem::take(&mut self.usage_untold) {
            self.usage_told_ms = Some(self.host.now_ms());
            self.events.usage(&self.ledger.total())?;
        }
        Ok(())
    }

    /// The stream has ended: its counters are final.
    fn close_usage(&mut self) -> Result<()> {
        self.ledger.close();
        self.tell_usage()?;
        // The first counters of the next stream are told at once: what it read is what it will cost at least.
        self.usage_told_ms = None;
        Ok(())
    }

    /// Waits, and keeps what the user says meanwhile for the next turn.
    fn pause(&mut self, ms: u64) -> Result<()> {
        let until = self.host.now_ms().saturating_add(ms);
        loop {
            let left = until.saturating_sub(self.host.now_ms());
            if left == 0 {
                return Ok(());
            }
            if let Some(signal) = self.host.signal(u32::try_from(left).unwrap_or(u32::MAX))?
                && signal.kind == "steer"
            {
                self.steers.push(signal.text);
            }
        }
    }
}

/// The host must call every request that left `uncertain`. Asking a model for a reply changes nothing at the vendor
/// (at worst it is paid for twice), so here it only means that no answer came.
fn harmless(error: Error) -> Error {
    match (error.kind, error.code.as_str()) {
        // Asking again would be refused again.
        (ErrorKind::Uncertain, "http-bytes") => Error { kind: ErrorKind::Limit, ..error },
        (ErrorKind::Uncertain, _) => Error { kind: ErrorKind::Unavailable, ..error },
        _ => error,
    }
}
