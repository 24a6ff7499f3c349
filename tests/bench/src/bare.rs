//! The baseline of calls: the same component in bare wasmtime, set up as `host/engine` sets it up (pool, epochs, fibers,
//! limits, WASI), with none of Midplane around it. Its imports do the least that an import can do.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Result;
use wasmtime::component::{Component, HasSelf, Linker, ResourceTable};
use wasmtime::{
    Config, Engine, InstanceAllocationStrategy, PoolingAllocationConfig, Store, StoreLimits, StoreLimitsBuilder,
};
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};

use self::bindings::midplane::plugin::{config, control, events, types};
use self::bindings::{Bare as World, BarePre, exports::midplane::plugin::agent};

/// The part of the contract that the measured guest uses.
mod bindings {
    wasmtime::component::bindgen!({
        path: "../../wit/v0",
        inline: "
            package midplane:bench;
            world bare {
                import midplane:plugin/config@0.1.0;
                import midplane:plugin/control@0.1.0;
                import midplane:plugin/events@0.1.0;
                export midplane:plugin/agent@0.1.0;
            }
        ",
        world: "midplane:bench/bare",
        imports: {
            "midplane:plugin/control.cancelled": trappable,
            "midplane:plugin/control.remaining-ms": trappable,
            "midplane:plugin/config.get": trappable,
            default: async | trappable,
        },
        exports: { default: async },
    });
}

/// A component in bare wasmtime.
#[derive(Clone)]
pub(crate) struct Bare {
    engine: Engine,
    pre: BarePre<Data>,
    /// Dropped with the last clone, which ends the ticker.
    _ticker: Arc<Ticker>,
}

/// What a store carries.
struct Data {
    wasi: WasiCtx,
    table: ResourceTable,
    limits: StoreLimits,
    started: Option<tokio::sync::mpsc::Sender<()>>,
}

struct Ticker(Arc<AtomicBool>);

impl Drop for Ticker {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Bare {
    /// Compiles and links a component.
    pub(crate) fn new(component: &[u8]) -> Result<Self> {
        let engine = engine()?;
        let component = Component::new(&engine, component)?;
        let mut linker = Linker::new(&engine);
        wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
        World::add_to_linker::<_, HasSelf<Data>>(&mut linker, |data| data)?;
        // What a first-party plugin imports beyond the guest that is measured, and never calls in `capabilities`.
        linker.define_unknown_imports_as_traps(&component)?;
        let pre = BarePre::new(linker.instantiate_pre(&component)?)?;
        let ended = Arc::new(AtomicBool::new(false));
        let (weak, seen) = (engine.weak(), ended.clone());
        std::thread::spawn(move || {
            while !seen.load(Ordering::Relaxed) {
                std::thread::sleep(Duration::from_millis(2));
                let Some(engine) = weak.upgrade() else { return };
                engine.increment_epoch();
            }
        });
        Ok(Self { engine, pre, _ticker: Arc::new(Ticker(ended)) })
    }

    /// Instantiates, asks for the capabilities, and drops the instance.
    pub(crate) async fn capabilities(&self) -> Result<()> {
        let mut store = self.store(None);
        let agent = self.pre.instantiate_async(&mut store).await?;
        agent.midplane_plugin_agent().call_capabilities(&mut store).await?;
        Ok(())
    }

    /// Runs a goal in a fresh instance. `started` is told when the guest says that it is there.
    pub(crate) async fn run(&self, goal: &str, started: Option<tokio::sync::mpsc::Sender<()>>) -> Result<()> {
        let mut store = self.store(started);
        let agent = self.pre.instantiate_async(&mut store).await?;
        let outcome = agent.midplane_plugin_agent().call_run(&mut store, &task(goal)).await?;
        outcome.map(|_| ()).map_err(|error| anyhow::anyhow!("{}: {}", error.code, error.message))
    }

    fn store(&self, started: Option<tokio::sync::mpsc::Sender<()>>) -> Store<Data> {
        let limits = StoreLimitsBuilder::new()
            .memory_size(256 << 20)
            .table_elements(100_000)
            .instances(64)
            .tables(64)
            .memories(32);
        let data =
            Data { wasi: WasiCtx::builder().build(), table: ResourceTable::new(), limits: limits.build(), started };
        let mut store = Store::new(&self.engine, data);
        store.limiter(|data| &mut data.limits);
        store.epoch_deadline_async_yield_and_update(1);
        store
    }
}

/// Compiles to the form that is kept on disk.
pub(crate) fn compile(component: &[u8]) -> Result<Vec<u8>> {
    Ok(engine()?.precompile_component(component)?)
}

/// The configuration of `host/engine`, which its baseline must not differ from.
fn engine() -> Result<Engine> {
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(1_000)
        .total_core_instances(4_000)
        .total_memories(1_000)
        .total_tables(4_000)
        .total_stacks(1_000)
        .max_memory_size(256 << 20)
        .table_elements(100_000)
        .linear_memory_keep_resident(64 * 1024)
        .table_keep_resident(16 * 1024);
    let mut config = Config::new();
    config
        .concurrency_support(false)
        .wasm_component_model(true)
        .epoch_interruption(true)
        .max_wasm_stack(512 * 1024)
        .async_stack_size(1024 * 1024)
        .allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
    Ok(Engine::new(&config)?)
}

fn task(goal: &str) -> agent::Task {
    agent::Task {
        run_id: "run".to_owned(),
        task_id: "task".to_owned(),
        goal: goal.to_owned(),
        system: None,
        model: None,
        reasoning_effort: None,
        working_directory: None,
        mcp_servers: Vec::new(),
        permissions: agent::PermissionProfile {
            mode: agent::PermissionMode::Default,
            filesystem: agent::FilesystemAccess::WorkspaceWrite,
            allowed_tools: Vec::new(),
            disallowed_tools: Vec::new(),
            network: None,
            native_profile: None,
        },
        max_rounds: None,
        budget_usd: None,
        session: None,
        output_schema: None,
        attachments: Vec::new(),
        metadata: "{}".to_owned(),
    }
}

impl WasiView for Data {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

impl types::Host for Data {}

impl config::Host for Data {
    fn get(&mut self, _name: String) -> wasmtime::Result<Option<String>> {
        Ok(None)
    }
}

impl control::Host for Data {
    fn cancelled(&mut self) -> wasmtime::Result<bool> {
        Ok(false)
    }

    fn remaining_ms(&mut self) -> wasmtime::Result<u64> {
        Ok(0)
    }

    async fn next(&mut self, timeout_ms: u32) -> wasmtime::Result<Result<Option<control::Signal>, types::Error>> {
        tokio::time::sleep(Duration::from_millis(timeout_ms.into())).await;
        Ok(Ok(None))
    }
}

impl events::Host for Data {
    async fn emit(&mut self, _events: Vec<events::Event>) -> wasmtime::Result<Result<(), types::Error>> {
        if let Some(started) = self.started.take() {
            // Nobody may listen any more.
            let _ = started.send(()).await;
        }
        Ok(Ok(()))
    }
}
