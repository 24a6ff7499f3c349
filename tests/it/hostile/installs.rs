//! Files that are no plugins, and plugins for another host: each is refused at `install` by name and with a hint, and
//! nothing of it is kept.

use std::path::{Path, PathBuf};

use super::components::{CORE_AGENT, CoreAgent, component, dummy};
use super::harness::{GUEST, Logs, Row, World, manifest, row, with_runtime, within_budget};

/// An agent in form: it exports the interface, with nothing in it.
const HOLLOW: &str = r#"(instance $agent) (export "midplane:plugin/agent@0.1.0" (instance $agent))"#;

/// A core module inside a component that is an agent in form.
fn with_module(module: &str) -> Vec<u8> {
    component(&format!("(component (core module {module}) {HOLLOW})"))
}

fn with_import(import: &str) -> Vec<u8> {
    component(&format!("(component (import {import}) {HOLLOW})"))
}

fn nested(levels: usize) -> Vec<u8> {
    // By hand: an encoder that recursed would end before the host does. Each level is a section of its parent.
    let mut bytes = b"\0asm\x0d\0\x01\0".to_vec();
    for _ in 0..levels {
        let mut outer = b"\0asm\x0d\0\x01\0".to_vec();
        outer.push(4);
        leb(&mut outer, bytes.len());
        outer.extend_from_slice(&bytes);
        bytes = outer;
    }
    bytes
}

fn leb(out: &mut Vec<u8>, mut value: usize) {
    loop {
        let byte = (value & 0x7f) as u8;
        value >>= 7;
        if value == 0 {
            out.push(byte);
            return;
        }
        out.push(byte | 0x80);
    }
}

