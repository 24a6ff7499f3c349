//! Runtime identity: who runs where, from evidence.
