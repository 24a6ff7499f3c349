//! A scripted server, and a gate in front of it with everything in its hands.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Mutex;
use std::time::Duration;

use midplane_core::endpoint::Prefix;
use midplane_core::event::Event;
use midplane_core::limits::Limits;
use midplane_core::manifest::{Credential, Scheme};
use midplane_core::permission::{Origin, Permission, Requested};
use midplane_core::redact::{Redactor, SecretValue, Secrets};
use midplane_core::{Error, ProfileName};
use midplane_engine::Control;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::super::connect::Io;
use super::super::*;
use crate::blob::BlobBudget;
use crate::call::{Audit, Sink};

pub(crate) const KEY: &str = "sk-live-0123456789/abc+def";
pub(crate) const ALL: [&str; 6] = ["GET", "HEAD", "OPTIONS", "POST", "PUT", "DELETE"];

/// One connection, from the server's side.
pub(crate) struct Peer {
    pub(crate) io: Box<dyn Io>,
    buffer: Vec<u8>,
}

impl Peer {
    pub(crate) fn new(io: Box<dyn Io>) -> Self {
        Self { io, buffer: Vec::new() }
    }

    /// The next request head, with its lines as they came.
    pub(crate) async fn head(&mut self) -> String {
        loop {
            if let Some(end) = self.buffer.windows(4).position(|window| window == b"\r\n\r\n") {
                let head: Vec<u8> = self.buffer.drain(..end + 4).collect();
                return String::from_utf8(head).unwrap();
            }
            if self.io.read_buf(&mut self.buffer).await.unwrap_or(0) == 0 {
                return String::new();
            }
        }
    }

    /// The body that a head announced.
    pub(crate) async fn body(&mut self, head: &str) -> Vec<u8> {
        let size: usize = header(head, "content-length").map_or(0, |text| text.parse().unwrap());
        while self.buffer.len() < size {
            assert_ne!(self.io.read_buf(&mut self.buffer).await.unwrap(), 0, "the body broke off");
        }
        self.buffer.drain(..size).collect()
    }

    /// Writes; whether the other side was still there.
    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        self.io.write_all(bytes.as_ref()).await.is_ok() && self.io.flush().await.is_ok()
    }

    /// The next bytes, those that were read already first; none at the end.
    pub(crate) async fn some(&mut self) -> Vec<u8> {
        if self.buffer.is_empty() {
            let _ = self.io.read_buf(&mut self.buffer).await;
        }
        std::mem::take(&mut self.buffer)
    }

    /// The body of an answer, whose chunks are put together; the other side closes after it.
    pub(crate) async fn rest(&mut self, head: &str) -> Vec<u8> {
        while self.io.read_buf(&mut self.buffer).await.is_ok_and(|size| size > 0) {}
        let raw = std::mem::take(&mut self.buffer);
        if header(head, "transfer-encoding") != Some("chunked") {
            return raw;
        }
        let (mut body, mut left) = (Vec::new(), raw.as_slice());
        while let Some(end) = left.windows(2).position(|window| window == b"\r\n") {
            let size = usize::from_str_radix(std::str::from_utf8(&left[..end]).unwrap(), 16).unwrap();
            if size == 0 {
                break;
            }
            body.extend_from_slice(&left[end + 2..end + 2 + size]);
            left = &left[end + 4 + size..];
        }
        body
    }

    /// Waits until the other side closes.
    pub(crate) async fn closed(&mut self) {
        while self.io.read_buf(&mut self.buffer).await.is_ok_and(|size| size > 0) {}
    }
}

/// The value of a header in a head, whatever its case.
pub(crate) fn header<'h>(head: &'h str, name: &str) -> Option<&'h str> {
    let mut lines = head.lines().filter_map(|line| line.split_once(": "));
    lines.find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value)
}

/// A whole answer.
pub(crate) fn answer(status: &str, headers: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\n{headers}content-length: {}\r\n\r\n{body}", body.len())
}

/// Heads and bodies of requests, in the order in which they came.
type Seen = Arc<Mutex<Vec<(String, Vec<u8>)>>>;

pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    /// Heads and bodies, in the order in which they came.
    seen: Seen,
    task: JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Server {
    /// Answers each request by what a function makes of its head.
    pub(crate) async fn answering(respond: impl Fn(&str) -> String + Send + Sync + 'static) -> Self {
        Self::answering_at(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), respond).await
    }

    pub(crate) async fn answering_at(at: SocketAddr, respond: impl Fn(&str) -> String + Send + Sync + 'static) -> Self {
        let respond = Arc::new(respond);
        let seen = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&seen);
        let script = move |mut peer: Peer| {
            let (respond, log) = (Arc::clone(&respond), Arc::clone(&log));
            async move {
                let head = peer.head().await;
                let body = peer.body(&head).await;
                let text = respond(&head);
                log.lock().unwrap().push((head, body));
                peer.send(text).await;
                peer.closed().await;
            }
        };
        let mut server = Self::scripted_at(at, script).await;
        server.seen = seen;
        server
    }

    /// Runs a script for each connection.
    pub(crate) async fn scripted<F>(script: impl Fn(Peer) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        Self::scripted_at(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), script).await
    }

    async fn scripted_at<F>(at: SocketAddr, script: impl Fn(Peer) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind(at).await.unwrap();
        let address = listener.local_addr().unwrap();
        let task = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                tokio::spawn(script(Peer::new(Box::new(stream))));
            }
        });
        Self { address, seen: Arc::default(), task }
    }

    pub(crate) fn port(&self) -> u16 {
        self.address.port()
    }

    pub(crate) fn seen(&self) -> Vec<(String, Vec<u8>)> {
        self.seen.lock().unwrap().clone()
    }

    /// The only head that came.
    pub(crate) fn head(&self) -> String {
        let seen = self.seen();
        assert_eq!(seen.len(), 1);
        seen[0].0.clone()
    }
}

