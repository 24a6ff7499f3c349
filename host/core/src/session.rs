//! Sessions: a lasting workspace with an agent, what may be reached from it, and what a command does to it in which state.
//!
//! # Layout
//! - here: what is asked ([`SessionRequest`]), its check with all problems at once, the record that is kept ([`Session`])
//! - [`config`]: the sandbox configuration as runtm writes it
//! - [`reach`]: what that becomes: grants, rules of the kernel's fence, bounds
//! - [`step`]: which states a command leads through
//!
//! # What it never does
//! It drops nothing that was asked for: what cannot be enforced is a problem with its field, and no session begins.

pub mod config;
pub mod reach;
pub mod step;

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use self::config::SandboxConfig;
use self::reach::{Domain, Reach, WritePath};
use crate::ProfileName;
use crate::codes::codes;
use crate::deploy::record::{AgentType, SessionConstraints, SessionMode};
use crate::task::Issue;
use crate::text::{escape_controls, shown};

/// Which profile drives an agent. `custom` is any, so it has to be named. A profile of these names in the configuration may
/// put another plugin there (`profiles: {gemini: {plugin: acp}}`).
pub const PROFILES: &[(AgentType, Option<&str>)] = &[
    (AgentType::ClaudeCode, Some("claude-code")),
    (AgentType::Codex, Some("codex")),
    (AgentType::Gemini, Some("gemini")),
    (AgentType::Custom, None),
];

/// Characters of a name.
pub const NAME_CHARS_MAX: usize = 60;
/// Bytes of the prompt that a session keeps.
pub const PROMPT_BYTES_MAX: usize = 256 * 1024;
/// The longest time-out, in milliseconds: a week.
pub const TIMEOUT_MS_MAX: u64 = 604_800_000;
/// Entries of each list.
const LIST_MAX: usize = 256;

codes! {
    /// The codes of sessions, beside those of their states.
    Invalid "session":
        "What is asked of a session is not possible, or cannot be enforced; the message names each field."
        => "Mend the fields that the message names; `midplane session start --help` says what each means.";
    NotFound "session-unknown":
        "No session has this id or name."
        => "`midplane session list` lists them, with `--all` also those that were destroyed.";
    Invalid "session-ambiguous":
        "Several sessions have ids that begin so, or this name."
        => "Give more of the id.";
    Conflict "session-name":
        "Another session has this name."
        => "Choose another name, or destroy the other session.";
    Conflict "session-attached":
        "Another command is attached to the session; only one can be."
        => "Wait until it ends, or end it: `midplane session stop ID`.";
    Unavailable "session-stuck":
        "The command that is attached to a session was told to end and does not."
        => "End its process; what it started ends with it, and the session can be used again.";
    Conflict "session-incomplete":
        "What a session needs is not there: its start was cut off, or its files were damaged or removed."
        => "Destroy the session and start another one.";
    Invalid "session-mode":
        "A session in autopilot needs a prompt, and an interactive one takes none."
        => "Give a prompt with `midplane session attach ID PROMPT`, or none for a shell.";
    Unsupported "session-sandbox":
        "Nothing that the session forbids could be enforced for the programs of this profile."
        => "Take `sandbox: {mode: own}` out of the profile, or use another profile for the session.";
    Denied "session-domain":
        "What runs in a session needs a host that is not among the session's domains."
        => "Start a session with `--allow-domain HOST` for that host, or without a list of domains.";
    Denied "write-path":
        "A file tool was to change what is in none of the session's write paths."
        => "Let it write where it may, or start a session with `--write-path` for that folder.";
    Unavailable "terminal-unavailable":
        "The system gives no terminal for the shell of a session."
        => "Try again when fewer terminals are open, or give the shell its input through a pipe.";
    Invalid "session-folder":
        "A folder of a session cannot be used: it does not exist, is no folder, or holds the state of this host."
        => "Name another folder.";
}

/// What is asked for when a session begins.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct SessionRequest {
    /// What a person calls it; unique among the sessions that are not destroyed.
    pub name: Option<String>,
    /// Who decides in it.
    pub mode: SessionMode,
    /// Under which profile; unset is the one of its agent.
    pub profile: Option<String>,
    /// A folder of the operator's to work in, absolute; unset is one that is made for the session and goes with it.
    pub workspace: Option<String>,
    /// What the agent is asked first.
    pub prompt: Option<String>,
    /// The agent, and what may be reached.
    pub sandbox: SandboxConfig,
    /// How long one command may be attached, in milliseconds, instead of the minutes of `sandbox`.
    pub timeout_ms: Option<u64>,
    /// What the agent may.
    pub constraints: SessionConstraints,
}

