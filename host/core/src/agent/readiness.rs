//! Whether an agent could start work: what was found out without starting any, and what follows from it.
//!
//! [`Availability::of`] and [`Readiness::of`] are agent-runtime-kit's two records, as functions of [`Facts`]. Whoever gathers
//! the facts looks for programs, secrets and answers; nothing is looked for here.
//!
//! The first of these that holds decides: what the agent is made of is not there; something else is missing (a grant, a
//! setting); its own probe failed, or answered; the first way to sign in that is there. Where none of that is known, nobody
//! can say.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::sanitise;
use crate::limits::Limits;
use crate::{Error, Result};

/// The longest time that a probe may take: a day.
const PROBE_S_MAX: f64 = 86_400.0;

/// Why an agent is, or is not, available or ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    /// It is.
    Available,
    /// What it needs is not installed.
    MissingPackage,
    /// It has nothing to sign in with.
    MissingCredentials,
    /// The operator has not allowed what it cannot do without.
    MissingGrant,
    /// A setting has no value.
    MissingSetting,
    /// It does not have the model.
    UnsupportedModel,
    /// Its account has nothing left.
    Quota,
    /// It is there and does not start.
    SetupFailed,
    /// Nobody knows.
    Unknown,
}

impl Reason {
    /// The reason that an adapter gives, which is any word there.
    #[must_use]
    pub fn of_adapter(word: &str) -> Self {
        match word {
            "missing-program" => Self::MissingPackage,
            word => serde_json::from_value(json!(word)).unwrap_or(Self::Unknown),
        }
    }

    /// The word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Available => "available",
            Self::MissingPackage => "missing-package",
            Self::MissingCredentials => "missing-credentials",
            Self::MissingGrant => "missing-grant",
            Self::MissingSetting => "missing-setting",
            Self::UnsupportedModel => "unsupported-model",
            Self::Quota => "quota",
            Self::SetupFailed => "setup-failed",
            Self::Unknown => "unknown",
        }
    }
}

/// What was found out about an agent without starting work.
#[derive(Debug, Clone, PartialEq)]
pub struct Facts {
    /// The agent.
    pub kind: String,
    /// What it is made of, such as a vendor's program.
    pub package: Package,
    /// What else it cannot do without and does not have: why, and what to do.
    pub lacks: Option<(Reason, String)>,
    /// How it may sign in, the first choice first.
    pub sources: Vec<Source>,
    /// What its own probe gave.
    pub probe: Probe,
}

/// What an agent is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Package {
    /// It is there.
    There {
        /// Its name.
        name: Option<String>,
        /// Its version, if that can be told without starting it.
        version: Option<String>,
    },
    /// It is not.
    Missing {
        /// Its name.
        name: Option<String>,
        /// Why not.
        reason: Reason,
        /// For people.
        message: String,
    },
    /// Looking for it failed.
    Failed(Failure),
}

/// One way to sign in.
#[derive(Debug, Clone, PartialEq)]
pub struct Source {
    /// What may be said of it, such as its name; never a value of it.
    pub said: Map<String, Value>,
    /// Whether it is there.
    pub state: SourceState,
}

/// Whether a way to sign in is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SourceState {
    /// The credential itself is.
    Held,
    /// Only a run can tell: a login or a chain of the vendor's own.
    Unverified,
    /// It is not, and why.
    Absent(String),
    /// Looking for it failed.
    Failed(Failure),
}

/// What an agent's own probe gave.
#[derive(Debug, Clone, PartialEq)]
pub enum Probe {
    /// It has none, or was not asked.
    None,
    /// An answer, with what may be known of it.
    Said(Status, Reason, String, Map<String, Value>),
    /// None: it failed, or took too long.
    Failed(Failure),
}

/// Something that could not be found out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// What failed, in a word: `availability`, `error`, `timeout`.
    pub what: &'static str,
    /// The code of the error; its message may hold what must not be shown.
    pub code: Option<String>,
}

/// Whether it is there: what can be told without credentials or network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Availability {
    /// The agent.
    pub kind: String,
    /// Whether it is there.
    pub available: bool,
    /// Why.
    pub reason: Reason,
    /// For people.
    pub message: String,
    /// What it is made of, if it is known.
    pub package: Option<String>,
    /// Which version of that.
    pub version: Option<String>,
}

