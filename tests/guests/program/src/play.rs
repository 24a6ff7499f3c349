//! What each step does.
//!
//! A thread reads stdin all the time and keeps what it reads for the steps to come: a real program reads in the background,
//! too, and a record of what was sent to it must not depend on whether a step asked for it.

use std::io::{BufRead as _, Write as _};
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use filedescriptor::{FileDescriptor, StdioDescriptor};
use serde_json::{Value, json};

use crate::pattern::{self, Captures};
use crate::record::{self, Record};
use crate::script::{Flood, Script, Served, Step};
use crate::{EXIT_SCRIPT, EXIT_UNEXPECTED, http, socket};

/// Why the steps end before their end.
enum End {
    /// With this code.
    Code(u8),
    /// Something else was read.
    Unexpected(String),
    /// The script cannot be played.
    Script(String),
}

struct Player {
    lines: Receiver<String>,
    /// Once there is one, messages are what lines were; stdin then only tells its end.
    socket: Option<(socket::Socket, Receiver<String>)>,
    record: Record,
    captures: Captures,
}

/// Plays a script and gives the code to end with.
pub(crate) fn play(script: &Script) -> u8 {
    let record = match Record::open(script.record.as_deref()) {
        Ok(record) => record,
        Err(error) => {
            eprintln!("guest-program: {error}");
            return EXIT_SCRIPT;
        }
    };
    record.start();
    let args: Vec<String> = std::env::args_os().skip(1).map(|arg| arg.to_string_lossy().into_owned()).collect();
    let (steps, code) = script.chosen(&args);
    let lines = read_stdin(record.clone());
    let mut player = Player { lines, socket: None, record: record.clone(), captures: Captures::new() };
    let code = match player.all(steps) {
        Ok(()) => code,
        Err(End::Code(code)) => code,
        Err(End::Unexpected(what)) => {
            record.add(&json!({ "unexpected": what }));
            eprintln!("guest-program: {what}");
            EXIT_UNEXPECTED
        }
        Err(End::Script(what)) => {
            record.add(&json!({ "unexpected": what }));
            eprintln!("guest-program: {what}");
            EXIT_SCRIPT
        }
    };
    record.add(&json!({ "exit": code }));
    code
}

/// The lines of stdin as they come, recorded. The channel ends with stdin.
fn read_stdin(record: Record) -> Receiver<String> {
    let (sender, lines) = channel();
    std::thread::spawn(move || {
        let mut stdin = std::io::stdin().lock();
        let mut line = Vec::new();
        while stdin.read_until(b'\n', &mut line).is_ok_and(|bytes| bytes > 0) {
            let text = String::from_utf8_lossy(&line);
            let text = text.trim_end_matches(['\r', '\n']).to_owned();
            record.add(&json!({ "read": pattern::parsed(&text) }));
            // Nobody listens when the steps are done; what is read is recorded all the same.
            let _ = sender.send(text);
            line.clear();
        }
        record.add(&json!({ "eof": true }));
    });
    lines
}

impl Player {
    fn all(&mut self, steps: &[Step]) -> Result<(), End> {
        steps.iter().try_for_each(|step| self.one(step))
    }

    fn one(&mut self, step: &Step) -> Result<(), End> {
        match step {
            Step::Expect { expect, capture, skip } => loop {
                let Ok(line) = self.lines.recv() else {
                    return Err(End::Unexpected(format!("stdin has ended; expected {expect}")));
                };
                let line = pattern::parsed(&line);
                if pattern::fits(&pattern::filled(expect, &self.captures), &line) {
                    return pattern::capture(capture, &line, &mut self.captures).map_err(End::Unexpected);
                }
                if !skip {
                    return Err(End::Unexpected(format!("read {line}; expected {expect}")));
                }
            },
            Step::Serve { serve } => {
                while let Ok(line) = self.lines.recv() {
                    let line = pattern::parsed(&line);
                    let fits = |on: &Value| pattern::fits(&pattern::filled(on, &self.captures), &line);
                    let Some(rule) = serve.iter().find(|rule| fits(&rule.on)) else { continue };
                    pattern::capture(&rule.capture, &line, &mut self.captures).map_err(End::Unexpected)?;
                    self.all(&rule.steps)?;
                    if rule.last {
                        break;
                    }
                }
                Ok(())
            }
            Step::UntilEof { .. } => {
                let stdin = self.socket.as_ref().map_or(&self.lines, |(_, stdin)| stdin);
                while stdin.recv().is_ok() {}
                Ok(())
            }
            Step::Write { write } => {
                let line = match pattern::filled(write, &self.captures) {
                    Value::String(text) => text,
                    value => value.to_string(),
                };
                match &self.socket {
                    Some((socket, _)) => gone_unless(socket.say(&line)),
                    None => say(format!("{line}\n").as_bytes()),
                }
            }
            Step::Raw { raw } => {
                let text = pattern::filled_text(raw, &self.captures);
                match &self.socket {
                    Some((socket, _)) => gone_unless(socket.say(&text)),
                    None => say(text.as_bytes()),
                }
            }
            Step::Bytes { bytes } => say(bytes),
            Step::Stderr { stderr } => {
                let _ = std::io::stderr().write_all(pattern::filled_text(stderr, &self.captures).as_bytes());
                Ok(())
            }
            Step::Sleep { sleep_ms } => {
                std::thread::sleep(Duration::from_millis(*sleep_ms));
                Ok(())
            }
            Step::Flood { flood } => flooded(flood, self.socket.as_ref().map(|(socket, _)| socket)),
            Step::Close { close } if close == "websocket" => {
                self.socket.iter().for_each(|(socket, _)| socket.close());
                Ok(())
            }
            Step::Close { close } => closed(close),
            Step::Websocket { websocket } => self.serve(websocket),
            Step::Ignore { ignore } => ignore.iter().try_for_each(|name| self.ignored(name)),
            Step::Spawn { spawn, own_group, name } => self.spawned(spawn, *own_group, name.as_deref()),
            Step::Http { http: request } => {
                let answer = http::ask(request, &self.captures);
                self.record.add(&json!({ "http": answer }));
                self.captures.extend(request.name.clone().map(|name| (name, answer)));
                Ok(())
            }
            Step::File { file, text } => {
                let text = match pattern::filled(text, &self.captures) {
                    Value::String(text) => text,
                    value => value.to_string(),
                };
                let place = record::expanded(file).map_err(End::Script)?;
                std::fs::write(&place, text).map_err(|error| End::Script(format!("`{}`: {error}", place.display())))
            }
            Step::Repeat { repeat, steps } => (0..*repeat).try_for_each(|_| self.all(steps)),
            Step::Hang { .. } => loop {
                std::thread::park();
            },
            Step::Exit { exit } => Err(End::Code(*exit)),
            Step::Abort { .. } => std::process::abort(),
        }
    }