/// A session as it is kept, beside its state.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Session {
    /// What a person calls it.
    pub name: Option<String>,
    /// Which agent works in it.
    pub agent: AgentType,
    /// Who decides in it.
    pub mode: SessionMode,
    /// The profile that drives the agent; unset where no agent is ever driven.
    pub profile: Option<ProfileName>,
    /// The folder that is worked in.
    pub workspace: String,
    /// Whether that was made for the session, and goes with it.
    pub own_workspace: bool,
    /// What the agent is asked first.
    pub prompt: Option<String>,
    /// What the agent may.
    pub constraints: SessionConstraints,
    /// What may be reached from it.
    pub reach: Reach,
    /// When it began, in milliseconds since 1970 UTC.
    pub created_ms: u64,
    /// The latest run in it.
    #[serde(default)]
    pub last_run: Option<crate::RunId>,
    /// The vendor's own conversation, to go on with.
    #[serde(default)]
    pub conversation: Option<String>,
}

/// What a request means, once it is found sound.
#[derive(Debug, Clone, PartialEq)]
pub struct Checked {
    /// The name, trimmed.
    pub name: Option<String>,
    /// The agent.
    pub agent: AgentType,
    /// The profile; unset for `custom` without one.
    pub profile: Option<ProfileName>,
    /// What may be reached.
    pub reach: Reach,
}

impl SessionRequest {
    /// What the request means, or every reason why it cannot be, in the order of its fields.
    pub fn check(&self) -> Result<Checked, Vec<Issue>> {
        let mut issues = Vec::new();
        let name = self.name.as_deref().map(str::trim).map(str::to_owned);
        if let Some(why) = name.as_deref().and_then(bad_name) {
            issues.push(Issue::new("name", why));
        }
        let agent = self.sandbox.agent;
        let profile = self.profile(agent, &mut issues);
        if self.mode == SessionMode::Interactive && self.prompt.is_some() {
            issues.push(Issue::new("prompt", "is for an agent; an interactive session is a shell"));
        }
        if self.prompt.as_ref().is_some_and(|prompt| prompt.trim().is_empty() || prompt.len() > PROMPT_BYTES_MAX) {
            issues.push(Issue::new("prompt", format!("is blank, or longer than {PROMPT_BYTES_MAX} bytes")));
        }
        if let Some(template) = &self.sandbox.template {
            let message = format!(
                "`{}` cannot be used: there are no templates here; prepare a folder and name it as the workspace",
                shown(template, 60)
            );
            issues.push(Issue::new("template", message));
        }
        let reach = self.reach(&mut issues);
        if issues.is_empty() { Ok(Checked { name, agent, profile, reach }) } else { Err(issues) }
    }

    fn profile(&self, agent: AgentType, issues: &mut Vec<Issue>) -> Option<ProfileName> {
        let known = PROFILES.iter().find(|(of, _)| *of == agent).and_then(|(_, profile)| *profile);
        match self.profile.as_deref().or(known).map(ProfileName::new) {
            Some(Ok(profile)) => return Some(profile),
            Some(Err(error)) => issues.push(Issue::new("profile", error.message)),
            // A shell needs no agent.
            None if self.mode == SessionMode::Autopilot => {
                issues
                    .push(Issue::new("profile", "is needed: the agent `custom` is any profile, so one is to be named"));
            }
            None => {}
        }
        None
    }

    fn reach(&self, issues: &mut Vec<Issue>) -> Reach {
        let guardrails = &self.sandbox.guardrails;
        let network = guardrails.network.enabled && self.constraints.allow_network;
        let mut issue = |field: &str, message: String| issues.push(Issue::new(field, message));
        let domains = guardrails.network.allow_domains.as_ref().map(|listed| {
            if !network && !listed.is_empty() {
                issue("network.allow_domains", "are listed, and the network is off; leave out one of them".to_owned());
            }
            if listed.len() > LIST_MAX {
                issue("network.allow_domains", format!("has more than {LIST_MAX} entries"));
            }
            let mut domains = BTreeSet::new();
            for text in listed {
                match Domain::parse(text) {
                    Ok(domain) => drop(domains.insert(domain)),
                    Err(why) => issue("network.allow_domains", why),
                }
            }
            domains
        });
        let write = write_paths(&guardrails.allow_write_paths, &guardrails.deny_write_paths, &mut issue);
        let timeout_ms = self.timeout_ms.unwrap_or_else(|| guardrails.timeout_minutes.saturating_mul(60_000));
        if !(1..=TIMEOUT_MS_MAX).contains(&timeout_ms) {
            issue("timeout", format!("is {timeout_ms} ms, and may be from 1 ms to a week"));
        }
        for (outside, inside) in &self.sandbox.port_mappings {
            if outside != inside {
                issue(
                    "port_mappings",
                    format!(
                        "`{outside}: {inside}` cannot be enforced: a session shares the ports of this machine, so a port has one number; write `{inside}: {inside}`"
                    ),
                );
            } else if *inside == 0 {
                issue("port_mappings", "0 is no port".to_owned());
            }
        }
        if !self.constraints.allow_install && network {
            issue(
                "constraints.allow_install",
                "cannot be enforced while the network can be reached; switch the network off as well".to_owned(),
            );
        }
        let ports = self.sandbox.port_mappings.values().copied().collect();
        Reach { domains, write, ports, timeout_ms, network }
    }
}

