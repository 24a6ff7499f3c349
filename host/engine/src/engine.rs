//! The engine: its configuration, the epoch ticker, and the compile cache.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::Thread;
use std::time::Duration;

use midplane_core::limits::Limits;
use midplane_core::{Digest, Error, Result};
use wasmtime::component::{Component, Linker};
use wasmtime::{Config, EngineWeak, InstanceAllocationStrategy, PoolingAllocationConfig, Store, WasmCoreDump};

use crate::bindings::Everything;
use crate::data::{Data, TICK};
use crate::plugin::Plugin;

/// Calls that can be in flight at once in one process; the pool is sized for it.
const CALLS_MAX: u32 = 1_000;

/// One a process: wasmtime's engine with the linker that all plugins share.
#[derive(Clone)]
pub struct Engine {
    inner: Arc<Inner>,
}

struct Inner {
    engine: wasmtime::Engine,
    linker: Linker<Data>,
    ticker: Arc<Ticker>,
    core_dumps: Option<CoreDumps>,
}

impl Engine {
    /// An engine whose pool fits these bounds. `limits` are the highest that any call will have.
    pub fn new(limits: &Limits) -> Result<Self> {
        Self::with(limits, None)
    }

    /// An engine that only compiles: without a pool, so that it fits into the worker's bound of address space. What it
    /// makes is loaded by an engine of the same bounds.
    pub fn compiler(limits: &Limits) -> Result<Self> {
        Self::of(&config(limits, false, false), None, None)
    }

    /// An engine that writes the memories of each call that traps into a folder: for tests that search them for secrets.
    pub fn with_core_dumps(limits: &Limits, folder: PathBuf) -> Result<Self> {
        Self::with(limits, Some(CoreDumps { folder, written: AtomicUsize::new(0) }))
    }

    fn with(limits: &Limits, core_dumps: Option<CoreDumps>) -> Result<Self> {
        let dumping = core_dumps.is_some();
        // A pool reserves address space ahead; where a system forbids that, slots are made on demand.
        Self::of(&config(limits, true, dumping), Some(&config(limits, false, dumping)), core_dumps)
    }

    fn of(config: &Config, otherwise: Option<&Config>, core_dumps: Option<CoreDumps>) -> Result<Self> {
        let failed =
            |error: wasmtime::Error| Error::internal("engine", format!("the sandbox cannot be set up: {error:#}"));
        let engine = match (wasmtime::Engine::new(config), otherwise) {
            (Err(_), Some(otherwise)) => wasmtime::Engine::new(otherwise),
            (engine, _) => engine,
        };
        let engine = engine.map_err(failed)?;
        let mut linker = Linker::new(&engine);
        wasmtime_wasi::p2::add_to_linker_async(&mut linker).map_err(failed)?;
        Everything::add_to_linker::<_, Data>(&mut linker, |data| data).map_err(failed)?;
        let ticker = Ticker::start(engine.weak()).map_err(|error| {
            // Without it a spinning guest could never be ended.
            Error::unavailable("engine", format!("the epoch thread cannot be started: {error}"))
        })?;
        Ok(Self { inner: Arc::new(Inner { engine, linker, ticker, core_dumps }) })
    }

    /// Compiles a component to the form that [`Self::load`] reads. Takes seconds and memory for a large one: a component
    /// from outside is compiled in a process of its own that is bounded in both.
    pub fn compile(&self, component: &[u8]) -> Result<Vec<u8>> {
        self.inner.engine.precompile_component(component).map_err(|error| {
            let why = midplane_core::text::shown(&format!("{error:#}"), 300);
            Error::invalid("component", format!("the component does not compile: {why}")).hint(crate::inspect::BUILD)
        })
    }

