//! A run as plain lines, for a file, a pipe or a log: no cursor, no colours, no line that changes later.

use std::io::{self, Write};

use midplane::core::event::Record;
use midplane::core::outcome::Outcome;

use crate::render::Renderer;
use crate::render::describe::{self, Said};
use crate::render::tally::{self, Tally};

/// How much is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Amount {
    /// The answer at the end, and nothing else.
    Answer,
    /// What a person wants to follow.
    Usual,
    /// Thinking, and what the host notes about itself, too.
    All,
}

/// Writes lines.
pub(crate) struct Plain<W> {
    out: W,
    amount: Amount,
    tally: Tally,
    /// A line of text that has not ended yet.
    text: Partial,
    thinking: Partial,
}

/// A line that has not ended yet.
#[derive(Default)]
struct Partial(String);

/// A line without an end is written in pieces of this size.
const LINE_BYTES_MAX: usize = 64 * 1024;

impl<W: Write + Send> Plain<W> {
    pub(crate) fn new(out: W, amount: Amount) -> Self {
        Self { out, amount, tally: Tally::default(), text: Partial::default(), thinking: Partial::default() }
    }

    fn line(&mut self, label: &str, text: &str) -> io::Result<()> {
        self.end_text()?;
        let text = text.replace('\n', "\n  ");
        writeln!(self.out, "{label}: {text}")
    }

    fn end_text(&mut self) -> io::Result<()> {
        self.thinking.end(&mut self.out, "thinking: ")?;
        self.text.end(&mut self.out, "")
    }

    fn end(&mut self, outcome: &Outcome, record: &Record) -> io::Result<()> {
        self.end_text()?;
        for (_, call) in std::mem::take(&mut self.tally.tools) {
            self.line("tool", &format!("{call} (no answer)"))?;
        }
        if let Some(answer) = self.tally.unsaid(outcome) {
            writeln!(self.out, "{answer}")?;
        }
        let summary = self.tally.summary(outcome, record);
        writeln!(self.out, "{}", summary.head)?;
        summary.rows.iter().try_for_each(|(name, value)| writeln!(self.out, "{name}: {value}"))
    }

    fn usual(&mut self, record: &Record, said: &Said) -> io::Result<()> {
        match said {
            Said::Text(text) => {
                self.thinking.end(&mut self.out, "thinking: ")?;
                self.text.add(&mut self.out, "", text)
            }
            Said::Thinking(text) if self.amount == Amount::All => {
                self.text.end(&mut self.out, "")?;
                self.thinking.add(&mut self.out, "thinking: ", text)
            }
            Said::ToolEnded(end) => {
                let call = self.tally.ended(end);
                let how: Vec<&str> = std::iter::once(&end.status).chain(&end.measures).map(String::as_str).collect();
                let why = end.why.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
                self.line("tool", &format!("{call} ({}){why}", how.join(", ")))
            }
            Said::Line { label, text } => self.line(label, text),
            Said::Detail(text) if self.amount == Amount::All => self.line("detail", text),
            Said::End(outcome) => self.end(outcome, record),
            // A call has one line, when it is known how it ended: several run at once.
            Said::ToolBegan { .. } | Said::Thinking(_) | Said::Usage(_) | Said::Change(..) | Said::Detail(_) => Ok(()),
        }
    }
}

impl<W: Write + Send> Renderer for Plain<W> {
    fn record(&mut self, record: &Record) -> io::Result<()> {
        let said = describe::said(record);
        self.tally.note(record, &said);
        match (self.amount, &said) {
            (Amount::Answer, Said::End(outcome)) => {
                let answer = tally::answer(outcome);
                if !answer.is_empty() {
                    writeln!(self.out, "{answer}")?;
                }
            }
            (Amount::Answer, _) => {}
            _ => self.usual(record, &said)?,
        }
        self.out.flush()
    }

    fn finish(&mut self) -> io::Result<()> {
        self.end_text()?;
        self.out.flush()
    }
}

impl Partial {
    fn add(&mut self, out: &mut impl Write, prefix: &str, text: &str) -> io::Result<()> {
        self.0.push_str(text);
        if let Some(end) = self.0.rfind('\n') {
            let rest = self.0.split_off(end + 1);
            for line in self.0.lines() {
                writeln!(out, "{prefix}{line}")?;
            }
            self.0 = rest;
        }
        if self.0.len() > LINE_BYTES_MAX { self.end(out, prefix) } else { Ok(()) }
    }

    fn end(&mut self, out: &mut impl Write, prefix: &str) -> io::Result<()> {
        let line = std::mem::take(&mut self.0);
        if line.is_empty() { Ok(()) } else { writeln!(out, "{prefix}{line}") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::describe::tests::{eventful, records};
    use serde_json::json;

    fn rendered(log: &[Record], amount: Amount) -> String {
        let mut out = Vec::new();
        let mut plain = Plain::new(&mut out, amount);
        for record in log {
            plain.record(record).expect("written");
        }
        String::from_utf8(out).expect("text")
    }

    #[test]
    fn a_run() {
        let all = [Amount::Answer, Amount::Usual, Amount::All].map(|amount| rendered(&eventful(), amount));
        insta::assert_snapshot!(all.join("\n----\n"));
    }

    #[test]
    fn a_structured_answer_is_json() {
        let log = records(&[(
            "runtime_terminal",
            json!({"finish_reason": "done", "output": "{\"a\":1}", "parsed_output": {"a": 1, "esc": "\u{1b}[2J"}}),
        )]);
        assert_eq!(rendered(&log, Amount::Answer), "{\n  \"a\": 1,\n  \"esc\": \"\\u001b[2J\"\n}\n");
    }

    #[test]
    fn a_line_without_end_is_written_all_the_same() {
        let piece = "x".repeat(LINE_BYTES_MAX / 2 + 1);
        let log = records(&[("assistant_text", json!({"text": piece})), ("assistant_text", json!({"text": piece}))]);
        assert_eq!(rendered(&log, Amount::Usual).len(), 2 * piece.len() + 1);
    }
}
