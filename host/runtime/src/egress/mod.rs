//! The one way out to the network: every request of every plugin passes here ([`midplane_engine::ports::Http`]).
//!
//! ```text
//!   request ─► check ─► gate (URL, method, credential) ─► look up the name ─► gate (each address)
//!                 ▲                                                              │
//!      redirect ──┘ (GET and HEAD only)                 connect to what was checked, TLS
//!                                                                                │
//!   guest ◄─ redact ◄─ body, piece by piece ◄─ head ◄─ send: guest's headers stripped, credential put in
//! ```
//!
//! # Layout
//! - [`request`]: what a guest may write, and which of its headers are dropped
//! - `resolve`, `connect`: name to checked addresses; address to connection
//! - [`auth`]: a secret put into a request: by a credential rule, or for placeholders in a body
//! - [`oauth`]: an account exchanged for a token, which is then the secret
//! - [`send`]: one hop after the other, what may have happened, the audit
//! - [`response`]: the head, the body as it arrives, the body as a blob
//! - [`budget`]: what the requests of one run may move
//!
//! # Why hyper's connection and no client
//! The address that was checked must be the one that is dialled, on every hop; an error must say whether the request has
//! left; and dropping a response must close its connection. A client with a pool, its own look-up and its own retries works
//! against each of these. So one connection serves one request, over HTTP/1.1: without a pool HTTP/2 brings nothing. A
//! reused connection may be closed by the server in the very moment in which a `POST` is written to it, which nobody could
//! tell from a change that was made; here such an `uncertain` cannot occur. What it costs, a handshake, is shortened by TLS
//! resumption ([`connect::Tls`] is shared by all runs).
//!
//! # What it never does
//! It never retries, looks a name up twice for one hop, reads a proxy from the environment, keeps a cookie or decompresses.
//! It decides nothing by itself: what is allowed is said by [`midplane_core::gate`], what a credential looks like by the
//! manifest. No credential is in what it returns, also not in an error.

mod auth;
mod budget;
mod connect;
mod oauth;
mod request;
mod resolve;
mod response;
mod send;

use std::sync::Arc;

use async_trait::async_trait;
use midplane_core::Result;
use midplane_core::gate::Rights;
use midplane_core::permission::{Grants, Permissions};
use midplane_engine::ports::{Http, HttpBody, HttpRequest, HttpResponse, SignedRequest};

pub(crate) use self::budget::HttpBudget;
pub(crate) use self::connect::{Tls, connect};
pub(crate) use self::oauth::{AccessTokens, TokenUse};
pub(crate) use self::resolve::{ADDRESSES_MAX, Resolve, SystemResolver};
use crate::blob::BlobSpace;
use crate::call::Call;
use crate::placeholder::Placeholders;
use crate::secret::SecretSource;

/// The gate, for one call of a plugin.
pub(crate) struct Egress {
    /// Whose requests these are, with their bounds.
    pub(crate) call: Arc<Call>,
    /// What the manifest asks for.
    pub(crate) permissions: Arc<Permissions>,
    /// What the operator allows.
    pub(crate) grants: Arc<Grants>,
    /// Values, once they may be sent.
    pub(crate) secrets: Arc<dyn SecretSource>,
    /// What stands for secrets in the bodies of this run.
    pub(crate) placeholders: Arc<Placeholders>,
    /// Shared by all calls of the run.
    pub(crate) budget: Arc<HttpBudget>,
    /// Where bodies become blobs.
    pub(crate) blobs: BlobSpace,
    /// What hides the values of the call in all that comes back, and the tokens that are exchanged for them.
    pub(crate) tokens: TokenUse,
    /// Shared by all runs.
    pub(crate) tls: Tls,
    /// Names to addresses.
    pub(crate) resolver: Arc<dyn Resolve>,
}

#[async_trait]
impl Http for Egress {
    async fn send(&self, request: HttpRequest, body: HttpBody) -> Result<Box<dyn HttpResponse>> {
        Ok(Box::new(self.follow(request, body).await?))
    }

    async fn presign(&self, request: HttpRequest, _expires_s: u32) -> Result<SignedRequest> {
        let request = request::Checked::new(request, &self.call.limits)?;
        Err(self.unsigned(&request))
    }
}

impl Egress {
    fn rights(&self) -> Rights<'_> {
        Rights { profile: &self.call.profile, permissions: &self.permissions, grants: &self.grants }
    }
}

#[cfg(test)]
pub(crate) mod tests;
