//! How three vendors say that a turn is over, and what our permission words are in theirs: tables, and how to look into
//! them. The rows are agent-runtime-kit's, with its Antigravity row for `UNSPECIFIED` put right: it is that vendor's word
//! for a normal end.

use crate::outcome::FinishReason;
use crate::task::{FilesystemAccess, PermissionMode, PermissionProfile};

/// A vendor whose words are known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Vendor {
    /// Anthropic's Claude Code.
    Claude,
    /// `OpenAI`'s Codex.
    Codex,
    /// Google's Antigravity.
    Antigravity,
}

/// How a vendor's word for the end of a turn is read. The first row that fits holds.
struct Finish {
    vendor: Vendor,
    /// Whether the vendor calls the end an error, where it says that apart from the word.
    is_error: Option<bool>,
    /// Its word; none stands for every other.
    word: Option<&'static str>,
    reason: FinishReason,
}

const fn finish(vendor: Vendor, is_error: Option<bool>, word: Option<&'static str>, reason: FinishReason) -> Finish {
    Finish { vendor, is_error, word, reason }
}

const FINISH: &[Finish] = &[
    // `subtype` of the result beside `is_error`; a spent budget among others is plainly failed.
    finish(Vendor::Claude, Some(true), Some("error_max_turns"), FinishReason::MaxTurns),
    finish(Vendor::Claude, Some(true), None, FinishReason::Failed),
    finish(Vendor::Claude, None, None, FinishReason::Done),
    // `status` of the turn. What is not known is not success: the vendor's own unfinished state among them.
    finish(Vendor::Codex, None, Some(""), FinishReason::Done),
    finish(Vendor::Codex, None, Some("completed"), FinishReason::Done),
    finish(Vendor::Codex, None, Some("interrupted"), FinishReason::Interrupted),
    finish(Vendor::Codex, None, None, FinishReason::Failed),
    // The stop reason in capitals.
    finish(Vendor::Antigravity, None, Some(""), FinishReason::Done),
    finish(Vendor::Antigravity, None, Some("STOP"), FinishReason::Done),
    finish(Vendor::Antigravity, None, Some("END_TURN"), FinishReason::Done),
    finish(Vendor::Antigravity, None, Some("MODEL_FINISH"), FinishReason::Done),
    finish(Vendor::Antigravity, None, Some("FINISH_REASON_UNSPECIFIED"), FinishReason::Done),
    finish(Vendor::Antigravity, None, Some("UNSPECIFIED"), FinishReason::Done),
    finish(Vendor::Antigravity, None, Some("MAX_TOKENS"), FinishReason::MaxTokens),
    finish(Vendor::Antigravity, None, None, FinishReason::Failed),
];

impl Vendor {
    /// Why a turn ended, from the vendor's word (empty where it gave none) and whether it called the end an error. A turn
    /// that gave nothing usable (no text, no tool call, no value) is `failed` all the same; that is the caller's to see.
    #[must_use]
    pub fn finish_reason(self, word: &str, is_error: bool) -> FinishReason {
        let capitals = word.to_ascii_uppercase();
        let word = if self == Self::Antigravity { capitals.as_str() } else { word };
        let fits = |row: &&Finish| {
            row.vendor == self
                && row.is_error.is_none_or(|wanted| wanted == is_error)
                && row.word.is_none_or(|wanted| wanted == word)
        };
        FINISH.iter().find(fits).map_or(FinishReason::Failed, |row| row.reason)
    }
}

/// What Claude is started with.
#[must_use]
pub fn claude_permission_mode(permissions: &PermissionProfile) -> &'static str {
    // To read only is a plan there, whatever the mode; its other levels of files have no effect.
    if permissions.filesystem == FilesystemAccess::ReadOnly {
        return "plan";
    }
    match permissions.mode {
        PermissionMode::Strict => "plan",
        PermissionMode::Cautious | PermissionMode::Default => "default",
        PermissionMode::Permissive => "bypassPermissions",
    }
}

/// What a Codex thread is started with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CodexPolicy {
    /// Its kit's word: `deny_all` or `auto_review`.
    pub approval_mode: &'static str,
    /// What goes over the wire for that: `never` or `on-request`.
    pub approval_policy: &'static str,
    /// Who answers when it asks.
    pub reviewer: Option<&'static str>,
    /// The sandbox; none where a profile of the vendor's own is named, which brings its own.
    pub sandbox: Option<&'static str>,
}

