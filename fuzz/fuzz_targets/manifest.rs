//! Any text as `runtm.yaml`, read strictly and as the original read it: a manifest, or problems.

#![no_main]

use libfuzzer_sys::fuzz_target;
use midplane_core::project::Mode;
use midplane_core::project::manifest::parse;

fuzz_target!(|text: &str| {
    for mode in [Mode::Strict, Mode::Compat] {
        if let Err(problems) = parse(text, "runtm.yaml", mode) {
            assert!(!problems.is_empty(), "refused without a word");
            assert!(problems.iter().all(|problem| !problem.to_string().is_empty()));
        }
    }
});
