//! The helper program: compiling in a process of its own, bounded in time and memory, and what `helper` does.
//!
//! The engine does not treat a component that makes the *compiler* run wild as a defect, so what comes from outside is
//! compiled by `<helper> helper compile` under resource limits, and only its file is taken. The helper is the one hidden
//! subcommand of the `midplane` command; an embedder names a program that calls [`main`] for it.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use crate::process::terminal;
use crate::tools::mcp::bridge;
use midplane_core::limits::Limits;
use midplane_core::manifest::PluginKind;
use midplane_core::{Error, Result};
use midplane_engine::Engine;
use serde::{Deserialize, Serialize};
use tokio::io::AsyncReadExt as _;

/// What the worker is told, as one JSON argument. Nothing in it is secret.
#[derive(Debug, Serialize, Deserialize)]
struct Order {
    component: PathBuf,
    compiled: PathBuf,
    kind: String,
    limits: std::collections::BTreeMap<String, u64>,
}

/// What the worker answers on standard output.
#[derive(Debug, Serialize, Deserialize)]
struct Verdict {
    error: Option<Error>,
}

/// Answers that are read of a worker at most.
const VERDICT_BYTES_MAX: u64 = 64 * 1024;

/// Has a component compiled by the helper program and written to `compiled`.
pub(crate) async fn compile(
    helper: &Path,
    component: &Path,
    compiled: &Path,
    kind: PluginKind,
    limits: &Limits,
) -> Result<()> {
    let order = Order {
        component: component.to_owned(),
        compiled: compiled.to_owned(),
        kind: kind.as_str().to_owned(),
        // Only what differs from the defaults is an operator's word; the worker checks it like any configuration.
        limits: midplane_core::limits::TABLE
            .iter()
            .filter_map(|info| {
                limits.get(info.name).filter(|value| *value != info.default).map(|v| (info.name.to_owned(), v))
            })
            .collect(),
    };
    let order = serde_json::to_string(&order)
        .map_err(|error| Error::internal("compile-worker", format!("the order cannot be written: {error}")))?;
    let failed =
        |why: String| Error::unavailable("compile-worker", format!("the compile worker `{}` {why}", helper.display()));
    let mut child = tokio::process::Command::new(helper)
        .args(["helper", "compile", &order])
        .env_clear()
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| failed(format!("cannot be started: {error}")))?;
    let mut answer = String::new();
    let mut stdout = child.stdout.take().ok_or_else(|| failed("has no output".to_owned()))?.take(VERDICT_BYTES_MAX);
    let worked = async {
        let _ = stdout.read_to_string(&mut answer).await;
        child.wait().await
    };
    let time = Duration::from_millis(limits.compile_ms_max);
    let Ok(status) = tokio::time::timeout(time, worked).await else {
        // Dropping the child kills it.
        return Err(Error::limit(
            "compile-time",
            format!("compiling took more than the {} ms of `compile_ms_max`", limits.compile_ms_max),
        ));
    };
    let status = status.map_err(|error| failed(format!("was lost: {error}")))?;
    match serde_json::from_str::<Verdict>(&answer) {
        Ok(Verdict { error: None }) if status.success() => Ok(()),
        Ok(Verdict { error: Some(error) }) => Err(error),
        // It died without a word: its own bounds ended it.
        _ => Err(Error::limit(
            "compile-memory",
            format!("the compile worker ended ({status}) within its bounds of memory and time"),
        )
        .hint("the component is too complex; see `compile_bytes_max` and `compile_ms_max`")),
    }
}

/// What `<helper> helper ...` runs: `compile ORDER` compiles a plugin, `child` supervises a program, `terminal` becomes one. Returns the exit code.
#[must_use]
pub fn main(arguments: &[String]) -> u8 {
    if arguments == ["child"] {
        return crate::process::supervise::main();
    }
    if let [verb, socket] = arguments
        && verb == bridge::VERB
    {
        return bridge::main(socket);
    }
    if let [verb, program, args @ ..] = arguments
        && verb == terminal::VERB
    {
        return terminal::main(program, args);
    }
    let verdict = match arguments {
        [verb, order] if verb == "compile" => work(order),
        _ => Err(Error::invalid("helper", "`helper` is run by the host itself")),
    };
    let code = u8::from(verdict.is_err());
    let verdict = Verdict { error: verdict.err() };
    // Written to the host that waits for it; if it is gone there is nobody to tell.
    let _ = serde_json::to_writer(std::io::stdout(), &verdict);
    code
}

fn work(order: &str) -> Result<()> {
    let order: Order = serde_json::from_str(order)
        .map_err(|error| Error::invalid("helper", format!("the order is not one: {error}")))?;
    let limits = Limits::default().configured(&order.limits)?;
    bound_self(&limits)?;
    let read = |path: &Path| {
        std::fs::read(path)
            .map_err(|error| Error::not_found("component", format!("`{}` cannot be read: {error}", path.display())))
    };
    let component = read(&order.component)?;
    let kind = [PluginKind::Agent, PluginKind::Dns, PluginKind::Storage, PluginKind::Executor]
        .into_iter()
        .find(|kind| kind.as_str() == order.kind)
        .ok_or_else(|| Error::invalid("helper", "the order names no kind"))?;
    compile_here(&component, kind, &order.compiled, &limits)
}

/// Inspects and compiles in this process, and puts the compiled form where it belongs, whole or not at all.
pub(crate) fn compile_here(component: &[u8], kind: PluginKind, compiled: &Path, limits: &Limits) -> Result<()> {
    midplane_engine::inspect(component, kind, limits)?;
    let engine = Engine::compiler(limits)?;
    let native = engine.compile(component)?;
    write_whole(compiled, &native)
}

/// Writes a file that others find whole or not at all, readable and writable by this user only.
pub(crate) fn write_whole(path: &Path, bytes: &[u8]) -> Result<()> {
    use std::io::Write as _;
    let failed = |error: &dyn std::fmt::Display| {
        Error::unavailable("cache", format!("`{}` cannot be written: {error}", path.display()))
    };
    let folder = path.parent().ok_or_else(|| failed(&"it has no folder"))?;
    private_folder(folder)?;
    let mut file = tempfile::NamedTempFile::new_in(folder).map_err(|error| failed(&error))?;
    file.write_all(bytes).and_then(|()| file.as_file().sync_all()).map_err(|error| failed(&error))?;
    file.persist(path).map(|_| ()).map_err(|error| failed(&error.error))
}

/// Makes a folder that only this user can enter.
pub(crate) fn private_folder(path: &Path) -> Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|error| Error::unavailable("folder", format!("`{}` cannot be made: {error}", path.display())))
}

/// Bounds this process in memory and processor time, so that a compile that runs wild ends with it alone.
fn bound_self(limits: &Limits) -> Result<()> {
    use rustix::process::{Resource, Rlimit, setrlimit};
    let set = |resource, value: u64| {
        let limit = Rlimit { current: Some(value), maximum: Some(value) };
        setrlimit(resource, limit)
            .map_err(|error| Error::unavailable("helper", format!("the worker cannot bound itself: {error}")))
    };
    set(Resource::As, limits.compile_bytes_max)?;
    // Two cores compile side by side, so processor time can pass twice as fast as the clock.
    set(Resource::Cpu, (limits.compile_ms_max / 1_000).max(1) * 2)?;
    set(Resource::Core, 0)
}
