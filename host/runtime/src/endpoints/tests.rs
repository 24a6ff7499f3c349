//! Endpoints before real programs and sockets: who gets in, what goes on to the vendor, what comes back, and when it ends.
//! No test asserts a time.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

use midplane_core::manifest::Scheme;
use midplane_core::permission::Origin;
use midplane_core::redact::{Redactor, Secrets};
use midplane_engine::ports::{Command, Exit, Output, Process as _};
use tokio::net::TcpStream;
use tokio::sync::mpsc;

use super::*;
use crate::egress::tests::harness::{ALL, Gate, KEY, Peer, Server, Setup, Values, answer, header, rule};
use crate::fakes;
use crate::process::Processes;

/// A run's endpoint `vendor`, which stands for `/v1` of the server, behind a gate that has the key.
struct Rig {
    gate: Gate,
    endpoints: Option<Endpoints>,
    tokens: Tokens,
    placeholders: Placeholders,
    control: Arc<Control>,
    address: SocketAddr,
    path: String,
}

async fn rig(server: &Server) -> Rig {
    rig_of(server, Setup::with_key(server), Limits::default()).await
}

async fn rig_of(server: &Server, setup: Setup, limits: Limits) -> Rig {
    let port = server.port();
    let url = Prefix::parse(&format!("http://api.test:{port}/v1")).unwrap();
    let endpoints = [Endpoint { name: "vendor".to_owned(), url, credential: "key".to_owned() }];
    let grants = [(format!("http:http://api.test:{port}").parse().unwrap(), Origin::Once)].into_iter().collect();
    let tokens = tokens(&endpoints, &grants).unwrap();
    let gate = setup.build();
    let control = Arc::new(Control::new(Duration::from_secs(600)));
    let (http, blobs) = (gate.egress.clone(), gate.egress.blobs.clone());
    let plan = Plan::new(&endpoints, &tokens, http, blobs, control.clone(), &limits).unwrap();
    let placeholders = Placeholders::new().unwrap().with_own(tokens.keys().cloned());
    let endpoints = plan.start(&placeholders).await.unwrap();
    let url = url::Url::parse(&endpoints.config["endpoint.vendor.url"]).unwrap();
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, url.port().unwrap()));
    let path = url.path().to_owned();
    Rig { gate, endpoints: Some(endpoints), tokens, placeholders, control, address, path }
}

impl Rig {
    fn token(&self) -> String {
        self.tokens["endpoint_vendor"].expose_text().unwrap().to_owned()
    }

    async fn connect(&self) -> Peer {
        Peer::new(Box::new(TcpStream::connect(self.address).await.unwrap()))
    }

    /// A request with the token, under way.
    async fn begin(&self, head: &str) -> Peer {
        let mut peer = self.connect().await;
        let head = head.replace("PATH", &self.path).replace("TOKEN", &self.token());
        assert!(peer.send(format!("{}\r\n\r\n", head.trim_end().replace('\n', "\r\n"))).await);
        peer
    }

    /// Status line and body of the answer to a request.
    async fn ask(&self, head: &str) -> (String, String) {
        let mut peer = self.begin(head).await;
        let head = peer.head().await;
        let body = String::from_utf8(peer.rest(&head).await).unwrap();
        (head.lines().next().unwrap_or_default().to_owned(), body)
    }
}

const GET: &str = "GET PATH/models HTTP/1.1\nhost: 127.0.0.1\nauthorization: Bearer TOKEN";

