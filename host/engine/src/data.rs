//! What a store carries: the reach of one call, its handles, its bounds, and the meter of its computing time.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use midplane_core::limits::Limits;
use midplane_core::run::Fault;
use wasmtime::component::{HasData, ResourceTable};
use wasmtime::{CallHook, ResourceLimiter};
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};

use crate::Ports;
use crate::engine::Ticker;
use crate::ports::{Level, Log};

/// The data of a store.
pub(crate) struct Data {
    pub(crate) ports: Ports,
    pub(crate) table: ResourceTable,
    pub(crate) cancel_said: CancelSaid,
    pub(crate) bounds: Bounds,
    pub(crate) cpu: CpuMeter,
    wasi: WasiCtx,
}

/// Where a guest was told that it is cancelled; after that the call works on.
#[derive(Default)]
pub(crate) struct CancelSaid {
    pub(crate) control: bool,
}

impl Data {
    pub(crate) fn new(ports: Ports, limits: &Limits, ticker: Arc<Ticker>) -> Self {
        let mut table = ResourceTable::new();
        table.set_max_capacity(usize::try_from(limits.handles_max).unwrap_or(usize::MAX));
        let line_bytes_max = usize::try_from(limits.log_line_bytes_max).unwrap_or(usize::MAX);
        let wasi = WasiCtx::builder()
            // Nothing is preopened, the environment is empty, standard input is at its end.
            .stdout(LogLines { log: ports.log.clone(), level: Level::Info, line_bytes_max })
            .stderr(LogLines { log: ports.log.clone(), level: Level::Warn, line_bytes_max })
            // Sockets are linked because some language runtimes import them; creating one is refused.
            .allow_tcp(false)
            .allow_udp(false)
            .allow_ip_name_lookup(false)
            .max_random_size(limits.random_bytes_max)
            .build();
        Self {
            ports,
            table,
            cancel_said: CancelSaid::default(),
            bounds: Bounds::new(limits),
            cpu: CpuMeter::new(Duration::from_millis(limits.cpu_ms_max), ticker),
            wasi,
        }
    }
}

impl HasData for Data {
    type Data<'a> = &'a mut Data;
}

impl WasiView for Data {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

/// How much a guest may make the host hold in memories and tables, and which bound it hit first.
pub(crate) struct Bounds {
    memory_bytes_max: usize,
    table_elements_max: usize,
    instances: usize,
    tables: usize,
    memories: usize,
    /// The first refusal: a guest that was refused memory usually aborts, and then this is why.
    pub(crate) hit: Option<String>,
}

impl Bounds {
    fn new(limits: &Limits) -> Self {
        let size = |value: u64| usize::try_from(value).unwrap_or(usize::MAX);
        Self {
            memory_bytes_max: size(limits.memory_bytes_max),
            table_elements_max: size(limits.table_elements_max),
            instances: size(limits.instances_max),
            tables: size(limits.tables_max),
            memories: size(limits.memories_max),
            hit: None,
        }
    }

    fn note(&mut self, what: impl FnOnce() -> String) -> bool {
        if self.hit.is_none() {
            self.hit = Some(what());
        }
        false
    }
}

impl ResourceLimiter for Bounds {
    fn memory_growing(&mut self, _current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        if desired > self.memory_bytes_max {
            let max = self.memory_bytes_max;
            return Ok(self.note(|| format!("`memory_bytes_max` is {max}, it asked for {desired}")));
        }
        Ok(maximum.is_none_or(|maximum| desired <= maximum))
    }

    fn table_growing(&mut self, _current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        if desired > self.table_elements_max {
            let max = self.table_elements_max;
            return Ok(self.note(|| format!("`table_elements_max` is {max}, it asked for {desired}")));
        }
        Ok(maximum.is_none_or(|maximum| desired <= maximum))
    }

    fn instances(&self) -> usize {
        self.instances
    }

    fn tables(&self) -> usize {
        self.tables
    }

