//! What a call of a plugin can reach: the services behind its imports, put together here and nowhere else.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use midplane_core::limits::Limits;
use midplane_core::redact::Redactor;
use midplane_core::{Error, ProfileName, Result};
use midplane_engine::ports::{self, Ports};
use midplane_store::Store;

/// `kv` of a profile, over the store, within the bounds of the interface and without secrets: a guest can put together
/// what a vendor sent it in pieces, and what it keeps stays on the disk.
pub(crate) struct ProfileKv {
    pub(crate) store: Store,
    pub(crate) profile: ProfileName,
    pub(crate) limits: Limits,
    pub(crate) redactor: Redactor,
}

impl ProfileKv {
    fn key(&self, key: &str) -> Result<()> {
        if key.is_empty() || key.len() as u64 > self.limits.kv_key_bytes_max || key.chars().any(char::is_control) {
            let max = self.limits.kv_key_bytes_max;
            return Err(Error::invalid("key", format!("a key has 1 to {max} bytes without control characters")));
        }
        // Another key in its place would be found by nobody.
        if matches!(self.redactor.text(key), Cow::Owned(_)) {
            return Err(Error::invalid("key", "a key may not contain a secret"));
        }
        Ok(())
    }
}

#[async_trait]
impl ports::Kv for ProfileKv {
    async fn get(&self, key: &str) -> Result<Option<(Vec<u8>, u64)>> {
        self.key(key)?;
        self.store.kv.get(&self.profile, key).await
    }

    async fn put(&self, key: &str, value: Vec<u8>, expect: Option<u64>) -> Result<u64> {
        self.key(key)?;
        if value.len() as u64 > self.limits.kv_value_bytes_max {
            return Err(Error::limit(
                "value-size",
                format!("a value has at most {} bytes", self.limits.kv_value_bytes_max),
            ));
        }
        let kept = match self.redactor.bytes(&value) {
            Cow::Borrowed(_) => value,
            Cow::Owned(kept) => kept,
        };
        self.store.kv.put(&self.profile, key, kept, expect, self.limits.kv_total_bytes_max).await
    }

    async fn remove(&self, key: &str, expect: Option<u64>) -> Result<bool> {
        self.key(key)?;
        self.store.kv.remove(&self.profile, key, expect).await
    }

    async fn keys(&self, prefix: &str, after: Option<&str>, limit: u32) -> Result<Vec<String>> {
        if prefix.len() as u64 > self.limits.kv_key_bytes_max {
            return Ok(Vec::new());
        }
        self.store.kv.keys(&self.profile, prefix, after, limit.min(KV_PAGE_MAX)).await
    }
}

/// What the interface gives at most in one page of keys.
const KV_PAGE_MAX: u32 = 1_000;

/// `log`: a guest's lines as trace events, redacted, escaped, cut, and no more than its rate.
pub(crate) struct TraceLog {
    redactor: Redactor,
    /// What the lines stand under: profile and run.
    span: tracing::Span,
    line_bytes_max: usize,
    per_second_max: u64,
    window: Mutex<(Instant, u64)>,
    dropped: AtomicU64,
}

impl TraceLog {
    pub(crate) fn new(redactor: Redactor, span: tracing::Span, limits: &Limits) -> Self {
        Self {
            redactor,
            span,
            line_bytes_max: usize::try_from(limits.log_line_bytes_max).unwrap_or(usize::MAX),
            per_second_max: limits.log_lines_per_s_max,
            window: Mutex::new((Instant::now(), 0)),
            dropped: AtomicU64::new(0),
        }
    }

    fn has_room(&self) -> bool {
        let mut window = self.window.lock().unwrap_or_else(PoisonError::into_inner);
        if window.0.elapsed() >= Duration::from_secs(1) {
            *window = (Instant::now(), 0);
        }
        window.1 += 1;
        window.1 <= self.per_second_max
    }
}

