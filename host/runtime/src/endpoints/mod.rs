//! Loopback endpoints of a run: places on this machine that stand for URLs of a plugin, so that the program which the plugin
//! drives needs no credential of the vendor.
//!
//! ```text
//!   program ─► 127.0.0.1:PORT/PATH ─► path and token known? ─► egress gate: rights, credential, audit ─► vendor
//!              (listens while the      no: 401, without                     │
//!               run lasts)             saying which                         ▼
//!   program ◄───────────────── as it arrives ◄─────────────────────── redacted ◄─
//! ```
//! The path and the token are random for each run. The plugin reads the URL and a placeholder of the token from its
//! settings (`endpoint.NAME.url`, `endpoint.NAME.token`); the host puts the token in where a child of the run reads it.
//!
//! # Layout
//! - here: what is made at admission ([`Plan`]), and what lives as long as the run ([`Endpoints`])
//! - [`serve`]: one request
//!
//! # What it never does
//! It listens on nothing but the loopback address, holds no credential, and decides no right: it is one more caller of
//! [`crate::egress`]. It keeps no connection for a second request, and nothing of it outlives the run.

mod serve;
// They look at `/proc`.
#[cfg(all(test, target_os = "linux"))]
mod tests;

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::Arc;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use midplane_core::endpoint::Prefix;
use midplane_core::gate::overlap;
use midplane_core::limits::Limits;
use midplane_core::permission::{Grant, Grants};
use midplane_core::redact::SecretValue;
use midplane_core::{Error, Result};
use midplane_engine::Control;
use midplane_engine::ports::Http;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::{JoinHandle, JoinSet};

use self::serve::Serve;
use crate::blob::BlobSpace;
use crate::placeholder::Placeholders;
use crate::profile::Endpoint;

/// Bytes of the random part of a path, and of a token.
const RANDOM_BYTES: usize = 16;
/// How long a request head may take to come: the other side is on this machine.
const HEAD_TIME: std::time::Duration = std::time::Duration::from_secs(30);
/// Bytes of a request head.
const HEAD_BYTES_MAX: usize = 64 * 1024;

/// The tokens of a run's endpoints, by the names of their placeholders.
pub(crate) type Tokens = BTreeMap<String, SecretValue>;

/// Makes a token for each endpoint that a run will have: those whose URL something granted reaches.
pub(crate) fn tokens(endpoints: &[Endpoint], grants: &Grants) -> Result<Tokens> {
    let named = endpoints.iter().filter(|endpoint| is_granted(endpoint, grants));
    named.map(|endpoint| Ok((token_name(&endpoint.name), SecretValue::new(format!("mp-{}", random()?))))).collect()
}

/// Whether something granted reaches an endpoint's URL.
pub(crate) fn is_granted(endpoint: &Endpoint, grants: &Grants) -> bool {
    let whole = Grant::Http(endpoint.url.clone());
    grants.iter().any(|(grant, _)| overlap(grant, &whole))
}

fn token_name(endpoint: &str) -> String {
    format!("endpoint_{endpoint}")
}

/// What a run's endpoints need, known at admission.
pub(crate) struct Plan {
    routes: Vec<Route>,
    http: Arc<dyn Http>,
    /// Where the bodies of requests wait for the vendor.
    blobs: BlobSpace,
    control: Arc<Control>,
    connections_max: u64,
}

/// One endpoint.
struct Route {
    name: String,
    /// The first segment of its path.
    path: String,
    token: SecretValue,
    /// What it stands for, without a `/` at the end.
    url: Prefix,
    credential: String,
}

impl Plan {
    /// Those endpoints of a profile that have a token. `http` is the egress gate of the run.
    pub(crate) fn new(
        endpoints: &[Endpoint],
        tokens: &Tokens,
        http: Arc<dyn Http>,
        blobs: BlobSpace,
        control: Arc<Control>,
        limits: &Limits,
    ) -> Result<Self> {
        let mut routes = Vec::new();
        for endpoint in endpoints {
            let Some(token) = tokens.get(&token_name(&endpoint.name)) else { continue };
            routes.push(Route {
                name: endpoint.name.clone(),
                path: random()?,
                token: token.clone(),
                url: endpoint.url.clone(),
                credential: endpoint.credential.clone(),
            });
        }
        Ok(Self { routes, http, blobs, control, connections_max: limits.endpoint_connections_max })
    }

    /// Listens, if there is anything to serve. `unavailable` code `endpoint` where no port can be had.
    pub(crate) async fn start(self, placeholders: &Placeholders) -> Result<Endpoints> {
        if self.routes.is_empty() {
            return Ok(Endpoints { config: BTreeMap::new(), port: None, _task: None });
        }
        let failed = |error: std::io::Error| {
            Error::unavailable("endpoint", format!("no port on the loopback address can be listened on: {error}"))
        };
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.map_err(failed)?;
        let port = listener.local_addr().map_err(failed)?.port();
        let config = self.routes.iter().flat_map(|route| {
            let name = &route.name;
            [
                (format!("endpoint.{name}.url"), format!("http://127.0.0.1:{port}/{}", route.path)),
                (format!("endpoint.{name}.token"), placeholders.text(&token_name(name))),
            ]
        });
        let config = config.collect();
        Ok(Endpoints { config, port: Some(port), _task: Some(AbortOnDrop(tokio::spawn(listen(listener, self)))) })
    }
}

/// The endpoints of a run. Dropping them closes the listener and every connection.
pub(crate) struct Endpoints {
    /// What the plugin reads of them.
    pub(crate) config: BTreeMap<String, String>,
    /// The loopback port of all of them, if there are any.
    pub(crate) port: Option<u16>,
    _task: Option<AbortOnDrop>,
}

struct AbortOnDrop(JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn listen(listener: TcpListener, plan: Plan) {
    let room = Arc::new(Semaphore::new(usize::try_from(plan.connections_max).unwrap_or(1).clamp(1, 1024)));
    let serve = Arc::new(Serve { plan });
    // Its connections end with this task, which owns them.
    let mut connections = JoinSet::new();
    loop {
        // More wait in the queue of the listener.
        let Ok(permit) = Arc::clone(&room).acquire_owned().await else { return };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Out of descriptors, most likely; those of this run may come free.
                tracing::warn!(%error, "a connection to an endpoint cannot be taken");
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                continue;
            }
        };
        while connections.try_join_next().is_some() {}
        let _ = stream.set_nodelay(true); // events are small, and waited for
        let serve = Arc::clone(&serve);
        connections.spawn(async move {
            let service = service_fn(move |request| {
                let serve = Arc::clone(&serve);
                async move { Ok::<_, std::convert::Infallible>(serve.answer(request).await) }
            });
            // One request each: a connection that is kept could be closed in the moment in which it is used again.
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEAD_TIME)
                .max_buf_size(HEAD_BYTES_MAX)
                .keep_alive(false)
                .serve_connection(TokioIo::new(stream), service);
            // Its error is the other side's: it went away, or spoke no HTTP.
            drop(connection.await);
            drop(permit);
        });
    }
}

fn random() -> Result<String> {
    let mut bytes = [0; RANDOM_BYTES];
    getrandom::fill(&mut bytes)
        .map_err(|error| Error::internal("random", format!("the system gives no random bytes: {error}")))?;
    Ok(format!("{:032x}", u128::from_be_bytes(bytes)))
}
