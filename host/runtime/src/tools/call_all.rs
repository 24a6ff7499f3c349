//! One batch of calls, from the model's words to an answer for each.
//!
//! ```text
//! calls ─► ids, budget ─► each: tool? arguments? rights? ─► tool_request × n ─► run ─► tool_response ─► answers
//!               │ no                  │ no                     (durable)         │
//!               ▼                     ▼                                          │ cancel, time-out
//!             error            failed answer ◄──────────────────────────────────┘
//! ```
//! Calls that only look run side by side, a few at a time, up to the next one that changes something; that runs alone.
//! So the answers are those that one after the other would give, in less time.
//!
//! No call is started before its `tool_request` is durable: after a crash the log says what may have happened.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use futures_util::{StreamExt, stream};
use midplane_core::event::{Event, EventKind};
use midplane_core::text::{cut, preview, shown};
use midplane_core::{Error, Result};
use midplane_engine::control;
use midplane_engine::ports::{ToolAnswer, ToolCall};
use serde_json::{Value, json};

use super::HostTools;
use super::answer::{Answer, Status};
use super::tool::{Needs, Stop, Tool, stopped};
use crate::call::Audit;

/// Looking calls that run at once. More would only queue for the disk.
const SIDE_BY_SIDE: usize = 4;
/// How long a tool that was stopped may take to say what it did.
const SETTLE: Duration = Duration::from_millis(250);
/// The longest id of a call, in bytes.
const ID_BYTES_MAX: usize = 256;
/// Characters of a long text that an event's arguments keep.
const ARGUMENT_CHARS_MAX: usize = 1000;
/// Characters of an answer in its event.
const PREVIEW_CHARS: usize = 256;

/// Runs all calls of one model turn; see [`midplane_engine::ports::Tools::call_all`].
pub(super) async fn call_all(host: &HostTools, calls: Vec<ToolCall>) -> Result<Vec<ToolAnswer>> {
    let limits = &host.call.limits;
    if host.call.control.is_cancelled() {
        return Err(control::cancelled());
    }
    check_ids(&calls, limits.tool_batch_max)?;
    let count = calls.len() as u64;
    let used = host.calls.fetch_add(count, Ordering::Relaxed);
    if used.saturating_add(count) > limits.tool_calls_max {
        return Err(Error::limit("tool-calls", format!("a run has at most {} tool calls", limits.tool_calls_max)));
    }

    let prepared: Vec<Prepared> = calls.into_iter().map(|call| Prepared::new(host, call)).collect();
    // Room for all of them in one batch, each within the bound of an event, with something left for the other fields.
    let arguments_bytes_max = (limits.batch_bytes_max / (count + 1)).min(limits.event_bytes_max / 2);
    let requests =
        prepared.iter().map(|call| call.request(host, usize::try_from(arguments_bytes_max).unwrap_or(usize::MAX)));
    host.call.sink.events(requests.collect()).await?;

    let mut answers = Vec::with_capacity(prepared.len());
    let mut rest = prepared.into_iter().peekable();
    while let Some(first) = rest.next() {
        let mut segment = vec![first];
        while segment[0].only_looks() && rest.peek().is_some_and(Prepared::only_looks) {
            segment.extend(rest.next());
        }
        let done: Vec<Done> = stream::iter(segment).map(|call| call.run(host)).buffered(SIDE_BY_SIDE).collect().await;
        let mut events: Vec<Event> = done.iter().map(Done::response).collect();
        events.extend(host.files.iter().flat_map(|files| files.untold()).map(|changed| {
            Event::notification("file_change", json!({ "path": changed.path, "change": changed.change.as_str() }))
        }));
        done.iter().for_each(|done| host.call.sink.audit(done.audit()));
        host.call.sink.events(events).await?;
        answers.extend(done.into_iter().map(Done::answer));
    }
    Ok(answers)
}