/// Why a text cannot be a name, if it cannot.
fn bad_name(name: &str) -> Option<String> {
    let plain = escape_controls(name, false) == name;
    if name.is_empty() || name.chars().count() > NAME_CHARS_MAX || !plain {
        return Some(format!("has 1 to {NAME_CHARS_MAX} characters, and none of control"));
    }
    // It would be taken for the beginning of an id.
    let like_id = name.len() == 26 && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    like_id.then(|| "looks like an id; choose another".to_owned())
}

fn write_paths(allow: &[String], deny: &[String], issue: &mut impl FnMut(&str, String)) -> BTreeSet<WritePath> {
    let mut parse = |field: &str, texts: &[String]| {
        if texts.len() > LIST_MAX {
            issue(field, format!("has more than {LIST_MAX} entries"));
        }
        let mut paths = BTreeSet::new();
        for text in texts {
            match WritePath::parse(text) {
                Ok(path) => drop(paths.insert(path)),
                Err(why) => issue(field, format!("`{}`: {why}", shown(text, 120))),
            }
        }
        paths
    };
    let (allowed, denied) = (parse("allow_write_paths", allow), parse("deny_write_paths", deny));
    for path in &denied {
        // What nothing allows is denied anyway. What is allowed around it cannot be taken back by the kernel.
        if let Some(around) = allowed.iter().find(|allowed| allowed.covers(path) || path.covers(allowed)) {
            issue(
                "deny_write_paths",
                format!(
                    "`{path}` cannot be enforced beside `{around}` in `allow_write_paths`: the kernel's rules only allow; list the folders that may be changed instead"
                ),
            );
        }
    }
    let inner = |path: &WritePath| allowed.iter().any(|other| other != path && other.covers(path));
    allowed.iter().filter(|path| !inner(path)).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(yaml: &str, change: impl FnOnce(&mut SessionRequest)) -> String {
        let sandbox = SandboxConfig::parse(yaml, "sandbox.yaml");
        let mut request = SessionRequest { sandbox: sandbox.expect("a configuration"), ..SessionRequest::default() };
        change(&mut request);
        match request.check() {
            Ok(checked) => format!("{checked:?}"),
            Err(issues) => issues.iter().map(|i| format!("{}: {}", i.field, i.message)).collect::<Vec<_>>().join("\n"),
        }
    }

    #[test]
    fn every_problem_is_told_at_once() {
        let all = checked(
            "template: web\nguardrails:\n  network: {enabled: false, allow_domains: [ok.example, '*', 'https://x']}\n  \
             allow_write_paths: [., ../up, /, '']\n  deny_write_paths: [secrets]\n  timeout_minutes: 0\n\
             port_mappings: {8080: 80, 0: 0}\nagent: custom\n",
            |request| request.name = Some("a\u{1b}".to_owned()),
        );
        insta::assert_snapshot!(all);
    }

    #[test]
    fn what_a_request_means() {
        let agents = AgentType::ALL.map(|agent| checked(&format!("agent: {}", agent.as_str()), |_| ()));
        let more = [
            checked("agent: custom", |request| request.profile = Some("mine".to_owned())),
            checked("agent: custom", |request| request.mode = SessionMode::Interactive),
            checked("", |request| {
                request.mode = SessionMode::Interactive;
                request.prompt = Some("do".to_owned());
            }),
            checked("guardrails: {allow_write_paths: [out, out/deep, ./tmp/], deny_write_paths: [src]}", |_| ()),
            checked("guardrails: {network: {allow_domains: []}}", |_| ()),
            checked("", |request| request.constraints.allow_install = false),
            checked("guardrails: {network: {enabled: false}}", |request| request.constraints.allow_install = false),
            checked("", |request| request.timeout_ms = Some(TIMEOUT_MS_MAX + 1)),
        ];
        insta::assert_snapshot!(agents.iter().chain(&more).cloned().collect::<Vec<_>>().join("\n\n"));
    }

    #[test]
    fn each_agent_has_a_row() {
        for agent in AgentType::ALL {
            assert_eq!(PROFILES.iter().filter(|(of, _)| *of == agent).count(), 1);
        }
        for (_, profile) in PROFILES {
            assert!(profile.is_none_or(|name| ProfileName::new(name).is_ok()));
        }
    }
}
