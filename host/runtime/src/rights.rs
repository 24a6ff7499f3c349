//! What the plugin of a call may do, held for as long as the call lasts.
//!
//! The decision is [`midplane_core::gate`]'s; this only keeps together what it needs.

use std::sync::Arc;

use midplane_core::gate::{self, Allowed, Denial, Request};
use midplane_core::permission::{Grants, Permissions};
use midplane_core::{Error, ProfileName};

/// Permission and grant of one profile, as they were when the call began: a grant that comes later counts for the next.
#[derive(Debug, Clone)]
pub(crate) struct Rights {
    /// The profile, which a denial names.
    pub(crate) profile: ProfileName,
    /// What the manifest asks for.
    pub(crate) permissions: Arc<Permissions>,
    /// What the operator allows.
    pub(crate) grants: Arc<Grants>,
}

impl Rights {
    /// Whether the request is within permission ∩ grant.
    pub(crate) fn check(&self, request: &Request<'_>) -> Result<Allowed<'_>, Denial> {
        let rights = gate::Rights { profile: &self.profile, permissions: &self.permissions, grants: &self.grants };
        gate::check(&rights, request)
    }
}

/// Why an act was not allowed, and the grant whose absence the audit names.
#[derive(Debug)]
pub(crate) struct Refused {
    pub(crate) error: Error,
    pub(crate) grant: Option<String>,
}

impl From<Denial> for Refused {
    fn from(denial: Denial) -> Self {
        Self { grant: denial.grant().map(ToString::to_string), error: denial.into() }
    }
}

impl From<Error> for Refused {
    fn from(error: Error) -> Self {
        Self { error, grant: None }
    }
}

/// The grants that an act rested on, as the audit writes them.
pub(crate) fn grants_text(allowed: &Allowed<'_>) -> Option<String> {
    let texts: Vec<String> = allowed.grants.iter().map(ToString::to_string).collect();
    (!texts.is_empty()).then(|| texts.join(" "))
}