#[tokio::test]
async fn only_path_and_token_together_open_it() {
    let server = Server::answering(|_| answer("200 OK", "x-vendor: yes\r\n", "hello")).await;
    let rig = rig(&server).await;
    let closed = [
        "GET PATH/models HTTP/1.1\nhost: h",
        "GET PATH/models HTTP/1.1\nhost: h\nauthorization: Bearer mp-00000000000000000000000000000000",
        "GET PATH/models HTTP/1.1\nhost: h\nauthorization: Bearer",
        "GET PATH/models HTTP/1.1\nhost: h\nauthorization: Basic TOKEN",
        "GET PATH/models HTTP/1.1\nhost: h\nauthorization: Bearer TOKENx",
        "GET PATH/models HTTP/1.1\nhost: h\nx-other-key: TOKEN",
        "GET PATH/models?keys=TOKEN HTTP/1.1\nhost: h",
        "GET PATHx/models HTTP/1.1\nhost: h\nauthorization: Bearer TOKEN",
        "GET /models HTTP/1.1\nhost: h\nauthorization: Bearer TOKEN",
        "GET / HTTP/1.1\nhost: h\nauthorization: Bearer TOKEN",
        "GET //models HTTP/1.1\nhost: h\nauthorization: Bearer TOKEN",
        "OPTIONS * HTTP/1.1\nhost: h\nauthorization: Bearer TOKEN",
        // A page in a browser, by a name that leads to this address: it can know neither.
        "GET /models HTTP/1.1\nhost: evil.example\norigin: http://evil.example",
        "OPTIONS PATH/models HTTP/1.1\nhost: evil.example\norigin: http://evil.example",
    ];
    let mut answers = std::collections::BTreeSet::new();
    for head in closed {
        answers.insert(rig.ask(head).await);
    }
    assert_eq!(answers.len(), 1, "they cannot be told apart: {answers:?}");
    assert_eq!(answers.first().unwrap().0, "HTTP/1.1 401 Unauthorized");
    assert!(server.seen().is_empty(), "nothing of it reached the vendor");

    for head in [
        GET,
        "GET PATH/models HTTP/1.1\nhost: h\nAuthorization: bearer TOKEN",
        "GET PATH/models HTTP/1.1\nhost: h\nx-api-key: TOKEN",
        "GET PATH/models HTTP/1.1\nhost: h\nx-goog-api-key: TOKEN",
        "GET PATH/models?key=TOKEN HTTP/1.1\nhost: h",
        "GET http://evil.example/PATH/models HTTP/1.1\nhost: evil.example\nx-api-key: TOKEN",
    ] {
        let head = head.replace("example/PATH", "examplePATH");
        assert_eq!(rig.ask(&head).await, ("HTTP/1.1 200 OK".to_owned(), "hello".to_owned()), "{head}");
    }
    for (head, _) in server.seen() {
        assert!(head.starts_with("GET /v1/models HTTP/1.1\r\n"), "{head}");
        assert_eq!(header(&head, "host"), Some(format!("api.test:{}", server.port()).as_str()));
        assert_eq!(header(&head, "authorization"), Some(format!("Bearer {KEY}").as_str()));
        assert!(!head.contains(&rig.token()), "the run's token is nothing for the vendor: {head}");
    }
}

#[tokio::test]
async fn what_goes_on_and_what_comes_back() {
    let server = Server::answering(|head| {
        let status = if head.contains("teapot") { "418 I'm a teapot" } else { "200 OK" };
        answer(status, "content-type: text/x\r\nset-cookie: a=b\r\nx-request-id: 7\r\n", &format!("{KEY} said {head}"))
    })
    .await;
    let rig = rig(&server).await;
    let mut peer = rig
        .begin(
            "POST PATH/a%20b/teapot?x=1+2&key=TOKEN&%6bey=old&y HTTP/1.1\nhost: h\nx-api-key: TOKEN\naccept-encoding: gzip\n\
             cookie: a\nconnection: x-hop\nx-hop: 1\nx-kept: 1\nx-kept: 2\ncontent-type: application/json\ncontent-length: 4",
        )
        .await;
    peer.send("body").await;
    let head = peer.head().await;
    let body = String::from_utf8(peer.rest(&head).await).unwrap();
    assert!(head.starts_with("HTTP/1.1 418 "), "{head}");
    assert_eq!((header(&head, "x-request-id"), header(&head, "set-cookie")), (Some("7"), None));
    assert!(body.contains("[redacted:API_KEY] said") && !body.contains(KEY), "an echo is no way to the key: {body}");
    let (seen, sent) = server.seen().remove(0);
    assert_eq!(sent, b"body");
    let mut lines: Vec<&str> = seen.lines().filter(|line| !line.is_empty()).collect();
    lines[1..].sort_unstable();
    insta::assert_snapshot!(lines.join("\n").replace(&server.port().to_string(), "PORT"));
    insta::assert_snapshot!(rig.gate.log.shown(server.port()).join("\n"));
}

#[tokio::test]
async fn bodies_of_any_size_and_kind_go_on() {
    let server = Server::answering(|_| answer("200 OK", "", "ok")).await;
    let rig = rig(&server).await;
    let large = vec![b'x'; 9 << 20];
    let mut peer =
        rig.begin(&format!("POST PATH/a HTTP/1.1\nhost: h\nx-api-key: TOKEN\ncontent-length: {}", large.len())).await;
    peer.send(&large).await;
    assert!(peer.head().await.starts_with("HTTP/1.1 200 "));
    let mut peer = rig.begin("POST PATH/b HTTP/1.1\nhost: h\nx-api-key: TOKEN\ntransfer-encoding: chunked").await;
    // A text that stands for a secret in a plugin stands for nothing here.
    let placeholder = rig.gate.egress.placeholders.text("API_KEY");
    peer.send(format!("3\r\nabc\r\n{:x}\r\n{placeholder}\r\n0\r\n\r\n", placeholder.len())).await;
    assert!(peer.head().await.starts_with("HTTP/1.1 200 "));
    let seen = server.seen();
    assert_eq!(seen[0].1.len(), large.len());
    assert_eq!(String::from_utf8_lossy(&seen[1].1), format!("abc{placeholder}"));
    assert_eq!(header(&seen[1].0, "content-length"), Some((3 + placeholder.len()).to_string().as_str()));
}

