//! `approval`: a vendor program asks before it acts, and the operator's policy answers, or a person whom it asks.
//!
//! Declining is what happens by itself: without a rule, without an answer in time, on any failure to ask. Each answer
//! holds for one action; "always" is not an answer that exists here. Answers are audited and told as a `notification` of
//! type `approval`; a question that waits for one is told before as `question`, so that it can also be answered from
//! another process.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use midplane_core::approval::{KINDS, Policy, Verdict};
use midplane_core::event::Event;
use midplane_core::redact::Redactor;
use midplane_core::text::{cut, shown};
use midplane_core::{Error, ProfileName, Result, RunId};
use midplane_engine::control;
use midplane_engine::ports::{Approval, Decision, Question};
use serde_json::{Value, json};
use tokio::sync::oneshot;

use crate::call::{Audit, Call};

/// The longest title, in bytes, and as many of a message or the id of a call.
const TITLE_BYTES_MAX: usize = 4096;

/// Someone who can be asked, such as the person at the terminal.
#[async_trait]
pub trait Asker: Send + Sync {
    /// Shows the question and waits for the answer. Nothing means that nobody is there to give one. Dropped when the time
    /// is up or the run is cancelled.
    async fn ask(&self, asked: Asked) -> Option<Reply>;
}

/// A question as it may be shown: without secret values, its title in one line without control characters.
#[derive(Debug, Clone, PartialEq)]
pub struct Asked {
    /// Under which profile the program runs.
    pub profile: ProfileName,
    /// In which run.
    pub run_id: Option<RunId>,
    /// `command`, `file-change`, `tool`, `network` or `other`.
    pub kind: String,
    /// The action in one line.
    pub title: String,
    /// All that the vendor said about it, an object.
    pub detail: Value,
    /// The tool call's id in the events.
    pub call_id: Option<String>,
}

/// What was answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// Whether it may be done, this once.
    pub allowed: bool,
    /// Why, in words that may be told to a model.
    pub message: String,
}

/// How the questions of a run are answered.
#[derive(Clone, Default)]
pub(crate) struct Answering {
    /// What the operator answers in advance.
    pub(crate) policy: Policy,
    /// Whoever is asked here.
    pub(crate) asker: Option<Arc<dyn Asker>>,
    /// Where an answer from elsewhere arrives.
    pub(crate) questions: Questions,
}

/// The questions of a run that wait for an answer. Clones share them.
#[derive(Clone, Default)]
pub(crate) struct Questions(Arc<Mutex<HashMap<String, oneshot::Sender<Reply>>>>);

impl Questions {
    /// Gives an answer. Whether somebody was waiting for it.
    pub(crate) fn answer(&self, id: &str, reply: Reply) -> bool {
        // Of two answers the first counts: it takes the question out.
        let waiting = self.open().remove(id);
        waiting.is_some_and(|waiting| waiting.send(reply).is_ok())
    }

    fn ask(&self, id: &str) -> oneshot::Receiver<Reply> {
        let (answer, answered) = oneshot::channel();
        self.open().insert(id.to_owned(), answer);
        answered
    }

    fn forget(&self, id: &str) {
        self.open().remove(id);
    }

    fn open(&self) -> MutexGuard<'_, HashMap<String, oneshot::Sender<Reply>>> {
        // Nothing panics while it is held.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The answers of one call.
pub(crate) struct Approvals {
    call: Arc<Call>,
    answering: Answering,
    redactor: Redactor,
    asked_so_far: AtomicU64,
}

impl Approvals {
    /// The answers of a call. `redactor` hides the live values of the whole run.
    pub(crate) fn new(call: Arc<Call>, answering: Answering, redactor: Redactor) -> Self {
        Self { call, answering, redactor, asked_so_far: AtomicU64::new(0) }
    }

