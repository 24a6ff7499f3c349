//! What all adapters of a model's HTTP API do in the same way: the settings that each has, what is declared, what is
//! refused before a run, and whether the vendor can be had.
//!
//! A crate implements [`Vendor`] (the wire) and [`Adapter`] (its settings) for one type and exports that type; it is
//! an [`Agent`] by the rules here. The settings that each declares in its `plugin.toml`:
//!
//! | setting | type | |
//! |---|---|---|
//! | `base_url` | string | where the API is, read with [`base_url`] |
//! | `model` | string | the model of a task that names none |
//! | `models` | list | the models that may be used; left out, any |
//! | `retries_max` | integer | repeats of one request of whose reply nothing was heard; 4 |
//! | `retry_wait_max_s` | integer | longest wait before a repeat, in seconds; 120 |

use crate::Agent;
use crate::agent::{self, AvailabilityReport, CapabilitySet, Issue, Outcome, Readiness, Task, issue};
use crate::error::{Error, ErrorKind, Result};
use crate::host::Host;
use crate::http::Builder;
use crate::settings;

use super::system::ATTACHMENT_KINDS;
use super::{Options, Vendor};

/// What the loop and the host's tools give each adapter. `budget` is kept by the host, which knows prices and stops a
/// run by the `usage` that the loop tells while it goes on; MCP servers are among the host's tools.
pub const FEATURES: &[&str] = &[
    "mcp_support",
    "working_directory",
    "session_resume",
    "structured_output",
    "streaming",
    "tool_audit",
    "cancellation",
    "budget",
    "reasoning_effort",
    "tool_filters",
    "mcp_server_env",
    "skills",
    "files",
    "steering",
];

/// Most bytes of the answer to a probe that are read, to tell why it failed.
const PROBE_BYTES_MAX: usize = 64 * 1024;

/// An adapter of one model vendor's HTTP API; see the head of this module.
pub trait Adapter: Vendor + Sized {
    /// The API in a sentence, such as `the Messages API`.
    const API: &'static str;

    /// The vendor by the settings of the profile. Errors of kind `invalid`, code `setting`.
    fn configured(host: &dyn Host) -> Result<Self>;

    /// Whether the model, which is the task's or that of the settings, can be told to think so hard, in the vendor's
    /// words. An error refuses the task, with what would do.
    fn check_effort(&self, effort: &str, model: &str) -> Result<()>;

    /// A request that costs nothing and is answered with success only if the credential is right.
    fn probe(&self) -> Builder;

    /// What this adapter refuses besides; asked after all else.
    fn issues(&self, _task: &Task) -> Vec<Issue> {
        Vec::new()
    }
}

impl<A: Adapter> Agent for A {
    fn capabilities(_host: &dyn Host) -> CapabilitySet {
        agent::features(FEATURES)
    }

    fn availability(host: &dyn Host, probe_timeout_ms: u32) -> AvailabilityReport {
        let configured = A::configured(host).and_then(|vendor| options(host, None).map(|_| vendor));
        match configured {
            Ok(vendor) => availability(host, &vendor, vendor.probe(), probe_timeout_ms),
            Err(error) => agent::availability(Readiness::NotReady, "setup-failed", error.message),
        }
    }

    fn validate(host: &dyn Host, task: &Task) -> Vec<Issue> {
        let vendor = A::configured(host);
        let mut issues = Vec::new();
        issues.extend(agent::model(host, task, None).err());
        if let (Some(effort), Ok(vendor)) = (&task.reasoning_effort, &vendor)
            && let Err(error) = vendor.check_effort(effort, &model(host, task))
        {
            issues.push(issue("reasoning_effort", error.message));
        }
        issues.extend(permission_issues(task, A::API));
        issues.extend(attachment_issues(task));
        match &vendor {
            Ok(vendor) => issues.extend(vendor.issues(task)),
            Err(error) => issues.push(issue("settings", error.message.clone())),
        }
        if let Err(error) = options(host, task.model.as_deref()) {
            issues.push(issue("settings", error.message));
        }
        issues
    }

    fn run(host: &dyn Host, task: Task) -> Result<Outcome> {
        let vendor = A::configured(host)?;
        if let Some(effort) = &task.reasoning_effort {
            vendor.check_effort(effort, &model(host, &task))?;
        }
        super::run(host, &vendor, &task, &options(host, task.model.as_deref())?)
    }
}

/// The setting `base_url` without a slash at its end. `invalid` code `setting` for what is no `https` or `http` URL.
pub fn base_url(host: &dyn Host) -> Result<String> {
    let base_url = settings::text_required(host, "base_url")?;
    let base_url = base_url.trim().trim_end_matches('/');
    if !base_url.starts_with("https://") && !base_url.starts_with("http://") {
        return Err(Error::invalid(
            "setting",
            format!("setting `base_url` is `{base_url}`, not an `https` or `http` URL"),
        ));
    }
    Ok(base_url.to_owned())
}