impl Availability {
    /// What follows from the facts.
    #[must_use]
    pub fn of(facts: &Facts) -> Self {
        let kind = facts.kind.clone();
        match &facts.package {
            Package::There { name, version } => Self {
                kind,
                available: true,
                reason: Reason::Available,
                message: "available".to_owned(),
                package: name.clone(),
                version: version.clone(),
            },
            Package::Missing { name, reason, message } => Self {
                kind,
                available: false,
                reason: *reason,
                message: message.clone(),
                package: name.clone(),
                version: None,
            },
            Package::Failed(failure) => Self {
                kind,
                available: false,
                reason: Reason::SetupFailed,
                message: failure.message(),
                package: None,
                version: None,
            },
        }
    }
}

/// Whether it could start work now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Status {
    /// An attempt makes sense. Not a promise.
    ReadyToAttempt,
    /// It would fail.
    NotReady,
    /// Nothing that may be asked tells.
    Indeterminate,
}

impl Status {
    /// The word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ReadyToAttempt => "ready-to-attempt",
            Self::NotReady => "not-ready",
            Self::Indeterminate => "indeterminate",
        }
    }
}

/// Whether an agent could start work, and why.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Readiness {
    /// The agent.
    pub kind: String,
    /// Whether it could start.
    pub status: Status,
    /// Why.
    pub reason: Reason,
    /// For people, never blank.
    pub message: String,
    /// What it is made of.
    pub package: Option<String>,
    /// Which version of that.
    pub version: Option<String>,
    /// How it would sign in and what failed, as names; nothing that could be a secret.
    #[serde(skip_serializing_if = "Map::is_empty")]
    pub metadata: Map<String, Value>,
}

impl Readiness {
    /// What follows from the facts.
    #[must_use]
    pub fn of(facts: &Facts) -> Self {
        let Availability { kind, reason, message, package, version, .. } = Availability::of(facts);
        let ready = |status, reason, message: String, metadata| {
            let message = if super::is_blank(&message) { format!("it is {}", Status::as_str(status)) } else { message };
            Self {
                kind: kind.clone(),
                status,
                reason,
                message,
                package: package.clone(),
                version: version.clone(),
                metadata,
            }
        };
        if let Package::Missing { .. } = facts.package {
            return ready(Status::NotReady, reason, message, Map::new());
        }
        if let Some((reason, message)) = &facts.lacks {
            return ready(Status::NotReady, *reason, message.clone(), Map::new());
        }
        let source = facts.sources.iter().find(|source| !matches!(source.state, SourceState::Absent(_)));
        let with = |more: Map<String, Value>| {
            let said = source.map_or_else(Map::new, |source| source.said.clone());
            said.into_iter().chain(more).collect()
        };
        let failed = |failure: &Failure, metadata| {
            ready(Status::Indeterminate, Reason::SetupFailed, failure.message(), metadata)
        };
        match &facts.probe {
            // How it would sign in was its to say.
            Probe::Failed(failure) => return failed(failure, failure.metadata()),
            Probe::Said(status, reason, message, said) => {
                // What an adapter says of itself is not trusted to hold no secret.
                let said = sanitise::attributes(said.clone(), &[], Limits::default().event_bytes_max).attributes;
                return ready(*status, *reason, message.clone(), with(said));
            }
            Probe::None => {}
        }
        match source.map(|source| &source.state) {
            Some(SourceState::Held) => {
                let message = "what it signs in with is there".to_owned();
                ready(Status::ReadyToAttempt, Reason::Available, message, with(Map::new()))
            }
            Some(SourceState::Failed(failure)) => failed(failure, with(failure.metadata())),
            Some(_) => {
                let message = "it is there; whether it may use its vendor only a run can tell".to_owned();
                ready(Status::Indeterminate, Reason::Available, message, with(Map::new()))
            }
            None => match (&facts.package, facts.sources.first()) {
                (_, Some(Source { state: SourceState::Absent(why), .. })) => {
                    ready(Status::NotReady, Reason::MissingCredentials, why.clone(), Map::new())
                }
                (Package::Failed(failure), _) => failed(failure, failure.metadata()),
                _ => {
                    let message = "it is there, and cannot say whether it would start".to_owned();
                    let unsupported = Map::from_iter([("probe".to_owned(), json!("unsupported"))]);
                    ready(Status::Indeterminate, Reason::Available, message, unsupported)
                }
            },
        }
    }

    /// Whether an attempt makes sense.
    #[must_use]
    pub fn is_ready_to_attempt(&self) -> bool {
        self.status == Status::ReadyToAttempt
    }
}

impl Failure {
    fn message(&self) -> String {
        match (self.what, &self.code) {
            ("timeout", _) => "it did not answer in time".to_owned(),
            (what, Some(code)) => format!("finding out failed (`{what}`, `{code}`)"),
            (what, None) => format!("finding out failed (`{what}`)"),
        }
    }

