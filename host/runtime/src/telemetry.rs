//! Ended runs as traces to an OTLP collector, where the operator named one.
//!
//! ```text
//!  terminal ─► sampled? ─► bounded queue ─► read the log ─► core's projection ─► OTLP, protobuf over HTTP ─► collector
//! ```
//! One task, one trace at a time. A run never waits for it and never fails with it: what finds no room in the queue is dropped, what
//! cannot be sent is given up after its time, and both are counted and logged.
//!
//! What it never does: decide what a trace says ([`midplane_core::telemetry::run_trace`] does), go through the gate of
//! plugins (the collector is the operator's, and may be on this machine), or show a header in a message.

use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, HOST, HeaderMap, HeaderName, HeaderValue, USER_AGENT};
use http::{Method, Request, Response, Uri};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use midplane_core::endpoint::Target;
use midplane_core::event::EventKind;
use midplane_core::telemetry::SpanStatus;
use midplane_core::telemetry::measure::{Measures, Sample};
use midplane_core::telemetry::run_trace::{AttributeValue, Attributes, RunTrace, Span, Trace, is_sampled, trace_id};
use midplane_core::telemetry::settings::Settings;
use midplane_core::{Error, Result, RunId};
use midplane_store::EventLog;
use midplane_store::log::READ_RECORDS_MAX;
use opentelemetry::trace::{Event, SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState};
use opentelemetry::{InstrumentationScope, KeyValue, Value};
use opentelemetry_http::{HttpClient, HttpError};
use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig as _, WithHttpConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{SpanData, SpanEvents, SpanExporter as _, SpanLinks};
use tokio::sync::{mpsc, oneshot};

use crate::egress::{ADDRESSES_MAX, Resolve, SystemResolver, Tls, connect};

/// Ended runs that wait to be sent.
const QUEUE_MAX: usize = 256;

/// How long a host that shuts down waits for what is queued: what a person at a prompt bears.
const FLUSH_MS: u64 = 2_000;

/// Bytes of a collector's answer.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// Where ended runs are announced. Clones share it; dropping the last ends the task once the queue is empty.
#[derive(Clone)]
pub(crate) struct Telemetry {
    queue: mpsc::Sender<Message>,
    measures: Arc<Mutex<Measures>>,
    sample_rate: f64,
}

enum Message {
    /// The log comes along, so that an idle task holds no store open.
    Ended(Arc<dyn EventLog>, RunId),
    /// To be answered once all before it is done.
    Flush(oneshot::Sender<()>),
}

impl Telemetry {
    /// Starts the task, if there is anything for it to do. What the settings say that cannot be used is logged.
    pub(crate) fn start(settings: Settings, tls: &Tls) -> Option<Self> {
        for ignored in &settings.ignored {
            tracing::warn!(error = %ignored, hint = ignored.hint, "telemetry is not as it was asked for");
        }
        let exporter = match exporter(&settings, tls) {
            Ok(exporter) => exporter,
            Err(error) => {
                // A bad URL was among what is ignored already.
                tracing::warn!(%error, "nothing is sent");
                None
            }
        };
        let debug = settings.debug && settings.is_enabled();
        if exporter.is_none() && !debug {
            return None;
        }
        let (queue, messages) = mpsc::channel(QUEUE_MAX);
        let measures = Arc::new(Mutex::new(Measures::default()));
        let task = Task {
            messages,
            exporter,
            measures: measures.clone(),
            time: Duration::from_millis(settings.timeout_ms),
            debug,
            scope: InstrumentationScope::builder("midplane").with_version(env!("CARGO_PKG_VERSION")).build(),
        };
        tokio::spawn(task.run());
        Some(Self { queue, measures, sample_rate: settings.sample_rate })
    }

    /// A run of a log has its terminal.
    pub(crate) fn run_ended(&self, log: &Arc<dyn EventLog>, run_id: &RunId) {
        if !is_sampled(trace_id(run_id), self.sample_rate) {
            return;
        }
        if self.queue.try_send(Message::Ended(log.clone(), run_id.clone())).is_err() {
            lock(&self.measures).dropped(1);
            tracing::warn!(run = %run_id, "the run's trace is dropped: too many wait to be sent");
        }
    }

    /// Waits until what is queued is sent, and not for long.
    pub(crate) async fn flush(&self) {
        let (done, flushed) = oneshot::channel();
        let all = async {
            if self.queue.send(Message::Flush(done)).await.is_ok() {
                // An error is a task that is gone, with nothing left to wait for.
                let _ = flushed.await;
            }
        };
        if tokio::time::timeout(Duration::from_millis(FLUSH_MS), all).await.is_err() {
            tracing::warn!("not all traces were sent in time");
        }
    }

