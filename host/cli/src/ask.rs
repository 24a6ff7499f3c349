//! Questions to the person at the terminal: a yes or no, grants before a run, approvals during one.
//!
//! Questions stand on standard error, answers come from standard input. Nothing but a clear yes allows anything: an empty
//! line, an end of input and an answer that is none are a no.

use std::io::{self, BufRead as _, Write as _};

use async_trait::async_trait;
use console::style;
use midplane::core::ProfileName;
use midplane::core::permission::Grant;
use midplane::core::text::{escape_controls, preview};
use midplane::view::ProfileView;
use midplane::{Asked, Asker, Reply};
use rustix::termios::{QueueSelector, tcflush};
use tokio::sync::{mpsc, oneshot};

use crate::screen;

/// The person: what they are shown, and the lines that they type, read by a thread of its own, since one that waits for a
/// line cannot be told to stop.
pub(crate) struct Person {
    show: Box<dyn Fn(&str) + Send>,
    /// Drops what the terminal holds and nobody has read.
    forget: fn(),
    lines: Option<mpsc::Receiver<String>>,
}

/// Lines that are held unread.
const LINES_MAX: usize = 16;

impl Person {
    /// Whoever sits at this terminal. Nothing is read before the first question.
    pub(crate) fn here() -> Self {
        // A question that cannot be shown gets no answer, which is a no.
        let show = |text: &str| {
            let _ = screen::suspend(|| io::stderr().write_all(text.as_bytes()));
        };
        // Where it fails there is no terminal, and nobody is asked.
        let forget = || {
            let _ = tcflush(io::stdin(), QueueSelector::IFlush);
        };
        Self { show: Box::new(show), forget, lines: None }
    }

    fn tell(&self, line: &str) {
        (self.show)(&format!("{line}\n"));
    }

    /// Asks, and gives the next line; none at the end of input. What was typed before the question is no answer to it.
    async fn ask(&mut self, question: &str) -> Option<String> {
        (self.forget)();
        let lines = self.lines.get_or_insert_with(read_stdin);
        while lines.try_recv().is_ok() {}
        (self.show)(question);
        lines.recv().await
    }
}

fn read_stdin() -> mpsc::Receiver<String> {
    let (send, lines) = mpsc::channel(LINES_MAX);
    std::thread::spawn(move || {
        for line in io::stdin().lock().lines() {
            let Ok(line) = line else { return };
            if send.blocking_send(line).is_err() {
                return;
            }
        }
    });
    lines
}

/// Asks for a yes. Anything but a clear one is a no.
pub(crate) async fn confirm(person: &mut Person, question: &str) -> bool {
    let line = person.ask(&format!("{question} [y/N]: ")).await;
    matches!(line.map(|line| line.trim().to_lowercase()).as_deref(), Some("y" | "yes"))
}

// ---- grants ----

/// What was answered about a grant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    /// For this run.
    Once,
    /// Until it is revoked.
    Always,
    /// Not at all.
    No,
}

impl Answer {
    fn parse(line: Option<&str>) -> Option<Self> {
        match line.map(|line| line.trim().to_lowercase()).as_deref() {
            Some("o" | "once") => Some(Self::Once),
            Some("a" | "always") => Some(Self::Always),
            Some("n" | "no" | "") | None => Some(Self::No),
            Some(_) => None,
        }
    }
}

/// Asks about each grant that is missing. The first no ends it: without one of them there is no run.
pub(crate) async fn grants(
    person: &mut Person,
    profile: &ProfileView,
    missing: &[Grant],
) -> Option<Vec<(Grant, Answer)>> {
    person.tell(&heading(profile, missing.len()));
    let mut answers = Vec::new();
    for grant in missing {
        person.tell(&described(profile, grant));
        let answer = loop {
            let line = person.ask("  allow? [o]nce, [a]lways, [N]o: ").await;
            match Answer::parse(line.as_deref()) {
                Some(answer) => break answer,
                None => person.tell("  please answer `once`, `always` or `no`"),
            }
        };
        if answer == Answer::No {
            return None;
        }
        answers.push((grant.clone(), answer));
    }
    Some(answers)
}

fn heading(profile: &ProfileView, count: usize) -> String {
    let plugin = profile.plugin.as_deref().unwrap_or("unknown");
    let what = if count == 1 { "a grant".to_owned() } else { format!("{count} grants") };
    format!("profile `{}` (plugin `{plugin}`) needs {what} to run:", profile.name)
}

