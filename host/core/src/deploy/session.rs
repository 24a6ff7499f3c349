//! The machines of sessions and of sandboxes: the edges that runtm-shared describes and nowhere enforces.
//!
//! ```text
//!  session   ● ──────────────► running ◄──► stopped ──► destroyed
//!                                 └────────────────────────▲
//!  sandbox   ● ──► creating ──► running ◄──► stopped ──► destroyed
//!                                 └────────────────────────▲
//! ```
//! A sandbox that cannot be created has no edge of its own, as in the original: its session is told, and `creating` is
//! the last that is known of it.

use serde::{Deserialize, Serialize};

use super::state::{Edge, Machine, words};

/// Where a session stands: a lasting workspace with an agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SessionState {
    /// Someone can work in it.
    Running,
    /// Kept, and nothing runs in it.
    Stopped,
    /// It is gone for good.
    Destroyed,
}

words!(SessionState {
    Running => "running",
    Stopped => "stopped",
    Destroyed => "destroyed",
});

impl Machine for SessionState {
    const NAME: &'static str = "session";
    const CODE: &'static str = "session-transition";
    const ALL: &'static [Self] = &[Self::Running, Self::Stopped, Self::Destroyed];
    const EDGES: &'static [Edge<Self>] = &[
        Edge { from: None, to: Self::Running, trigger: "session start" },
        Edge { from: Some(Self::Running), to: Self::Stopped, trigger: "user exits or timeout" },
        Edge { from: Some(Self::Running), to: Self::Destroyed, trigger: "session destroy --force" },
        Edge { from: Some(Self::Stopped), to: Self::Running, trigger: "session attach" },
        Edge { from: Some(Self::Stopped), to: Self::Destroyed, trigger: "session destroy" },
    ];

    fn as_str(self) -> &'static str {
        self.as_str()
    }
}

/// Where a sandbox stands: the isolated place of one session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SandboxState {
    /// It is set up.
    Creating,
    /// Its session runs in it.
    Running,
    /// Kept, and nothing runs in it.
    Stopped,
    /// It is gone for good.
    Destroyed,
}

words!(SandboxState {
    Creating => "creating",
    Running => "running",
    Stopped => "stopped",
    Destroyed => "destroyed",
});

impl Machine for SandboxState {
    const NAME: &'static str = "sandbox";
    const CODE: &'static str = "sandbox-transition";
    const ALL: &'static [Self] = &[Self::Creating, Self::Running, Self::Stopped, Self::Destroyed];
    const EDGES: &'static [Edge<Self>] = &[
        Edge { from: None, to: Self::Creating, trigger: "session start" },
        Edge { from: Some(Self::Creating), to: Self::Running, trigger: "sandbox ready" },
        Edge { from: Some(Self::Running), to: Self::Stopped, trigger: "user exits or timeout" },
        Edge { from: Some(Self::Running), to: Self::Destroyed, trigger: "session destroy --force" },
        Edge { from: Some(Self::Stopped), to: Self::Running, trigger: "session attach" },
        Edge { from: Some(Self::Stopped), to: Self::Destroyed, trigger: "session destroy" },
    ];

    fn as_str(self) -> &'static str {
        self.as_str()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::state::tests::walk;
    use super::*;

    proptest! {
        #[test]
        fn sessions(steps in proptest::collection::vec(0..3_usize, 0..40)) {
            walk::<SessionState>(&steps);
        }

        #[test]
        fn sandboxes(steps in proptest::collection::vec(0..4_usize, 0..40)) {
            walk::<SandboxState>(&steps);
        }
    }
}