    pub(crate) fn samples(&self) -> Vec<Sample> {
        lock(&self.measures).samples()
    }
}

// Nothing that can panic runs under this lock.
fn lock(measures: &Mutex<Measures>) -> MutexGuard<'_, Measures> {
    measures.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Task {
    messages: mpsc::Receiver<Message>,
    exporter: Option<SpanExporter>,
    measures: Arc<Mutex<Measures>>,
    time: Duration,
    debug: bool,
    scope: InstrumentationScope,
}

impl Task {
    async fn run(mut self) {
        while let Some(message) = self.messages.recv().await {
            match message {
                Message::Ended(log, run_id) => {
                    // The exporter's own time does not cover a request that is under way.
                    let sent = tokio::time::timeout(self.time, self.send(log.as_ref(), &run_id)).await;
                    let sent = sent.unwrap_or_else(|_| Err("it took too long".to_owned()));
                    if let Err(error) = sent {
                        lock(&self.measures).failure();
                        tracing::warn!(run = %run_id, %error, "the run's trace could not be sent");
                    }
                }
                Message::Flush(done) => {
                    // Who asked may have lost patience.
                    let _ = done.send(());
                }
            }
        }
    }

    async fn send(&self, log: &dyn EventLog, run_id: &RunId) -> Result<(), String> {
        let Some(trace) = project(log, run_id).await.map_err(|error| error.to_string())? else { return Ok(()) };
        if self.debug {
            let spans = serde_json::to_string(&trace.spans).unwrap_or_default();
            tracing::info!(run = %run_id, trace = %format_args!("{:032x}", trace.id), spans, "a trace");
        }
        match &self.exporter {
            Some(exporter) => exporter.export(span_data(trace, &self.scope)).await.map_err(|error| error.to_string()),
            None => Ok(()),
        }
    }
}

/// The trace of a run, read page by page; none for a run that is gone or has no end.
async fn project(log: &dyn EventLog, run_id: &RunId) -> Result<Option<Trace>> {
    let mut trace = RunTrace::new(run_id.clone(), None);
    let mut next_seq = 1;
    loop {
        let page = log.read(run_id, next_seq, READ_RECORDS_MAX).await?;
        let Some(last) = page.last() else { return Ok(None) };
        next_seq = last.seq + 1;
        let is_end = last.kind == EventKind::RuntimeTerminal;
        page.iter().for_each(|record| trace.apply(record));
        if is_end {
            return Ok(Some(trace.finish()));
        }
    }
}

/// A trace in the words of the SDK.
fn span_data(trace: Trace, scope: &InstrumentationScope) -> Vec<SpanData> {
    let trace_id = TraceId::from(trace.id.get());
    let flags = TraceFlags::SAMPLED;
    let context = |id: SpanId| SpanContext::new(trace_id, id, flags, false, TraceState::default());
    let data = |span: Span| {
        let events = span
            .events
            .into_iter()
            .map(|event| Event::new(event.name, time(event.t_ms), key_values(event.attributes), 0));
        let mut kept = SpanEvents::default();
        kept.events = events.collect();
        kept.dropped_count = span.events_dropped;
        SpanData {
            span_context: context(SpanId::from(span.id.get())),
            parent_span_id: span.parent_id.map_or(SpanId::INVALID, |id| SpanId::from(id.get())),
            parent_span_is_remote: false,
            span_kind: SpanKind::Internal,
            name: span.name.into(),
            start_time: time(span.start_ms),
            end_time: time(span.end_ms),
            attributes: key_values(span.attributes),
            dropped_attributes_count: 0,
            events: kept,
            links: SpanLinks::default(),
            status: match span.status {
                SpanStatus::Unset => Status::Unset,
                SpanStatus::Ok => Status::Ok,
                // A description would be a text; `error.type` says what went wrong.
                SpanStatus::Error => Status::error(""),
            },
            instrumentation_scope: scope.clone(),
        }
    };
    trace.spans.into_iter().map(data).collect()
}

fn time(t_ms: u64) -> SystemTime {
    // A time beyond what the system can tell is a defect of some clock; the span is kept.
    UNIX_EPOCH.checked_add(Duration::from_millis(t_ms)).unwrap_or(UNIX_EPOCH)
}

