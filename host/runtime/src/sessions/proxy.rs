//! The way to the listed domains for the programs of a session, which the kernel lets connect to nothing else.
//!
//! ```text
//! program ── CONNECT host:port ──► 127.0.0.1:PORT ── token? host listed? address public? ──► host
//!            (HTTPS_PROXY)                           403 with the reason
//! ```
//! The kernel's fence knows ports and no names, so a list of names needs someone who reads them. A proxy by the usual
//! variables is what programs know: curl, git, package managers.
//!
//! # What it never does
//! It looks into no encrypted connection and adds no credential. It resolves a name once and connects to the addresses that it
//! looked at; one that is not public is refused unless the operator listed that very address. It listens on the loopback
//! address only, and serves whoever has its token.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use midplane_core::address::{AddressClass, address_class};
use midplane_core::endpoint::Target;
use midplane_core::session::reach::Domain;
use midplane_core::text::shown;
use midplane_core::{Error, Result};
use subtle::ConstantTimeEq as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::{JoinHandle, JoinSet};

use crate::egress::Resolve;

/// Bytes of a request's head.
const HEAD_BYTES_MAX: usize = 16 * 1024;
/// How long a head may take to come, and a connection to be made.
const HEAD_TIME: Duration = Duration::from_secs(10);
/// Connections at once.
const CONNECTIONS_MAX: usize = 256;
/// Hosts whose refusals are counted.
const REFUSED_MAX: usize = 32;

/// A proxy that listens. Dropping it closes it with all connections.
pub(crate) struct Proxy {
    /// Its port on the loopback address.
    pub(crate) port: u16,
    token: String,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

struct Shared {
    domains: BTreeSet<Domain>,
    resolver: Arc<dyn Resolve>,
    /// `basic USER:TOKEN`, encoded.
    credential: String,
    refused: Mutex<BTreeMap<String, u64>>,
}

impl Proxy {
    /// Listens for the programs of a session. `unavailable` code `endpoint` where no port can be had.
    pub(crate) async fn start(domains: BTreeSet<Domain>, resolver: Arc<dyn Resolve>) -> Result<Self> {
        let failed = |error: io::Error| {
            Error::unavailable("endpoint", format!("no port on the loopback address can be listened on: {error}"))
        };
        let mut random = [0_u8; 16];
        getrandom::fill(&mut random)
            .map_err(|error| Error::unavailable("random", format!("the system gives no randomness: {error}")))?;
        let token = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(random);
        let credential = base64::engine::general_purpose::STANDARD.encode(format!("session:{token}"));
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.map_err(failed)?;
        let port = listener.local_addr().map_err(failed)?.port();
        let shared = Arc::new(Shared { domains, resolver, credential, refused: Mutex::default() });
        let task = tokio::spawn(listen(listener, Arc::clone(&shared)));
        Ok(Self { port, token, shared, task })
    }

    /// The variables by which programs find it. What is on this machine is reached without it, where the ports allow that.
    pub(crate) fn variables(&self) -> impl Iterator<Item = (OsString, OsString)> + use<> {
        let url = format!("http://session:{}@127.0.0.1:{}", self.token, self.port);
        let through = ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"];
        let around = ["NO_PROXY", "no_proxy"];
        let pair = |name: &str, value: &str| (OsString::from(name), OsString::from(value));
        let through = through.into_iter().map(move |name| pair(name, &url));
        through.chain(around.into_iter().map(move |name| pair(name, "localhost,127.0.0.1,::1")))
    }