/// The setting that bounds the tokens of one reply; unset where it is not given. `invalid` code `setting` for 0.
pub fn reply_tokens(host: &dyn Host, name: &str) -> Result<Option<u32>> {
    match settings::parsed(host, name)? {
        Some(0) => Err(Error::invalid("setting", format!("setting `{name}` is 0, and a reply has at least 1"))),
        tokens => Ok(tokens),
    }
}

/// The options of the loop, from the settings; `model` is the task's, where it names one.
pub fn options(host: &dyn Host, model: Option<&str>) -> Result<Options> {
    let model = match model {
        Some(model) => model.to_owned(),
        None => settings::text_required(host, "model")?,
    };
    let retry_wait_max_s: u64 = settings::parsed_or(host, "retry_wait_max_s", 120)?;
    Ok(Options {
        model,
        retries_max: settings::parsed_or(host, "retries_max", 4)?,
        retry_wait_max_ms: retry_wait_max_s.saturating_mul(1000),
    })
}

/// The model of the task; empty where neither it nor the settings name one, which is refused elsewhere.
fn model(host: &dyn Host, task: &Task) -> String {
    task.model.clone().or_else(|| settings::text(host, "model")).unwrap_or_default()
}

/// What no API of a model can honour, because the host's tools do the work.
fn permission_issues(task: &Task, api: &str) -> Vec<Issue> {
    let mut issues = Vec::new();
    if task.permissions.network.is_some() {
        issues.push(issue(
            "permissions.network",
            "the host's tools have no network of their own to switch; leave it out and grant or deny the shell instead",
        ));
    }
    if task.permissions.native_profile.is_some() {
        issues.push(issue("permissions.native_profile", format!("{api} has no permission profiles; leave it out")));
    }
    issues
}

fn attachment_issues(task: &Task) -> Vec<Issue> {
    let unknown = |(index, attachment): (usize, &agent::Attachment)| {
        issue(
            format!("attachments[{index}].kind"),
            format!(
                "an attachment of kind `{}` cannot be made known to the model; it can be `{}`",
                attachment.kind,
                ATTACHMENT_KINDS.join("`, `")
            ),
        )
    };
    let is_unknown =
        |(_, attachment): &(usize, &agent::Attachment)| !ATTACHMENT_KINDS.contains(&attachment.kind.as_str());
    task.attachments.iter().enumerate().filter(is_unknown).map(unknown).collect()
}