    /// Serves a websocket and waits for who connects.
    fn serve(&mut self, served: &Served) -> Result<(), End> {
        let listener = socket::listen(&mut self.captures).map_err(End::Script)?;
        let greeting = socket::packed(&served.greeting, &self.captures).map_err(End::Script)?;
        say(&greeting)?;
        let (socket, messages) =
            socket::accept(&listener, served, &self.captures, &self.record).map_err(End::Script)?;
        let stdin = std::mem::replace(&mut self.lines, messages);
        self.socket = Some((socket, stdin));
        Ok(())
    }

    /// Notes a signal from now on instead of ending by it.
    fn ignored(&self, name: &str) -> Result<(), End> {
        use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
        let (signal, name) = match name {
            "INT" => (SIGINT, "INT"),
            "TERM" => (SIGTERM, "TERM"),
            "HUP" => (SIGHUP, "HUP"),
            other => return Err(End::Script(format!("no signal `{other}` can be ignored"))),
        };
        let mut signals =
            signal_hook::iterator::Signals::new([signal]).map_err(|error| End::Script(error.to_string()))?;
        let record = self.record.clone();
        std::thread::spawn(move || signals.forever().for_each(|_| record.add(&json!({ "signal": name }))));
        Ok(())
    }

    fn spawned(&mut self, argv: &[String], own_group: bool, name: Option<&str>) -> Result<(), End> {
        let (program, args) = argv.split_first().ok_or_else(|| End::Script("`spawn` names no program".to_owned()))?;
        let mut command = Command::new(program);
        command.args(args).stdin(Stdio::null());
        if own_group {
            command.process_group(0);
        }
        let child = command.spawn().map_err(|error| End::Script(format!("`{program}`: {error}")))?;
        self.record.add(&json!({ "spawned": child.id() }));
        self.captures.extend(name.map(|name| (name.to_owned(), json!(child.id()))));
        Ok(())
    }
}

/// Writes to stdout. A reader that is gone ends the program, as it does with most.
fn say(bytes: &[u8]) -> Result<(), End> {
    let mut out = std::io::stdout().lock();
    out.write_all(bytes).and_then(|()| out.flush()).map_err(|_| End::Code(1))
}

/// The same for a websocket.
fn gone_unless(there: bool) -> Result<(), End> {
    if there { Ok(()) } else { Err(End::Code(1)) }
}

fn flooded(flood: &Flood, socket: Option<&socket::Socket>) -> Result<(), End> {
    let times = flood.times.unwrap_or(u64::MAX);
    for _ in 0..times {
        if flood.stream.as_deref() == Some("stderr") {
            std::io::stderr().write_all(flood.text.as_bytes()).map_err(|_| End::Code(1))?;
        } else if let Some(socket) = socket {
            gone_unless(socket.say(&flood.text))?;
        } else {
            say(flood.text.as_bytes())?;
        }
    }
    Ok(())
}

/// Closes a stream by putting `/dev/null` in its place: the pipe loses this end, and the number is not given to another
/// file.
fn closed(stream: &str) -> Result<(), End> {
    let null = std::fs::OpenOptions::new().read(true).write(true).open("/dev/null");
    let null = null.map_err(|error| End::Script(error.to_string()))?;
    let stream = match stream {
        "stdin" => StdioDescriptor::Stdin,
        "stdout" => StdioDescriptor::Stdout,
        "stderr" => StdioDescriptor::Stderr,
        other => return Err(End::Script(format!("no stream `{other}`"))),
    };
    // What is given back is the old stream, and dropping it is what closes it.
    FileDescriptor::redirect_stdio(&null, stream).map(drop).map_err(|error| End::Script(error.to_string()))
}
