//! Any texts as layers of configuration: merged and followed, or refused. Layers are cut at zero bytes, and the last is an
//! assignment such as `--set` takes.

#![no_main]

use libfuzzer_sys::fuzz_target;
use midplane_core::layers::{Layer, Source, Variables, merge};

fuzz_target!(|text: &str| {
    let variables = Variables::new(["HOME".to_owned()], [("HOME".to_owned(), "/home/x".to_owned())]);
    let (files, assignment) = text.rsplit_once("\0=").unwrap_or((text, ""));
    let layers = [Layer::Default, Layer::Environment, Layer::Machine, Layer::Role];
    let parsed = layers.into_iter().zip(files.split('\0')).map(|(layer, text)| Source::parse(layer, "file.yaml", text));
    let Ok(mut sources) = parsed.collect::<Result<Vec<_>, _>>() else { return };
    if let Ok(source) = Source::assignments("--set", [assignment]) {
        sources.push(source);
    }
    let Ok(merged) = merge(sources, &variables) else { return };
    if let Ok(node) = merged.resolve(&variables) {
        // Every value says where it is from, and all of them can be listed.
        assert!(node.leaves().iter().all(|(_, leaf)| leaf.origin.layer <= Layer::Overrides));
    }
});