#[tokio::test]
async fn refusals_say_why() {
    let server = Server::answering(|_| answer("200 OK", "", "")).await;
    let port = server.port();
    let key = || Some(rule("key", Scheme::Bearer, "API_KEY"));
    let url = format!("http://api.test:{port}");
    let without_secret = Setup::empty().allow(&url, &ALL, key());
    let only_get = Setup::empty().allow(&url, &["GET"], key()).value("API_KEY", KEY);
    let few = Setup::with_key(&server).limits(|limits| limits.http_requests_max = 0);
    let mut shown = Vec::new();
    for (name, setup, head) in [
        ("no secret", without_secret, GET),
        ("method", only_get, "DELETE PATH/x HTTP/1.1\nhost: h\nx-api-key: TOKEN"),
        ("out of it", Setup::with_key(&server), "GET PATH/../admin HTTP/1.1\nhost: h\nx-api-key: TOKEN"),
        ("hidden dots", Setup::with_key(&server), "GET PATH/%2e%2e%2fadmin HTTP/1.1\nhost: h\nx-api-key: TOKEN"),
        ("no more requests", few, GET),
    ] {
        let rig = rig_of(&server, setup, Limits::default()).await;
        let (status, body) = rig.ask(head).await;
        shown.push(format!("{name}: {status}\n  {body}"));
    }
    let gone = Server::answering(|_| String::new()).await;
    let rig = rig(&gone).await;
    drop(gone);
    let (status, body) = rig.ask(GET).await;
    shown.push(format!("nobody there: {status} {}", body.contains("cannot be reached")));
    insta::assert_snapshot!(shown.join("\n").replace(&port.to_string(), "PORT"));
    assert!(server.seen().is_empty());
}

/// A program that sends a long conversation to a vendor that is not there has to hear that: were the connection closed on it
/// while it sends, it would only see that broken.
#[tokio::test]
async fn a_refusal_is_heard_also_by_who_is_still_sending() {
    let gone = Server::answering(|_| String::new()).await;
    let rig = rig(&gone).await;
    drop(gone);
    let large = vec![b'x'; 24 << 20];
    let head = format!("POST PATH/a HTTP/1.1\nhost: h\nx-api-key: TOKEN\ncontent-length: {}", large.len());
    let mut peer = rig.begin(&head).await;
    assert!(peer.send(&large).await, "all of it is taken in");
    let head = peer.head().await;
    assert!(head.starts_with("HTTP/1.1 502 "), "{head}");
    assert!(String::from_utf8(peer.rest(&head).await).unwrap().contains("cannot be reached"));
}

/// A vendor that drips: says what it sees of its connection, and writes what it is given.
async fn dripping() -> (Server, mpsc::Sender<&'static str>, mpsc::Receiver<&'static str>) {
    let (drips, drip) = mpsc::channel::<&'static str>(8);
    let (tell, told) = mpsc::channel(8);
    let drip = Arc::new(tokio::sync::Mutex::new(drip));
    let server = Server::scripted(move |mut peer| {
        let (drip, tell) = (Arc::clone(&drip), tell.clone());
        async move {
            let head = peer.head().await;
            let body = peer.body(&head).await;
            assert_eq!(header(&head, "authorization"), Some(format!("Bearer {KEY}").as_str()), "{head}");
            assert!(!head.contains("mp-"), "{head}");
            let _ = tell.send(if body.is_empty() { "asked" } else { "asked with a body" }).await;
            let mut drip = drip.lock().await;
            peer.send("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n").await;
            loop {
                tokio::select! {
                    () = peer.closed() => break,
                    text = drip.recv() => match text {
                        Some(text) => { peer.send(text).await; }
                        None => return,
                    },
                }
            }
            let _ = tell.send("closed").await;
        }
    })
    .await;
    (server, drips, told)
}

