//! The rules above one batch: retries, conflicts, one terminal.
