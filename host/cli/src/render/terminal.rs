//! A run on a terminal: text as it comes, tool calls as they happen, and a spinner below.
//!
//! ```text
//! lines that stay        printed above the bar, in order
//! ─────────────────
//! the line in the making ┐
//! tool calls in flight   ├ the bar, drawn again as it changes
//! ⠋ 12s, 1.2k tokens in  ┘
//! ```
//! Lines that stay are written by us, each with an end of its own, so that they can be copied; the bar is drawn by its library.
//! A line of text is broken at the width of the terminal and stays once it is full, so that the bar is never taller than
//! a few lines, whatever an agent writes.

use std::io::{self, Write as _};
use std::time::{Duration, Instant};

use console::{Style, measure_text_width};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use midplane::core::event::Record;
use midplane::core::outcome::{FinishReason, Outcome};
use midplane::core::text::preview;

use crate::render::describe::{self, Said, ToolEnd};
use crate::render::tally::Tally;
use crate::render::{Renderer, units};
use crate::screen;

/// Draws on a terminal.
pub(crate) struct Terminal {
    device: Device,
    bar: ProgressBar,
    began: Instant,
    verbose: bool,
    tally: Tally,
    /// The line in the making, and how it looks.
    text: String,
    look: Look,
}

/// What is drawn on.
struct Device {
    /// Where the bar is drawn.
    target: Box<dyn Fn() -> ProgressDrawTarget + Send>,
    /// How lines that stay are written.
    print: Print,
    /// How many columns there are.
    width: Box<dyn Fn() -> usize + Send>,
}

type Print = Box<dyn Fn(&str) -> io::Result<()> + Send>;

/// Whose words they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Look {
    Text,
    Thinking,
}

/// Tool calls that are shown while they run.
const TOOLS_SHOWN: usize = 6;
/// How often the spinner turns.
const TICK: Duration = Duration::from_millis(120);

impl Terminal {
    /// On standard output. `verbose`: also what the host notes about itself.
    pub(crate) fn stdout(verbose: bool) -> Self {
        let device = Device {
            target: Box::new(ProgressDrawTarget::stdout),
            print: Box::new(|line| {
                let mut out = io::stdout().lock();
                out.write_all(format!("{line}\n").as_bytes())?;
                out.flush()
            }),
            width: Box::new(|| usize::from(console::Term::stdout().size().1)),
        };
        let terminal = Self::new(device, verbose);
        terminal.bar.enable_steady_tick(TICK);
        screen::show(&terminal.bar);
        terminal
    }

    fn new(device: Device, verbose: bool) -> Self {
        let began = Instant::now();
        let bar = bar((device.target)(), began);
        Self { device, bar, began, verbose, tally: Tally::default(), text: String::new(), look: Look::Text }
    }

    /// Lines that stay.
    fn lines(&self, lines: &[String]) -> io::Result<()> {
        if lines.is_empty() {
            return Ok(());
        }
        let text = lines.join("\n");
        self.bar.suspend(|| (self.device.print)(&text))
    }

    fn line(&self, line: String) -> io::Result<()> {
        self.lines(&[line])
    }

    /// The columns that may be filled. One stays free: a full line would move the cursor to the next.
    fn columns(&self) -> usize {
        (self.device.width)().saturating_sub(1).max(20)
    }

    fn add(&mut self, look: Look, text: &str) -> io::Result<()> {
        if self.look != look {
            self.end_text()?;
            self.look = look;
        }
        self.text.push_str(&text.replace('\t', "    "));
        let columns = self.columns();
        let rows: Vec<String> = take_rows(&mut self.text, columns).iter().map(|row| self.styled(row)).collect();
        self.lines(&rows)
    }

    fn end_text(&mut self) -> io::Result<()> {
        let rest = std::mem::take(&mut self.text);
        if rest.is_empty() { Ok(()) } else { self.line(self.styled(&rest)) }
    }

    fn styled(&self, row: &str) -> String {
        match self.look {
            Look::Text => row.to_owned(),
            Look::Thinking => dim(row),
        }
    }

    fn tool_ended(&mut self, end: &ToolEnd) -> io::Result<()> {
        let call = self.tally.ended(end);
        let mark = match end.status.as_str() {
            "ok" => Style::new().green().apply_to("✓"),
            "error" => Style::new().red().apply_to("✗"),
            _ => Style::new().yellow().apply_to("–"),
        };
        let mut tail = end.measures.clone();
        if end.status != "ok" {
            tail.insert(0, end.status.clone());
        }
        let mut line = format!("{mark} {call}  {}", dim(&tail.join(", ")));
        if let Some(why) = &end.why {
            line.push_str(&format!("\n  {}", dim(why)));
        }
        self.line(line)
    }

