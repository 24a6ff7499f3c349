//! What is kept of a run while it is shown, so that its end can say what has not been said.

use midplane::core::event::Record;
use midplane::core::outcome::{FinishReason, Outcome, Usage};
use midplane::core::text::escape_controls;
use serde_json::Value;

use crate::render::describe::{Said, ToolEnd};
use crate::render::units;

/// What is kept of a run.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    began_ms: Option<u64>,
    /// The end of the text so far, as it came.
    text: String,
    /// Files and what became of them, in the order of their first change.
    changes: Vec<(String, String)>,
    changes_more: u64,
    /// Tool calls in flight: id and call.
    pub(crate) tools: Vec<(String, String)>,
    /// Counters so far.
    pub(crate) usage: Usage,
}

/// As much text as an outcome's output may have, so that the two can be compared.
const TEXT_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Files and tool calls in flight that are kept. A plugin tells of both, as often as it likes.
const CHANGES_MAX: usize = 1_000;
const TOOLS_MAX: usize = 1_000;
/// Files that are named at the end.
const CHANGES_SHOWN: usize = 20;

/// The end of a run in words.
#[derive(Debug)]
pub(crate) struct Summary {
    /// How it ended, how long it took, what it used.
    pub(crate) head: String,
    /// Names and values below it.
    pub(crate) rows: Vec<(&'static str, String)>,
}

impl Tally {
    /// Takes note of a record.
    pub(crate) fn note(&mut self, record: &Record, said: &Said) {
        self.began_ms.get_or_insert(record.t_ms);
        match said {
            Said::Text(_) => {
                let text = record.data.get("text").and_then(Value::as_str).unwrap_or_default();
                self.text.push_str(text);
                if self.text.len() > 2 * TEXT_BYTES_MAX {
                    let kept = self.text.len() - TEXT_BYTES_MAX;
                    let kept = (kept..self.text.len()).find(|at| self.text.is_char_boundary(*at)).unwrap_or_default();
                    self.text.drain(..kept);
                }
            }
            Said::Usage(usage) => self.usage = std::mem::take(&mut self.usage).or_later(usage.clone()),
            Said::Change(path, change) => self.change(path, change),
            Said::ToolBegan { id, call } if self.tools.len() < TOOLS_MAX => self.tools.push((id.clone(), call.clone())),
            _ => {}
        }
    }

    /// The call that ended, no longer in flight. One whose beginning was not seen is known by its name only.
    pub(crate) fn ended(&mut self, end: &ToolEnd) -> String {
        match self.tools.iter().position(|(id, _)| *id == end.id) {
            Some(at) => self.tools.remove(at).1,
            None => end.name.clone(),
        }
    }

    /// The answer of a run, fit to show, if the text so far did not end with it.
    pub(crate) fn unsaid(&self, outcome: &Outcome) -> Option<String> {
        let output = outcome.output.trim();
        let said = !output.is_empty() && self.text.trim_end().ends_with(output);
        match &outcome.parsed_output {
            Some(value) if said && serde_json::from_str::<Value>(output).ok().as_ref() == Some(value) => None,
            None if said || output.is_empty() => None,
            _ => Some(answer(outcome)),
        }
    }

    /// The end in words. `run_id` and `ended_ms` are those of the terminal.
    pub(crate) fn summary(&self, outcome: &Outcome, terminal: &Record) -> Summary {
        let took = units::duration(terminal.t_ms.saturating_sub(self.began_ms.unwrap_or(terminal.t_ms)));
        let how = match outcome.finish_reason {
            FinishReason::Done => "done in",
            FinishReason::Failed => "failed after",
            FinishReason::MaxTurns => "out of turns after",
            FinishReason::MaxTokens => "out of tokens after",
            FinishReason::Interrupted => "interrupted after",
            FinishReason::TimedOut => "timed out after",
        };
        let mut parts = vec![format!("{how} {took}")];
        match outcome.rounds {
            0 => {}
            1 => parts.push("1 turn".to_owned()),
            n => parts.push(format!("{n} turns")),
        }
        parts.extend(units::usage(&outcome.usage));
        let mut rows = Vec::new();
        let mut row = |name, value: &str| rows.push((name, escape_controls(value, false)));
        if let Some(error) = &outcome.error {
            row("error", &error.message);
            if let Some(hint) = &error.hint {
                row("hint", hint);
            }
        }
        for (path, change) in self.changes.iter().take(CHANGES_SHOWN) {
            row("changed", &format!("{path} ({change})"));
        }
        let more = self.changes.len().saturating_sub(CHANGES_SHOWN) as u64 + self.changes_more;
        if more > 0 {
            row("changed", &format!("and {more} more"));
        }
        for artifact in outcome.artifacts.iter().filter(|artifact| artifact.kind != "file").take(CHANGES_SHOWN) {
            row("made", &format!("{} ({})", artifact.uri, artifact.kind));
        }
        if let Some(id) = &outcome.session_id {
            row("conversation", id);
        }
        row("run", terminal.run_id.as_str());
        Summary { head: parts.join(", "), rows }
    }