/// What a grant would allow, and why it is asked for.
fn described(profile: &ProfileView, grant: &Grant) -> String {
    let text = grant.to_string();
    let asked = profile.permissions.iter().find(|permission| permission.grant == text);
    let reason = match (asked, grant) {
        (Some(permission), _) if !permission.reason.is_empty() => {
            format!("the plugin says: {}", escape_controls(&permission.reason, false))
        }
        (_, Grant::Secret(_)) => "the host applies its value while sending; the plugin never sees it".to_owned(),
        (_, Grant::Env(_)) => "the plugin sets this variable for programs that it starts".to_owned(),
        (_, Grant::Address(_)) => "an address that is not public".to_owned(),
        _ => "the plugin gives no reason".to_owned(),
    };
    let mut lines = vec![
        String::new(),
        format!("  {}", style(escape_controls(&text, false)).bold().for_stderr()),
        format!("  {reason}"),
    ];
    if matches!(grant, Grant::Shell) {
        let warning =
            "a shell is unconfined: it can do all that you can, outside the workspace and on the network, too";
        lines.push(format!("  {} {warning}", style("warning:").yellow().bold().for_stderr()));
    }
    lines.join("\n")
}

// ---- approvals ----

/// A question of a vendor's program, and where its answer goes.
pub(crate) type Question = (Asked, oneshot::Sender<Reply>);

/// Hands questions to whoever holds the terminal.
pub(crate) struct ToTerminal {
    questions: mpsc::Sender<Question>,
}

impl ToTerminal {
    /// The asker, and where its questions come out.
    pub(crate) fn new() -> (Self, mpsc::Receiver<Question>) {
        let (questions, asked) = mpsc::channel(1);
        (Self { questions }, asked)
    }
}

#[async_trait]
impl Asker for ToTerminal {
    async fn ask(&self, asked: Asked) -> Option<Reply> {
        let (reply, answer) = oneshot::channel();
        self.questions.send((asked, reply)).await.ok()?;
        answer.await.ok()
    }
}

/// Characters of a question's detail that are shown.
const DETAIL_CHARS: usize = 2_000;

/// Shows a question and gives its answer. Given up when nobody waits for it any more.
pub(crate) async fn approval(person: &mut Person, (asked, mut reply): Question) {
    person.tell(&shown(&asked));
    let line = tokio::select! {
        line = person.ask("  allow? [y]es, [N]o: ") => line,
        () = reply.closed() => {
            person.tell("\n  no answer is needed any more");
            return;
        }
    };
    let allowed = line.is_some_and(|line| matches!(line.trim().to_lowercase().as_str(), "y" | "yes"));
    let message =
        if allowed { "allowed by the person at the terminal" } else { "declined by the person at the terminal" };
    // Nobody to tell: it was withdrawn while the line was typed.
    let _ = reply.send(Reply { allowed, message: message.to_owned() });
}

