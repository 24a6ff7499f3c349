//! From checked addresses to a connection that a request can be written to.

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use midplane_core::endpoint::Target;
use midplane_core::text::shown;
use midplane_core::{Error, Result};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, crypto};

/// How long one of several addresses is tried before the next; the last has the rest of the time.
const ATTEMPT_MS: u64 = 5_000;

/// How servers are verified, and the sessions that can be resumed. Made once, shared by all runs.
#[derive(Clone)]
pub(crate) struct Tls(Arc<ClientConfig>);

impl Tls {
    /// Trusts the authorities that browsers trust.
    pub(crate) fn shared() -> Result<Self> {
        static SHARED: OnceLock<Tls> = OnceLock::new();
        if let Some(tls) = SHARED.get() {
            return Ok(tls.clone());
        }
        let tls = Self::trusting(browser_roots())?;
        // Of two threads that come here first, one's is kept.
        Ok(SHARED.get_or_init(|| tls).clone())
    }

    /// Trusts these certificates (PEM) too: an operator's own authority. `invalid` code `certificate` where there is none
    /// in the text, or one that cannot be read.
    pub(crate) fn with_extra_ca(pem: &[u8]) -> Result<Self> {
        let bad = |why: &str| {
            Error::invalid("certificate", format!("the extra certificate authority cannot be used: {why}"))
                .hint("it is a PEM file with one or more `BEGIN CERTIFICATE` blocks")
        };
        let mut roots = browser_roots();
        let before = roots.len();
        for certificate in CertificateDer::pem_slice_iter(pem) {
            let certificate = certificate.map_err(|error| bad(&error.to_string()))?;
            roots.add(certificate).map_err(|error| bad(&error.to_string()))?;
        }
        if roots.len() == before {
            return Err(bad("there is no certificate in it"));
        }
        Self::trusting(roots)
    }

    fn trusting(roots: RootCertStore) -> Result<Self> {
        let provider = Arc::new(crypto::ring::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| Error::internal("tls", format!("TLS cannot be set up: {error}")))?
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self(Arc::new(config)))
    }
}

fn browser_roots() -> RootCertStore {
    webpki_roots::TLS_SERVER_ROOTS.iter().cloned().collect()
}

/// A connection, with or without TLS.
pub(crate) trait Io: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// Connects to one of these addresses, and to nothing else. The name in the target is only used to verify who answers.
pub(crate) async fn connect(target: &Target, addresses: &[SocketAddr], tls: &Tls) -> Result<Box<dyn Io>> {
    let stream = dial(target, addresses).await?;
    if target.url().scheme() != "https" {
        return Ok(Box::new(stream));
    }
    let failed = |why: &str| Error::unavailable("tls", format!("`{target}` cannot be verified: {}", shown(why, 300)));
    let name = match target.ip() {
        Some(ip) => ServerName::from(ip),
        None => ServerName::try_from(target.host().to_string()).map_err(|error| failed(&error.to_string()))?,
    };
    let connector = TlsConnector::from(Arc::clone(&tls.0));
    let stream = connector.connect(name, stream).await.map_err(|error| failed(&error.to_string()))?;
    Ok(Box::new(stream))
}

async fn dial(target: &Target, addresses: &[SocketAddr]) -> Result<TcpStream> {
    let mut why = "it has no address".to_owned();
    for (index, address) in addresses.iter().enumerate() {
        let attempt = TcpStream::connect(address);
        let result = if index + 1 == addresses.len() {
            attempt.await
        } else {
            let timed = tokio::time::timeout(Duration::from_millis(ATTEMPT_MS), attempt).await;
            timed.unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into()))
        };
        match result {
            Ok(stream) => {
                // Requests are written in one go; waiting for more would only delay them. Not vital where it fails.
                let _ = stream.set_nodelay(true);
                return Ok(stream);
            }
            Err(error) => why = error.to_string(),
        }
    }
    Err(Error::unavailable("connect", format!("`{target}` cannot be reached: {why}")))
}