/// Names with their answers; the last answer stays. Asking for another name fails.
#[derive(Default)]
pub(crate) struct Names {
    answers: Mutex<HashMap<String, Vec<Vec<IpAddr>>>>,
    asked: Mutex<Vec<String>>,
}

impl Names {
    pub(crate) fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

#[async_trait]
impl Resolve for Names {
    async fn resolve(&self, name: &str) -> std::io::Result<Vec<IpAddr>> {
        self.asked.lock().unwrap().push(name.to_owned());
        let mut answers = self.answers.lock().unwrap();
        match answers.get_mut(name) {
            Some(list) if list.len() > 1 => Ok(list.remove(0)),
            Some(list) => Ok(list[0].clone()),
            None => Err(std::io::Error::other("no such host")),
        }
    }
}

/// Values by name.
pub(crate) struct Values(pub(crate) HashMap<String, String>);

#[async_trait]
impl SecretSource for Values {
    async fn resolve(&self, name: &str) -> Result<SecretValue> {
        let value = self.0.get(name).cloned();
        value.map(SecretValue::from).ok_or_else(|| Error::not_found("secret", format!("`{name}` is not set")))
    }
}

#[derive(Default)]
pub(crate) struct Log(Mutex<Vec<Audit>>);

impl Log {
    pub(crate) fn audits(&self) -> Vec<Audit> {
        self.0.lock().unwrap().clone()
    }

    /// Without what differs from run to run.
    pub(crate) fn shown(&self, port: u16) -> Vec<String> {
        let line = |audit: Audit| {
            format!("{} {} {} [{}]", audit.act, audit.target, audit.outcome, audit.grant.unwrap_or_default())
        };
        self.audits().into_iter().map(|audit| line(audit).replace(&port.to_string(), "PORT")).collect()
    }
}

#[async_trait]
impl Sink for Log {
    async fn events(&self, _events: Vec<Event>) -> Result<()> {
        Ok(())
    }

    fn audit(&self, audit: Audit) {
        self.0.lock().unwrap().push(audit);
    }
}

/// What a gate is made of.
pub(crate) struct Setup {
    pub(crate) permissions: Vec<Requested>,
    pub(crate) grants: Vec<String>,
    pub(crate) values: HashMap<String, String>,
    /// What the redactor knows, where that differs.
    pub(crate) hidden: Option<HashMap<String, String>>,
    pub(crate) names: HashMap<String, Vec<Vec<IpAddr>>>,
    pub(crate) limits: Limits,
    pub(crate) tls: Option<Tls>,
    /// Shared by gates that are calls of one host.
    pub(crate) tokens: Arc<AccessTokens>,
}

pub(crate) struct Gate {
    pub(crate) egress: Arc<Egress>,
    pub(crate) log: Arc<Log>,
    pub(crate) names: Arc<Names>,
}

pub(crate) fn permission(url: &str, methods: &[&str], credential: Option<Credential>) -> Requested {
    let prefix = Prefix::parse(url).unwrap();
    let methods = methods.iter().map(|method| (*method).to_owned()).collect();
    let permission = Permission::Http { prefix, methods, credential };
    Requested { permission, optional: false, reason: "a test".to_owned() }
}

pub(crate) fn rule(name: &str, scheme: Scheme, secret: &str) -> Credential {
    Credential { name: name.to_owned(), scheme, secret: secret.to_owned() }
}

impl Setup {
    /// Nothing allowed, nothing known.
    pub(crate) fn empty() -> Self {
        Self {
            permissions: Vec::new(),
            grants: Vec::new(),
            values: HashMap::new(),
            hidden: None,
            names: HashMap::new(),
            limits: Limits::default(),
            tls: None,
            tokens: Arc::default(),
        }
    }

    /// `http://api.test` at the server's port, all methods, without credential.
    pub(crate) fn open(server: &Server) -> Self {
        Self::empty().allow(&format!("http://api.test:{}", server.port()), &ALL, None)
    }

    /// The same with a bearer key.
    pub(crate) fn with_key(server: &Server) -> Self {
        let key = rule("key", Scheme::Bearer, "API_KEY");
        Self::empty().allow(&format!("http://api.test:{}", server.port()), &ALL, Some(key)).value("API_KEY", KEY)
    }

