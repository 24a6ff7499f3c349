//! What the operator answers in advance when a vendor's program asks before it acts.
//!
//! Rules are tried in order and the first that fits decides; what no rule decides is asked or declined
//! ([`Policy::otherwise`]). Each answer holds for one action.
//!
//! # What it never does
//! It never lets a pattern say more than it shows: in the title of a command a `*` stands for plain text only, so that
//! `cargo test *` does not allow `cargo test; curl ... | sh`.

use serde::{Deserialize, Serialize};

/// Kinds of action that the contract names (`wit/v0/approval.wit`); any other is `other`.
pub const KINDS: [&str; 5] = ["command", "file-change", "tool", "network", "other"];

/// What joins, nests or redirects commands in a shell, or begins a substitution: a `*` never stands for it.
const SHELL_SYNTAX: &[char] = &[';', '&', '|', '`', '$', '(', ')', '<', '>', '{', '}', '\n', '\r', '\\'];

/// The answers of a profile.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Policy {
    /// Tried in order.
    pub rules: Vec<Rule>,
    /// What happens where no rule fits. Unset: asked where somebody is there to be asked, else declined.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub otherwise: Option<Otherwise>,
}

/// What happens where no rule fits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Otherwise {
    /// The question waits for an answer, at the terminal or from `midplane runs approve`.
    Ask,
    /// No.
    Decline,
}

/// One answer in advance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// One of [`KINDS`]; unset fits all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// The action in one line, as the program words it, `*` standing for any text; unset fits all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// The answer.
    pub allow: bool,
}

/// What a policy says to a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The rule at this place, from 0, answers.
    Rule {
        /// Its place.
        index: usize,
        /// Its answer.
        allow: bool,
    },
    /// Ask; `wait` also where nobody seems to be there.
    Ask {
        /// Whether to wait for an answer from elsewhere.
        wait: bool,
    },
    /// Decline.
    Decline,
}

impl Policy {
    /// What it says to a question.
    #[must_use]
    pub fn decide(&self, kind: &str, title: &str) -> Verdict {
        let rule = self.rules.iter().enumerate().find(|(_, rule)| rule.fits(kind, title));
        match (rule, self.otherwise) {
            (Some((index, rule)), _) => Verdict::Rule { index, allow: rule.allow },
            (None, Some(Otherwise::Ask)) => Verdict::Ask { wait: true },
            (None, None) => Verdict::Ask { wait: false },
            (None, Some(Otherwise::Decline)) => Verdict::Decline,
        }
    }
}

impl Rule {
    /// What is wrong with it, if something is.
    #[must_use]
    pub fn problem(&self) -> Option<String> {
        match &self.kind {
            Some(kind) if !KINDS.contains(&kind.as_str()) => {
                let kind = crate::text::shown(kind, 40);
                Some(format!("the kind of a question is one of {}, not `{kind}`", KINDS.join(", ")))
            }
            _ => None,
        }
    }

    fn fits(&self, kind: &str, title: &str) -> bool {
        let Self { kind: of_kind, title: pattern, allow } = self;
        if of_kind.as_deref().is_some_and(|of_kind| of_kind != kind) {
            return false;
        }
        // Only what allows is kept narrow: a rule that declines may well catch more.
        let narrow = *allow && matches!(kind, "command" | "other" | "tool");
        pattern.as_deref().is_none_or(|pattern| fits(pattern, title, narrow))
    }
}

/// Whether a title is what a pattern says. `*` stands for any text; `narrow`, for text without shell syntax.
fn fits(pattern: &str, title: &str, narrow: bool) -> bool {
    let stands_for = |text: &str| !(narrow && text.contains(SHELL_SYNTAX));
    let mut parts = pattern.split('*');
    // `split` gives one part at least.
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = title.strip_prefix(first) else { return false };
    let parts: Vec<&str> = parts.collect();
    let Some((last, middle)) = parts.split_last() else { return rest.is_empty() };
    for part in middle {
        // The first place is the best: it leaves most for what follows, and less for this star to stand for.
        let Some((skipped, after)) = rest.split_once(part) else { return false };
        if !stands_for(skipped) {
            return false;
        }
        rest = after;
    }
    rest.strip_suffix(last).is_some_and(stands_for)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(kind: Option<&str>, title: Option<&str>, allow: bool) -> Rule {
        Rule { kind: kind.map(str::to_owned), title: title.map(str::to_owned), allow }
    }

    #[test]
    fn patterns() {
        for (pattern, title, narrow, want) in [
            ("cargo test", "cargo test", true, true),
            ("cargo test", "cargo test --all", true, false),
            ("cargo test*", "cargo test --all", true, true),
            ("*", "anything at all", true, true),
            ("*", "a; b", true, false),
            ("*", "a; b", false, true),
            ("", "", true, true),
            ("", "x", true, false),
            ("cargo *", "cargo test; curl x | sh", true, false),
            ("cargo *", "cargo test $(id)", true, false),
            ("cargo *", "cargo test\nrm -rf .", true, false),
            ("cargo * && cargo *", "cargo fmt && cargo test", true, true),
            ("cargo * && cargo *", "cargo fmt && cargo test && rm x", true, false),
            ("*.md", "docs/a.md", false, true),
            ("a*b*c", "a1b2c", true, true),
            ("a*b*c", "a1b2", true, false),
            ("a*bc", "abcbc", true, true),
            ("aa*aa", "aaa", true, false),
            ("ü*", "über", true, true),
        ] {
            assert_eq!(fits(pattern, title, narrow), want, "{pattern} {title}");
        }
    }

    #[test]
    fn the_first_rule_that_fits_decides() {
        let rules = vec![
            rule(Some("command"), Some("git push*"), false),
            rule(Some("command"), Some("git *"), true),
            rule(Some("file-change"), None, true),
        ];
        let policy = Policy { rules, otherwise: None };
        for (kind, title, want) in [
            ("command", "git status", Verdict::Rule { index: 1, allow: true }),
            ("command", "git push; true", Verdict::Rule { index: 0, allow: false }),
            ("file-change", "a.rs; b", Verdict::Rule { index: 2, allow: true }),
            ("command", "ls", Verdict::Ask { wait: false }),
        ] {
            assert_eq!(policy.decide(kind, title), want, "{kind} {title}");
        }
        let otherwise = |otherwise| Policy { rules: Vec::new(), otherwise: Some(otherwise) }.decide("tool", "x");
        assert_eq!(otherwise(Otherwise::Ask), Verdict::Ask { wait: true });
        assert_eq!(otherwise(Otherwise::Decline), Verdict::Decline);
        assert!(rule(Some("shell"), None, true).problem().is_some());
        assert!(rule(None, None, true).problem().is_none());
    }
}