    /// What was refused, in words; none if nothing was.
    pub(crate) fn refused(&self) -> Option<String> {
        let refused = self.shared.refused.lock().unwrap_or_else(PoisonError::into_inner);
        let list: Vec<String> = refused.iter().map(|(host, times)| format!("{host} ({times})")).collect();
        (!list.is_empty()).then(|| format!("refused hosts: {}", list.join(", ")))
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn listen(listener: TcpListener, shared: Arc<Shared>) {
    let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    // Its connections end with this task, which owns them.
    let mut connections = JoinSet::new();
    loop {
        let Ok(permit) = Arc::clone(&room).acquire_owned().await else { return };
        let Ok((stream, _)) = listener.accept().await else {
            // Out of descriptors, most likely; some may come free.
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        while connections.try_join_next().is_some() {}
        let shared = Arc::clone(&shared);
        connections.spawn(async move {
            // Its error is that of one side or the other, which went away.
            let _ = shared.serve(stream).await;
            drop(permit);
        });
    }
}

/// What a program asks for.
#[derive(Debug, PartialEq)]
struct Asked {
    /// Where, as a URL without its path.
    target: Target,
    /// What is sent there first: nothing of a tunnel, else the request as a server wants it.
    first: Option<Vec<u8>>,
    credential: Option<String>,
}

impl Shared {
    async fn serve(&self, mut stream: TcpStream) -> io::Result<()> {
        let Ok(read) = tokio::time::timeout(HEAD_TIME, head(&mut stream)).await else { return Ok(()) };
        let (head, rest) = read?;
        let asked = match Asked::parse(&head) {
            Ok(asked) => asked,
            Err(why) => return answer(&mut stream, "400 Bad Request", "", &why).await,
        };
        let given = asked.credential.unwrap_or_default();
        if !bool::from(given.as_bytes().ct_eq(self.credential.as_bytes())) {
            let ask = "proxy-authenticate: Basic realm=\"session\"\r\n";
            return answer(&mut stream, "407 Proxy Authentication Required", ask, "this proxy is one session's").await;
        }
        let mut out = match tokio::time::timeout(HEAD_TIME, self.connect(&asked.target)).await {
            Ok(Ok(out)) => out,
            Ok(Err(error)) if error.kind == midplane_core::ErrorKind::Denied => {
                return answer(&mut stream, "403 Forbidden", "", &error.message).await;
            }
            Ok(Err(error)) => return answer(&mut stream, "502 Bad Gateway", "", &error.message).await,
            Err(_) => return answer(&mut stream, "504 Gateway Timeout", "", "the host does not answer").await,
        };
        match &asked.first {
            Some(first) => out.write_all(first).await?,
            None => stream.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await?,
        }
        out.write_all(&rest).await?;
        tokio::io::copy_bidirectional(&mut stream, &mut out).await.map(drop)
    }

    async fn connect(&self, target: &Target) -> Result<TcpStream> {
        let host = target.host().to_string();
        if !self.domains.iter().any(|domain| domain.matches(target.host())) {
            self.note(&host);
            let message = format!("`{}` is not among the domains of the session", shown(&host, 200));
            return Err(Error::denied("session-domain", message));
        }
        let unavailable = |why: &dyn std::fmt::Display| {
            Error::unavailable("connect", format!("`{}` cannot be reached: {why}", shown(&host, 200)))
        };
        let found = match target.ip() {
            Some(ip) => vec![ip],
            None => self.resolver.resolve(&host).await.map_err(|error| unavailable(&error))?,
        };
        // Where the operator listed the address itself, that is his word for what is not public.
        let open = |ip: &IpAddr| target.ip().is_some() || address_class(*ip) == AddressClass::Public;
        let open: Vec<SocketAddr> = found.iter().filter(|ip| open(ip)).map(|ip| (*ip, target.port()).into()).collect();
        if open.is_empty() {
            self.note(&host);
            let message = format!("`{}` has no public address", shown(&host, 200));
            return Err(Error::denied("session-domain", message));
        }
        TcpStream::connect(&*open).await.map_err(|error| unavailable(&error))
    }

    fn note(&self, host: &str) {
        tracing::info!(host = %shown(host, 200), "a program of a session may not reach the host");
        let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        if refused.len() < REFUSED_MAX || refused.contains_key(host) {
            *refused.entry(shown(host, 80)).or_default() += 1;
        }
    }
}

/// Reads up to the end of a request's head; gives it and what came after.
async fn head(stream: &mut TcpStream) -> io::Result<(Vec<u8>, Vec<u8>)> {
    let mut bytes = Vec::new();
    loop {
        if let Some(end) = memchr::memmem::find(&bytes, b"\r\n\r\n") {
            let rest = bytes.split_off(end + 4);
            return Ok((bytes, rest));
        }
        if bytes.len() >= HEAD_BYTES_MAX {
            return Err(io::ErrorKind::InvalidData.into());
        }
        if stream.read_buf(&mut bytes).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}

async fn answer(stream: &mut TcpStream, status: &str, header: &str, text: &str) -> io::Result<()> {
    let text = format!("{}\n", midplane_core::text::escape_controls(text, false));
    let head = format!(
        "HTTP/1.1 {status}\r\n{header}content-type: text/plain; charset=utf-8\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        text.len()
    );
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(text.as_bytes()).await?;
    stream.shutdown().await
}

impl Asked {
    /// The error is a message.
    fn parse(head: &[u8]) -> Result<Self, String> {
        let text = std::str::from_utf8(head).map_err(|_| "the head is not UTF-8".to_owned())?;
        let mut lines = text.split("\r\n");
        let mut words = lines.next().unwrap_or_default().split(' ');
        let (Some(method), Some(at), Some(version), None) = (words.next(), words.next(), words.next(), words.next())
        else {
            return Err("the first line is no request".to_owned());
        };
        let mut kept = String::new();
        let mut credential = None;
        for line in lines.filter(|line| !line.is_empty()) {
            let (name, value) = line.split_once(':').ok_or("a header has no `:`")?;
            match name.to_ascii_lowercase().as_str() {
                "proxy-authorization" => {
                    let (scheme, rest) = value.trim().split_once(' ').unwrap_or_default();
                    credential = scheme.eq_ignore_ascii_case("basic").then(|| rest.trim().to_owned());
                }
                // Between the program and this proxy only.
                "proxy-connection" | "connection" | "keep-alive" => {}
                _ => kept.extend([line, "\r\n"]),
            }
        }
        if method == "CONNECT" {
            // One spelling for what is compared: a URL's. Its scheme says nothing here.
            let has_port = at.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
            if !has_port || at.contains(['/', '?', '#', '@']) {
                return Err("`CONNECT` takes a host and a port".to_owned());
            }
            let target = Target::parse(&format!("https://{at}")).map_err(|error| error.message)?;
            return Ok(Self { target, first: None, credential });
        }
        if !at.starts_with("http://") {
            return Err("this is a proxy; it takes `CONNECT`, and URLs that begin with `http://`".to_owned());
        }
        let target = Target::parse(at).map_err(|error| error.message)?;
        let url = target.url();
        let query = url.query().map(|query| format!("?{query}")).unwrap_or_default();
        let first = format!("{method} {}{query} {version}\r\n{kept}connection: close\r\n\r\n", url.path());
        Ok(Self { target, first: Some(first.into_bytes()), credential })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Names;

    #[async_trait::async_trait]
    impl Resolve for Names {
        async fn resolve(&self, name: &str) -> io::Result<Vec<IpAddr>> {
            assert_eq!(name, "inside.example", "no other name is looked up");
            Ok(vec![Ipv4Addr::new(10, 0, 0, 1).into(), Ipv4Addr::LOCALHOST.into()])
        }
    }

    async fn ask(proxy: &Proxy, request: &str) -> String {
        let credential = &proxy.shared.credential;
        let request = request.replace("{auth}", &format!("Proxy-Authorization: Basic {credential}"));
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, proxy.port)).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        text
    }

    /// Answers every connection with what it was sent first.
    async fn server() -> SocketAddr {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut buffer = vec![0; 4096];
                let read = stream.read(&mut buffer).await.unwrap();
                stream.write_all(&buffer[..read]).await.unwrap();
            }
        });
        address
    }

