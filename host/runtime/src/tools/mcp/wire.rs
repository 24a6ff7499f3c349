//! The way to a server, whichever it is, as rmcp's transport; and what is known when it breaks.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::future::BoxFuture;
use midplane_core::{Error, Result};
use rmcp::RoleClient;
use rmcp::service::{RxJsonRpcMessage, TxJsonRpcMessage};
use rmcp::transport::Transport;
use rmcp::transport::streamable_http_client::{
    StreamableHttpClientTransport, StreamableHttpClientTransportConfig as Config,
};

use super::Server;
use super::http::HttpServer;
use super::stdio::Stdio;

/// Bytes of the end of a server's stderr that are kept.
const STDERR_BYTES: usize = 2 * 1024;

/// What is known of a server beside its messages.
#[derive(Default)]
pub(super) struct Said(Mutex<SaidState>);

#[derive(Default)]
struct SaidState {
    cause: Option<Error>,
    stderr: VecDeque<u8>,
}

impl Said {
    /// Why the wire broke; the first cause is the one.
    pub(super) fn broke(&self, cause: &Error) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).cause.get_or_insert_with(|| cause.clone());
    }

    pub(super) fn wrote(&self, stderr: &[u8]) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.stderr.extend(stderr);
        let lost = state.stderr.len().saturating_sub(STDERR_BYTES);
        state.stderr.drain(..lost);
    }

    pub(super) fn cause(&self) -> Option<Error> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).cause.clone()
    }

    pub(super) fn stderr(&self) -> String {
        let state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&state.stderr.iter().copied().collect::<Vec<_>>()).into_owned()
    }
}

/// A program's pipes, or a URL.
pub(super) enum Wire {
    Stdio(Stdio),
    Http(Box<StreamableHttpClientTransport<HttpServer>>),
}

impl Wire {
    /// Starts the program of a server; a URL is reached with the first message.
    pub(super) async fn open(server: &Server, said: &Arc<Said>) -> Result<Self> {
        let bytes_max = usize::try_from(server.call.limits.mcp_message_bytes_max).unwrap_or(usize::MAX);
        match &server.spec.url {
            None => Ok(Self::Stdio(Stdio::start(server, bytes_max, said.clone()).await?)),
            Some(url) => {
                let client = HttpServer::new(server.http.clone(), bytes_max, said.clone());
                let mut config = Config::with_uri(url.as_str());
                config.max_sse_event_size = bytes_max;
                Ok(Self::Http(Box::new(StreamableHttpClientTransport::with_client(client, config))))
            }
        }
    }
}

impl Transport<RoleClient> for Wire {
    type Error = Error;

    fn send(
        &mut self,
        message: TxJsonRpcMessage<RoleClient>,
    ) -> impl Future<Output = Result<(), Error>> + Send + 'static {
        let sent: BoxFuture<'static, Result<(), Error>> = match self {
            Self::Stdio(stdio) => {
                let sent = stdio.send(&message);
                Box::pin(async move { sent })
            }
            Self::Http(http) => {
                let sent = http.send(message);
                Box::pin(async move { sent.await.map_err(|error| Error::unavailable("mcp-server", error.to_string())) })
            }
        };
        sent
    }

    async fn receive(&mut self) -> Option<RxJsonRpcMessage<RoleClient>> {
        match self {
            Self::Stdio(stdio) => stdio.receive().await,
            Self::Http(http) => http.receive().await,
        }
    }

    async fn close(&mut self) -> Result<(), Error> {
        match self {
            Self::Stdio(stdio) => stdio.close().await,
            // It ends its session at the server; one that is gone has none.
            Self::Http(http) => drop(http.close().await),
        }
        Ok(())
    }
}