    /// The bar as it is now.
    fn update(&self) {
        let columns = self.columns();
        let mut lines = Vec::new();
        if !self.text.is_empty() {
            lines.push(self.styled(&self.text));
        }
        for (_, call) in self.tally.tools.iter().take(TOOLS_SHOWN) {
            lines.push(dim(&format!("• {}", preview(call, columns.saturating_sub(4)))));
        }
        if self.tally.tools.len() > TOOLS_SHOWN {
            lines.push(dim(&format!("  and {} more", self.tally.tools.len() - TOOLS_SHOWN)));
        }
        let mut above = lines.join("\n");
        if !above.is_empty() {
            above.push('\n');
        }
        self.bar.set_message(above);
        let usage = units::usage(&self.tally.usage);
        self.bar.set_prefix(usage.iter().map(|part| format!(", {part}")).collect::<String>());
    }

    fn end(&mut self, outcome: &Outcome, record: &Record) -> io::Result<()> {
        self.bar.disable_steady_tick();
        self.bar.finish_and_clear();
        let mut lines = Vec::new();
        for (_, call) in std::mem::take(&mut self.tally.tools) {
            lines.push(format!("{} {call}  {}", Style::new().yellow().apply_to("–"), dim("no answer")));
        }
        lines.extend(self.tally.unsaid(outcome));
        let summary = self.tally.summary(outcome, record);
        let (mark, style) = match outcome.finish_reason {
            FinishReason::Done => ("✓", Style::new().green()),
            FinishReason::Interrupted => ("–", Style::new().yellow()),
            _ => ("✗", Style::new().red()),
        };
        lines.push(String::new());
        lines.push(format!("{} {}", style.bold().apply_to(mark), summary.head));
        let width = summary.rows.iter().map(|(name, _)| name.len()).max().unwrap_or_default();
        for (name, value) in &summary.rows {
            lines.push(format!("  {} {value}", dim(&format!("{name:width$} "))));
        }
        self.lines(&lines)
    }
}

impl Renderer for Terminal {
    fn record(&mut self, record: &Record) -> io::Result<()> {
        let said = describe::said(record);
        self.tally.note(record, &said);
        // What is neither text nor for the bar begins a line of its own.
        if !matches!(said, Said::Text(_) | Said::Thinking(_) | Said::Usage(_) | Said::Change(..) | Said::Detail(_)) {
            self.end_text()?;
        }
        match said {
            Said::Text(text) => self.add(Look::Text, &text)?,
            Said::Thinking(text) => self.add(Look::Thinking, &text)?,
            Said::ToolEnded(end) => self.tool_ended(&end)?,
            Said::Line { label, text } => {
                let style = if label == "warning" { Style::new().yellow() } else { Style::new().dim() };
                self.line(format!("{} {}", style.apply_to(format!("{label}:")), text.replace('\n', "\n  ")))?;
            }
            Said::Detail(text) if self.verbose => {
                self.end_text()?;
                self.line(dim(&text))?;
            }
            Said::End(outcome) => return self.end(&outcome, record),
            // Told by the bar, or at the end.
            Said::ToolBegan { .. } | Said::Usage(_) | Said::Change(..) | Said::Detail(_) => {}
        }
        self.update();
        Ok(())
    }

    fn pause(&mut self) -> io::Result<()> {
        self.bar.disable_steady_tick();
        self.bar.finish_and_clear();
        self.end_text()
    }

    fn resume(&mut self) {
        self.bar = bar((self.device.target)(), self.began);
        self.bar.enable_steady_tick(TICK);
        screen::show(&self.bar);
        self.update();
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// A spinner for work before the first record. It is gone when this is dropped.
pub(crate) struct Waiting;

impl Drop for Waiting {
    fn drop(&mut self) {
        screen::clear();
    }
}

/// Shows that something is being done.
pub(crate) fn waiting(what: String) -> Waiting {
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stdout()).with_message(what);
    if let Ok(style) = ProgressStyle::with_template("{spinner:.cyan} {msg}") {
        bar.set_style(style);
    }
    bar.enable_steady_tick(TICK);
    screen::show(&bar);
    Waiting
}

fn bar(target: ProgressDrawTarget, began: Instant) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(None, target).with_elapsed(began.elapsed());
    // The template is a constant; with the default style a run could be followed all the same.
    if let Ok(style) = ProgressStyle::with_template("{msg}{spinner:.cyan} {elapsed}{prefix:.dim}") {
        bar.set_style(style);
    }
    bar
}

