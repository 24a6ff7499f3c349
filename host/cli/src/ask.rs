//! Questions to the person at the terminal: grants before a run, approvals during one.
//!
//! Questions stand on standard error, answers come from standard input. Nothing but a clear yes allows anything: an empty
//! line, an end of input and an answer that is none are a no.

use std::io::BufRead as _;

use async_trait::async_trait;
use console::style;
use midplane::core::ProfileName;
use midplane::core::permission::Grant;
use midplane::core::text::{escape_controls, preview};
use midplane::view::ProfileView;
use midplane::{Asked, Asker, Reply};
use tokio::sync::{mpsc, oneshot};

use crate::screen;

/// Lines that are typed, read by a thread of its own: one that waits for a line cannot be told to stop.
pub(crate) struct Typed {
    lines: Option<mpsc::Receiver<String>>,
}

/// Lines that are held unread.
const LINES_MAX: usize = 16;

impl Typed {
    /// The lines of standard input. Nothing is read before the first question.
    pub(crate) fn stdin() -> Self {
        Self { lines: None }
    }

    /// Asks, and gives the next line; none at the end of input. What was typed before the question is no answer to it.
    pub(crate) async fn ask(&mut self, question: &str) -> Option<String> {
        let lines = self.lines.get_or_insert_with(read_stdin);
        while lines.try_recv().is_ok() {}
        prompt(question);
        lines.recv().await
    }
}

fn read_stdin() -> mpsc::Receiver<String> {
    let (send, lines) = mpsc::channel(LINES_MAX);
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines() {
            let Ok(line) = line else { return };
            if send.blocking_send(line).is_err() {
                return;
            }
        }
    });
    lines
}

/// A question at the end of which the answer is typed.
fn prompt(question: &str) {
    // A question that cannot be shown gets no answer, which is a no.
    let _ = screen::suspend(|| std::io::Write::write_all(&mut std::io::stderr(), question.as_bytes()));
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
pub(crate) async fn grants(typed: &mut Typed, profile: &ProfileView, missing: &[Grant]) -> Option<Vec<(Grant, Answer)>> {
    screen::note(&heading(profile, missing.len()));
    let mut answers = Vec::new();
    for grant in missing {
        screen::note(&described(profile, grant));
        let answer = loop {
            let line = typed.ask("  allow? [o]nce, [a]lways, [N]o: ").await;
            match Answer::parse(line.as_deref()) {
                Some(answer) => break answer,
                None => screen::note("  please answer `once`, `always` or `no`"),
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
    let mut lines = vec![String::new(), format!("  {}", style(escape_controls(&text, false)).bold().for_stderr()), format!("  {reason}")];
    if matches!(grant, Grant::Shell) {
        let warning = "a shell is unconfined: it can do all that you can, outside the workspace and on the network, too";
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
pub(crate) async fn approval(typed: &mut Typed, (asked, mut reply): Question) {
    screen::note(&shown(&asked));
    let line = tokio::select! {
        line = typed.ask("  allow? [y]es, [N]o: ") => line,
        () = reply.closed() => {
            screen::note("\n  no answer is needed any more");
            return;
        }
    };
    let allowed = line.is_some_and(|line| matches!(line.trim().to_lowercase().as_str(), "y" | "yes"));
    let message = if allowed { "allowed by the person at the terminal" } else { "declined by the person at the terminal" };
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
    use midplane::view::PermissionView;
    use serde_json::json;

    fn typed(lines: &[&str]) -> (Typed, mpsc::Sender<String>) {
        let (send, receive) = mpsc::channel(LINES_MAX);
        let typed = Typed { lines: Some(receive) };
        let later = send.clone();
        let lines: Vec<String> = lines.iter().map(|&line| line.to_owned()).collect();
        tokio::spawn(async move {
            for line in lines {
                // Typed after the question, as a person does; before it, it would be thrown away.
                tokio::task::yield_now().await;
                let _ = later.send(line).await;
            }
        });
        (typed, send)
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
            permissions: vec![permission("http:https://h", "talk \u{1b}[2Jto it"), permission("shell", "build")],
            grants: Vec::new(),
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

    #[tokio::test(flavor = "current_thread")]
    async fn one_no_is_a_no_to_all() {
        let missing = [grant("http:https://h"), grant("secret:KEY")];
        let (mut lines, _open) = typed(&["o", "what?", "always"]);
        let answers = grants(&mut lines, &profile(), &missing).await.expect("answers");
        assert_eq!(answers, [(missing[0].clone(), Answer::Once), (missing[1].clone(), Answer::Always)]);
        let (mut lines, _open) = typed(&["a", ""]);
        assert!(grants(&mut lines, &profile(), &missing).await.is_none());
        let (mut lines, open) = typed(&[]);
        drop(open);
        assert!(grants(&mut lines, &profile(), &missing).await.is_none());
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

    #[tokio::test(flavor = "current_thread")]
    async fn approvals() {
        console::set_colors_enabled_stderr(false);
        insta::assert_snapshot!(shown(&asked()));
        for (line, allowed) in [("y", true), ("Yes", true), ("", false), ("no", false), ("sure", false)] {
            let (asker, mut questions) = ToTerminal::new();
            let waiting = tokio::spawn(async move { asker.ask(asked()).await });
            let question = questions.recv().await.expect("a question");
            let (mut lines, _open) = typed(&[line]);
            approval(&mut lines, question).await;
            assert_eq!(waiting.await.expect("no panic").map(|reply| reply.allowed), Some(allowed), "{line:?}");
        }
    }

    #[tokio::test(flavor = "current_thread")]
    async fn a_question_that_is_withdrawn_is_given_up() {
        let (asker, mut questions) = ToTerminal::new();
        let waiting = tokio::spawn(async move { asker.ask(asked()).await });
        let question = questions.recv().await.expect("a question");
        waiting.abort();
        let (mut lines, _open) = typed(&[]);
        approval(&mut lines, question).await;
    }
}
