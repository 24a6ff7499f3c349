//! From the host of a URL to the addresses that may be dialled: one look-up a hop, each address asked for at the gate.

use std::io;
use std::net::{IpAddr, SocketAddr};

use async_trait::async_trait;
use midplane_core::endpoint::Target;
use midplane_core::gate::{Denial, Request};
use midplane_core::text::shown;
use midplane_core::{Error, Result};

use super::Egress;
use super::send::Note;

/// Of more addresses than this only the first are looked at: a zone can list thousands.
pub(crate) const ADDRESSES_MAX: usize = 16;

/// Names to addresses.
#[async_trait]
pub(crate) trait Resolve: Send + Sync {
    /// All addresses of a name, in the order in which to try them.
    async fn resolve(&self, name: &str) -> io::Result<Vec<IpAddr>>;
}

/// The look-up of the operating system.
pub(crate) struct SystemResolver;

#[async_trait]
impl Resolve for SystemResolver {
    async fn resolve(&self, name: &str) -> io::Result<Vec<IpAddr>> {
        Ok(tokio::net::lookup_host((name, 0)).await?.map(|address| address.ip()).collect())
    }
}

impl Egress {
    /// The addresses of the target that the gate allows. Where a name has allowed and refused ones, the allowed ones are
    /// left; where all are refused the first refusal is the error.
    pub(super) async fn addresses(&self, target: &Target, note: &mut Note<'_>) -> Result<Vec<SocketAddr>> {
        self.addresses_if(target, note, |ip| Request::Address { ip, target }).await
    }

    /// The same, where `request` is what to ask the gate about each.
    pub(super) async fn addresses_if<'r>(
        &self,
        target: &Target,
        note: &mut Note<'_>,
        request: impl Fn(IpAddr) -> Request<'r>,
    ) -> Result<Vec<SocketAddr>> {
        let found = match target.ip() {
            Some(ip) => vec![ip],
            None => {
                let name = target.host().to_string();
                let unresolved = |why: &str| {
                    Error::unavailable("resolve", format!("`{}` cannot be resolved: {why}", shown(&name, 260)))
                };
                let found =
                    self.resolver.resolve(&name).await.map_err(|error| unresolved(&shown(&error.to_string(), 200)))?;
                if found.is_empty() {
                    return Err(unresolved("it has no address"));
                }
                found
            }
        };
        let mut allowed = Vec::new();
        let mut refused: Option<Denial> = None;
        for ip in found.into_iter().take(ADDRESSES_MAX) {
            match midplane_core::gate::check(&self.rights(), &request(ip)) {
                Ok(by) => {
                    note.allowed(&by);
                    // A mapped address leads to the IPv4 address in it, which is the one that was judged.
                    allowed.push(SocketAddr::new(ip.to_canonical(), target.port()));
                }
                Err(denial) => {
                    refused.get_or_insert(denial);
                }
            }
        }
        match refused {
            Some(denial) if allowed.is_empty() => Err(note.denied(denial)),
            _ => Ok(allowed),
        }
    }
}