fn key_values(attributes: Attributes) -> Vec<KeyValue> {
    let value = |value| match value {
        AttributeValue::Word(word) => Value::from(word),
        AttributeValue::Int(number) => Value::from(number),
        AttributeValue::Float(amount) => Value::from(amount),
        AttributeValue::Bool(yes) => Value::from(yes),
    };
    attributes.into_iter().map(|(name, of)| KeyValue::new(name, value(of))).collect()
}

/// The exporter of the settings; none if nothing leaves.
fn exporter(settings: &Settings, tls: &Tls) -> Result<Option<SpanExporter>> {
    // One that cannot be read was noted when the settings were made.
    let Ok(Some(url)) = settings.url() else { return Ok(None) };
    // Neither the URL nor a header is shown: each may hold a token.
    let bad =
        |why: &str| Error::invalid("telemetry-endpoint", format!("the endpoint for telemetry cannot be used: {why}"));
    let target = Target::parse(url.as_str()).map_err(|_| bad("it has a fragment, or no host that can be asked"))?;
    let time = Duration::from_millis(settings.timeout_ms);
    let mut headers = HeaderMap::new();
    for (name, value) in &settings.headers {
        let name = HeaderName::try_from(name).map_err(|_| bad("a header's name cannot be sent"))?;
        let mut value = HeaderValue::try_from(value).map_err(|_| bad("a header's value cannot be sent"))?;
        value.set_sensitive(true);
        headers.insert(name, value);
    }
    let mut exporter = SpanExporter::builder()
        .with_http()
        .with_http_client(Collector { target, headers, tls: tls.clone(), resolver: SystemResolver })
        .with_protocol(Protocol::HttpBinary)
        .with_endpoint(url.as_str())
        .with_timeout(time)
        .build()
        .map_err(|_| bad("the exporter refuses it, or the compression that was asked for"))?;
    let service = &settings.service;
    let attributes = [
        KeyValue::new("service.name", service.name.clone()),
        KeyValue::new("service.version", service.version.clone()),
    ];
    // Not the SDK's own resource, which would read the environment again.
    exporter.set_resource(&Resource::builder_empty().with_attributes(attributes).build());
    Ok(Some(exporter))
}

/// The HTTP client of the exporter: one connection a request, as everywhere here.
struct Collector {
    target: Target,
    headers: HeaderMap,
    tls: Tls,
    resolver: SystemResolver,
}

impl fmt::Debug for Collector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Collector({})", self.target)
    }
}

#[async_trait]
impl HttpClient for Collector {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let addresses = match self.target.ip() {
            Some(ip) => vec![ip],
            None => self.resolver.resolve(&self.target.host().to_string()).await?,
        };
        let port = self.target.port();
        let addresses: Vec<_> = addresses.into_iter().take(ADDRESSES_MAX).map(|ip| SocketAddr::new(ip, port)).collect();
        let io = connect(&self.target, &addresses, &self.tls).await?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(io)).await?;
        let exchange = async {
            let (head, body) = sender.send_request(self.message(request)?).await?.into_parts();
            let body = Limited::new(body, ANSWER_BYTES_MAX).collect().await?.to_bytes();
            Ok::<_, HttpError>(Response::from_parts(head, body))
        };
        // Both end with this call: a request that is given up leaves no connection behind.
        let moving = async {
            let ended = connection.await;
            // The exchange knows better why.
            drop(ended);
            std::future::pending().await
        };
        tokio::select! {
            answer = exchange => answer,
            never = moving => never,
        }
    }
}

impl Collector {
    /// What is written. Of what the exporter says, only what the body is: the headers are those of the settings, and not once
    /// more those of the process's environment.
    fn message(&self, request: Request<Bytes>) -> Result<Request<Full<Bytes>>, HttpError> {
        let url = self.target.url();
        let host = url.host_str().unwrap_or_default();
        let host = url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
        let mut headers = self.headers.clone();
        for name in [CONTENT_TYPE, http::header::CONTENT_ENCODING] {
            if let Some(value) = request.headers().get(&name) {
                headers.insert(name, value.clone());
            }
        }
        headers.insert(HOST, HeaderValue::try_from(host)?);
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
        headers.insert(CONTENT_LENGTH, request.body().len().into());
        headers.entry(USER_AGENT).or_insert(HeaderValue::from_static(concat!("midplane/", env!("CARGO_PKG_VERSION"))));
        let path: String = [url.path(), url.query().map_or("", |_| "?"), url.query().unwrap_or_default()].concat();
        let mut message = Request::new(Full::new(request.into_body()));
        *message.method_mut() = Method::POST;
        *message.uri_mut() = Uri::try_from(path)?;
        *message.headers_mut() = headers;
        Ok(message)
    }
}

#[cfg(test)]
mod tests;
