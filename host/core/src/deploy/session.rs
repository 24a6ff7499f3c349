//! The machines of sessions and of sandboxes.
