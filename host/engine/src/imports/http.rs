//! `http`: one outgoing call through the egress gate.

use wasmtime::component::Resource;

use super::blob::{BlobHandle, READ_BYTES_MAX};
use super::{Answer, answer, owned};
use crate::bindings::http::{Body, Host, HostResponse, Request, SignedRequest};
use crate::data::Data;
use crate::ports;

/// A guest's handle of a response. `None` while a read is in flight: a read that a cancel cut off ends the response.
#[expect(unreachable_pub, reason = "named by generated code, which is public in form")]
pub struct ResponseHandle(Option<Box<dyn ports::HttpResponse>>);

impl Host for Data {
    async fn send(&mut self, request: Request, body: Body) -> Answer<Resource<ResponseHandle>> {
        let body = match body {
            Body::Empty => ports::HttpBody::Empty,
            Body::Bytes(bytes) => ports::HttpBody::Bytes(bytes),
            Body::Blob(blob) => ports::HttpBody::Blob(self.table.get(&blob)?.0.clone()),
        };
        let port = self.ports.http.clone();
        match self.ports.control.guard(port.send(from_wit(request), body)).await {
            Ok(response) => owned(&mut self.table, ResponseHandle(Some(response))),
            Err(error) => answer(Err(error)),
        }
    }

    async fn presign(&mut self, request: Request, expires_s: u32) -> Answer<SignedRequest> {
        let port = self.ports.http.clone();
        let signed = self.ports.control.guard(port.presign(from_wit(request), expires_s)).await;
        answer(signed.map(|signed| SignedRequest {
            method: signed.method,
            url: signed.url,
            headers: signed.headers,
            expires_ms: signed.expires_ms,
        }))
    }
}

impl HostResponse for Data {
    async fn status(&mut self, this: Resource<ResponseHandle>) -> wasmtime::Result<u16> {
        Ok(self.table.get(&this)?.0.as_ref().map_or(0, |response| response.status()))
    }

    async fn headers(&mut self, this: Resource<ResponseHandle>) -> wasmtime::Result<Vec<(String, String)>> {
        Ok(self.table.get(&this)?.0.as_ref().map_or_else(Vec::new, |response| response.headers()))
    }

    async fn read(&mut self, this: Resource<ResponseHandle>, max_bytes: u32) -> Answer<Option<Vec<u8>>> {
        let Some(mut response) = self.table.get_mut(&this)?.0.take() else {
            return answer(Err(crate::control::cancelled()));
        };
        let max_bytes = max_bytes.clamp(1, READ_BYTES_MAX) as usize;
        let read = self.ports.control.guard(response.read(max_bytes)).await;
        if !self.ports.control.is_cancelled() {
            self.table.get_mut(&this)?.0 = Some(response);
        }
        answer(read)
    }

    async fn into_blob(&mut self, this: Resource<ResponseHandle>) -> Answer<Resource<BlobHandle>> {
        let Some(response) = self.table.delete(this)?.0 else {
            return answer(Err(crate::control::cancelled()));
        };
        match self.ports.control.guard(async { response.into_blob() }).await {
            Ok(blob) => owned(&mut self.table, BlobHandle(blob)),
            Err(error) => answer(Err(error)),
        }
    }

    async fn drop(&mut self, this: Resource<ResponseHandle>) -> wasmtime::Result<()> {
        self.table.delete(this)?;
        Ok(())
    }
}

fn from_wit(request: Request) -> ports::HttpRequest {
    ports::HttpRequest {
        method: request.method,
        url: request.url,
        headers: request.headers,
        credential: request.credential,
        timeout_ms: request.timeout_ms,
    }
}