    #[tokio::test]
    async fn only_listed_hosts_with_the_token_and_public_addresses() {
        let domains = ["127.0.0.1", "inside.example"].map(|text| Domain::parse(text).unwrap());
        let proxy = Proxy::start(domains.into(), Arc::new(Names)).await.unwrap();
        let at = server().await;
        let cases = [
            "CONNECT {at} HTTP/1.1\r\n{auth}\r\n\r\nhello",
            "CONNECT {at} HTTP/1.1\r\nHost: x\r\n\r\nhello",
            "CONNECT {at} HTTP/1.1\r\nProxy-Authorization: Basic c2Vzc2lvbjp4\r\n\r\nhello",
            "GET http://{at}/a/b?c=d HTTP/1.1\r\nHost: {at}\r\n{auth}\r\nProxy-Connection: keep-alive\r\n\r\n",
            "CONNECT other.example:443 HTTP/1.1\r\n{auth}\r\n\r\n",
            "CONNECT inside.example:443 HTTP/1.1\r\n{auth}\r\n\r\n",
            "CONNECT [::1]:443 HTTP/1.1\r\n{auth}\r\n\r\n",
            "CONNECT 0x7f.2:443 HTTP/1.1\r\n{auth}\r\n\r\n",
            "CONNECT u@other.example:443 HTTP/1.1\r\n{auth}\r\n\r\n",
            "GET / HTTP/1.1\r\n{auth}\r\n\r\n",
            "nonsense\r\n\r\n",
        ];
        let mut seen = Vec::new();
        for case in cases {
            let answer = ask(&proxy, &case.replace("{at}", &at.to_string())).await;
            seen.push(format!("{case:?}\n{}\n", answer.replace(&at.to_string(), "{at}")));
        }
        insta::assert_snapshot!(seen.join("\n"));
        insta::assert_snapshot!(proxy.refused().unwrap(), @"refused hosts: 127.0.0.2 (1), [::1] (1), inside.example (1), other.example (1)");
    }
}
