//! Addresses of deployments.
