//! Makes components of text: core WebAssembly that stands in for a plugin's code, and whole components by hand.

use std::path::{Path, PathBuf};

use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::{LiftLowerAbi, ManglingAndAbi, Resolve};

/// A component of an agent whose `run` is this body. `imports` are of `(import ...)` form, `items` whatever else the module
/// has (it may define `$realloc_hook`, `$start` or a `cabi_post_` export), `wit` what the world imports besides.
///
/// `run` is given the address of its task and gives that of its result; [`SURVIVED`] is a result that is an error with the
/// code `survived`.
pub(crate) struct CoreAgent {
    pub(crate) wit: &'static str,
    pub(crate) imports: &'static str,
    pub(crate) items: &'static str,
    pub(crate) run: &'static str,
    /// What the allocator does before it allocates; it may not allocate itself.
    pub(crate) on_realloc: &'static str,
}

/// Nothing special.
pub(crate) const CORE_AGENT: CoreAgent =
    CoreAgent { wit: "", imports: "", items: "", run: "(i32.const 2048)", on_realloc: "" };

impl CoreAgent {
    pub(crate) fn component(&self) -> Vec<u8> {
        let Self { wit, imports, items, run, on_realloc } = self;
        let agent = "midplane:plugin/agent@0.1.0";
        // Addresses: 16 is the answer of what is not under test, all zero (no features, no issues, ok); 1024 a word; 2048 the
        // error with that word as its code and message; from 64 KiB on what the host passes in.
        let module = format!(
            r#"(module
                {imports}
                (memory (export "memory") 4)
                (global $heap (mut i32) (i32.const 65536))
                (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32)
                    (local $at i32)
                    {on_realloc}
                    (local.set $at (i32.and (i32.add (global.get $heap) (i32.const 7)) (i32.const -8)))
                    (global.set $heap (i32.add (local.get $at) (local.get 3)))
                    (local.get $at))
                (func (export "{agent}#capabilities") (result i32) (i32.const 16))
                (func (export "{agent}#availability") (param i32) (result i32) (i32.const 16))
                (func (export "{agent}#validate") (param i32) (result i32) (i32.const 16))
                (func $run (export "{agent}#run") (param i32) (result i32) {run})
                (func (export "{agent}#cancel") (param i32 i32 i32 i32 i32) (result i32) (i32.const 16))
                {items}
                (data (i32.const 1024) "survived")
                (data (i32.const 2048) "\01\00\00\00\00\00\00\00\08\00\00\00\00\04\00\00\08\00\00\00\00\04\00\00\08\00\00\00"))"#
        );
        let world = format!("world w {{ include midplane:plugin/agent-adapter@0.1.0; {} }}", world_imports(wit));
        let mut resolve = contract(&wit_folder());
        for package in packages(wit) {
            resolve.push_str("wasi.wit", &package).expect("wit of a package");
        }
        let test = resolve.push_str("test.wit", &format!("package test:test;\n{world}")).expect("wit of the test");
        let world = resolve.select_world(&[test], Some("w")).expect("world");
        let mut bytes = wat::parse_str(&module).unwrap_or_else(|error| panic!("{error}"));
        embed_component_metadata(&mut bytes, &resolve, world, StringEncoding::UTF8, false).expect("metadata");
        encoded(&bytes)
    }
}

/// Parts of `wit`, each `import ...;` or a whole `package ...`, divided by `---`.
fn packages(wit: &str) -> impl Iterator<Item = String> {
    wit.split("---").map(str::trim).filter(|part| part.starts_with("package")).map(str::to_owned)
}

fn world_imports(wit: &str) -> String {
    wit.split("---").map(str::trim).filter(|part| part.starts_with("import")).collect()
}

/// A component that fits a world of the contract and does nothing but trap. `change` rewrites the contract's text before.
pub(crate) fn dummy(world: &str, change: impl Fn(&str, String) -> String) -> Vec<u8> {
    let folder = tempfile::tempdir().expect("folder");
    for entry in std::fs::read_dir(wit_folder()).expect("wit").flatten() {
        let text = std::fs::read_to_string(entry.path()).expect("wit");
        let name = entry.file_name().to_string_lossy().into_owned();
        std::fs::write(folder.path().join(&name), change(&name, text)).expect("wit");
    }
    let resolve = contract(folder.path());
    let package = resolve
        .package_names
        .iter()
        .find(|(name, _)| name.namespace == "midplane")
        .map(|(_, id)| *id)
        .expect("the contract");
    let world = resolve.select_world(&[package], Some(world)).expect("world");
    let mut bytes = wit_component::dummy_module(&resolve, world, ManglingAndAbi::Legacy(LiftLowerAbi::Sync));
    embed_component_metadata(&mut bytes, &resolve, world, StringEncoding::UTF8, false).expect("metadata");
    encoded(&bytes)
}

/// A component of component text.
pub(crate) fn component(text: &str) -> Vec<u8> {
    wat::parse_str(text).unwrap_or_else(|error| panic!("{error}"))
}

fn encoded(module: &[u8]) -> Vec<u8> {
    let mut encoder = ComponentEncoder::default();
    encoder.validate(false).module(module).expect("a module");
    encoder.encode().unwrap_or_else(|error| panic!("{error:#}"))
}

fn contract(folder: &Path) -> Resolve {
    let mut resolve = Resolve::default();
    resolve.push_dir(folder).expect("the contract");
    resolve
}

fn wit_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../wit/v0")
}
