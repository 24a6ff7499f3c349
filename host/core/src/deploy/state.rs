//! The machine of a deployment, and what it shares with the machines of sessions and sandboxes.
//!
//! ```text
//!  ● ──► queued ──► building ──► deploying ──► ready ──► destroyed
//!          │ │          │        ▲   │           │          ▲
//!          │ └──────────┼────────┘   │           │          │
//!          └──────┬─────┴────────────┘           │          │
//!                 ▼                              │          │
//!               failed ──────────────────────────┼──────────┤
//!                 └──────────► queued ◄──────────┘          │
//!          queued ──────────────────────────────────────────┘
//! ```
//! - [`Machine`]: states and edges as data, with the questions that the data answers
//! - [`DeploymentState`]: the twelve edges of runtm-shared between six states, and creation
//! - [`Transition`]: one step with its reason and time; an illegal one cannot be made
//! - [`fold`]: the state of a thing is the fold of its transitions, and nothing else
//!
//! What it never does: keep anything. `midplane-store` appends transitions by compare-and-set.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::codes::codes;
use crate::{Error, Result};

/// Bytes of a reason. It is a sentence for a list, not a log.
pub const REASON_BYTES_MAX: usize = 1024;

/// Bytes of the id of what has a state.
pub const ID_BYTES_MAX: usize = 256;

codes! {
    /// The codes of all machines.
    Conflict "deployment-transition":
        "A deployment in this state never goes to that state."
        => "Look at its state; a deployment that failed or is ready is queued again, a destroyed one is made anew.";
    Conflict "session-transition":
        "A session in this state never goes to that state."
        => "Look at its state; a stopped session runs again when it is attached, a destroyed one is started anew.";
    Conflict "sandbox-transition":
        "A sandbox in this state never goes to that state."
        => "Look at its state; it follows the session that it belongs to.";
    Conflict "transition-order":
        "A transition leaves a state in which the thing is not."
        => "Read where it stands and decide again.";
    Invalid "transition-reason":
        "A transition needs a reason, and this one has none or too long a one."
        => "Say in one sentence why the state changes.";
    Invalid "machine-id":
        "What has a state has no id, or not one that can be kept."
        => "Use 1 to 256 bytes without control characters.";
    Invalid "state-word":
        "This machine has no state of that name."
        => "Use one of the states that the message lists.";
}

/// A way from a state to the next. `from` is unset for the creation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Edge<S> {
    /// The state that it leaves.
    pub from: Option<S>,
    /// The state that it leads to.
    pub to: S,
    /// What brings it about.
    pub trigger: &'static str,
}

/// A machine whose states and edges are data.
pub trait Machine: Copy + Eq + fmt::Debug + fmt::Display + Send + Sync + 'static {
    /// What has these states, as text, in messages and in the store.
    const NAME: &'static str;
    /// The code of a transition that the machine does not have.
    const CODE: &'static str;
    /// All states.
    const ALL: &'static [Self];
    /// All edges.
    const EDGES: &'static [Edge<Self>];

    /// The word of a state, in the log and in JSON.
    fn as_str(self) -> &'static str;

    /// The state of a word; `invalid` `state-word` for any other.
    fn parse(word: &str) -> Result<Self> {
        Self::ALL.iter().copied().find(|state| state.as_str() == word).ok_or_else(|| {
            let known: Vec<_> = Self::ALL.iter().map(|state| format!("`{state}`")).collect();
            let shown = crate::text::shown(word, 40);
            Error::invalid("state-word", format!("a {} is never `{shown}`", Self::NAME))
                .hint(format!("the states are {}", known.join(", ")))
        })
    }

    /// The edge between two states, or from nothing (creation), if there is one. No state leads to itself.
    fn edge(from: Option<Self>, to: Self) -> Option<&'static Edge<Self>> {
        Self::EDGES.iter().find(|edge| edge.from == from && edge.to == to)
    }

    /// Whether a thing may go from one state to the other.
    fn can_go(self, to: Self) -> bool {
        Self::edge(Some(self), to).is_some()
    }

    /// Whether nothing follows.
    fn is_terminal(self) -> bool {
        Self::EDGES.iter().all(|edge| edge.from != Some(self))
    }
}

/// Gives a machine's states what every enumeration of words has.
macro_rules! words {
    ($state:ident { $($variant:ident => $word:literal),* $(,)? }) => {
        impl $state {
            /// The word of the state, in the log and in JSON.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $word,)*
                }
            }
        }

        impl std::fmt::Display for $state {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}
pub(super) use words;

/// Where a deployment stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeploymentState {
    /// Accepted, and nothing was started.
    Queued,
    /// Its artifact is built.
    Building,
    /// The artifact is started and watched until it is healthy.
    Deploying,
    /// It serves.
    Ready,
    /// Building or starting it did not work. It can be queued again.
    Failed,
    /// It is gone for good.
    Destroyed,
}

