//! What a command does to a session in which state: the states that it leads through, in order, or why it does nothing.
//!
//! The machine itself is [`SessionState`]'s. This adds who is attached: at most one command, which holds the session's lease.

use crate::deploy::session::{SandboxState, SessionState};
use crate::deploy::state::{Illegal, Machine};
use crate::{Error, Result};

/// What is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// Work in it.
    Attach,
    /// The work is done, or its command is gone.
    Detach,
    /// End what works in it.
    Stop,
    /// Remove it.
    Destroy {
        /// Also while something works in it.
        force: bool,
    },
}

/// The states to go to, in order; none where it is as wanted already. `attached`: whether another command is.
///
/// Errors: `conflict` `session-attached`; `conflict` `session-transition`.
pub fn decide(state: SessionState, attached: bool, verb: Verb) -> Result<Vec<SessionState>> {
    use SessionState::{Destroyed, Running, Stopped};
    let gone = |to| Err(Illegal { from: Some(state), to }.into());
    Ok(match (verb, state) {
        (Verb::Attach | Verb::Destroy { force: false }, Running | Stopped) if attached => {
            return Err(Error::conflict("session-attached", "another command is attached to the session")
                .hint("end it with `midplane session stop`, or wait"));
        }
        (Verb::Attach, Running) | (Verb::Stop | Verb::Detach, Stopped) => Vec::new(),
        (Verb::Attach, Stopped) => vec![Running],
        (Verb::Attach, Destroyed) => return gone(Running),
        (Verb::Stop | Verb::Detach, Running) => vec![Stopped],
        (Verb::Stop, Destroyed) => return gone(Stopped),
        // Someone else removed it meanwhile.
        (Verb::Detach | Verb::Destroy { .. }, Destroyed) => Vec::new(),
        (Verb::Destroy { .. }, Running) if attached => vec![Destroyed],
        // Nothing works in it, so it needs no force.
        (Verb::Destroy { .. }, Running) => vec![Stopped, Destroyed],
        (Verb::Destroy { .. }, Stopped) => vec![Destroyed],
    })
}

/// The states through which a sandbox follows its session, in order.
#[must_use]
pub fn follow(sandbox: Option<SandboxState>, session: SessionState) -> Vec<SandboxState> {
    let wanted = match session {
        SessionState::Running => SandboxState::Running,
        SessionState::Stopped => SandboxState::Stopped,
        SessionState::Destroyed => SandboxState::Destroyed,
    };
    let (mut at, mut steps) = (sandbox, Vec::new());
    // Each step is legal, and no state is passed twice: there are as many steps as states at most.
    while at != Some(wanted) && steps.len() < SandboxState::ALL.len() {
        let next = match at {
            Some(at) if at.can_go(wanted) => wanted,
            None => SandboxState::Creating,
            Some(SandboxState::Creating | SandboxState::Stopped) => SandboxState::Running,
            // What was destroyed stays so.
            Some(_) => return steps,
        };
        steps.push(next);
        at = Some(next);
    }
    steps
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const VERBS: [Verb; 5] =
        [Verb::Attach, Verb::Detach, Verb::Stop, Verb::Destroy { force: false }, Verb::Destroy { force: true }];

    proptest! {
        /// Whatever is done in whatever order: each step is legal, the sandbox follows, what is wanted is reached, a second
        /// stop or destroy does nothing, and nobody works in what is stopped or gone.
        #[test]
        fn walks(steps in proptest::collection::vec(0..VERBS.len(), 0..40)) {
            let (mut state, mut attached) = (SessionState::Running, false);
            let mut sandbox = None;
            for verb in steps.into_iter().map(|at| VERBS[at]) {
                // Only who is attached detaches.
                let asked = if verb == Verb::Detach { false } else { attached };
                let before = state;
                match decide(state, asked, verb) {
                    Ok(path) => {
                        for to in path {
                            prop_assert!(state.can_go(to), "{state} to {to}");
                            state = to;
                        }
                        match verb {
                            Verb::Attach => {
                                prop_assert!(!attached && state == SessionState::Running);
                                attached = true;
                            }
                            Verb::Stop => prop_assert_eq!(state, SessionState::Stopped),
                            Verb::Destroy { force } => {
                                prop_assert!(state == SessionState::Destroyed);
                                prop_assert!(force || !attached || before == SessionState::Destroyed);
                            }
                            Verb::Detach => prop_assert!(state != SessionState::Running),
                        }
                        if verb != Verb::Attach {
                            attached = false;
                            prop_assert_eq!(decide(state, attached, verb).ok(), Some(Vec::new()));
                        }
                    }
                    Err(error) => {
                        prop_assert!(
                            before == SessionState::Destroyed && error.code == "session-transition"
                                || attached && error.code == "session-attached"
                        );
                    }
                }
                for to in follow(sandbox, state) {
                    prop_assert!(SandboxState::edge(sandbox, to).is_some(), "{sandbox:?} to {to}");
                    sandbox = Some(to);
                }
                prop_assert_eq!(sandbox.map(SandboxState::as_str), Some(state.as_str()));
            }
        }
    }

    #[test]
    fn a_start_that_was_cut_off_can_be_cleared_away() {
        let steps = follow(Some(SandboxState::Creating), SessionState::Destroyed);
        assert_eq!(steps, [SandboxState::Running, SandboxState::Destroyed]);
        assert!(follow(Some(SandboxState::Destroyed), SessionState::Running).is_empty());
    }
}
