//! The questions that runs wait with: listed from their logs, answered from any process.
//!
//! A question is in the log before anybody can answer it. An answer goes to the run's own process, directly or as a signal in
//! the store, and the first one counts; which that was is in the log again.

use midplane_core::event::{EventKind, Record};
use midplane_core::{Error, Result, RunId};
use midplane_store::log::READ_RECORDS_MAX;
use serde::Serialize;
use serde_json::{Value, json};

use crate::approval::Reply;
use crate::host::Host;

/// A question that waits for an answer.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct OpenQuestion {
    /// Its id, unique in the run.
    pub id: String,
    /// `command`, `file-change`, `tool`, `network` or `other`.
    pub kind: String,
    /// The action in one line.
    pub title: String,
    /// All that the vendor said about it, an object.
    pub detail: Value,
    /// When it was asked, in milliseconds since 1970 UTC.
    pub asked_ms: u64,
}

impl OpenQuestion {
    fn of(record: &Record) -> Option<Self> {
        let text = |name: &str| Some(record.data.get(name)?.as_str()?.to_owned());
        let detail = record.data.get("detail").cloned().unwrap_or_default();
        Some(Self { id: text("id")?, kind: text("kind")?, title: text("title")?, detail, asked_ms: record.t_ms })
    }
}

impl Host {
    /// Answers a question that a run waits with, whichever process drives it. The first answer counts. Errors: `conflict`
    /// code `question-closed` where nothing of this id waits; `not-found` code `run-unknown`; `limit` code `signal-size`.
    pub async fn answer(&self, run_id: &RunId, question: &str, reply: Reply) -> Result<()> {
        let closed = || {
            let question = midplane_core::text::shown(question, 40);
            Error::conflict("question-closed", format!("run `{run_id}` waits for no answer to `{question}`"))
                .hint("`midplane runs approve RUN` lists what it waits for")
        };
        if let Some(active) = self.active(run_id) {
            return if active.questions.answer(question, reply) { Ok(()) } else { Err(closed()) };
        }
        if self.questions(run_id).await?.iter().all(|open| open.id != question) {
            return Err(closed());
        }
        let text = json!({ "question": question, "allowed": reply.allowed, "message": reply.message }).to_string();
        let max = self.limits().signal_bytes_max;
        if text.len() as u64 > max {
            return Err(Error::limit("signal-size", format!("a message has at most {max} bytes")));
        }
        self.inner.store.signals.push(run_id, "answer", &text).await.map(|_| ())
    }

    /// The questions that a run waits with, oldest first; none once it has ended.
    pub async fn questions(&self, run_id: &RunId) -> Result<Vec<OpenQuestion>> {
        let row = self.row(run_id).await?;
        if row.index.finish_reason.is_some() {
            return Ok(Vec::new());
        }
        let (mut open, mut from) = (Vec::<OpenQuestion>::new(), 1);
        loop {
            let records = self.inner.store.log.read(run_id, from, READ_RECORDS_MAX).await?;
            let Some(last) = records.last() else { return Ok(open) };
            from = last.seq + 1;
            for record in &records {
                match record.data.get("type").and_then(Value::as_str).filter(|_| record.kind == EventKind::Notification)
                {
                    Some("question") => open.extend(OpenQuestion::of(record)),
                    Some("approval") => {
                        let answered = record.data.get("id").and_then(Value::as_str);
                        open.retain(|question| answered != Some(question.id.as_str()));
                    }
                    _ => {}
                }
            }
        }
    }
}

/// An answer as another process left it.
pub(crate) fn answer_of(text: &str) -> Option<(String, Reply)> {
    let value: Value = serde_json::from_str(text).ok()?;
    let allowed = value.get("allowed")?.as_bool()?;
    let field = |name: &str| Some(value.get(name)?.as_str()?.to_owned());
    Some((field("question")?, Reply { allowed, message: field("message")? }))
}
