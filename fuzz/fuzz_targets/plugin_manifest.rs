//! Any text as `plugin.toml`: a manifest, or an error that says something.

#![no_main]

use libfuzzer_sys::fuzz_target;
use midplane_core::manifest::Manifest;

fuzz_target!(|text: &str| {
    if let Err(error) = Manifest::parse(text, "plugin.toml") {
        assert!(!error.message.is_empty());
    }
});