/// The policy of a Codex thread.
#[must_use]
pub fn codex_policy(permissions: &PermissionProfile) -> CodexPolicy {
    let (approval_mode, approval_policy, reviewer) = match permissions.mode {
        PermissionMode::Strict | PermissionMode::Cautious => ("deny_all", "never", None),
        PermissionMode::Default | PermissionMode::Permissive => ("auto_review", "on-request", Some("auto_review")),
    };
    let sandbox = match permissions.filesystem {
        FilesystemAccess::ReadOnly => "read-only",
        FilesystemAccess::WorkspaceWrite => "workspace-write",
        FilesystemAccess::FullAccess => "danger-full-access",
    };
    let sandbox = permissions.native_profile.is_none().then_some(sandbox);
    CodexPolicy { approval_mode, approval_policy, reviewer, sandbox }
}

/// Which of Antigravity's tools an agent gets before its own lists of tools apply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AntigravityTools {
    /// Those that look.
    ReadOnly,
    /// Those that destroy nothing.
    Nondestructive,
    /// All.
    All,
}

/// What Antigravity is started with: a set of tools, and whether its policy allows each call.
#[must_use]
pub fn antigravity_policy(permissions: &PermissionProfile) -> (AntigravityTools, bool) {
    let tools = match (permissions.filesystem, permissions.mode) {
        (FilesystemAccess::ReadOnly, _) | (_, PermissionMode::Strict) => AntigravityTools::ReadOnly,
        (_, PermissionMode::Cautious | PermissionMode::Default) => AntigravityTools::Nondestructive,
        (_, PermissionMode::Permissive) => AntigravityTools::All,
    };
    // Without a policy its harness refuses what asks.
    (tools, permissions.mode != PermissionMode::Strict)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_of_turns() {
        use FinishReason::{Done, Failed, Interrupted, MaxTokens, MaxTurns};
        for (vendor, word, is_error, wanted) in [
            (Vendor::Claude, "success", false, Done),
            (Vendor::Claude, "error_max_turns", false, Done),
            (Vendor::Claude, "success", true, Failed),
            (Vendor::Claude, "error_max_turns", true, MaxTurns),
            (Vendor::Claude, "error_max_budget_usd", true, Failed),
            (Vendor::Claude, "error_during_execution", true, Failed),
            (Vendor::Codex, "completed", false, Done),
            (Vendor::Codex, "", false, Done),
            (Vendor::Codex, "interrupted", false, Interrupted),
            (Vendor::Codex, "failed", false, Failed),
            (Vendor::Codex, "inProgress", false, Failed),
            (Vendor::Codex, "COMPLETED", false, Failed),
            (Vendor::Antigravity, "stop", false, Done),
            (Vendor::Antigravity, "", false, Done),
            (Vendor::Antigravity, "UNSPECIFIED", false, Done),
            (Vendor::Antigravity, "max_tokens", false, MaxTokens),
            (Vendor::Antigravity, "MAX_STEPS", false, Failed),
            (Vendor::Antigravity, "QUOTA_EXHAUSTED", false, Failed),
        ] {
            assert_eq!(vendor.finish_reason(word, is_error), wanted, "{vendor:?} {word} {is_error}");
        }
    }

    /// The table of the contract, mode by mode and level by level.
    #[test]
    fn permissions_of_vendors() {
        use AntigravityTools::{All, Nondestructive, ReadOnly};
        let rows = [
            (PermissionMode::Strict, "plan", "deny_all", ReadOnly, false),
            (PermissionMode::Cautious, "default", "deny_all", Nondestructive, true),
            (PermissionMode::Default, "default", "auto_review", Nondestructive, true),
            (PermissionMode::Permissive, "bypassPermissions", "auto_review", All, true),
        ];
        let levels = [
            (FilesystemAccess::ReadOnly, "read-only"),
            (FilesystemAccess::WorkspaceWrite, "workspace-write"),
            (FilesystemAccess::FullAccess, "danger-full-access"),
        ];
        for (mode, claude, approval, tools, policy) in rows {
            for (filesystem, sandbox) in levels {
                let mut permissions = PermissionProfile { mode, filesystem, ..PermissionProfile::default() };
                let reads = filesystem == FilesystemAccess::ReadOnly;
                assert_eq!(claude_permission_mode(&permissions), if reads { "plan" } else { claude });
                let codex = codex_policy(&permissions);
                assert_eq!((codex.approval_mode, codex.sandbox), (approval, Some(sandbox)));
                assert_eq!(codex.approval_policy == "never", codex.reviewer.is_none());
                assert_eq!(antigravity_policy(&permissions), (if reads { ReadOnly } else { tools }, policy));
                permissions.native_profile = Some("locked".to_owned());
                assert_eq!(codex_policy(&permissions).sandbox, None);
            }
        }
    }
}