fn check_ids(calls: &[ToolCall], calls_max: u64) -> Result<()> {
    if calls.is_empty() {
        return Err(Error::invalid("calls-empty", "`call-all` needs at least one call"));
    }
    if calls.len() as u64 > calls_max {
        return Err(Error::limit("calls", format!("`call-all` takes at most {calls_max} calls")));
    }
    let mut ids = BTreeSet::new();
    for call in calls {
        if call.id.is_empty() || call.id.len() > ID_BYTES_MAX {
            return Err(Error::invalid("call-id", format!("the id of a call has 1 to {ID_BYTES_MAX} bytes")));
        }
        if !ids.insert(&call.id) {
            return Err(Error::invalid("call-id", format!("the id `{}` is used twice", shown(&call.id, 80))));
        }
    }
    Ok(())
}

/// A call that was looked at.
struct Prepared {
    id: String,
    name: String,
    /// As the model gave them, for the event; an object.
    arguments: Value,
    /// The tool and its checked arguments, or why it is not run.
    plan: Result<(Arc<dyn Tool>, Value), Error>,
    grant: Option<String>,
}

impl Prepared {
    fn new(host: &HostTools, call: ToolCall) -> Self {
        let ToolCall { id, name, arguments } = call;
        // A guest can put together what a vendor sent it in pieces: a tool acts on no secret.
        let arguments = host.redactor.text(&arguments).into_owned();
        let parsed = match serde_json::from_str::<Value>(if arguments.trim().is_empty() { "{}" } else { &arguments }) {
            Ok(value @ Value::Object(_)) => Ok(value),
            Ok(_) => Err("they are not an object".to_owned()),
            Err(error) => Err(error.to_string()),
        };
        let (plan, grant) = match host.allowed(&name) {
            Err(refused) => (Err(refused.error), refused.grant),
            Ok((tool, grant)) => {
                let object = parsed
                    .clone()
                    .map_err(|why| Error::invalid("arguments", format!("the arguments are not a JSON object: {why}")));
                (object.and_then(|object| tool.check(object)).map(|checked| (tool, checked)), grant)
            }
        };
        // What is no object still has to be seen in the log.
        let arguments = parsed.unwrap_or_else(|_| json!({ "not_an_object": arguments }));
        Self { id, name, arguments, plan, grant }
    }

    /// Whether it can run beside others of its kind. What is not run at all can, too.
    fn only_looks(&self) -> bool {
        self.plan.as_ref().map_or(true, |(tool, _)| {
            matches!(tool.needs(), Needs::Read | Needs::Nothing | Needs::Elsewhere { looks: true })
        })
    }

    fn request(&self, host: &HostTools, bytes_max: usize) -> Event {
        let mut arguments = self.arguments.clone();
        // Before it is cut: a part of a secret is not found any more.
        host.redactor.json(&mut arguments);
        let name = preview(&self.name, 80);
        let arguments = abridged(arguments, bytes_max);
        Event::new(EventKind::ToolRequest, json!({ "id": self.id, "name": name, "arguments": arguments, "by": "host" }))
    }

    async fn run(self, host: &HostTools) -> Done {
        let began = Instant::now();
        let target = self.target(host);
        let answer = match self.plan {
            Err(error) => error.into(),
            Ok(_) if host.call.control.is_cancelled() => {
                Answer::failed(Status::Cancelled, "cancelled before it began; nothing happened")
            }
            Ok((tool, arguments)) => run_tool(host, tool.as_ref(), arguments).await,
        };
        let bytes_max = usize::try_from(host.call.limits.tool_answer_bytes_max).unwrap_or(usize::MAX);
        Done {
            id: self.id,
            name: self.name,
            target,
            grant: self.grant,
            answer: answer.bounded(&host.redactor, bytes_max),
            duration_ms: u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX),
        }
    }

    /// The tool and what it is done to, for the audit.
    fn target(&self, host: &HostTools) -> String {
        let main = ["path", "from", "command", "pattern"].iter().find_map(|field| self.arguments.get(field)?.as_str());
        let main = main.map(|main| host.redactor.text(main));
        format!("{} {}", shown(&self.name, 80), shown(main.as_deref().unwrap_or_default(), 200)).trim_end().to_owned()
    }
}

