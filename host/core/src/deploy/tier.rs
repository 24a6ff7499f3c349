//! Sizes of machines.