    /// Asks for it, grants it, and gives its name the loopback address.
    pub(crate) fn allow(mut self, url: &str, methods: &[&str], credential: Option<Credential>) -> Self {
        let prefix = Prefix::parse(url).unwrap();
        if prefix.ip().is_none() {
            let host = url.split("://").nth(1).unwrap().split([':', '/']).next().unwrap();
            self.names.entry(host.to_owned()).or_insert_with(|| vec![vec![Ipv4Addr::LOCALHOST.into()]]);
        }
        self.permissions.push(permission(url, methods, credential));
        self.grant(&format!("http:{url}")).grant("address:127.0.0.1")
    }

    pub(crate) fn grant(mut self, text: &str) -> Self {
        self.grants.push(text.to_owned());
        self
    }

    /// A secret that is granted.
    pub(crate) fn value(mut self, name: &str, value: &str) -> Self {
        self.values.insert(name.to_owned(), value.to_owned());
        self.grant(&format!("secret:{name}"))
    }

    pub(crate) fn name(mut self, name: &str, answers: &[&[&str]]) -> Self {
        let answers = answers.iter().map(|list| list.iter().map(|ip| ip.parse().unwrap()).collect()).collect();
        self.names.insert(name.to_owned(), answers);
        self
    }

    pub(crate) fn limits(mut self, change: impl FnOnce(&mut Limits)) -> Self {
        change(&mut self.limits);
        self
    }

    pub(crate) fn build(self) -> Gate {
        let log = Arc::new(Log::default());
        let names = Arc::new(Names { answers: Mutex::new(self.names), asked: Mutex::default() });
        let redactor = Redactor::new(Secrets::new(self.hidden.unwrap_or_else(|| self.values.clone())).unwrap());
        let budget = Arc::new(BlobBudget::new(self.limits.blob_bytes_max));
        let call = Call {
            profile: ProfileName::new("tester").unwrap(),
            run_id: None,
            control: Arc::new(Control::new(Duration::from_secs(600))),
            sink: Arc::clone(&log) as Arc<dyn Sink>,
            limits: self.limits.clone(),
        };
        let egress = Arc::new(Egress {
            call: Arc::new(call),
            permissions: Arc::new(self.permissions.into_iter().collect()),
            grants: Arc::new(self.grants.iter().map(|text| (text.parse().unwrap(), Origin::Once)).collect()),
            secrets: Arc::new(Values(self.values)),
            blobs: BlobSpace::new(std::env::temp_dir(), budget, redactor.clone()),
            tokens: TokenUse::new(&self.tokens, &redactor),
            placeholders: Arc::new(Placeholders::new().unwrap()),
            budget: Arc::new(HttpBudget::new(&self.limits)),
            tls: self.tls.unwrap_or_else(|| Tls::shared().unwrap()),
            resolver: Arc::clone(&names) as Arc<dyn Resolve>,
        });
        Gate { egress, log, names }
    }
}

pub(crate) fn request(method: &str, url: impl Into<String>) -> HttpRequest {
    HttpRequest { method: method.to_owned(), url: url.into(), headers: Vec::new(), credential: None, timeout_ms: None }
}

impl Gate {
    pub(crate) async fn send(&self, method: &str, url: impl Into<String>) -> Result<Box<dyn HttpResponse>> {
        self.egress.send(request(method, url), HttpBody::Empty).await
    }

    pub(crate) async fn send_bytes(
        &self,
        method: &str,
        url: impl Into<String>,
        body: impl AsRef<[u8]>,
    ) -> Result<Box<dyn HttpResponse>> {
        self.egress.send(request(method, url), HttpBody::Bytes(body.as_ref().to_vec())).await
    }

    /// Status and body, or the error.
    pub(crate) async fn shown(&self, method: &str, url: impl Into<String>) -> String {
        match self.send(method, url).await {
            Err(error) => error_line(&error),
            Ok(mut response) => match text(&mut *response).await {
                Ok(body) => format!("{} {body}", response.status()),
                Err(error) => format!("{} {}", response.status(), error_line(&error)),
            },
        }
    }
}

pub(crate) fn error_line(error: &Error) -> String {
    format!("{} {}: {}", error.kind, error.code, error.message)
}

/// Kind and code of a failure.
pub(crate) fn failure<T>(result: Result<T>) -> String {
    let error = result.err().expect("a failure");
    format!("{} {}", error.kind, error.code)
}

/// The rest of a body.
pub(crate) async fn rest(response: &mut dyn HttpResponse) -> Result<Vec<u8>> {
    let mut out = Vec::new();
    while let Some(piece) = response.read(1000).await? {
        assert!((1..=1000).contains(&piece.len()));
        out.extend(piece);
    }
    Ok(out)
}

pub(crate) async fn text(response: &mut dyn HttpResponse) -> Result<String> {
    Ok(String::from_utf8(rest(response).await?).unwrap())
}