words!(DeploymentState {
    Queued => "queued",
    Building => "building",
    Deploying => "deploying",
    Ready => "ready",
    Failed => "failed",
    Destroyed => "destroyed",
});

impl Machine for DeploymentState {
    const NAME: &'static str = "deployment";
    const CODE: &'static str = "deployment-transition";
    const ALL: &'static [Self] =
        &[Self::Queued, Self::Building, Self::Deploying, Self::Ready, Self::Failed, Self::Destroyed];
    const EDGES: &'static [Edge<Self>] = &[
        Edge { from: None, to: Self::Queued, trigger: "deploy" },
        Edge { from: Some(Self::Queued), to: Self::Building, trigger: "the build starts" },
        // What changes only configuration is not built again.
        Edge { from: Some(Self::Queued), to: Self::Deploying, trigger: "nothing to build" },
        Edge { from: Some(Self::Queued), to: Self::Failed, trigger: "refused or cancelled" },
        Edge { from: Some(Self::Queued), to: Self::Destroyed, trigger: "destroy" },
        Edge { from: Some(Self::Building), to: Self::Deploying, trigger: "the build is done" },
        Edge { from: Some(Self::Building), to: Self::Failed, trigger: "the build failed or was cancelled" },
        Edge { from: Some(Self::Deploying), to: Self::Ready, trigger: "healthy" },
        Edge { from: Some(Self::Deploying), to: Self::Failed, trigger: "never healthy, or cancelled" },
        Edge { from: Some(Self::Ready), to: Self::Queued, trigger: "deploy again" },
        Edge { from: Some(Self::Ready), to: Self::Destroyed, trigger: "destroy" },
        Edge { from: Some(Self::Failed), to: Self::Queued, trigger: "try again" },
        Edge { from: Some(Self::Failed), to: Self::Destroyed, trigger: "destroy" },
    ];

    fn as_str(self) -> &'static str {
        self.as_str()
    }
}

/// A transition that a machine does not have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Illegal<S> {
    /// The state that it would leave; unset for a creation.
    pub from: Option<S>,
    /// The state that it would lead to.
    pub to: S,
}

impl<S: Machine> fmt::Display for Illegal<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.from {
            Some(from) => write!(f, "a {} never goes from `{from}` to `{}`", S::NAME, self.to),
            None => write!(f, "a {} never begins as `{}`", S::NAME, self.to),
        }
    }
}

impl<S: Machine> std::error::Error for Illegal<S> {}

impl<S: Machine> From<Illegal<S>> for Error {
    fn from(illegal: Illegal<S>) -> Self {
        let next: Vec<_> = S::EDGES.iter().filter(|edge| edge.from == illegal.from).collect();
        let next: Vec<_> = next.iter().map(|edge| format!("`{}`", edge.to)).collect();
        let hint = match illegal.from {
            Some(_) if next.is_empty() => "nothing follows that state".to_owned(),
            Some(_) => format!("from there it goes to {}", next.join(", ")),
            None => format!("it begins as {}", next.join(", ")),
        };
        Self::conflict(S::CODE, illegal.to_string()).hint(hint)
    }
}

/// One step of a machine: from where, to where, why, and when. Only legal ones exist.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Transition<S> {
    from: Option<S>,
    to: S,
    reason: String,
    at_ms: u64,
}

impl<S: Machine> Transition<S> {
    /// A step; `from` is unset for the creation. `at_ms` counts from 1970 UTC.
    ///
    /// Errors: `conflict` with the machine's code if there is no such edge ([`Illegal`] is its message); `invalid`
    /// `transition-reason` if the reason is empty or longer than [`REASON_BYTES_MAX`].
    pub fn new(from: Option<S>, to: S, reason: impl Into<String>, at_ms: u64) -> Result<Self> {
        if S::edge(from, to).is_none() {
            return Err(Illegal { from, to }.into());
        }
        let reason = reason.into();
        if reason.trim().is_empty() || reason.len() > REASON_BYTES_MAX {
            return Err(Error::invalid(
                "transition-reason",
                format!("a reason has 1 to {REASON_BYTES_MAX} bytes, and this has {}", reason.len()),
            ));
        }
        Ok(Self { from, to, reason, at_ms })
    }

    /// The state that it leaves; unset for the creation.
    #[must_use]
    pub fn from(&self) -> Option<S> {
        self.from
    }

    /// The state that it leads to.
    #[must_use]
    pub fn to(&self) -> S {
        self.to
    }

    /// Why.
    #[must_use]
    pub fn reason(&self) -> &str {
        &self.reason
    }

    /// When, in milliseconds since 1970 UTC.
    #[must_use]
    pub fn at_ms(&self) -> u64 {
        self.at_ms
    }

