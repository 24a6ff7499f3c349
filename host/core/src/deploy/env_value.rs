//! Values of variables against the types that a manifest declares.