/// Reads from a peer until a text has come.
async fn until(peer: &mut Peer, text: &str) {
    let mut all = Vec::new();
    while !String::from_utf8_lossy(&all).contains(text) {
        let more = peer.some().await;
        assert!(!more.is_empty(), "it ended before `{text}`: {}", String::from_utf8_lossy(&all));
        all.extend(more);
    }
}

#[tokio::test]
async fn events_arrive_one_by_one_and_a_client_that_leaves_is_told_to_the_vendor() {
    let (server, drips, mut told) = dripping().await;
    let rig = rig(&server).await;
    let mut peer = rig.begin(GET).await;
    assert!(peer.head().await.contains("text/event-stream"));
    for text in ["data: one\n\n", "data: two\n\n", "data: three\n\n"] {
        drips.send(text).await.unwrap();
        until(&mut peer, text).await; // before the next is written
    }
    assert_eq!(told.recv().await, Some("asked"));
    drop(peer);
    assert_eq!(told.recv().await, Some("closed"));

    // Also before there was an answer.
    let silent = Arc::new(tokio::sync::Notify::new());
    let (heard, left) = (Arc::clone(&silent), Arc::new(tokio::sync::Notify::new()));
    let gone = Arc::clone(&left);
    let mute = Server::scripted(move |mut peer| {
        let (heard, gone) = (Arc::clone(&heard), Arc::clone(&gone));
        async move {
            peer.head().await;
            heard.notify_one();
            peer.closed().await;
            gone.notify_one();
        }
    })
    .await;
    let rig = rig_of(&mute, Setup::with_key(&mute), Limits::default()).await;
    let peer = rig.begin(GET).await;
    silent.notified().await;
    drop(peer);
    left.notified().await;
}

#[tokio::test]
async fn the_end_of_the_run_closes_everything() {
    let (server, drips, mut told) = dripping().await;
    let mut rig = rig(&server).await;
    let mut open = rig.begin(GET).await;
    let mut idle = rig.connect().await;
    drips.send("data: one\n\n").await.unwrap();
    until(&mut open, "one").await;
    assert_eq!(told.recv().await, Some("asked"));
    rig.endpoints.take();
    assert_eq!(told.recv().await, Some("closed"), "the vendor is not kept talking");
    open.closed().await;
    idle.closed().await;
    for _ in 0..1000 {
        // The listener is closed by its task, a moment later.
        match TcpStream::connect(rig.address).await {
            Err(error) => return assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused),
            Ok(_) => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    }
    panic!("the port is still open");
}

#[tokio::test]
async fn after_a_cancel_nothing_new_is_sent_and_what_is_open_goes_on() {
    let (server, drips, mut told) = dripping().await;
    let rig = rig(&server).await;
    let mut open = rig.begin(GET).await;
    assert_eq!(told.recv().await, Some("asked"));
    rig.control.cancel(Duration::from_secs(600));
    let (status, body) = rig.ask(GET).await;
    assert_eq!(status, "HTTP/1.1 503 Service Unavailable", "{body}");
    drips.send("data: last words\n\n").await.unwrap();
    until(&mut open, "last words").await;
}

#[tokio::test]
async fn only_so_many_at_once() {
    let (server, drips, mut told) = dripping().await;
    let limits = Limits { endpoint_connections_max: 1, ..Limits::default() };
    let rig = rig_of(&server, Setup::with_key(&server), limits).await;
    let mut first = rig.begin(GET).await;
    drips.send("one").await.unwrap();
    until(&mut first, "one").await;
    let second = rig.begin(GET).await;
    assert_eq!(told.recv().await, Some("asked"));
    drop(first);
    // Had the second been taken before, it would be told before.
    assert_eq!((told.recv().await, told.recv().await), (Some("closed"), Some("asked")));
    drop(second);
}

#[test]
fn without_a_granted_url_there_is_no_endpoint() {
    let url = |text: &str| Prefix::parse(text).unwrap();
    let at = |name: &str, text: &str| Endpoint { name: name.to_owned(), url: url(text), credential: "key".to_owned() };
    let endpoints = [at("a", "https://a.test/v1"), at("b", "https://b.test/v1"), at("c", "https://c.test/v1")];
    let grants = ["http:https://a.test", "http:https://c.test/v1/models", "secret:API_KEY"];
    let grants = grants.iter().map(|text| (text.parse().unwrap(), Origin::Once)).collect();
    let tokens = tokens(&endpoints, &grants).unwrap();
    assert_eq!(tokens.keys().collect::<Vec<_>>(), ["endpoint_a", "endpoint_c"]);
    let values: std::collections::BTreeSet<_> = tokens.values().map(|token| token.expose().to_vec()).collect();
    assert_eq!(values.len(), 2);
}