    /// Where the compiled form of a component lives in a cache folder: by its digest, and by what the compiled form
    /// depends on (engine version, configuration, processor).
    #[must_use]
    pub fn cached(&self, cache: &Path, digest: &Digest) -> PathBuf {
        let mut hasher = DefaultHasher::new();
        self.inner.engine.precompile_compatibility_hash().hash(&mut hasher);
        cache.join(format!("{digest}-{:016x}.cwasm", hasher.finish()))
    }

    /// Loads what [`Self::compile`] made, from a file that this host wrote itself.
    ///
    /// The file is native code. It must lie in a folder that only this user can write, and must never come from a
    /// plugin's package; the caller's cache keeps that.
    pub fn load(&self, compiled: &Path) -> Result<Plugin> {
        owned_by_us(compiled)?;
        #[expect(unsafe_code, reason = "native code is loaded; its origin is what the function's contract is about")]
        // SAFETY: the file was written by `compile` of a host of this user (checked above: regular, ours, not writable
        // by others) under a name that includes the engine's compatibility hash, which wasmtime checks again.
        let component = unsafe { Component::deserialize_file(&self.inner.engine, compiled) };
        let component = component.map_err(|error| {
            let why = midplane_core::text::shown(&format!("{error:#}"), 300);
            // The engine has no type for what its pool cannot hold; the texts are held by tests of components with too much.
            if why.contains("exceeds the") {
                return Error::limit(
                    "component-bounds",
                    format!("the component needs more than a plugin may have from its start: {why}"),
                )
                .hint("see the limits of memories, tables and instances");
            }
            Error::unavailable("compiled", format!("the compiled form cannot be loaded: {why}"))
        })?;
        Plugin::new(self, &component)
    }

    pub(crate) fn wasmtime(&self) -> &wasmtime::Engine {
        &self.inner.engine
    }

    pub(crate) fn linker(&self) -> &Linker<Data> {
        &self.inner.linker
    }

    /// Writes down what a call that trapped left in its memories, where that is asked for.
    pub(crate) fn dump(&self, error: &wasmtime::Error, store: &Store<Data>) {
        if let (Some(dumps), Some(dump)) = (&self.inner.core_dumps, error.downcast_ref::<WasmCoreDump>()) {
            for memory in dump.memories() {
                dumps.write(memory.data(store));
            }
        }
    }

    pub(crate) fn ticker(&self) -> &Arc<Ticker> {
        &self.inner.ticker
    }
}

/// Where memories of calls that trapped are written, one file each.
struct CoreDumps {
    folder: PathBuf,
    written: AtomicUsize,
}

impl CoreDumps {
    fn write(&self, memory: &[u8]) {
        let number = self.written.fetch_add(1, Ordering::SeqCst);
        let file = self.folder.join(format!("{number}.memory"));
        if let Err(error) = std::fs::write(&file, memory) {
            // Who reads the dumps misses it and says so; the call's own end must not depend on it.
            tracing::warn!(file = %file.display(), error = %error, "a guest's memory could not be written down");
        }
    }
}

fn owned_by_us(path: &Path) -> Result<()> {
    let meta = std::fs::symlink_metadata(path)
        .map_err(|error| Error::not_found("compiled", format!("no compiled form at `{}`: {error}", path.display())))?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt as _;
        let ours = meta.uid() == rustix::process::geteuid().as_raw() && meta.mode() & 0o022 == 0;
        if !ours {
            return Err(Error::denied(
                "compiled",
                format!("`{}` belongs to or can be written by someone else, and is not loaded", path.display()),
            )
            .hint("remove the file; it is made again"));
        }
    }
    if meta.is_file() {
        Ok(())
    } else {
        Err(Error::denied("compiled", format!("`{}` is not a plain file", path.display())))
    }
}