    fn memories(&self) -> usize {
        self.memories
    }
}

/// How long a guest has computed. Waiting in the host is free: only the time between entering and leaving wasm counts.
///
/// Guest code is preempted at each epoch tick, so no stretch of it is longer than a tick; what a stretch shows
/// beyond that is time in which the thread did something else, and is not charged.
pub(crate) struct CpuMeter {
    left: Duration,
    entered: Option<Instant>,
    ticker: Arc<Ticker>,
}

/// Between two ticks of the epoch while guest code runs: how long a guest has the thread, where others wait for it. Short
/// enough that a few spinning guests are all seen at once, long enough to cost nothing beside what a guest does in it.
pub(crate) const TICK: Duration = Duration::from_millis(1);

impl CpuMeter {
    fn new(left: Duration, ticker: Arc<Ticker>) -> Self {
        Self { left, entered: None, ticker }
    }

    /// Called at each crossing between guest and host.
    pub(crate) fn cross(&mut self, hook: CallHook) {
        match hook {
            CallHook::CallingWasm | CallHook::ReturningFromHost => self.enter(),
            CallHook::ReturningFromWasm | CallHook::CallingHost => self.charge(),
        }
    }

    /// Called at each tick in guest code; whether it may go on.
    pub(crate) fn tick(&mut self) -> bool {
        self.charge();
        self.enter();
        !self.left.is_zero()
    }

    pub(crate) fn spent(&self) -> bool {
        self.left.is_zero()
    }

    fn enter(&mut self) {
        self.entered = Some(Instant::now());
        self.ticker.guest_runs();
    }

    fn charge(&mut self) {
        if let Some(entered) = self.entered.take() {
            self.left = self.left.saturating_sub(entered.elapsed().min(2 * TICK));
        }
    }
}

/// A guest's standard output or error: lines of its log.
#[derive(Clone)]
struct LogLines {
    log: Arc<dyn Log>,
    level: Level,
    line_bytes_max: usize,
}

impl IsTerminal for LogLines {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for LogLines {
    fn async_stream(&self) -> Box<dyn tokio::io::AsyncWrite + Send + Sync> {
        Box::new(LogWriter { to: self.clone(), line: Vec::new() })
    }
}

struct LogWriter {
    to: LogLines,
    line: Vec<u8>,
}

impl LogWriter {
    fn end_line(&mut self) {
        if !self.line.is_empty() {
            self.to.log.write(self.to.level, String::from_utf8_lossy(&self.line).into_owned());
            self.line.clear();
        }
    }
}

impl Drop for LogWriter {
    fn drop(&mut self) {
        self.end_line();
    }
}

impl tokio::io::AsyncWrite for LogWriter {
    fn poll_write(mut self: Pin<&mut Self>, _cx: &mut Context<'_>, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
        for &byte in bytes {
            if byte == b'\n' || self.line.len() >= self.to.line_bytes_max {
                self.end_line();
            }
            if byte != b'\n' {
                self.line.push(byte);
            }
        }
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        self.end_line();
        Poll::Ready(Ok(()))
    }
}

/// Why a call that failed in the engine failed, in the host's words.
pub(crate) fn fault(error: &wasmtime::Error, data: &Data) -> Fault {
    use wasmtime::Trap;
    let trap = error.downcast_ref::<Trap>();
    let text = || format!("{:#}", error.root_cause());
    match trap {
        Some(Trap::StackOverflow) => return Fault::Stack,
        Some(Trap::Interrupt) if data.cpu.spent() => return Fault::Cpu,
        _ => {}
    }
    let text = text();
    // The engine has no type for these two; their texts are held by tests that drive a guest into each.
    if text.contains("hostcall") {
        return Fault::Argument(text);
    }
    if text.contains("resource table has no free keys") || text.contains("handle limit") {
        return Fault::Handles;
    }
    if let Some(hit) = &data.bounds.hit {
        return Fault::Memory(hit.clone());
    }
    Fault::Trap(text)
}