    fn metadata(&self) -> Map<String, Value> {
        let code = self.code.as_ref().map(|code| ("code".to_owned(), json!(code)));
        std::iter::once(("failure".to_owned(), json!(self.what))).chain(code).collect()
    }
}

/// How long a probe may take, from a number of seconds. Errors: `invalid` code `probe-timeout`.
pub fn probe_time(seconds: f64) -> Result<Duration> {
    let wrong = || {
        let message = format!("a probe may take a number of seconds above 0, at most {PROBE_S_MAX}, not {seconds}");
        Error::invalid("probe-timeout", message)
    };
    if !(seconds > 0.0 && seconds <= PROBE_S_MAX) {
        return Err(wrong());
    }
    Duration::try_from_secs_f64(seconds).map_err(|_| wrong())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(sources: &[SourceState]) -> Facts {
        let source = |(at, state): (usize, &SourceState)| Source {
            said: Map::from_iter([("auth_source".to_owned(), json!(at))]),
            state: state.clone(),
        };
        Facts {
            kind: "x".to_owned(),
            package: Package::There { name: Some("p".to_owned()), version: None },
            lacks: None,
            sources: sources.iter().enumerate().map(source).collect(),
            probe: Probe::None,
        }
    }

    fn told(facts: &Facts) -> String {
        let readiness = Readiness::of(facts);
        assert!(!readiness.message.trim().is_empty());
        format!("{} {} {}", readiness.status.as_str(), readiness.reason.as_str(), json!(readiness.metadata))
    }

    #[test]
    fn the_first_way_to_sign_in_that_is_there_counts() {
        use SourceState::{Absent, Failed, Held, Unverified};
        let absent = || Absent("no".to_owned());
        let failure = || Failure { what: "adc-probe", code: Some("io".to_owned()) };
        for (sources, wanted) in [
            (vec![absent(), Held, Unverified], r#"ready-to-attempt available {"auth_source":1}"#),
            (vec![Unverified, Held], r#"indeterminate available {"auth_source":0}"#),
            (vec![Held, Failed(failure())], r#"ready-to-attempt available {"auth_source":0}"#),
            (
                vec![absent(), Failed(failure())],
                r#"indeterminate setup-failed {"auth_source":1,"code":"io","failure":"adc-probe"}"#,
            ),
            (vec![absent(), absent()], "not-ready missing-credentials {}"),
            (vec![], r#"indeterminate available {"probe":"unsupported"}"#),
        ] {
            assert_eq!(told(&facts(&sources)), wanted, "{sources:?}");
        }
    }

    #[test]
    fn what_is_missing_decides_before_what_a_probe_says() {
        let mut found = facts(&[SourceState::Held]);
        found.probe = Probe::Said(Status::NotReady, Reason::Quota, " ".to_owned(), Map::new());
        assert_eq!(told(&found), r#"not-ready quota {"auth_source":0}"#);
        found.probe = Probe::Failed(Failure { what: "timeout", code: None });
        assert_eq!(told(&found), r#"indeterminate setup-failed {"failure":"timeout"}"#);
        found.lacks = Some((Reason::MissingGrant, "allow it".to_owned()));
        assert_eq!(told(&found), "not-ready missing-grant {}");
        found.package = Package::Missing { name: None, reason: Reason::MissingPackage, message: String::new() };
        assert_eq!(told(&found), "not-ready missing-package {}");
    }

    #[test]
    fn no_secret_leaves_in_what_a_probe_says_of_itself() {
        let mut found = facts(&[]);
        let said = Map::from_iter([("token".to_owned(), json!("abc")), ("account".to_owned(), json!("work"))]);
        found.probe = Probe::Said(Status::ReadyToAttempt, Reason::Available, "yes".to_owned(), said);
        assert_eq!(told(&found), r#"ready-to-attempt available {"account":"work","token":"[redacted]"}"#);
    }

    #[test]
    fn reasons_are_the_same_words_in_and_out() {
        for reason in [Reason::Available, Reason::MissingGrant, Reason::Quota, Reason::SetupFailed] {
            assert_eq!(Reason::of_adapter(reason.as_str()), reason);
            assert_eq!(json!(reason), reason.as_str());
        }
        assert_eq!(Reason::of_adapter("missing-program"), Reason::MissingPackage);
        assert_eq!(Reason::of_adapter("tired"), Reason::Unknown);
    }

    #[test]
    fn a_probe_takes_some_time_and_not_all() {
        assert_eq!(probe_time(0.5), Ok(Duration::from_millis(500)));
        for wrong in [0.0, -1.0, f64::NAN, f64::INFINITY, 1e30] {
            assert_eq!(probe_time(wrong).expect_err("refused").code, "probe-timeout");
        }
    }
}
