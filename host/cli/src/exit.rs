//! How the command ends: results and errors as exit codes, and errors as text.
//!
//! | code | when |
//! |---|---|
//! | 0 | done |
//! | 1 | a run failed or ran out of turns or tokens; anything that has no code of its own |
//! | 2 | usage: arguments, input, a name that does not exist, a store that is damaged or newer |
//! | 3 | denied or unsupported |
//! | 4 | a run timed out |
//! | 130 | interrupted |

use std::io;

use console::style;
use midplane::Refusal;
use midplane::core::outcome::FinishReason;
use midplane::core::text::escape_controls;
use midplane::core::{Error, ErrorKind};
use serde_json::{Value, json};

use crate::screen;

/// How the command ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    Done,
    Failed,
    Usage,
    Denied,
    TimedOut,
    Interrupted,
}

impl Exit {
    /// The number that the shell sees.
    pub(crate) fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::Denied => 3,
            Self::TimedOut => 4,
            Self::Interrupted => 130,
        }
    }

    /// The end of a run.
    pub(crate) fn of_reason(reason: FinishReason) -> Self {
        match reason {
            FinishReason::Done => Self::Done,
            FinishReason::Failed | FinishReason::MaxTurns | FinishReason::MaxTokens => Self::Failed,
            FinishReason::Interrupted => Self::Interrupted,
            FinishReason::TimedOut => Self::TimedOut,
        }
    }

    /// An error outside a run.
    pub(crate) fn of_error(error: &Error) -> Self {
        match (error.kind, error.code.as_ref()) {
            // What is wrong is what the user has there, not what he may do.
            (_, "store-damaged" | "store-newer") => Self::Usage,
            // A bound that outside input exceeds, such as the size of a component; a full disk is no input.
            (ErrorKind::Limit, code) if code != "disk" => Self::Usage,
            (ErrorKind::Invalid | ErrorKind::NotFound, _) => Self::Usage,
            (ErrorKind::Denied | ErrorKind::Unsupported, _) => Self::Denied,
            _ => Self::Failed,
        }
    }
}

/// Shows an error on standard error, as text or as one JSON document, and gives the exit code.
pub(crate) fn report(error: &anyhow::Error, json: bool) -> Exit {
    if is_broken_pipe(error) {
        // Whoever read the output has enough of it.
        return Exit::Done;
    }
    let failure = Failure::of(error);
    screen::note(&if json { failure.document() } else { failure.text() });
    Exit::of_error(&failure.error)
}

/// Shows an error that does not end the command.
pub(crate) fn complain(error: &Error) {
    screen::note(&Failure { error: error.clone(), refusal: None }.text());
}

/// Whether the reader of standard output is gone.
pub(crate) fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<io::Error>())
        .any(|cause| cause.kind() == io::ErrorKind::BrokenPipe)
}

/// The command line that gives grants, all in one.
pub(crate) fn allow_command(profile: &str, grants: &[String]) -> String {
    let quoted = |grant: &String| match shlex::try_quote(grant) {
        Ok(quoted) if grant.contains('\'') => quoted.into_owned(),
        // Always in quotes, so that all look alike. Quoting fails on a NUL only, which no grant holds.
        _ => format!("'{grant}'"),
    };
    let grants: Vec<String> = grants.iter().map(quoted).collect();
    format!("midplane grant allow {profile} {}", grants.join(" "))
}

/// An error with what the library said about it.
struct Failure<'a> {
    error: Error,
    refusal: Option<&'a Refusal>,
}

impl<'a> Failure<'a> {
    fn of(error: &'a anyhow::Error) -> Self {
        if let Some(refusal) = error.downcast_ref::<Refusal>() {
            let mut error = refusal.error.clone();
            if let (Some(profile), false) = (&refusal.profile, refusal.missing.is_empty()) {
                let missing: Vec<String> = refusal.missing.iter().map(ToString::to_string).collect();
                error.hint = Some(format!("`{}`", allow_command(profile.as_str(), &missing)));
            }
            return Self { error, refusal: Some(refusal) };
        }
        let error = match error.downcast_ref::<Error>() {
            Some(typed) => {
                let mut typed = typed.clone();
                // With what the command added on the way.
                typed.message = format!("{error:#}");
                typed
            }
            None => Error::internal("command", format!("{error:#}")),
        };
        Self { error, refusal: None }
    }

