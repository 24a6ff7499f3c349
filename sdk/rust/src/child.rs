//! A vendor's program that speaks in lines.
//!
//! Lines of stdout come whole and in order, however the pipe cuts them; of stderr the end is kept, to tell later why a
//! program failed. Everything is bounded: a line, the lines that wait, the tail. There is one place to wait,
//! [`Child::wait`], because a component can wait in one place only.
//!
//! # What it never does
//! It never blocks on a full pipe in both directions: while stdin is full, output is read and held.

use std::collections::VecDeque;

use crate::error::{Error, Result, cut};
use crate::host::{Command, Exit, Host, Output, Process, Socket, StopMode};

/// Bytes asked of the host at once.
const READ_BYTES: u32 = 64 * 1024;
/// End of stderr that is kept, in bytes.
const STDERR_TAIL_BYTES: usize = 4 * 1024;
/// Most bytes of lines that wait while stdin is full.
const HELD_BYTES_MAX: usize = 8 * 1024 * 1024;
/// How long a full stdin is tried again, in milliseconds.
const STDIN_FULL_MS_MAX: u64 = 30_000;
/// How long one try waits for the program to read on, in milliseconds.
const STDIN_FULL_STEP_MS: u32 = 50;
/// Longest part of an unusable line that is kept as a sample, in bytes.
const SAMPLE_BYTES: usize = 200;
/// Longest text about a program in an error message, in bytes.
const SAID_BYTES_MAX: usize = 1024;

/// What is done with a line that is too long or no UTF-8.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unusable {
    /// [`Child::wait`] answers an error: `limit` code `line-size` or `invalid` code `not-utf8`.
    Fail,
    /// It is skipped and counted; see [`Child::skipped`].
    Skip,
}

/// How lines are read.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Longest line of stdout in bytes, its end not counted.
    pub line_bytes_max: usize,
    /// What happens to lines that cannot be used.
    pub unusable: Unusable,
}

impl Default for Limits {
    /// 16 MiB a line, for a program may send a whole file in one; what cannot be used is skipped.
    fn default() -> Self {
        Self { line_bytes_max: 16 * 1024 * 1024, unusable: Unusable::Skip }
    }
}

/// What [`Child::wait`] saw.
#[derive(Debug, Clone, PartialEq)]
pub enum Said {
    /// A line of stdout without its end. An empty line is not told.
    Line(String),
    /// A line of stderr, control characters shown. It is also in the tail.
    Stderr(String),
    /// `control.next` has something.
    Signal,
    /// Nothing came in the time given.
    Timeout,
    /// The run was cancelled. Told once; afterwards everything works on until the grace period ends.
    Cancelled,
    /// It ended, and all that it wrote has been told.
    Exited(Exit),
}

/// A program that was started. Dropping it kills its process group.
pub struct Child<'h> {
    host: &'h dyn Host,
    process: Box<dyn Process<'h> + 'h>,
    name: String,
    limits: Limits,
    stdout: Lines,
    stderr: Lines,
    tail: VecDeque<u8>,
    held: VecDeque<Result<Said>>,
    held_bytes: usize,
    skipped: u64,
    sample: Option<String>,
    exit: Option<Exit>,
}

impl<'h> Child<'h> {
    /// Starts a program. An error of the host says what grant or program is missing; see
    /// [`crate::program::explain_spawn`].
    pub fn spawn(host: &'h dyn Host, command: &Command, limits: Limits) -> Result<Self> {
        let path = command.argv.first().map_or("", String::as_str);
        let name = path.rsplit(['/', '\\']).next().unwrap_or(path).to_owned();
        Ok(Self {
            host,
            process: host.spawn(command)?,
            name,
            limits,
            stdout: Lines::new(limits.line_bytes_max),
            stderr: Lines::new(STDERR_TAIL_BYTES),
            tail: VecDeque::new(),
            held: VecDeque::new(),
            held_bytes: 0,
            skipped: 0,
            sample: None,
            exit: None,
        })
    }