fn dim(text: &str) -> String {
    Style::new().dim().apply_to(text).to_string()
}

/// Takes the rows that are full out of a text: its lines, and pieces of a line that is wider than the terminal, broken
/// between words where there are any.
fn take_rows(text: &mut String, columns: usize) -> Vec<String> {
    let mut rows = Vec::new();
    loop {
        let line = text.find('\n').map_or(text.as_str(), |end| &text[..end]);
        if let Some(end) = row_end(line, columns) {
            let row = text[..end].trim_end().to_owned();
            let rest = text[end..].trim_start_matches(' ').to_owned();
            rows.push(row);
            *text = rest;
        } else if let Some(end) = text.find('\n') {
            let rest = text.split_off(end + 1);
            text.truncate(end);
            rows.push(std::mem::replace(text, rest));
        } else {
            return rows;
        }
    }
}

/// Where a line that is too wide is broken: never at its beginning.
fn row_end(line: &str, columns: usize) -> Option<usize> {
    if line.len() <= columns {
        return None;
    }
    let mut width = 0;
    let mut space = None;
    for (at, c) in line.char_indices() {
        width += measure_text_width(c.encode_utf8(&mut [0; 4]));
        if width > columns && at > 0 {
            return Some(space.unwrap_or(at));
        }
        if c == ' ' && at > 0 {
            space = Some(at + 1);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::describe::tests::{eventful, records};
    use indicatif::{InMemoryTerm, TermLike as _};
    use serde_json::json;

    fn terminal(term: &InMemoryTerm, verbose: bool) -> Terminal {
        console::set_colors_enabled(false);
        let (drawn, printed) = (term.clone(), term.clone());
        let device = Device {
            target: Box::new(move || ProgressDrawTarget::term_like(Box::new(drawn.clone()))),
            print: Box::new(move |text| text.split('\n').try_for_each(|line| printed.write_line(line))),
            width: Box::new(|| 60),
        };
        let terminal = Terminal::new(device, verbose);
        // Time passes while a test runs, and may not show.
        terminal.bar.set_style(ProgressStyle::with_template("{msg}*{prefix}").expect("a template"));
        terminal
    }

    #[test]
    fn a_run() {
        let mut shown = Vec::new();
        for verbose in [false, true] {
            let term = InMemoryTerm::new(60, 60);
            let mut terminal = terminal(&term, verbose);
            for record in &eventful() {
                terminal.record(record).expect("drawn");
            }
            shown.push(term.contents());
        }
        insta::assert_snapshot!(shown.join("\n----\n"));
    }

    #[test]
    fn in_the_middle_of_it() {
        let term = InMemoryTerm::new(60, 60);
        let mut terminal = terminal(&term, false);
        let mut shown = Vec::new();
        for record in &eventful()[..14] {
            terminal.record(record).expect("drawn");
            shown.push(format!("-- {}\n{}", record.seq, term.contents()));
        }
        insta::assert_snapshot!(shown.join("\n"));
    }

    #[test]
    fn a_question_leaves_the_text_and_takes_the_bar() {
        let term = InMemoryTerm::new(20, 60);
        let mut terminal = terminal(&term, false);
        for record in records(&[("assistant_text", json!({"text": "before"}))]) {
            terminal.record(&record).expect("drawn");
        }
        assert_eq!(term.contents(), "before\n*");
        terminal.pause().expect("drawn");
        assert_eq!(term.contents(), "before");
    }

    #[test]
    fn rows() {
        let rows = |text: &str| {
            let mut text = text.to_owned();
            let rows = take_rows(&mut text, 10);
            (rows, text)
        };
        let row =
            |rows: &[&str], rest: &str| (rows.iter().map(|&row| row.to_owned()).collect::<Vec<_>>(), rest.to_owned());
        assert_eq!(rows("short"), row(&[], "short"));
        assert_eq!(rows("a\n\nb"), row(&["a", ""], "b"));
        assert_eq!(rows("0123456789"), row(&[], "0123456789"));
        assert_eq!(rows("one two three four"), row(&["one two"], "three four"));
        assert_eq!(rows("0123456789abcdef"), row(&["0123456789"], "abcdef"));
        assert_eq!(rows(" 123456789012"), row(&[" 123456789"], "012"));
        assert_eq!(rows("日本語日本語日本語"), row(&["日本語日本"], "語日本語"));
        assert_eq!(rows("one two three\nfour"), row(&["one two", "three"], "four"));
    }
}
