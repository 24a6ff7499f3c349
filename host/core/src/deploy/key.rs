//! Keys of objects in storage.