    /// The host that the program was started with.
    #[must_use]
    pub fn host(&self) -> &'h dyn Host {
        self.host
    }

    /// Sends one line; the end is added. Waits while stdin is full, and reads on meanwhile. Errors: `conflict` code
    /// `stdin-closed` when it was closed or the program is gone ([`Child::wait`] tells how), `unavailable` code
    /// `stdin-full` when the program does not read, `limit` code `output-held` when it only writes.
    pub fn send(&mut self, line: &str) -> Result<()> {
        let mut bytes = Vec::with_capacity(line.len() + 1);
        bytes.extend_from_slice(line.as_bytes());
        bytes.push(b'\n');
        let start_ms = self.host.now_ms();
        loop {
            match self.process.write(&bytes) {
                Err(error) if error.code == "stdin-full" => {}
                result => return result,
            }
            if self.exit.is_some() {
                return Err(Error::conflict("stdin-closed", format!("`{}` has ended", self.name)));
            }
            if self.host.now_ms().saturating_sub(start_ms) >= STDIN_FULL_MS_MAX {
                return Err(Error::unavailable("stdin-full", format!("`{}` does not read its input", self.name)));
            }
            if self.held_bytes > HELD_BYTES_MAX {
                return Err(Error::limit(
                    "output-held",
                    format!("`{}` writes without reading: {} bytes wait", self.name, self.held_bytes),
                ));
            }
            let said = self.read(STDIN_FULL_STEP_MS);
            if said != Ok(Said::Timeout) {
                self.hold(said);
            }
        }
    }

    /// A greeting in bytes, before anything is said in lines: sends `hello` as it is, and reads stdout until `read` makes
    /// something of it, or fails. What comes after that is read as lines. Errors: those of `read`, which is given all that
    /// has come and is to bound it; `unavailable` code `greeting` after `timeout_ms`; `cancelled`; and [`Child::ended`].
    pub fn greet<T>(
        &mut self,
        hello: &[u8],
        timeout_ms: u32,
        read: impl Fn(&[u8]) -> Result<Option<(T, usize)>>,
    ) -> Result<T> {
        let end_ms = self.host.now_ms().saturating_add(timeout_ms.into());
        if let Err(error) = self.process.write(hello)
            && error.code != "stdin-closed"
        {
            return Err(error);
        }
        let mut come = Vec::new();
        loop {
            let left = u32::try_from(end_ms.saturating_sub(self.host.now_ms())).unwrap_or(u32::MAX);
            match self.process.next(READ_BYTES, left) {
                Ok(Output::Stdout(bytes)) => {
                    come.extend_from_slice(&bytes);
                    let found = read(&come).map_err(|error| self.describe(error))?;
                    if let Some((found, bytes)) = found {
                        self.stdout.push(come.get(bytes..).unwrap_or_default());
                        return Ok(found);
                    }
                }
                Ok(Output::Stderr(bytes)) => self.keep_stderr(&bytes),
                Ok(Output::Exited(exit)) => {
                    self.exit = Some(exit.clone());
                    return Err(self.ended(&exit, false));
                }
                Ok(Output::Timeout | Output::Signal) => {}
                Err(error) => return Err(error),
            }
            if self.host.now_ms() >= end_ms {
                let message = format!("`{}` did not greet within {timeout_ms} ms", self.name);
                return Err(self.describe(Error::unavailable("greeting", message)));
            }
        }
    }

    /// A websocket to a port that the program opened; see [`crate::ws::Connection`].
    pub fn connect(&self, port: u16, path: &str, headers: &[(String, String)]) -> Result<Box<dyn Socket + 'h>> {
        self.process.connect(port, path, headers)
    }

    /// Ends stdin after what was sent.
    pub fn close_stdin(&self) {
        self.process.close_stdin();
    }

    /// Asks the process group to end, and does not wait.
    pub fn stop(&self, how: StopMode) -> Result<()> {
        self.process.stop(how)
    }

    /// Waits for what comes next, at most so long (0 only looks). Errors: what the host answers, and see [`Unusable`].
    pub fn wait(&mut self, timeout_ms: u32) -> Result<Said> {
        if let Some(held) = self.held.pop_front() {
            if let Ok(Said::Line(line) | Said::Stderr(line)) = &held {
                self.held_bytes -= line.len();
            }
            return held;
        }
        self.read(timeout_ms)
    }

    /// Ends the program in order: stdin is closed, then it is asked to end, then killed, with at most `patience_ms` for
    /// each step. What it still says is told to `last`. Unset when even a kill was not confirmed in time; the host kills
    /// the group all the same when this is dropped.
    pub fn end(mut self, patience_ms: u32, mut last: impl FnMut(Said)) -> Option<Exit> {
        for step in [None, Some(StopMode::Terminate), Some(StopMode::Kill)] {
            match step {
                None => self.process.close_stdin(),
                // It may have ended in between, and then `wait` tells.
                Some(how) => drop(self.process.stop(how)),
            }
            let end_ms = self.host.now_ms().saturating_add(patience_ms.into());
            loop {
                let left = end_ms.saturating_sub(self.host.now_ms());
                match self.wait(u32::try_from(left).unwrap_or(u32::MAX)) {
                    Ok(Said::Exited(exit)) => return Some(exit),
                    Ok(Said::Timeout) => break,
                    Ok(Said::Signal | Said::Cancelled) => {}
                    Ok(said) => last(said),
                    Err(error) if error.code == "line-size" || error.code == "not-utf8" => {}
                    Err(_) => return None,
                }
                if left == 0 {
                    break;
                }
            }
        }
        self.exit
    }

    /// How it ended, once it was told.
    #[must_use]
    pub fn exit(&self) -> Option<&Exit> {
        self.exit.as_ref()
    }

    /// The last that it wrote to stderr, control characters shown.
    #[must_use]
    pub fn stderr_tail(&self) -> String {
        let bytes: Vec<u8> = self.tail.iter().copied().collect();
        visible(String::from_utf8_lossy(&bytes).trim())
    }

    /// How many lines of stdout could not be used.
    #[must_use]
    pub fn skipped(&self) -> u64 {
        self.skipped
    }

    /// Counts a line that the caller could not use; the first is kept as a sample for [`Child::describe`].
    pub fn skip(&mut self, line: &str) {
        self.skipped = self.skipped.saturating_add(1);
        if self.sample.is_none() {
            self.sample = Some(visible(&cut(line.to_owned(), SAMPLE_BYTES)));
        }
    }

    /// An error that this program caused, with what is known of it: unusable output and the last of stderr.
    #[must_use]
    pub fn describe(&self, mut error: Error) -> Error {
        if let Some(sample) = &self.sample {
            error.message = format!(
                "{}; {} of its lines could not be used, the first: `{sample}`",
                cut(error.message, SAID_BYTES_MAX),
                self.skipped
            );
        }
        let tail = self.stderr_tail();
        if !tail.is_empty() {
            // The end is what tells why.
            let from = tail.ceil_char_boundary(tail.len().saturating_sub(SAID_BYTES_MAX));
            error.message = format!("{}; its last words on stderr: `{}`", error.message, &tail[from..]);
        }
        let mut described = Error::new(error.kind, error.code, error.message);
        described.retry_after_ms = error.retry_after_ms;
        described
    }

    /// The error of a program that ended by itself. `working` says whether it had been given work, which then may be
    /// half done: kind `uncertain`, else `unavailable`; the code is `program-ended`.
    #[must_use]
    pub fn ended(&self, exit: &Exit, working: bool) -> Error {
        let how = match exit {
            Exit::Code(code) => format!("`{}` ended with code {code}", self.name),
            Exit::Signal(signal) => format!("`{}` was ended by {signal}", self.name),
        };
        self.describe(if working {
            Error::uncertain("program-ended", format!("{how} before its work was done"))
        } else {
            Error::unavailable("program-ended", how)
        })
    }

    /// Keeps what was read until it is asked for.
    fn hold(&mut self, said: Result<Said>) {
        if let Ok(Said::Line(line) | Said::Stderr(line)) = &said {
            self.held_bytes += line.len();
        }
        self.held.push_back(said);
    }

    /// The next from the pipes, past all that is held.
    fn read(&mut self, timeout_ms: u32) -> Result<Said> {
        let end_ms = self.host.now_ms().saturating_add(timeout_ms.into());
        loop {
            if let Some(said) = self.line() {
                return said;
            }
            if let Some(exit) = &self.exit {
                return Ok(Said::Exited(exit.clone()));
            }
            let left = u32::try_from(end_ms.saturating_sub(self.host.now_ms())).unwrap_or(u32::MAX);
            match self.process.next(READ_BYTES, left) {
                Ok(Output::Stdout(bytes)) => self.stdout.push(&bytes),
                Ok(Output::Stderr(bytes)) => self.keep_stderr(&bytes),
                Ok(Output::Exited(exit)) => {
                    // The last line may have no end.
                    self.stdout.close();
                    self.stderr.close();
                    self.exit = Some(exit);
                }
                Ok(Output::Timeout) => return Ok(Said::Timeout),
                Ok(Output::Signal) => return Ok(Said::Signal),
                Err(error) if error.is_cancelled() => return Ok(Said::Cancelled),
                Err(error) => return Err(error),
            }
            // A flood without a line in it must not hold the caller past its time.
            if timeout_ms > 0 && self.host.now_ms() >= end_ms && self.exit.is_none() {
                return self.line().unwrap_or(Ok(Said::Timeout));
            }
        }
    }

    fn keep_stderr(&mut self, bytes: &[u8]) {
        self.tail.extend(bytes);
        let over = self.tail.len().saturating_sub(STDERR_TAIL_BYTES);
        self.tail.drain(..over);
        self.stderr.push(bytes);
    }

    /// A whole line that is there already.
    fn line(&mut self) -> Option<Result<Said>> {
        while let Some(line) = self.stdout.next_line() {
            match line.and_then(|bytes| Ok(String::from_utf8(bytes)?)) {
                Ok(line) if line.trim().is_empty() => {}
                Ok(line) => return Some(Ok(Said::Line(line))),
                Err(error) if self.limits.unusable == Unusable::Skip => self.skip(&format!("({})", error.message)),
                Err(error) => return Some(Err(error)),
            }
        }
        while let Some(line) = self.stderr.next_line() {
            // What is too long for a line is in the tail.
            let text = line.map(|bytes| visible(String::from_utf8_lossy(&bytes).trim_end())).unwrap_or_default();
            if !text.is_empty() {
                return Some(Ok(Said::Stderr(text)));
            }
        }
        None
    }
}

