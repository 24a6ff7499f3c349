//! An agent adapter: the trait to implement, the types of the contract, and [`export_agent!`](crate::export_agent).

use crate::error::{Error, Result};
use crate::host::Host;
use crate::settings;

pub use crate::bindings::exports::midplane::plugin::agent::{
    Artifact, Attachment, FilesystemAccess, Issue, McpServer, Outcome, PermissionMode, PermissionProfile, Session,
    Task, ToolAudit, Usage,
};
pub use crate::bindings::midplane::plugin::types::{AvailabilityReport, CapabilitySet, Readiness};

/// An adapter to one vendor's coding agent. Every call runs in a fresh instance; what one must know of another goes
/// through `kv`.
pub trait Agent {
    /// What this adapter can do. The same answer every time; may use only `setting` and `log`.
    fn capabilities(host: &dyn Host) -> CapabilitySet;

    /// Whether a run could succeed. With 0 nothing is sent.
    fn availability(host: &dyn Host, probe_timeout_ms: u32) -> AvailabilityReport;

    /// All reasons to refuse the task, in the order of the task's fields. As pure as `capabilities`.
    fn validate(host: &dyn Host, task: &Task) -> Vec<Issue>;

    /// Does the task.
    fn run(host: &dyn Host, task: Task) -> Result<Outcome>;

    /// Tells a vendor that goes on without us. The default: there is nobody to tell.
    fn cancel(_host: &dyn Host, _run_id: &str, _session_id: Option<&str>) -> Result<()> {
        Err(Error::unsupported("cancel", "the vendor does not go on after the run; there is nobody to tell"))
    }
}

/// Exports a type that implements [`Agent`] as the component's `agent` interface.
///
/// Does nothing on a native target, where the plugin is built as a library for its unit tests and the names of the
/// exports would be no symbols that a linker accepts.
#[macro_export]
macro_rules! export_agent {
    ($agent:ty) => {
        #[cfg(target_arch = "wasm32")]
        const _: () = {
    $crate::bindings::export_agent_adapter!(Export with_types_in $crate::bindings);

            struct Export;

            impl $crate::bindings::exports::midplane::plugin::agent::Guest for Export {
                fn capabilities() -> $crate::agent::CapabilitySet {
                    <$agent as $crate::Agent>::capabilities(&$crate::host::Imports)
                }

                fn availability(probe_timeout_ms: u32) -> $crate::agent::AvailabilityReport {
                    <$agent as $crate::Agent>::availability(&$crate::host::Imports, probe_timeout_ms)
                }

                fn validate(task: $crate::agent::Task) -> ::std::vec::Vec<$crate::agent::Issue> {
                    <$agent as $crate::Agent>::validate(&$crate::host::Imports, &task)
                }

                fn run(task: $crate::agent::Task) -> $crate::Result<$crate::agent::Outcome> {
                    <$agent as $crate::Agent>::run(&$crate::host::Imports, task)
                }

                fn cancel(
                    run_id: ::std::string::String,
                    session_id: ::std::option::Option<::std::string::String>,
                ) -> $crate::Result<()> {
                    <$agent as $crate::Agent>::cancel(&$crate::host::Imports, &run_id, session_id.as_deref())
                }
            }
        };
    };
}

impl Outcome {
    /// An outcome with a finish reason and nothing else yet.
    #[must_use]
    pub fn new(finish_reason: &str) -> Self {
        Self {
            finish_reason: finish_reason.into(),
            output: String::new(),
            error: None,
            parsed_output: None,
            usage: Usage::default(),
            tool_calls: Vec::new(),
            artifacts: Vec::new(),
            session_id: None,
            rounds: 0,
            metadata: "{}".into(),
        }
    }

    /// The run did what was asked.
    #[must_use]
    pub fn done(output: impl Into<String>) -> Self {
        Self { output: output.into(), ..Self::new("done") }
    }

    /// The run ended with an error; a cancel is `interrupted` and needs none.
    #[must_use]
    pub fn failed(error: Error) -> Self {
        if error.is_cancelled() {
            return Self::new("interrupted");
        }
        Self { error: Some(error), ..Self::new("failed") }
    }
}

/// All unknown: unset differs from zero.
impl Default for Usage {
    fn default() -> Self {
        Self {
            input_tokens: None,
            output_tokens: None,
            cache_read_tokens: None,
            cache_creation_tokens: None,
            total_tokens: None,
            cost_usd: None,
        }
    }
}

/// An issue with a field of the task.
#[must_use]
pub fn issue(field: impl Into<String>, message: impl Into<String>) -> Issue {
    Issue { field: field.into(), message: message.into() }
}

