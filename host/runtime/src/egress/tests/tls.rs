//! Who the other side is, is verified against the name in the URL.

use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring::default_provider;
use tokio_rustls::rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

use super::harness::*;
use crate::egress::Tls;

/// An authority and a server with a certificate of it for `api.test` and `127.0.0.1`.
struct Secure {
    authority: String,
    port: u16,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Secure {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Secure {
    /// `tidy` ends a connection as TLS wants it; else it is cut.
    async fn start(bytes: &'static str, tidy: bool) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = params.self_signed(&key).unwrap().pem();
        let issuer = Issuer::new(params, key);
        let key = KeyPair::generate().unwrap();
        let names = vec!["api.test".to_owned(), "127.0.0.1".to_owned()];
        let certificate = CertificateParams::new(names).unwrap().signed_by(&key, &issuer).unwrap();
        let config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                vec![certificate.der().clone()],
                PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der())),
            )
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let task = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let acceptor = acceptor.clone();
                tokio::spawn(async move {
                    let Ok(stream) = acceptor.accept(stream).await else { return };
                    let mut peer = Peer::new(Box::new(stream));
                    let head = peer.head().await;
                    peer.body(&head).await;
                    peer.send(bytes).await;
                    if tidy {
                        let _ = tokio::io::AsyncWriteExt::shutdown(&mut peer.io).await;
                    }
                });
            }
        });
        Self { authority, port, task }
    }

    fn setup(&self, host: &str, tls: Option<Tls>) -> (Gate, String) {
        let url = format!("https://{host}:{}", self.port);
        let mut setup = Setup::empty().allow(&url, &ALL, None);
        setup.tls = tls;
        (setup.build(), url)
    }
}

const HELLO: &str = "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello";

#[tokio::test]
async fn an_authority_that_nobody_named_is_refused() {
    let server = Secure::start(HELLO, true).await;
    let trusted = || Some(Tls::with_extra_ca(server.authority.as_bytes()).unwrap());
    for (host, tls, want) in [
        ("api.test", None, "unavailable tls"),
        ("api.test", trusted(), "200 hello"),
        ("127.0.0.1", trusted(), "200 hello"),
        ("other.test", trusted(), "unavailable tls"),
    ] {
        let (gate, url) = server.setup(host, tls);
        // A handshake that fails has sent nothing, so also a `POST` is not uncertain.
        let shown = gate.shown("POST", url).await;
        assert!(shown.starts_with(want), "{host}: {shown}");
    }
}

#[tokio::test]
async fn a_server_without_tls_is_not_taken_for_one() {
    let server = Server::scripted(|mut peer| async move {
        peer.send(HELLO).await;
        peer.closed().await;
    })
    .await;
    let url = format!("https://api.test:{}", server.port());
    let gate = Setup::empty().allow(&url, &ALL, None).build();
    let shown = gate.shown("GET", &url).await;
    assert!(shown.starts_with("unavailable tls"), "{shown}");
}

#[tokio::test]
async fn a_body_that_is_cut_is_not_taken_for_a_whole_one() {
    // Without a length only the end of TLS tells that it is complete.
    let bytes = "HTTP/1.1 200 OK\r\n\r\nhello";
    for (tidy, want) in [(true, "200 hello"), (false, "200 unavailable body-truncated")] {
        let server = Secure::start(bytes, tidy).await;
        let (gate, url) = server.setup("api.test", Some(Tls::with_extra_ca(server.authority.as_bytes()).unwrap()));
        let shown = gate.shown("GET", url).await;
        assert!(shown.starts_with(want), "{shown}");
    }
}

#[tokio::test]
async fn a_redirect_does_not_lead_away_from_tls() {
    let server =
        Secure::start("HTTP/1.1 302 Found\r\nlocation: http://plain.test/\r\ncontent-length: 0\r\n\r\n", true).await;
    let url = format!("https://api.test:{}", server.port);
    let mut setup = Setup::empty().allow(&url, &ALL, None).allow("http://plain.test", &ALL, None);
    setup.tls = Some(Tls::with_extra_ca(server.authority.as_bytes()).unwrap());
    let gate = setup.build();
    let shown = gate.shown("GET", &url).await.replace(&server.port.to_string(), "PORT");
    assert_eq!(
        shown,
        "denied address-refused: `https://api.test:PORT` redirects to `http://plain.test`, away from TLS"
    );
    assert_eq!(gate.names.asked(), ["api.test"]);
    let outcomes: Vec<String> = gate.log.audits().into_iter().map(|audit| audit.outcome).collect();
    assert_eq!(outcomes, ["ok", "denied"]);
}

#[test]
fn an_extra_authority_must_be_one() {
    for pem in [
        "",
        "no pem",
        "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
        "-----BEGIN CERTIFICATE-----\n",
    ] {
        let error = Tls::with_extra_ca(pem.as_bytes()).err().unwrap();
        assert_eq!(error.code, "certificate", "{pem}");
    }
}