    /// The same step at a time not before `earliest_ms`: a log whose times go back could not be read by time.
    #[must_use]
    pub fn not_before(mut self, earliest_ms: u64) -> Self {
        self.at_ms = self.at_ms.max(earliest_ms);
        self
    }
}

/// The state after these transitions; none after none.
///
/// Errors: `conflict` `transition-order` at the first that leaves another state than the one before led to.
pub fn fold<'a, S: Machine>(transitions: impl IntoIterator<Item = &'a Transition<S>>) -> Result<Option<S>> {
    transitions.into_iter().try_fold(None, |state, next| {
        if next.from == state { Ok(Some(next.to)) } else { Err(moved(S::NAME, next.from, state)) }
    })
}

/// The error of a transition that leaves another state than the one there is. `what` names the thing.
#[must_use]
pub fn moved<S: Machine>(what: &str, expected: Option<S>, actual: Option<S>) -> Error {
    let say = |state: Option<S>| state.map_or_else(|| "absent".to_owned(), |state| format!("`{state}`"));
    Error::conflict("transition-order", format!("{what} is {}, and was expected {}", say(actual), say(expected)))
        .hint("read where it stands and decide again")
}

/// Whether an id can be kept; `invalid` `machine-id` if not. The form of an id is its owner's concern.
pub fn check_id(id: &str) -> Result<()> {
    if id.is_empty() || id.len() > ID_BYTES_MAX || id.chars().any(char::is_control) {
        let message = format!("the id of what has a state has 1 to {ID_BYTES_MAX} bytes and no control characters");
        return Err(Error::invalid("machine-id", message));
    }
    Ok(())
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::ErrorKind;

    /// Walks a machine at random and checks what must hold of every walk. For the tests of each machine.
    pub(in crate::deploy) fn walk<S: Machine>(steps: &[usize]) {
        let mut state = None;
        let mut walked: Vec<Transition<S>> = Vec::new();
        for (step, at_ms) in steps.iter().zip(0..) {
            let to = S::ALL[step % S::ALL.len()];
            match Transition::new(state, to, "a reason", at_ms) {
                Ok(transition) => {
                    assert!(S::edge(state, to).is_some());
                    assert!(state.is_none_or(|state: S| !state.is_terminal() && state != to));
                    walked.push(transition);
                    state = Some(to);
                }
                Err(error) => {
                    assert_eq!((error.kind, error.code.as_ref()), (ErrorKind::Conflict, S::CODE));
                    assert!(error.message.contains(&format!("`{to}`")), "{error}");
                    assert!(state.is_none_or(|from| error.message.contains(&format!("`{from}`"))), "{error}");
                }
            }
            assert_eq!(fold(&walked), Ok(state));
        }
        // A history with a hole is no history.
        if walked.len() > 2 {
            let lost = walked.remove(walked.len() - 2);
            assert_ne!(Some(lost.to()), lost.from());
            assert_eq!(fold(&walked).expect_err("a hole").code, "transition-order");
        }
    }

    proptest! {
        #[test]
        fn deployments(steps in proptest::collection::vec(0..6_usize, 0..40)) {
            walk::<DeploymentState>(&steps);
        }
    }

    /// The whole table, as the original's: rows and columns in the order of `ALL`.
    #[test]
    fn the_table() {
        let row = |from: Option<DeploymentState>| -> String {
            DeploymentState::ALL
                .iter()
                .map(|to| if DeploymentState::edge(from, *to).is_some() { 'x' } else { '.' })
                .collect()
        };
        let rows: Vec<_> =
            std::iter::once(None).chain(DeploymentState::ALL.iter().copied().map(Some)).map(row).collect();
        assert_eq!(rows, ["x.....", ".xx.xx", "..x.x.", "...xx.", "x....x", "x....x", "......"]);
        let terminal: Vec<_> = DeploymentState::ALL.iter().filter(|state| state.is_terminal()).collect();
        assert_eq!(terminal, [&DeploymentState::Destroyed]);
    }

    #[test]
    fn words_and_reasons() {
        for state in DeploymentState::ALL {
            assert_eq!(DeploymentState::parse(state.as_str()), Ok(*state));
            assert_eq!(serde_json::to_value(state).expect("json"), state.as_str());
        }
        let error = DeploymentState::parse("Ready\u{1b}").expect_err("no such word");
        assert_eq!(
            (error.code.as_ref(), error.message.as_str()),
            ("state-word", "a deployment is never `Ready\\u{1b}`")
        );
        for reason in [String::new(), " ".to_owned(), "x".repeat(REASON_BYTES_MAX + 1)] {
            let error = Transition::new(None, DeploymentState::Queued, reason, 1).expect_err("a reason is needed");
            assert_eq!(error.code, "transition-reason");
        }
        let error =
            Transition::new(Some(DeploymentState::Destroyed), DeploymentState::Queued, "r", 1).expect_err("gone");
        assert_eq!(error.hint.as_deref(), Some("nothing follows that state"));
    }
}