fn shown(asked: &Asked) -> String {
    let profile: &ProfileName = &asked.profile;
    let mut lines = vec![
        format!("\nprofile `{profile}` asks before it goes on ({}):", escape_controls(&asked.kind, false)),
        format!("  {}", style(escape_controls(&asked.title, false)).bold().for_stderr()),
    ];
    if asked.detail.as_object().is_some_and(|detail| !detail.is_empty()) {
        let detail = escape_controls(&preview(&format!("{:#}", asked.detail), DETAIL_CHARS), true);
        lines.extend(detail.lines().map(|line| format!("  {line}")));
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::VecDeque;
    use std::sync::{Arc, Mutex};

    use midplane::view::PermissionView;
    use serde_json::json;

    /// A person who types these lines, each when it is asked for, and what they saw.
    fn person(answers: &[&str]) -> (Person, Arc<Mutex<String>>) {
        let (send, receive) = mpsc::channel(LINES_MAX);
        let seen: Arc<Mutex<String>> = Arc::default();
        let screen = seen.clone();
        let answers = Mutex::new(answers.iter().map(|&line| line.to_owned()).collect::<VecDeque<_>>());
        let show = move |text: &str| {
            let mut screen = screen.lock().expect("no panic");
            screen.push_str(text);
            let answer = if text.ends_with('\n') { None } else { answers.lock().expect("no panic").pop_front() };
            if let Some(line) = answer {
                screen.push_str(&format!("{line}\n"));
                send.try_send(line).expect("room");
            }
        };
        (Person { show: Box::new(show), forget: || (), lines: Some(receive) }, seen)
    }

    fn profile() -> ProfileView {
        let permission = |grant: &str, reason: &str| PermissionView {
            grant: grant.to_owned(),
            optional: false,
            reason: reason.to_owned(),
            granted: false,
        };
        ProfileView {
            name: ProfileName::new("codex").expect("a name"),
            plugin: Some("acp".to_owned()),
            kind: Some("agent"),
            settings: std::collections::BTreeMap::new(),
            configured: std::collections::BTreeMap::new(),
            permissions: vec![permission("http:https://h", "talk \u{1b}[2Jto it"), permission("shell", "build")],
            grants: Vec::new(),
            missing: Vec::new(),
            error: None,
        }
    }

    fn grant(text: &str) -> Grant {
        text.parse().expect("a grant")
    }

    #[test]
    fn what_is_asked() {
        console::set_colors_enabled_stderr(false);
        let profile = profile();
        let mut shown = vec![heading(&profile, 1), heading(&profile, 5)];
        for text in ["http:https://h", "secret:KEY", "env:PATH", "address:127.0.0.1", "command:git", "shell"] {
            shown.push(described(&profile, &grant(text)));
        }
        insta::assert_snapshot!(shown.join("\n"));
    }

    #[test]
    fn only_a_clear_word_allows() {
        for (line, answer) in [
            (Some("o"), Some(Answer::Once)),
            (Some(" Always\r"), Some(Answer::Always)),
            (Some("n"), Some(Answer::No)),
            (Some(""), Some(Answer::No)),
            (None, Some(Answer::No)),
            (Some("y"), None),
            (Some("yes"), None),
        ] {
            assert_eq!(Answer::parse(line), answer, "{line:?}");
        }
    }

    #[tokio::test]
    async fn one_no_is_a_no_to_all() {
        console::set_colors_enabled_stderr(false);
        let missing = [grant("http:https://h"), grant("secret:KEY")];
        let (mut yes, seen) = person(&["o", "what?", "always"]);
        let answers = grants(&mut yes, &profile(), &missing).await.expect("answers");
        assert_eq!(answers, [(missing[0].clone(), Answer::Once), (missing[1].clone(), Answer::Always)]);
        insta::assert_snapshot!(seen.lock().expect("no panic"));
        let (mut no, _) = person(&["a", ""]);
        assert!(grants(&mut no, &profile(), &missing).await.is_none());
    }

    #[tokio::test]
    async fn the_end_of_input_is_a_no() {
        let (send, receive) = mpsc::channel(LINES_MAX);
        send.send("always".to_owned()).await.expect("room");
        drop(send);
        // What was typed ahead answers nothing.
        let mut gone = Person { show: Box::new(|_| ()), forget: || (), lines: Some(receive) };
        assert!(grants(&mut gone, &profile(), &[grant("shell")]).await.is_none());
    }

    fn asked() -> Asked {
        Asked {
            profile: ProfileName::new("codex").expect("a name"),
            run_id: None,
            kind: "command".to_owned(),
            title: "rm -rf target".to_owned(),
            detail: json!({ "cwd": "/srv\u{202e}" }),
            call_id: None,
        }
    }

    #[tokio::test]
    async fn approvals() {
        console::set_colors_enabled_stderr(false);
        for (line, allowed) in [("y", true), ("Yes", true), ("", false), ("no", false), ("sure", false)] {
            let (asker, mut questions) = ToTerminal::new();
            let waiting = tokio::spawn(async move { asker.ask(asked()).await });
            let question = questions.recv().await.expect("a question");
            let (mut person, seen) = person(&[line]);
            approval(&mut person, question).await;
            assert_eq!(waiting.await.expect("no panic").map(|reply| reply.allowed), Some(allowed), "{line:?}");
            if allowed {
                insta::allow_duplicates!(insta::assert_snapshot!(seen.lock().expect("no panic").replace("Yes", "y")));
            }
        }
    }

    #[tokio::test]
    async fn a_question_that_is_withdrawn_is_given_up() {
        let (asker, mut questions) = ToTerminal::new();
        let waiting = tokio::spawn(async move { asker.ask(asked()).await });
        let question = questions.recv().await.expect("a question");
        waiting.abort();
        let (mut person, seen) = person(&[]);
        approval(&mut person, question).await;
        assert!(seen.lock().expect("no panic").ends_with("no answer is needed any more\n"));
    }
}
