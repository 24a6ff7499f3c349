//! Secrets as configured: stores, references, policies by principal.