    fn text(&self) -> String {
        let mut lines = vec![format!("{} {}", style("error:").red().bold().for_stderr(), escaped(&self.error.message))];
        // The first issue is the message itself.
        for issue in self.refusal.iter().flat_map(|refusal| &refusal.issues).skip(1) {
            lines.push(format!("       `{}` {}", escaped(&issue.field), escaped(&issue.message)));
        }
        if let Some(hint) = &self.error.hint {
            lines.push(format!("{} {}", style("hint:").cyan().bold().for_stderr(), escaped(hint)));
        }
        lines.join("\n")
    }

    fn document(&self) -> String {
        // An error is texts and numbers: it always serialises.
        let mut error = serde_json::to_value(&self.error).unwrap_or_default();
        if let (Some(refusal), Some(fields)) = (self.refusal, error.as_object_mut()) {
            let mut field = |name: &str, value: Value| fields.insert(name.to_owned(), value);
            if let Some(profile) = &refusal.profile {
                field("profile", json!(profile));
            }
            if !refusal.issues.is_empty() {
                field("issues", json!(refusal.issues));
            }
            if !refusal.missing.is_empty() {
                field("missing", json!(refusal.missing));
            }
        }
        json!({ "error": error }).to_string()
    }
}

/// Messages carry words of guests and vendors.
fn escaped(text: &str) -> String {
    escape_controls(text, true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use midplane::core::ProfileName;
    use midplane::core::task::Issue;

    #[test]
    fn codes() {
        let of = |error: Error| Exit::of_error(&error).code();
        assert_eq!(of(Error::invalid("task", "")), 2);
        assert_eq!(of(Error::not_found("profile-unknown", "")), 2);
        assert_eq!(of(Error::unsupported("store-newer", "")), 2);
        assert_eq!(of(Error::invalid("store-damaged", "")), 2);
        assert_eq!(of(Error::limit("component-bytes", "")), 2);
        assert_eq!(of(Error::limit("disk", "")), 1);
        assert_eq!(of(Error::denied("grant-missing", "")), 3);
        assert_eq!(of(Error::unsupported("task-unsupported", "")), 3);
        for kind in [Error::conflict, Error::unavailable, Error::cancelled, Error::internal, Error::uncertain] {
            assert_eq!(of(kind("x", "")), 1);
        }
        let reasons = ["done", "failed", "max_turns", "max_tokens", "timed_out", "interrupted"];
        let codes = reasons.map(|word| FinishReason::parse(word).map(|reason| Exit::of_reason(reason).code()));
        assert_eq!(codes, [0, 1, 1, 1, 4, 130].map(Some));
    }

    #[test]
    fn errors_as_text_and_document() {
        console::set_colors_enabled_stderr(false);
        let refusal = Refusal {
            error: Error::denied("grant-missing", "profile `anthropic` may not run without the grant `shell`")
                .hint("one"),
            issues: Vec::new(),
            missing: ["http:https://api.anthropic.com", "secret:ANTHROPIC_API_KEY", "command:sh -c \"it's\""]
                .iter()
                .map(|text| text.parse().expect("a grant"))
                .collect(),
            profile: Some(ProfileName::new("anthropic").expect("a name")),
        };
        let issues = Refusal {
            error: Error::unsupported(
                "task-unsupported",
                "profile `p` cannot do this task: `budget_usd` needs `budget`",
            ),
            issues: vec![
                Issue::new("budget_usd", "needs `budget`"),
                Issue::new("session_id", "needs `session_resume`"),
            ],
            missing: Vec::new(),
            profile: Some(ProfileName::new("p").expect("a name")),
        };
        let typed = Error::invalid("config", "`config.yaml`:1:2: a\u{1b}[31mb").hint("look");
        let context = anyhow::Context::context::<&str>(Err::<(), _>(typed.clone()), "reading the configuration");
        let errors: [anyhow::Error; 5] = [
            refusal.into(),
            issues.into(),
            typed.into(),
            context.expect_err("an error"),
            anyhow::anyhow!("no type").context("outer"),
        ];
        let shown: Vec<String> = errors
            .iter()
            .map(|error| {
                let failure = Failure::of(error);
                format!("{}\n{}\nexit {}\n", failure.text(), failure.document(), Exit::of_error(&failure.error).code())
            })
            .collect();
        insta::assert_snapshot!(shown.join("\n"));
    }

    #[test]
    fn a_closed_pipe_is_an_end() {
        let closed = anyhow::Error::from(io::Error::from(io::ErrorKind::BrokenPipe)).context("printing");
        assert_eq!(report(&closed, false), Exit::Done);
        assert!(!is_broken_pipe(&anyhow::anyhow!("other")));
    }
}