/// Text of a stranger as it may be shown: control characters as escapes, but for line ends and tabs as spaces.
#[must_use]
pub fn visible(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\t' => shown.push(' '),
            '\r' => {}
            '\n' => shown.push('\n'),
            // Marks of direction can make a text read as another.
            '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {
                shown.extend(c.escape_unicode());
            }
            c if c.is_control() => shown.extend(c.escape_default()),
            c => shown.push(c),
        }
    }
    shown
}

/// Cuts bytes into lines.
struct Lines {
    line_bytes_max: usize,
    buffer: VecDeque<u8>,
    /// How far `buffer` is known to have no line end.
    searched: usize,
    /// Inside of a line that was too long already: all is dropped until its end.
    dropping: bool,
    closed: bool,
}

impl Lines {
    fn new(line_bytes_max: usize) -> Self {
        Self { line_bytes_max, buffer: VecDeque::new(), searched: 0, dropping: false, closed: false }
    }

    fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend(bytes);
    }

    fn close(&mut self) {
        self.closed = true;
    }

    /// The next line without its end; an error, once, for one that is too long.
    fn next_line(&mut self) -> Option<Result<Vec<u8>>> {
        loop {
            let end = self.buffer.iter().skip(self.searched).position(|byte| *byte == b'\n');
            let end = end.map(|at| self.searched + at);
            if self.dropping {
                match end {
                    Some(end) => {
                        self.buffer.drain(..=end);
                        self.dropping = false;
                    }
                    None => self.buffer.clear(),
                }
                self.searched = 0;
                if self.dropping {
                    return None;
                }
                continue;
            }
            let length = end.unwrap_or(self.buffer.len());
            if length > self.line_bytes_max {
                self.dropping = true;
                return Some(Err(Error::limit(
                    "line-size",
                    format!("a line is longer than {} bytes", self.line_bytes_max),
                )));
            }
            let Some(end) = end else {
                self.searched = self.buffer.len();
                if self.closed && !self.buffer.is_empty() {
                    self.searched = 0;
                    return Some(Ok(self.buffer.drain(..).collect()));
                }
                return None;
            };
            let mut line: Vec<u8> = self.buffer.drain(..end).collect();
            self.buffer.pop_front();
            self.searched = 0;
            if line.last() == Some(&b'\r') {
                line.pop();
            }
            return Some(Ok(line));
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::error::ErrorKind;
    use crate::testing::{FakeChild, FakeHost, Step, command};

    fn all(child: &mut Child<'_>) -> Vec<Result<Said>> {
        let mut all = Vec::new();
        loop {
            let said = child.wait(10);
            all.push(said.clone());
            if matches!(said, Ok(Said::Timeout | Said::Exited(_))) {
                return all;
            }
        }
    }

    fn start(steps: Vec<Step>) -> FakeHost {
        FakeHost::new().child(FakeChild::new().at_start(steps))
    }

    #[test]
    fn lines_come_whole_and_stderr_is_kept() {
        let host = start(vec![
            Step::Raw(b"one\r\n\ntw".to_vec()),
            Step::Stderr("warn\u{1b}[0m\n".into()),
            Step::Raw(b"o\nlast".to_vec()),
            Step::Exit(Exit::Code(3)),
        ]);
        let mut child = Child::spawn(&host, &command(&["/bin/vendor"]), Limits::default()).expect("starts");
        assert_eq!(
            all(&mut child),
            [
                Ok(Said::Line("one".into())),
                Ok(Said::Stderr("warn\\u{1b}[0m".into())),
                Ok(Said::Line("two".into())),
                Ok(Said::Line("last".into())),
                Ok(Said::Exited(Exit::Code(3))),
            ]
        );
        let error = child.ended(&Exit::Code(3), true);
        assert_eq!((error.kind, error.code.as_str()), (ErrorKind::Uncertain, "program-ended"));
        assert_eq!(
            error.message,
            "`vendor` ended with code 3 before its work was done; its last words on stderr: `warn\\u{1b}[0m`"
        );
        assert_eq!(child.ended(&Exit::Signal("SIGKILL".into()), false).kind, ErrorKind::Unavailable);
    }

    #[test]
    fn a_line_that_is_too_long_or_no_text_fails_or_is_skipped_and_the_next_is_read() {
        let steps = vec![Step::Raw(b"\xff\xfe\n".to_vec()), Step::Raw(vec![b'x'; 100]), Step::Line("y".into())];
        let strict = Limits { line_bytes_max: 10, unusable: Unusable::Fail };
        let host = start([steps.clone(), vec![Step::Line("good".into())]].concat());
        let mut child = Child::spawn(&host, &command(&["v"]), strict).expect("starts");
        let codes: Vec<String> = all(&mut child)
            .into_iter()
            .map(|said| match said {
                Err(error) => error.code,
                Ok(said) => format!("{said:?}"),
            })
            .collect();
        assert_eq!(codes, ["not-utf8", "line-size", "Line(\"good\")", "Timeout"]);

        let host = start([steps, vec![Step::Line("good".into())]].concat());
        let skip = Limits { unusable: Unusable::Skip, ..strict };
        let mut child = Child::spawn(&host, &command(&["v"]), skip).expect("starts");
        assert_eq!(all(&mut child), [Ok(Said::Line("good".into())), Ok(Said::Timeout)]);
        assert_eq!(child.skipped(), 2);
        let error = child.describe(Error::unavailable("silent", "no answer"));
        assert!(error.message.starts_with("no answer; 2 of its lines could not be used"), "{}", error.message);
    }

    #[test]
    fn a_flood_without_a_line_end_is_held_within_the_bound() {
        let steps = (0..64).map(|_| Step::Raw(vec![b'x'; 64 * 1024])).collect();
        let host = start(steps);
        let limits = Limits { line_bytes_max: 1024, unusable: Unusable::Skip };
        let mut child = Child::spawn(&host, &command(&["v"]), limits).expect("starts");
        assert_eq!(all(&mut child), [Ok(Said::Timeout)]);
        assert!(child.stdout.buffer.is_empty());
        assert_eq!(child.skipped(), 1);
    }

    #[test]
    fn stderr_is_kept_to_a_tail() {
        let steps = (0..100).map(|n| Step::Stderr(format!("{n:04}{}\n", "e".repeat(100)))).collect();
        let host = start(steps);
        let mut child = Child::spawn(&host, &command(&["v"]), Limits::default()).expect("starts");
        assert_eq!(all(&mut child).len(), 101);
        let tail = child.stderr_tail();
        assert!(tail.len() <= STDERR_TAIL_BYTES && tail.contains("0099"), "{tail}");
        assert!(child.describe(Error::internal("x", "m")).message.len() < 2 * SAID_BYTES_MAX);
    }

    #[test]
    fn a_full_stdin_is_tried_again_while_output_is_held() {
        let host = FakeHost::new().child(
            FakeChild::new()
                .stdin_full(3)
                .at_start(vec![Step::Line("early".into())])
                .on_line(|line| vec![Step::Line(format!("echo {line}"))]),
        );
        let mut child = Child::spawn(&host, &command(&["v"]), Limits::default()).expect("starts");
        child.send("hello").expect("taken in the end");
        let said = all(&mut child);
        assert_eq!(said, [Ok(Said::Line("early".into())), Ok(Said::Line("echo hello".into())), Ok(Said::Timeout)]);

        let host = FakeHost::new().child(FakeChild::new().stdin_full(usize::MAX));
        let mut child = Child::spawn(&host, &command(&["v"]), Limits::default()).expect("starts");
        assert_eq!(child.send("hello").expect_err("never read").code, "stdin-full");
    }

    #[test]
    fn a_cancel_and_a_signal_are_told_once() {
        let host = start(vec![Step::Steer("more".into()), Step::Cancel]);
        let mut child = Child::spawn(&host, &command(&["v"]), Limits::default()).expect("starts");
        assert_eq!(all(&mut child), [Ok(Said::Cancelled), Ok(Said::Signal), Ok(Said::Timeout)]);
    }

    #[test]
    fn a_program_is_ended_in_order_and_harder_each_time() {
        let rows = [
            (FakeChild::new(), "close-stdin"),
            (FakeChild::new().ignores_eof(), "close-stdin terminate"),
            (FakeChild::new().ignores_eof().ignores_terminate(), "close-stdin terminate kill"),
        ];
        for (program, asked) in rows {
            let host = FakeHost::new().child(program.at_start(vec![Step::Line("last".into())]));
            let child = Child::spawn(&host, &command(&["v"]), Limits::default()).expect("starts");
            let mut last = Vec::new();
            let exit = child.end(100, |said| last.push(said));
            assert!(exit.is_some());
            assert_eq!(last, [Said::Line("last".into())]);
            assert_eq!(host.stops().join(" "), asked);
        }
    }

    proptest! {
        /// The lines are the same however the pipe cuts the bytes.
        #[test]
        fn lines_do_not_depend_on_the_cuts(text in "[a-c\u{e9}\r\n]{0,60}", size in 1_usize..9) {
            let read = |size: usize| {
                let mut lines = Lines::new(8);
                let mut found = Vec::new();
                for chunk in text.as_bytes().chunks(size) {
                    lines.push(chunk);
                    while let Some(line) = lines.next_line() {
                        found.push(line);
                    }
                }
                lines.close();
                while let Some(line) = lines.next_line() {
                    found.push(line);
                }
                found
            };
            prop_assert_eq!(read(size), read(1000));
        }
    }
}