/// The model of a task: the one that it names, else that of the setting `model`, else `own`, which is what the adapter
/// takes by itself; unset where the vendor is to choose.
///
/// The setting `models` lists those that may be had: left out, any; empty, none. Where there is a list, the vendor may not
/// choose, for nobody could tell what it chooses. The issue names `model`, or `settings.model` where the task names none.
pub fn model(host: &dyn Host, task: &Task, own: Option<&str>) -> std::result::Result<Option<String>, Issue> {
    let set = settings::text(host, "model").filter(|model| !model.trim().is_empty());
    let (field, model) = match (&task.model, set) {
        (Some(model), _) if model.trim().is_empty() => {
            return Err(issue("model", "the model is blank; leave it out for the one of the settings"));
        }
        (Some(model), _) => ("model", Some(model.clone())),
        (None, Some(model)) => ("settings.model", Some(model)),
        (None, None) => ("model", own.map(str::to_owned)),
    };
    let allowed: Option<Vec<String>> = match settings::parsed(host, "models") {
        Ok(allowed) => allowed,
        Err(error) => return Err(issue("settings", error.message)),
    };
    let Some(allowed) = allowed else { return Ok(model) };
    let list = if allowed.is_empty() { "none".to_owned() } else { format!("`{}`", allowed.join("`, `")) };
    match model {
        Some(model) if allowed.contains(&model) => Ok(Some(model)),
        Some(model) => {
            Err(issue(field, format!("the model `{model}` is not allowed here; the setting `models` allows {list}")))
        }
        None => Err(issue(
            field,
            format!("name a model: which one the vendor chooses is not known, and the setting `models` allows {list}"),
        )),
    }
}

/// Whether the task brings a transcript of its conversation, which most vendors' programs cannot take. One without anything in
/// it is none.
#[must_use]
pub fn has_transcript(task: &Task) -> bool {
    let transcript = task.session.as_ref().and_then(|session| session.transcript.as_deref());
    transcript.is_some_and(|text| !matches!(text.trim(), "" | "null" | "[]"))
}

/// Features by name, without numeric limits.
#[must_use]
pub fn features(names: &[&str]) -> CapabilitySet {
    CapabilitySet { features: names.iter().map(|name| (*name).to_owned()).collect(), limits: Vec::new() }
}

/// An availability report.
#[must_use]
pub fn availability(status: Readiness, reason: &str, message: impl Into<String>) -> AvailabilityReport {
    AvailabilityReport { status, reason: reason.into(), message: message.into(), version: None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{FakeHost, task};

    #[test]
    fn a_transcript_without_anything_in_it_is_none() {
        let mut task = task("x");
        assert!(!has_transcript(&task));
        for (text, wanted) in [(None, false), (Some("[]"), false), (Some(" null "), false), (Some("[1]"), true)] {
            task.session = Some(Session { id: "s".into(), transcript: text.map(str::to_owned) });
            assert_eq!(has_transcript(&task), wanted, "{text:?}");
        }
    }

    #[test]
    fn a_model_is_the_tasks_or_the_settings_and_one_of_those_that_are_allowed() {
        let list = Some(r#"["a","b"]"#);
        for (named, set, models, own, wanted) in [
            (None, None, None, None, Ok(None)),
            (None, None, None, Some("o"), Ok(Some("o"))),
            (None, Some(" "), None, Some("o"), Ok(Some("o"))),
            (None, Some("s"), None, Some("o"), Ok(Some("s"))),
            (Some("t"), Some("s"), None, None, Ok(Some("t"))),
            (Some(" "), Some("s"), None, None, Err("model")),
            (Some("a"), None, list, None, Ok(Some("a"))),
            (Some("a"), Some("z"), list, None, Ok(Some("a"))),
            (Some("z"), Some("a"), list, None, Err("model")),
            (None, Some("b"), list, None, Ok(Some("b"))),
            (None, Some("z"), list, None, Err("settings.model")),
            (None, None, list, Some("b"), Ok(Some("b"))),
            (None, None, list, Some("z"), Err("model")),
            (None, None, list, None, Err("model")),
            (Some("a"), None, Some("[]"), None, Err("model")),
            (Some("a"), None, Some("a"), None, Err("settings")),
        ] {
            let mut host = FakeHost::new();
            for (name, value) in [("model", set), ("models", models)] {
                host = value.into_iter().fold(host, |host, value| host.setting(name, value));
            }
            let mut task = task("x");
            task.model = named.map(str::to_owned);
            let found = model(&host, &task, own).map_err(|issue| issue.field);
            let wanted = wanted.map(|model| model.map(str::to_owned)).map_err(str::to_owned);
            assert_eq!(found, wanted, "{named:?} {set:?} {models:?} {own:?}");
        }
    }
}