    /// The answer, and whose it is: `rule`, `policy`, `person` or `timeout`.
    async fn answer(&self, id: &str, asked: Asked) -> Result<(Decision, &'static str)> {
        let declined = |message: &str| Decision { allowed: false, message: message.to_owned() };
        let asker = match self.answering.policy.decide(&asked.kind, &asked.title) {
            Verdict::Rule { index, allow } => {
                let word = if allow { "allowed" } else { "declined" };
                let message = format!("{word} by rule {} of the operator", index + 1);
                return Ok((Decision { allowed: allow, message }, "rule"));
            }
            Verdict::Decline => return Ok((declined("declined: no rule allows it"), "policy")),
            Verdict::Ask { wait: false } if self.answering.asker.is_none() => {
                return Ok((declined("declined: no rule allows it, and nobody is asked in this run"), "policy"));
            }
            Verdict::Ask { wait } => (self.answering.asker.clone(), wait),
        };
        let ms_max = self.call.limits.approval_ms_max;
        let from_elsewhere = self.answering.questions.ask(id);
        // Durable before anyone can answer it: who answers from another process finds it in the log.
        let question = json!({ "id": id, "kind": asked.kind, "title": asked.title, "detail": asked.detail, "call_id": asked.call_id });
        self.call.sink.events(vec![Event::notification("question", question)]).await?;
        let here = async {
            match asker {
                (Some(asker), wait) => match asker.ask(asked).await {
                    // Nobody is here; somebody may be elsewhere.
                    None if wait => std::future::pending().await,
                    reply => reply,
                },
                (None, _) => std::future::pending().await,
            }
        };
        let answer = tokio::select! {
            biased;
            // Here and not only around the whole, so that a question that ended this way is audited too.
            () = self.call.control.cancelled() => Err(control::cancelled()),
            Ok(reply) = from_elsewhere => Ok(self.said_by_person(reply)),
            reply = here => Ok(match reply {
                Some(reply) => self.said_by_person(reply),
                None => (declined("declined: nobody is there to answer"), "policy"),
            }),
            () = tokio::time::sleep(Duration::from_millis(ms_max)) => {
                Ok((declined(&format!("declined: nobody answered within {ms_max} ms")), "timeout"))
            }
        };
        self.answering.questions.forget(id);
        answer
    }

    fn said_by_person(&self, Reply { allowed, message }: Reply) -> (Decision, &'static str) {
        (Decision { allowed, message: cut(&self.redactor.text(&message), TITLE_BYTES_MAX).to_owned() }, "person")
    }

    fn asked(&self, question: Question) -> Result<Asked> {
        let invalid = |what: &str| Error::invalid("question", what.to_owned());
        if question.title.trim().is_empty() || question.title.len() > TITLE_BYTES_MAX {
            return Err(invalid("`title` has 1 to 4096 bytes and is not blank"));
        }
        if question.call_id.as_ref().is_some_and(|id| id.len() > TITLE_BYTES_MAX) {
            return Err(invalid("`call-id` has at most 4096 bytes"));
        }
        if question.detail.len() as u64 > self.call.limits.event_bytes_max {
            return Err(Error::limit(
                "question",
                format!("`detail` has at most {} bytes", self.call.limits.event_bytes_max),
            ));
        }
        let mut detail: Value = serde_json::from_str(&question.detail)
            .map_err(|error| Error::invalid("not-json", format!("`detail` is not JSON: {error}")))?;
        if !detail.is_object() {
            return Err(invalid("`detail` is not a JSON object"));
        }
        self.redactor.json(&mut detail);
        let kind = if KINDS.contains(&question.kind.as_str()) { question.kind } else { "other".to_owned() };
        Ok(Asked {
            profile: self.call.profile.clone(),
            run_id: self.call.run_id.clone(),
            kind,
            title: shown(&self.redactor.text(&question.title), TITLE_BYTES_MAX),
            detail,
            call_id: question.call_id,
        })
    }
}

#[async_trait]
impl Approval for Approvals {
    async fn ask(&self, question: Question) -> Result<Decision> {
        if self.call.control.is_cancelled() {
            return Err(control::cancelled());
        }
        let began = Instant::now();
        let asked = self.asked(question)?;
        let (kind, title) = (asked.kind.clone(), asked.title.clone());
        let target = format!("{kind} {}", shown(&title, 200));
        let id = format!("q{}", self.asked_so_far.fetch_add(1, Ordering::Relaxed) + 1);
        let result = self.answer(&id, asked).await;
        let outcome = match &result {
            Ok((decision, by)) => format!("{} by {by}", if decision.allowed { "allowed" } else { "declined" }),
            Err(error) => error.code.clone().into_owned(),
        };
        let duration_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.call.sink.audit(Audit { act: "approval", target, outcome, grant: None, duration_ms, size_bytes: 0 });
        let (decision, by) = result?;
        // Durable before the program hears of it: what was allowed is in the log before it happens.
        let data = json!({ "id": id, "kind": kind, "title": title, "allowed": decision.allowed, "by": by });
        self.call.sink.events(vec![Event::notification("approval", data)]).await?;
        Ok(decision)
    }
}

#[cfg(test)]
mod tests;
