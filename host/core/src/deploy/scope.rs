//! Rights of callers.
