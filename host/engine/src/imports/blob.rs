//! `blob`: bytes that the host holds.

use std::sync::Arc;

use wasmtime::component::Resource;

use super::{Answer, answer, owned};
use crate::bindings::blob::{Host, HostBlob, HostWriter};
use crate::data::Data;
use crate::ports;

/// A guest's handle of a blob.
#[expect(unreachable_pub, reason = "named by generated code, which is public in form")]
pub struct BlobHandle(pub(crate) Arc<dyn ports::Blob>);

/// A guest's handle of a blob in the making. Empty only while a write is in flight; a write that a cancel cut off
/// leaves it empty, so that a blob with a hole can never be finished.
#[expect(unreachable_pub, reason = "named by generated code, which is public in form")]
pub struct WriterHandle(Option<Box<dyn ports::BlobWriter>>);

/// What the interface gives at most in one read.
pub(crate) const READ_BYTES_MAX: u32 = 1024 * 1024;

impl Host for Data {
    async fn open_writer(&mut self) -> Answer<Resource<WriterHandle>> {
        let port = self.ports.blobs.clone();
        match self.ports.control.guard(async { port.open_writer() }).await {
            Ok(writer) => owned(&mut self.table, WriterHandle(Some(writer))),
            Err(error) => answer(Err(error)),
        }
    }
}

impl HostBlob for Data {
    async fn size(&mut self, this: Resource<BlobHandle>) -> Answer<u64> {
        let blob = self.table.get(&this)?.0.clone();
        answer(self.ports.control.guard(blob.size()).await)
    }

    async fn read(&mut self, this: Resource<BlobHandle>, offset: u64, max_bytes: u32) -> Answer<Vec<u8>> {
        let blob = self.table.get(&this)?.0.clone();
        let max_bytes = max_bytes.min(READ_BYTES_MAX) as usize;
        answer(self.ports.control.guard(blob.read_masked(offset, max_bytes)).await)
    }

    async fn slice(
        &mut self,
        this: Resource<BlobHandle>,
        offset: u64,
        length: Option<u64>,
    ) -> Answer<Resource<BlobHandle>> {
        let blob = self.table.get(&this)?.0.clone();
        match self.ports.control.guard(blob.slice(offset, length)).await {
            Ok(part) => owned(&mut self.table, BlobHandle(part)),
            Err(error) => answer(Err(error)),
        }
    }

    async fn digest(&mut self, this: Resource<BlobHandle>, algorithm: String) -> Answer<Vec<u8>> {
        let blob = self.table.get(&this)?.0.clone();
        answer(self.ports.control.guard(blob.digest(&algorithm)).await)
    }

    async fn drop(&mut self, this: Resource<BlobHandle>) -> wasmtime::Result<()> {
        self.table.delete(this)?;
        Ok(())
    }
}

impl HostWriter for Data {
    async fn write(&mut self, this: Resource<WriterHandle>, data: Vec<u8>) -> Answer<()> {
        if data.len() > READ_BYTES_MAX as usize {
            return answer(Err(midplane_core::Error::limit("blob-bytes", "a write has at most 1 MiB")));
        }
        let Some(mut writer) = self.table.get_mut(&this)?.0.take() else {
            return answer(Err(broken()));
        };
        let written = self.ports.control.guard(writer.write(data)).await;
        if written.is_ok() {
            self.table.get_mut(&this)?.0 = Some(writer);
        }
        answer(written)
    }

    async fn finish(&mut self, this: Resource<WriterHandle>) -> Answer<Resource<BlobHandle>> {
        let Some(writer) = self.table.delete(this)?.0 else {
            return answer(Err(broken()));
        };
        match self.ports.control.guard(writer.finish()).await {
            Ok(blob) => owned(&mut self.table, BlobHandle(blob)),
            Err(error) => answer(Err(error)),
        }
    }

    async fn drop(&mut self, this: Resource<WriterHandle>) -> wasmtime::Result<()> {
        self.table.delete(this)?;
        Ok(())
    }
}

fn broken() -> midplane_core::Error {
    midplane_core::Error::unavailable("broken", "an earlier write of this blob failed")
}