/// Whether the vendor can be had: with 0 nothing is sent, else `probe` is. No text of the vendor is in the report.
pub fn availability(host: &dyn Host, vendor: &dyn Vendor, probe: Builder, probe_timeout_ms: u32) -> AvailabilityReport {
    if probe_timeout_ms == 0 {
        // Whether the secret is there is known to the host alone.
        let message = "the settings are complete; the vendor was not asked";
        return agent::availability(Readiness::Unknown, "unknown", message);
    }
    let response = match probe.timeout_ms(probe_timeout_ms).send(host) {
        Ok(response) => response,
        // What the gate refuses is not going to change by itself.
        Err(error) if error.kind == ErrorKind::Denied => {
            let reason = if error.code == "credential" { "missing-credentials" } else { "setup-failed" };
            return agent::availability(Readiness::NotReady, reason, error.message);
        }
        Err(error) => return agent::availability(Readiness::Unknown, "unknown", error.message),
    };
    let (status, headers) = (response.status, response.headers.clone());
    if (200..300).contains(&status) {
        let message = "the vendor answers and takes the credential";
        return agent::availability(Readiness::Ready, "available", message);
    }
    let error = vendor.error(status, &headers, &response.bytes_lossy(PROBE_BYTES_MAX));
    let answered = format!("with status {status}");
    match error.kind {
        ErrorKind::Denied => agent::availability(
            Readiness::NotReady,
            "missing-credentials",
            format!("the vendor refused the credential {answered}"),
        ),
        ErrorKind::Limit => agent::availability(
            Readiness::NotReady,
            "quota",
            format!("the account has no credit left: the vendor answered {answered}"),
        ),
        _ => agent::availability(Readiness::Unknown, "unknown", format!("the vendor answered {answered}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::Attachment;
    use crate::agent_loop::tests::Toy;
    use crate::testing::{FakeHost, Reply, task};

    impl Adapter for Toy {
        const API: &'static str = "the toy";

        fn configured(host: &dyn Host) -> Result<Self> {
            base_url(host).map(|_| Self)
        }

        fn check_effort(&self, effort: &str, _model: &str) -> Result<()> {
            match effort {
                "low" | "high" => Ok(()),
                _ => Err(Error::invalid("reasoning-effort", format!("`{effort}` is neither `low` nor `high`"))),
            }
        }

        fn probe(&self) -> Builder {
            Builder::new("GET", "https://toy.example/models")
        }
    }

    fn host() -> FakeHost {
        FakeHost::new().setting("base_url", " https://toy.example/v1/ ").setting("model", "toy-1")
    }

    #[test]
    fn the_base_url_has_no_slash_at_its_end_and_a_scheme() {
        assert_eq!(base_url(&host()), Ok("https://toy.example/v1".into()));
        for wrong in ["toy.example", "ftp://toy.example", " "] {
            let error = base_url(&FakeHost::new().setting("base_url", wrong)).expect_err("refused");
            assert_eq!((error.kind, error.code.as_str()), (ErrorKind::Invalid, "setting"));
        }
    }

    #[test]
    fn defect_14_15_all_reasons_to_refuse_a_task_are_given_in_the_order_of_its_fields() {
        let mut wrong = task("x");
        wrong.model = Some("toy-9".into());
        wrong.reasoning_effort = Some("extreme".into());
        wrong.permissions.network = Some(true);
        wrong.permissions.native_profile = Some("careful".into());
        wrong.attachments = ["file", "video"]
            .map(|kind| Attachment { kind: kind.into(), name: kind.into(), path: "x".into(), digest: "00".into() })
            .into();
        let host = host().setting("models", r#"["toy-1","toy-2"]"#).setting("retries_max", "many");
        let lines: Vec<String> = Toy::validate(&host, &wrong)
            .into_iter()
            .map(|issue| format!("{}: {}", issue.field, issue.message))
            .collect();
        insta::assert_snapshot!(lines.join("\n"));
    }

    #[test]
    fn a_task_that_can_be_done_is_not_refused() {
        let mut good = task("x");
        good.reasoning_effort = Some("low".into());
        assert!(Toy::validate(&host(), &good).is_empty());
        good.model = Some("any-other".into());
        assert!(Toy::validate(&host(), &good).is_empty(), "without `models` any may be named");
        good.model = Some(" ".into());
        let fields: Vec<String> = Toy::validate(&host(), &good).into_iter().map(|issue| issue.field).collect();
        assert_eq!(fields, ["model"]);
    }

    #[test]
    fn a_profile_without_model_or_url_is_not_ready_and_says_which_setting() {
        let none = FakeHost::new().setting("model", "toy-1");
        let bare = FakeHost::new().setting("base_url", "https://toy.example");
        for (host, setting) in [(none, "base_url"), (bare, "model")] {
            let report = Toy::availability(&host, 1000);
            assert_eq!((report.status, report.reason.as_str()), (Readiness::NotReady, "setup-failed"));
            assert!(report.message.contains(setting), "{}", report.message);
            assert!(Toy::validate(&host, &task("x")).iter().any(|issue| issue.field == "settings"));
        }
    }

    #[test]
    fn availability_tells_a_wrong_key_from_a_vendor_that_is_down_and_copies_nothing_that_it_says() {
        let report = Toy::availability(&host(), 0);
        assert_eq!(report.status, Readiness::Unknown, "nothing was asked");
        let cases = [
            (Reply::new(200, "{}"), Readiness::Ready, "available"),
            (Reply::new(401, "says the vendor"), Readiness::NotReady, "missing-credentials"),
            (Reply::new(403, "says the vendor"), Readiness::NotReady, "missing-credentials"),
            (Reply::new(402, "says the vendor"), Readiness::NotReady, "quota"),
            (Reply::new(404, "says the vendor"), Readiness::Unknown, "unknown"),
            (Reply::new(503, "says the vendor"), Readiness::Unknown, "unknown"),
        ];
        for (reply, status, reason) in cases {
            let report = Toy::availability(&host().reply(reply), 1000);
            assert_eq!((report.status, report.reason.as_str()), (status, reason));
            assert!(!report.message.contains("says the vendor"), "{}", report.message);
        }
        let refusals = [
            (Error::denied("credential", "no secret"), Readiness::NotReady, "missing-credentials"),
            (Error::denied("grant-missing", "no grant"), Readiness::NotReady, "setup-failed"),
            (Error::unavailable("connect", "nobody there"), Readiness::Unknown, "unknown"),
        ];
        for (error, status, reason) in refusals {
            let report = Toy::availability(&host().reply_error(error), 1000);
            assert_eq!((report.status, report.reason.as_str()), (status, reason));
        }
    }
}
