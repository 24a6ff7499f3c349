//! Layered configuration with the origin of every value.