/// Runs one tool until it is done, the run is cancelled, or its time is up. Also then the tool is given a moment to end
/// by itself: most calls that were in the middle of something can still say what came of it.
async fn run_tool(host: &HostTools, tool: &dyn Tool, arguments: Value) -> Answer {
    let stop = Stop::new();
    // If this whole future is dropped, a blocking tool would go on without anybody to stop it.
    let _stop_on_drop = StopOnDrop(stop.clone());
    let ms_max = host.call.limits.tool_ms_max;
    let work = tool.run(arguments, host, &stop);
    tokio::pin!(work);
    let cancelled = tokio::select! {
        biased;
        result = &mut work => return result.unwrap_or_else(Answer::from),
        () = host.call.control.cancelled() => true,
        () = tokio::time::sleep(Duration::from_millis(ms_max)) => false,
    };
    stop.set();
    match tokio::time::timeout(SETTLE, &mut work).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(error)) if error.kind != stopped().kind => error.into(),
        _ if cancelled => Answer::failed(Status::Cancelled, "cancelled; may have happened"),
        _ => Answer::failed(Status::Error, format!("timed out after {ms_max} ms; may have happened")),
    }
}

struct StopOnDrop(Stop);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.set();
    }
}

/// A call with its answer.
struct Done {
    id: String,
    name: String,
    target: String,
    grant: Option<String>,
    answer: Answer,
    duration_ms: u64,
}

impl Done {
    fn response(&self) -> Event {
        let text = &self.answer.text;
        Event::new(
            EventKind::ToolResponse,
            json!({
                "id": self.id,
                "name": preview(&self.name, 80),
                "status": self.answer.status.as_str(),
                "preview": preview(text, PREVIEW_CHARS - 1), // the ellipsis is the last of them
                "size_bytes": text.len(),
                "duration_ms": self.duration_ms,
                "by": "host",
            }),
        )
    }

    fn audit(&self) -> Audit {
        Audit {
            act: "tool",
            target: self.target.clone(),
            outcome: match self.answer.status {
                Status::Declined => "denied".to_owned(),
                status => status.as_str().to_owned(),
            },
            grant: self.grant.clone(),
            duration_ms: self.duration_ms,
            size_bytes: self.answer.text.len() as u64,
        }
    }

    fn answer(self) -> ToolAnswer {
        ToolAnswer {
            id: self.id,
            text: self.answer.text,
            structured: self.answer.structured.map(|value| value.to_string()),
            is_error: self.answer.status != Status::Ok,
        }
    }
}

/// Arguments that fit into an event: long texts are cut first, then all of it. The tool gets them whole.
fn abridged(mut arguments: Value, bytes_max: usize) -> Value {
    let size = arguments.to_string().len();
    if size <= bytes_max {
        return arguments;
    }
    let mut todo = vec![&mut arguments];
    while let Some(value) = todo.pop() {
        match value {
            Value::String(text) if text.chars().nth(ARGUMENT_CHARS_MAX).is_some() => {
                *text = format!("{} [{} bytes in all]", preview(text, ARGUMENT_CHARS_MAX), text.len());
            }
            Value::Array(items) => todo.extend(items),
            Value::Object(fields) => todo.extend(fields.iter_mut().map(|(_, value)| value)),
            _ => {}
        }
    }
    let text = arguments.to_string();
    if text.len() <= bytes_max {
        return arguments;
    }
    // A sixth, since it becomes the text in a text; what is left is what the names around it need.
    json!({ "abridged": cut(&text, bytes_max / 6), "size_bytes": size })
}