    fn change(&mut self, path: &str, change: &str) {
        let Some(at) = self.changes.iter().position(|(known, _)| known == path) else {
            if self.changes.len() < CHANGES_MAX {
                self.changes.push((path.to_owned(), change.to_owned()));
            } else {
                self.changes_more += 1;
            }
            return;
        };
        match (self.changes[at].1.as_str(), change) {
            // What was not there before and is not there after was not changed.
            ("created", "deleted") => {
                self.changes.remove(at);
            }
            ("created", _) => {}
            ("deleted", "created") => self.changes[at].1 = "modified".to_owned(),
            _ => self.changes[at].1 = change.to_owned(),
        }
    }
}

/// The answer of a run, fit to show: the structured one as JSON, else the text.
pub(crate) fn answer(outcome: &Outcome) -> String {
    match &outcome.parsed_output {
        // JSON escapes control characters itself, but not all that can disturb a terminal.
        Some(value) => escape_controls(&format!("{value:#}"), true),
        None => escape_controls(&outcome.output.replace("\r\n", "\n"), true).trim_end().to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::describe::said;
    use crate::render::describe::tests::{eventful, records};
    use midplane::core::Error;
    use serde_json::json;

    fn tally(records: &[Record]) -> Tally {
        let mut tally = Tally::default();
        for record in records {
            tally.note(record, &said(record));
        }
        tally
    }

    #[test]
    fn changes_are_folded() {
        let change = |path: &str, change: &str| ("file_change", json!({ "path": path, "change": change }));
        let log = records(&[
            change("a", "created"),
            change("b", "modified"),
            change("a", "modified"),
            change("c", "created"),
            change("c", "deleted"),
            change("b", "deleted"),
            change("d", "deleted"),
            change("d", "created"),
        ]);
        let changes = tally(&log).changes;
        let shown: Vec<String> = changes.iter().map(|(path, change)| format!("{path} {change}")).collect();
        assert_eq!(shown, ["a created", "b deleted", "d modified"]);
    }

    #[test]
    fn an_answer_is_said_once() {
        let log = eventful();
        let tally = tally(&log);
        let outcome = |output: &str, parsed: Option<Value>| Outcome {
            output: output.to_owned(),
            parsed_output: parsed,
            ..Outcome::ended(FinishReason::Done, None)
        };
        assert_eq!(tally.unsaid(&outcome("It is done.\n", None)), None);
        assert_eq!(tally.unsaid(&outcome("", None)), None);
        assert_eq!(tally.unsaid(&outcome("Else", None)).as_deref(), Some("Else"));
        assert_eq!(tally.unsaid(&outcome("It is done.", Some(Value::Null))).as_deref(), Some("null"));
        let spoken = super::tests::tally(&records(&[("assistant_text", json!({"text": "so: {\"a\": 1}\n"}))]));
        assert_eq!(spoken.unsaid(&outcome("{\"a\": 1}", Some(json!({"a": 1})))), None);
    }

    #[test]
    fn a_failure_says_why() {
        let log = eventful();
        let terminal = log.last().expect("a terminal");
        let error =
            Error::cancelled("deadline", "the run's\u{7} deadline passed").hint("give it more time with `--timeout`");
        let outcome = Outcome::ended(FinishReason::TimedOut, Some(error));
        let summary = tally(&log).summary(&outcome, terminal);
        insta::assert_debug_snapshot!(summary);
    }
}
