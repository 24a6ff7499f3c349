//! Which check reads which file. One module per family.

mod adapter;
mod agent;
mod antigravity;
mod batch;
mod claude;
mod codex;
mod control;
mod gating;
mod identity;
mod layers;
mod lockfiles;
mod machines;
mod manifest;
mod names;
mod permissions;
mod readiness;
mod telemetry;

use crate::case::Check;

/// Every file that is read, with its check.
pub(crate) fn checks() -> Vec<(&'static str, Check)> {
    let families = [
        agent::CHECKS,
        antigravity::CHECKS,
        batch::CHECKS,
        claude::CHECKS,
        codex::CHECKS,
        control::CHECKS,
        gating::CHECKS,
        identity::CHECKS,
        layers::CHECKS,
        lockfiles::CHECKS,
        machines::CHECKS,
        manifest::CHECKS,
        names::CHECKS,
        permissions::CHECKS,
        readiness::CHECKS,
        telemetry::CHECKS,
    ];
    families.concat()
}
