//! Whether a runtime could start work: agent-runtime-kit's two records, and how the second follows from the first.

use serde::{Deserialize, Serialize};

/// Why a runtime is, or is not, available.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    /// It is.
    Available,
    /// What it needs is not installed.
    MissingPackage,
    /// It has nothing to sign in with.
    MissingCredentials,
    /// It does not have the model.
    UnsupportedModel,
    /// It is there and does not start.
    SetupFailed,
    /// Nobody knows.
    Unknown,
}

/// Whether it is there: what can be told without credentials or network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Availability {
    /// The runtime.
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

/// The answer to a probe.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Readiness {
    /// The runtime.
    pub kind: String,
    /// Whether it could start.
    pub status: Status,
    /// Why; that of the availability where the probe knows no better.
    pub reason: Reason,
    /// For people, never blank.
    pub message: String,
    /// What it is made of.
    pub package: Option<String>,
    /// Which version of that.
    pub version: Option<String>,
}

impl Readiness {
    /// What can be said of a runtime that has no probe of its own: unavailable is not ready, with its reason; available
    /// is not known. What an availability holds besides stays there, since it may hold secrets.
    #[must_use]
    pub fn without_probe(availability: &Availability) -> Self {
        let (status, otherwise) = if availability.available {
            (Status::Indeterminate, "it is there and cannot say whether it would start")
        } else {
            (Status::NotReady, "it is not available")
        };
        let said = !super::is_blank(&availability.message) && !availability.available;
        let message = if said { availability.message.clone() } else { otherwise.to_owned() };
        Self {
            kind: availability.kind.clone(),
            status,
            reason: availability.reason,
            message,
            package: availability.package.clone(),
            version: availability.version.clone(),
        }
    }

    /// Whether an attempt makes sense.
    #[must_use]
    pub fn is_ready_to_attempt(&self) -> bool {
        self.status == Status::ReadyToAttempt
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_probe() {
        let mut availability = Availability {
            kind: "x".to_owned(),
            available: false,
            reason: Reason::MissingCredentials,
            message: " ".to_owned(),
            package: None,
            version: None,
        };
        let readiness = Readiness::without_probe(&availability);
        assert_eq!((readiness.status, readiness.reason), (Status::NotReady, Reason::MissingCredentials));
        assert!(!readiness.message.trim().is_empty() && !readiness.is_ready_to_attempt());
        availability.available = true;
        availability.reason = Reason::Available;
        let readiness = Readiness::without_probe(&availability);
        assert_eq!(serde_json::to_value(readiness.status).expect("json"), "indeterminate");
    }
}
