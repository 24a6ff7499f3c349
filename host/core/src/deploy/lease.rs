//! Leases: who may run at once.