impl ports::Log for TraceLog {
    fn write(&self, level: ports::Level, message: String) {
        if !self.has_room() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        // Redacted whole before it is cut: a cut could leave half of a secret.
        let message = self.redactor.text(&message);
        let message =
            midplane_core::text::escape_controls(midplane_core::text::cut(&message, self.line_bytes_max), false);
        let dropped = self.dropped.swap(0, Ordering::Relaxed);
        self.span.in_scope(|| {
            if dropped > 0 {
                tracing::warn!(target: "midplane::guest", dropped, "log lines beyond the plugin's rate were dropped");
            }
            match level {
                ports::Level::Debug => tracing::debug!(target: "midplane::guest", "{message}"),
                ports::Level::Info => tracing::info!(target: "midplane::guest", "{message}"),
                ports::Level::Warn => tracing::warn!(target: "midplane::guest", "{message}"),
                ports::Level::Error => tracing::error!(target: "midplane::guest", "{message}"),
            }
        });
    }
}

/// A service that this call does not have: every use is refused by name.
pub(crate) struct Without(pub(crate) &'static str);

impl Without {
    fn refuse<T>(&self) -> Result<T> {
        Err(Error::denied("not-here", format!("{} may not be used in this call", self.0)))
    }
}

#[async_trait]
impl ports::Tools for Without {
    async fn offered(&self) -> Result<Vec<ports::Tool>> {
        self.refuse()
    }

    async fn call_all(&self, _calls: Vec<ports::ToolCall>) -> Result<Vec<ports::ToolAnswer>> {
        self.refuse()
    }
}

#[async_trait]
impl ports::Http for Without {
    async fn send(&self, _request: ports::HttpRequest, _body: ports::HttpBody) -> Result<Box<dyn ports::HttpResponse>> {
        self.refuse()
    }

    async fn presign(&self, _request: ports::HttpRequest, _expires_s: u32) -> Result<ports::SignedRequest> {
        self.refuse()
    }
}

impl ports::Blobs for Without {
    fn open_writer(&self) -> Result<Box<dyn ports::BlobWriter>> {
        self.refuse()
    }
}

#[async_trait]
impl ports::Kv for Without {
    async fn get(&self, _key: &str) -> Result<Option<(Vec<u8>, u64)>> {
        self.refuse()
    }

    async fn put(&self, _key: &str, _value: Vec<u8>, _expect: Option<u64>) -> Result<u64> {
        self.refuse()
    }

    async fn remove(&self, _key: &str, _expect: Option<u64>) -> Result<bool> {
        self.refuse()
    }

    async fn keys(&self, _prefix: &str, _after: Option<&str>, _limit: u32) -> Result<Vec<String>> {
        self.refuse()
    }
}

#[async_trait]
impl ports::Approval for Without {
    async fn ask(&self, _question: ports::Question) -> Result<ports::Decision> {
        self.refuse()
    }
}

#[async_trait]
impl ports::Process for Without {
    async fn spawn(&self, _command: ports::Command) -> Result<Box<dyn ports::Child>> {
        self.refuse()
    }
}

#[async_trait]
impl ports::Events for Without {
    async fn emit(&self, _events: Vec<(String, String)>) -> Result<()> {
        self.refuse()
    }
}

/// A reach without anything but settings and log lines: for `capabilities`, `validate` and the trial of an install, which
/// are pure by contract.
pub(crate) fn pure(
    config: Arc<BTreeMap<String, String>>,
    redactor: Redactor,
    span: tracing::Span,
    limits: &Limits,
) -> Ports {
    let time = Duration::from_millis(limits.query_ms_max);
    Ports {
        control: Arc::new(midplane_engine::Control::new(time)),
        config,
        log: Arc::new(TraceLog::new(redactor, span, limits)),
        events: Arc::new(Without("events")),
        http: Arc::new(Without("HTTP")),
        blobs: Arc::new(Without("a blob")),
        kv: Arc::new(Without("`kv`")),
        tools: Arc::new(Without("a tool")),
        approval: Arc::new(Without("an approval")),
        process: Arc::new(Without("a program")),
    }
}
