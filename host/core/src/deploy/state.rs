//! The machine of a deployment.