/// Name, the file, and kind and code of the refusal.
fn cases() -> Vec<(&'static str, Vec<u8>, &'static str)> {
    let good = || CORE_AGENT.component();
    let truncated = |part: usize| {
        let bytes = good();
        bytes[..bytes.len() * part / 8].to_vec()
    };
    let damaged = || {
        let mut bytes = good();
        // The id of the first section.
        bytes[8] ^= 0x7f;
        bytes
    };
    let deep = || {
        let mut bytes = component(&format!("(component {HOLLOW})"));
        let inner = nested(1_000);
        bytes.push(4);
        leb(&mut bytes, inner.len());
        [bytes, inner].concat()
    };
    let table =
        |elements: u32| CoreAgent { items: leaked(format!("(table {elements} funcref)")), ..CORE_AGENT }.component();
    let memory = |pages: u32| {
        component(&format!(
            r#"(component (core module $m (memory {pages})) (core instance (instantiate $m)) {HOLLOW})"#
        ))
    };
    vec![
        // ---- no components
        ("an empty file", Vec::new(), "invalid not-wasm"),
        ("text", b"#!/bin/sh\necho owned\n".to_vec(), "invalid not-wasm"),
        (
            "random bytes",
            (0..4_096_u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect(),
            "invalid not-wasm",
        ),
        (
            "random bytes behind the magic",
            [
                b"\0asm\x0d\0\x01\0".to_vec(),
                (0..4_096_u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect(),
            ]
            .concat(),
            "invalid component",
        ),
        ("the magic alone", b"\0asm".to_vec(), "invalid component"),
        ("a core module", component("(module)"), "invalid not-a-component"),
        ("another version of the format", b"\0asm\x0e\0\x01\0".to_vec(), "invalid component"),
        ("half a component", truncated(4), "invalid component"),
        ("most of a component", truncated(7), "invalid component"),
        ("a damaged component", damaged(), "invalid component"),
        ("an empty component", component("(component)"), "unsupported world"),
        // ---- for another host
        ("an import of nobody", with_import(r#""foo:bar/baz" (instance)"#), "unsupported import-unknown"),
        ("an import without a package", with_import(r#""host-call" (func)"#), "unsupported import-unknown"),
        ("wasi:http", with_import(r#""wasi:http/outgoing-handler@0.2.6" (instance)"#), "unsupported import-unknown"),
        ("wasi 0.3", with_import(r#""wasi:clocks/monotonic-clock@0.3.0" (instance)"#), "unsupported import-unknown"),
        ("a newer line", with_import(r#""midplane:plugin/log@0.2.0" (instance)"#), "unsupported wit-line"),
        ("a pre-release", with_import(r#""midplane:plugin/log@0.1.0-rc.1" (instance)"#), "unsupported wit-line"),
        (
            "a newer patch with an unknown interface",
            with_import(r#""midplane:plugin/quantum@0.1.7" (instance)"#),
            "unsupported import-unknown",
        ),
        (
            "a newer patch with an unknown function",
            with_import(r#""midplane:plugin/log@0.1.7" (instance (export "shout" (func)))"#),
            "unsupported link",
        ),
        (
            "an unknown part of wasi 0.2",
            with_import(r#""wasi:io/quantum@0.2.6" (instance (export "f" (func)))"#),
            "unsupported link",
        ),
        (
            "an export of a newer line",
            component(r#"(component (instance $a) (export "midplane:plugin/agent@0.2.0" (instance $a)))"#),
            "unsupported wit-line",
        ),
        ("an agent without functions", component(&format!("(component {HOLLOW})")), "unsupported link"),
        ("a dns provider", dummy("dns-provider", |_, text| text), "unsupported world"),
        (
            "an enum with a case more",
            dummy("agent-adapter", |_, text| text.replace("    uncertain,\n", "    uncertain,\n    doubtful,\n")),
            "unsupported link",
        ),
        (
            "a record with a field more",
            dummy("agent-adapter", |_, text| text.replace("    rounds: u32,\n", "    rounds: u32,\n    turns: u32,\n")),
            "unsupported link",
        ),
        (
            "an argument more",
            dummy("agent-adapter", |name, text| {
                if name == "log.wit" { text.replace("message: string)", "message: string, loud: bool)") } else { text }
            }),
            "unsupported link",
        ),
        // ---- features that this host does not run
        (
            "async: a task",
            component(&format!("(component (core func (canon task.cancel)) {HOLLOW})")),
            "invalid component",
        ),
        ("async: a stream", component(&format!("(component (type (stream u8)) {HOLLOW})")), "invalid component"),
        ("async: a function", component(&format!("(component (type (func async)) {HOLLOW})")), "invalid component"),
        ("threads: shared memory", with_module("(memory 1 1 shared)"), "invalid component"),
        ("gc: a struct", with_module("(type (struct (field i32)))"), "invalid component"),
        ("exceptions", with_module("(tag)"), "invalid component"),
        ("memory64", with_module("(memory i64 1)"), "invalid component"),
        (
            "relaxed simd",
            with_module("(func (param v128 v128) (result v128) local.get 0 local.get 1 i8x16.relaxed_swizzle)"),
            "invalid component",
        ),
        ("function references", with_module("(type $t (func)) (func (param (ref $t)))"), "invalid component"),
        ("a body that is wrong", with_module("(func (result i32))"), "invalid component"),
        // ---- too much
        ("64 MiB", vec![0; 64 << 20], "limit file-size"),
        ("1e5 functions", with_module(&"(func)".repeat(100_000)), "limit component-functions"),
        (
            "1e5 functions in many modules",
            component(&format!(
                "(component {} {HOLLOW})",
                format!("(core module {})", "(func)".repeat(100)).repeat(990)
            )),
            "limit component-functions",
        ),
        ("a thousand levels of components", deep(), "unsupported link"),
        ("a table of ten million at its start", table(10_000_000), "limit component-bounds"),
        ("a memory of a gibibyte at its start", memory(16_384), "limit component-bounds"),
        ("a hundred memories", with_instances(100, "(memory 1)"), "limit component-bounds"),
        ("a hundred tables", with_instances(1, &"(table 1 funcref)".repeat(100)), "limit component-bounds"),
        ("a hundred instances", with_instances(100, ""), "limit component-bounds"),
        (
            "a body of many locals",
            with_module("(func (local i64) )".replace("(local i64)", &"(local i64)".repeat(60_000)).as_str()),
            "invalid component",
        ),
    ]
}

fn with_instances(count: usize, items: &str) -> Vec<u8> {
    component(&format!(
        "(component (core module $m {items}) {} {HOLLOW})",
        "(core instance (instantiate $m))".repeat(count)
    ))
}

/// The tests' texts live as long as the process.
fn leaked(text: String) -> &'static str {
    Box::leak(text.into_boxed_str())
}

#[test]
fn hostile_files_are_refused_at_install() {
    with_runtime(|logs| async move {
        let home = Home::open(logs).await;
        let mut wrong = Vec::new();
        for (name, bytes, end) in cases() {
            let result = home.install(&bytes).await;
            let got = match &result {
                Ok(()) => "installed".to_owned(),
                Err(error) => format!("{} {}", error.kind, error.code),
            };
            if got != end {
                wrong.push(format!("{name}: {got}, not {end}: {:?}", result.err().map(|error| error.message)));
            }
            if home.world.host.plugin("hostile").await.is_ok() {
                wrong.push(format!("{name}: it is installed"));
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
        home.world.lives().await;
        within_budget("installs");
    });
}

/// What was refused is said with what to do about it, and neither its bytes nor their compiled form stay.
#[test]
fn hostile_refused_files_leave_nothing() {
    with_runtime(|logs| async move {
        let home = Home::open(logs).await;
        let mut before = home.kept();
        let mut wrong = Vec::new();
        for (name, bytes, _) in cases() {
            let error = home.install(&bytes).await.expect_err(name);
            if error.hint.is_none() {
                wrong.push(format!("{name}: no hint with `{}`", error.message));
            }
            let after = home.kept();
            let left: Vec<&PathBuf> = after.iter().filter(|path| !before.contains(path)).collect();
            if !left.is_empty() {
                wrong.push(format!("{name}: it left {left:?}"));
            }
            before = after;
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    });
}

/// One that takes the compiler long is stopped by the clock, in its own process.
#[test]
fn hostile_compile_bomb() {
    with_runtime(|logs| async move {
        // Time enough for an honest plugin; the next host finds that one compiled.
        World::open(&row("done", "done"), logs.clone()).await.lives().await;
        let world = World::open(&Row { limits: &[("compile_ms_max", 400)], ..row("done", "done") }, logs).await;
        // Loops in loops over many variables: small to read, long to find registers for.
        let step = |i: usize| {
            format!("(local.set {} (i64.add (local.get {}) (local.get {})))", i % 60, (i * 7) % 60, (i * 13) % 60)
        };
        let body: String = (0..400).map(step).collect();
        let function =
            format!("(func {} {}{body}{})", "(local i64)".repeat(60), "(block (loop ".repeat(40), "))".repeat(40));
        let file = world.home.path().join("candidate.wasm");
        std::fs::write(&file, with_module(&function.repeat(2_000))).expect("file");
        let error = world.host.install(&manifest(), &file).await.expect_err("a bomb");
        assert_eq!((error.kind.to_string().as_str(), error.code.as_ref()), ("limit", "compile-time"), "{error}");
        assert!(world.host.plugin("hostile").await.is_err(), "it is installed");
        world.lives().await;
    });
}

/// A refused update leaves what was there.
#[test]
fn hostile_update_leaves_the_installed_one() {
    with_runtime(|logs| async move {
        let home = Home::open(logs).await;
        home.world.install(Path::new(GUEST)).await;
        let before = home.world.host.plugin("hostile").await.expect("installed");
        for (_, bytes, _) in
            cases().into_iter().filter(|(name, ..)| ["half a component", "a dns provider", "wasi:http"].contains(name))
        {
            std::fs::write(&home.file, bytes).expect("file");
            home.world.host.install(&manifest(), &home.file).await.expect_err("refused");
        }
        let after = home.world.host.plugin("hostile").await.expect("still installed");
        assert_eq!(format!("{before:?}"), format!("{after:?}"));
        home.world.check("hostile_update", &row("done", "done")).await;
    });
}

/// A host, and a file beside it.
struct Home {
    world: World,
    file: PathBuf,
    folder: PathBuf,
}

impl Home {
    async fn open(logs: Logs) -> Self {
        let world = World::with_own_cache(&row("done", "done"), logs).await;
        // The embedded plugins are compiled now, so that what comes into the cache later is of the files under test.
        world.lives().await;
        let folder = world.home.path().to_owned();
        let file = folder.join("candidate.wasm");
        Self { world, file, folder }
    }

    async fn install(&self, bytes: &[u8]) -> midplane::core::Result<()> {
        std::fs::write(&self.file, bytes).expect("file");
        self.world.host.install(&manifest(), &self.file).await.map(|_| ())
    }

    /// Files of the host: artifacts and compiled forms. The database is asked, not looked at.
    fn kept(&self) -> Vec<PathBuf> {
        let mut found = Vec::new();
        files(&self.folder, &mut found);
        found.retain(|path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            *path != self.file && !name.contains(".db") && !name.contains(".sqlite")
        });
        found.sort();
        found
    }
}

fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("folder").flatten() {
        if entry.path().is_dir() {
            files(&entry.path(), found);
        } else {
            found.push(entry.path());
        }
    }
}