/// The memory of a process that it can write, as far as it can be read.
fn memory(pid: i32) -> Vec<u8> {
    use std::io::{Read as _, Seek as _};
    let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
    let mut file = std::fs::File::open(format!("/proc/{pid}/mem")).unwrap();
    let mut all = Vec::new();
    for line in maps.lines().filter(|line| line.contains(" rw")) {
        let (from, to) = line.split(' ').next().unwrap().split_once('-').unwrap();
        let [from, to] = [from, to].map(|text| u64::from_str_radix(text, 16).unwrap());
        file.seek(std::io::SeekFrom::Start(from)).unwrap();
        let mut part = Vec::new();
        // Some mappings of the kernel cannot be read.
        let _ = (&mut file).take(to - from).read_to_end(&mut part);
        all.extend(part);
    }
    all
}

#[tokio::test]
async fn a_program_reaches_the_vendor_and_never_has_its_key() {
    let (server, drips, mut told) = dripping().await;
    let rig = rig(&server).await;
    let placeholder = rig.endpoints.as_ref().unwrap().config["endpoint.vendor.token"].clone();
    let url = rig.endpoints.as_ref().unwrap().config["endpoint.vendor.url"].clone();
    let (call, recorder) = fakes::call(Limits::default());
    // `VENDOR_TOKEN` is a plain variable of the manifest; no secret is granted to the program.
    let rights = fakes::rights(&[(&["curl"], &["VENDOR_TOKEN"], &[])], &["command:curl", "env:VENDOR_TOKEN"]);
    let mut values = HashMap::from([("API_KEY".to_owned(), KEY.to_owned())]);
    values.insert("endpoint_vendor".to_owned(), rig.token());
    let redactor = Redactor::new(Secrets::new(&values).unwrap());
    let (place, _home) = fakes::place(None);
    let processes = Processes::new(call, rights, place, Arc::new(Values(values)), rig.placeholders.clone(), redactor);
    let argv = ["curl", "-sN", "--header", "@-", "--data", "hello", &format!("{url}/messages")];
    let mut child = processes
        .spawn(Command {
            argv: argv.map(str::to_owned).to_vec(),
            cwd: None,
            env: vec![("VENDOR_TOKEN".to_owned(), placeholder.clone())],
            secret_env: Vec::new(),
        })
        .await
        .unwrap();
    child.write(format!("x-api-key: {placeholder}\n").into_bytes()).unwrap();
    child.close_stdin();
    assert_eq!(told.recv().await, Some("asked with a body"), "the vendor got the key");
    // The vendor repeats the key, and the token as well.
    drips.send(concat!("data: sk-live-", "0123456789/abc+def\n\n")).await.unwrap();
    let mut out = Vec::new();
    while !String::from_utf8_lossy(&out).contains("[redacted:API_KEY]\n\n") {
        match child.next(1 << 20).await.unwrap() {
            Output::Stdout(bytes) => out.extend(bytes),
            other => panic!("unexpected: {other:?}"),
        }
    }
    let pid = curl_of(&url);
    let read = |name: &str| std::fs::read(format!("/proc/{pid}/{name}")).unwrap();
    let holds = |bytes: &[u8], text: &str| memchr::memmem::find(bytes, text.as_bytes()).is_some();
    let (environment, arguments, memory) = (read("environ"), read("cmdline"), memory(pid));
    assert!(holds(&environment, &format!("VENDOR_TOKEN={}", rig.token())), "the token was put in");
    assert!(holds(&memory, &rig.token()), "what the program has is found there");
    assert!(!holds(&arguments, &rig.token()), "no secret on an argument vector");
    for place in [&environment, &arguments, &memory] {
        assert!(!holds(place, KEY) && !holds(place, "0123456789/abc"));
    }
    drop(drips);
    drop(rig.endpoints);
    let exit = loop {
        if let Output::Exited(exit) = child.next(1 << 20).await.unwrap() {
            break exit;
        }
    };
    assert!(matches!(exit, Exit::Code(code) if code != 0), "a stream that breaks off is no end: {exit:?}");
    let audits = recorder.audits();
    assert!(audits.iter().any(|audit| audit.starts_with("command | curl | ok")), "{audits:?}");
    assert!(!audits.iter().any(|audit| audit.starts_with("secret")), "none was asked for: {audits:?}");
}

/// The process that has this URL among its arguments.
fn curl_of(url: &str) -> i32 {
    let found = std::fs::read_dir("/proc").unwrap().flatten().find(|entry| {
        let arguments = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&arguments).contains(url)
    });
    found.unwrap().file_name().to_string_lossy().parse().unwrap()
}
