//! The interfaces that this host links and cannot do yet: `files`, `detached` and `dns-exchange`. Each function
//! answers `unsupported`, so that a guest that imports its whole world loads, and one that needs them is told.

use wasmtime::component::Resource;

use super::blob::BlobHandle;
use super::{Answer, answer};
use crate::bindings::types::{Command, StopMode};
use crate::bindings::{detached, dns_exchange, files};
use crate::data::Data;

fn unsupported<T>(interface: &str) -> Answer<T> {
    let message = format!("this host does not offer `{interface}` yet");
    answer(Err(midplane_core::Error::unsupported("not-implemented", message)))
}

impl files::Host for Data {
    async fn stat(&mut self, _name: String) -> Answer<files::FileInfo> {
        unsupported("files")
    }

    async fn list(&mut self, _prefix: String, _after: Option<String>, _limit: u32) -> Answer<Vec<files::FileInfo>> {
        unsupported("files")
    }

    async fn read(&mut self, _name: String) -> Answer<(files::FileInfo, Resource<BlobHandle>)> {
        unsupported("files")
    }

    async fn write(
        &mut self,
        _name: String,
        _data: Resource<BlobHandle>,
        _when: files::Condition,
    ) -> Answer<files::FileInfo> {
        unsupported("files")
    }

    async fn remove(&mut self, _name: String, _when: files::Condition) -> Answer<bool> {
        unsupported("files")
    }
}

impl detached::Host for Data {
    async fn start(&mut self, _key: String, _command: Command, _options: detached::Options) -> Answer<Option<u16>> {
        unsupported("detached")
    }

    async fn status(&mut self, _key: String) -> Answer<detached::State> {
        unsupported("detached")
    }

    async fn stop(&mut self, _key: String, _how: StopMode) -> Answer<()> {
        unsupported("detached")
    }

    async fn tail(&mut self, _key: String, _lines: u32) -> Answer<String> {
        unsupported("detached")
    }

    async fn remove(&mut self, _key: String) -> Answer<()> {
        unsupported("detached")
    }
}

impl dns_exchange::Host for Data {
    async fn exchange(
        &mut self,
        _server: String,
        _message: Vec<u8>,
        _credential: Option<String>,
    ) -> Answer<Vec<Vec<u8>>> {
        unsupported("dns-exchange")
    }
}
