//! The contracts of agents that agent-runtime-kit has: what its words are called here, and what its readers expect.
//!
//! Tasks, results and capabilities are the types of [`crate::task`], [`crate::outcome`] and [`crate::capability`]; what is
//! here reads and writes the original's shapes of them, and holds what has no other home.
//!
//! # Layout
//! - [`task`], [`result`]: the original's JSON of a task and of results, strictly read, into our types
//! - [`options`]: a task out of single arguments
//! - [`deadline`]: an instant until which a task may run
//! - [`output`]: the structured answer out of a native value or the final text
//! - [`event`], [`project`]: `agent.*` events one by one, and the projection of a run's log onto them
//! - [`sanitise`]: what may be seen in their attributes
//! - [`errors`]: the original's error types by our kind and code
//! - [`readiness`]: whether an agent could start work, from what was found out about it
//! - `fields`: reading one JSON object field by field
//!
//! # What it never does
//! No clock: an event's time is that of its record. No secret store: live values were taken out when the records were
//! written; what is hidden here is what names and forms give away.

use crate::codes::codes;

pub mod deadline;
pub mod errors;
pub mod event;
pub mod options;
pub mod output;
pub mod project;
pub mod readiness;
pub mod result;
pub mod sanitise;
pub mod task;

mod fields;

codes! {
    /// The codes of this family.
    Invalid "task-field":
        "A field of a task is missing, has the wrong type or a value that is not allowed."
        => "Correct the field that is named; `midplane run --help` lists the fields of a task.";
    Invalid "result-field":
        "A field of a result, a tool audit, an artifact, a usage record or a receipt breaks its rule."
        => "Correct the adapter that made the value; the message names the field.";
    Internal "agent-error":
        "An adapter failed with a text and nothing that could be acted on."
        => "Read the text; the log of the run says what came before.";
    Invalid "task-option":
        "Arguments for a task exclude each other, one is missing, or one is not known."
        => "Give a goal or a whole task, and a time-out or a deadline.";
    Invalid "option-type":
        "An argument for a task has the wrong type."
        => "Give a number of seconds, or an instant as `deadline`.";
    Unsupported "task-unsupported":
        "The task needs a feature that the agent does not declare."
        => "Leave the named field out, or choose a profile whose plugin declares the feature: `midplane plugin list`.";
    Conflict "task-active":
        "A run of this profile with the same task id is not over yet."
        => "Wait for its end, cancel it, or leave the task id out.";
    NotFound "agent-unknown":
        "No agent is registered under this kind."
        => "Register it first; short names such as `claude` are known to the hub alone.";
    Conflict "agent-exists":
        "An agent is registered under this kind already."
        => "Replace it, or register it under another kind.";
    Invalid "agent-kind":
        "The kind of an agent runtime is empty or blank."
        => "Name the runtime, such as `claude-agent-sdk` or a name of your own.";
    Invalid "deadline-form":
        "A deadline is not an instant: it is no ISO 8601 date and time, or it has no time zone."
        => "Write the date, the time and the zone, such as 2030-01-01T12:00:00Z.";
    Invalid "probe-timeout":
        "The time that a probe may take is no number of seconds above zero."
        => "Give a number such as `2.5`, at most a day.";
    Invalid "output-schema":
        "The output schema of a task is not a JSON Schema, or of a dialect that is not known."
        => "Correct the schema at the place that is named; leave `$schema` out for draft 2020-12.";
    Invalid "output-schema-reference":
        "A `$ref` of the output schema leads nowhere inside the schema; other documents are never fetched."
        => "Put what is referred to under `$defs` of the same schema.";
    Invalid "unparseable":
        "The task asked for a structured answer, and the final text is not one JSON document."
        => "Ask for JSON and nothing else in the goal, or use an adapter with native structured output.";
    Invalid "nonconforming":
        "The structured answer does not fit the output schema."
        => "Look at the place that is named; loosen the schema or say more in the goal.";
}

/// Kinds of runtimes that the original ships, with the short names by which its hub knows them.
pub const KINDS: [(&str, &str); 4] = [
    ("fake", "fake"),
    ("claude", "claude-agent-sdk"),
    ("codex", "codex-agent-sdk"),
    ("antigravity", "antigravity-agent-sdk"),
];

/// The kind of a runtime as it is compared: without surrounding space, never blank (`invalid`, code `agent-kind`).
pub fn kind(name: &str) -> crate::Result<&str> {
    let name = trim(name);
    if name.is_empty() {
        return Err(crate::Error::invalid("agent-kind", "the kind of a runtime is blank"));
    }
    Ok(name)
}

/// The kind that a hub's name means: one of its short names exactly, else the kind itself.
pub fn hub_kind(name: &str) -> crate::Result<&str> {
    match KINDS.iter().find(|(alias, _)| *alias == name) {
        Some((_, full)) => Ok(full),
        None => kind(name),
    }
}

/// Whether there is nothing but white space in a text. The four separators U+001C to U+001F count, as in the original.
pub(crate) fn is_blank(text: &str) -> bool {
    trim(text).is_empty()
}

pub(crate) fn trim(text: &str) -> &str {
    text.trim_matches(|c: char| c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_trimmed_and_aliases_are_exact() {
        assert_eq!(kind("  x-a\u{1f}").expect("a kind"), "x-a");
        assert_eq!(kind(" \u{85}\u{2003}").expect_err("blank").code, "agent-kind");
        assert_eq!(hub_kind("claude").expect("a kind"), "claude-agent-sdk");
        assert_eq!(hub_kind(" claude ").expect("a kind"), "claude");
        assert_eq!(hub_kind("Claude").expect("a kind"), "Claude");
        // A zero-width space is not white space, there or here.
        assert_eq!(kind("\u{200b}").expect("a kind"), "\u{200b}");
    }

    #[test]
    fn codes_are_distinct_and_in_form() {
        let mut seen = std::collections::BTreeSet::new();
        for code in CODES {
            assert!(seen.insert(code.code), "{} twice", code.code);
            assert!(code.code.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-'), "{code:?}");
        }
    }
}
