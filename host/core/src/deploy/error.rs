//! The errors of deployments.