fn config(limits: &Limits, pooling: bool, core_dumps: bool) -> Config {
    let size = |value: u64| usize::try_from(value).unwrap_or(usize::MAX);
    let count = |value: u64| u32::try_from(value).unwrap_or(u32::MAX);
    let mut config = Config::new();
    config
        // The async ABI, GC, threads, stack switching and Winch are not compiled into this build at all; what could still
        // be switched by a default of a later version is switched off by name.
        .concurrency_support(false)
        .wasm_relaxed_simd(false)
        .wasm_memory64(false)
        .wasm_multi_memory(true)
        .wasm_extended_const(true)
        .wasm_tail_call(true)
        .wasm_component_model(true)
        .epoch_interruption(true)
        .max_wasm_stack(size(limits.stack_bytes_max))
        .async_stack_size(size(limits.stack_bytes_max) + HOST_STACK_BYTES)
        .coredump_on_trap(core_dumps);
    if pooling {
        let mut pool = PoolingAllocationConfig::new();
        pool.total_component_instances(CALLS_MAX)
            .total_core_instances(CALLS_MAX * 4)
            .total_memories(CALLS_MAX)
            .total_tables(CALLS_MAX * 4)
            .total_stacks(CALLS_MAX)
            .max_core_instances_per_component(count(limits.instances_max))
            .max_memories_per_component(count(limits.memories_max))
            .max_tables_per_component(count(limits.tables_max))
            .max_memory_size(size(limits.memory_bytes_max))
            .table_elements(size(limits.table_elements_max))
            // Kept mapped between calls: what a small guest touches, so that its next start needs no page fault.
            .linear_memory_keep_resident(64 * 1024)
            .table_keep_resident(16 * 1024);
        config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
    }
    config
}

/// What host functions may use of a call's stack beside the guest's part.
const HOST_STACK_BYTES: usize = 512 * 1024;

/// The epoch's clock: a thread of its own, because a spinning guest could starve any timer of the async runtime. It is slow
/// while no guest computes, so that a run that waits for a model or a person costs no time of a processor.
pub(crate) struct Ticker {
    /// Whether guest code has run since the last tick.
    busy: AtomicBool,
    /// Whether the thread is slow.
    slow: AtomicBool,
    thread: std::sync::OnceLock<Thread>,
}

/// Ticks without guest code before the thread is slow; waking it costs more than a few idle ticks.
const IDLE_TICKS: u32 = 20;

/// Between two ticks while it is slow. Never for ever: should a guest go on computing unseen, this is how late it is seen.
const SLOW_TICK: Duration = Duration::from_millis(100);

impl Ticker {
    fn start(engine: EngineWeak) -> std::io::Result<Arc<Self>> {
        let thread = std::sync::OnceLock::new();
        let ticker = Arc::new(Self { busy: AtomicBool::new(false), slow: AtomicBool::new(false), thread });
        let weak = Arc::downgrade(&ticker);
        let handle = std::thread::Builder::new().name("midplane-epoch".to_owned()).spawn(move || {
            let mut idle = 0_u32;
            loop {
                if idle > IDLE_TICKS {
                    std::thread::park_timeout(SLOW_TICK);
                } else {
                    std::thread::sleep(TICK);
                }
                let (Some(ticker), Some(engine)) = (weak.upgrade(), engine.upgrade()) else { return };
                engine.increment_epoch();
                idle = if ticker.busy.swap(false, Ordering::SeqCst) { 0 } else { idle.saturating_add(1) };
                ticker.slow.store(idle > IDLE_TICKS, Ordering::SeqCst);
                // A guest that began in between saw a clock that is not slow, and woke nobody.
                if ticker.busy.load(Ordering::SeqCst) {
                    idle = 0;
                }
            }
        })?;
        // Set once, right here.
        let _ = ticker.thread.set(handle.thread().clone());
        Ok(ticker)
    }

    /// Called whenever guest code begins or goes on.
    pub(crate) fn guest_runs(&self) {
        // Most often it is said already in this tick, and then nothing is written that other threads read.
        if !self.busy.load(Ordering::Relaxed) {
            self.busy.store(true, Ordering::SeqCst);
            if let (true, Some(thread)) = (self.slow.load(Ordering::SeqCst), self.thread.get()) {
                thread.unpark();
            }
        }
    }
}
