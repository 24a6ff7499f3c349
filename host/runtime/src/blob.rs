//! Bytes that the host holds for a plugin: they go from network to disk and back without entering its memory.
//!
//! ```text
//!   response body ──► task ─┐                       ┌─► read (host: as they are)
//!                           ├─► Store: memory up to ┼─► read_masked (guest: live secrets as `*`)
//!   writer (guest's bytes) ─┘   1 MiB, then a file  └─► slice, size, digest
//! ```
//! A blob may still be arriving: who needs bytes that are not there waits, and fails as the source failed. The file has no
//! name from the moment it is made, so that nothing is left behind however the host ends.
//!
//! [`BlobSpace`] is what one run may hold ([`midplane_core::limits::Limits::blob_bytes_max`]); the bytes count until the
//! last handle of a blob is dropped, which also stops its source.
//!
//! Masking looks at the bytes around what was asked for, and at the whole blob rather than at the slice, so that reading in
//! small steps or through narrow slices does not uncover a secret.

use std::fs::File;
use std::future::Future;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use md5::Md5;
use midplane_core::redact::{Redactor, Stream};
use midplane_core::{Error, Result};
use midplane_engine::ports::{Blob, BlobWriter, Blobs};
use sha2::{Digest as _, Sha256};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

/// What one answer of a read carries at most (`blob.read`), and one write (`writer.write`).
const STEP_BYTES_MAX: usize = 1024 * 1024;
/// Up to this size a blob stays in memory.
const MEMORY_BYTES_MAX: u64 = 1024 * 1024;
/// Up to this size all blobs of a run together do: a thousand small ones would else be a gigabyte.
const MEMORY_TOTAL_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// How much a digest reads at once.
const DIGEST_BYTES: usize = 256 * 1024;

/// How many bytes the blobs of one run hold together.
#[derive(Debug)]
pub(crate) struct BlobBudget {
    held: AtomicU64,
    /// Of these, how many are in memory.
    in_memory: AtomicU64,
    bytes_max: u64,
}

impl BlobBudget {
    /// A budget of `bytes_max` bytes, shared by all calls of a run.
    pub(crate) fn new(bytes_max: u64) -> Self {
        Self { held: AtomicU64::new(0), in_memory: AtomicU64::new(0), bytes_max }
    }

    /// How many bytes are held now.
    #[cfg(test)]
    pub(crate) fn held(&self) -> u64 {
        self.held.load(Ordering::Relaxed)
    }

    fn take(&self, bytes: u64) -> Result<()> {
        if add_below(&self.held, bytes, self.bytes_max) {
            return Ok(());
        }
        Err(Error::limit("blob-bytes", format!("the blobs of a run hold at most {} bytes together", self.bytes_max))
            .hint("drop blobs that are no longer needed"))
    }
}

/// Adds, unless the sum would be above the bound.
fn add_below(sum: &AtomicU64, more: u64, max: u64) -> bool {
    let add = |sum: u64| sum.checked_add(more).filter(|sum| *sum <= max);
    sum.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add).is_ok()
}

/// Where the blobs of a run are made. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct BlobSpace {
    dir: Arc<Path>,
    budget: Arc<BlobBudget>,
    redactor: Redactor,
}

/// What an arriving blob is filled from.
#[async_trait]
pub(crate) trait Source: Send {
    /// The next bytes; none at the end.
    async fn next(&mut self) -> Result<Option<Bytes>>;

    /// What it means for the source that the host will not hold its bytes.
    fn refused(&self, error: Error) -> Error {
        error
    }
}

impl BlobSpace {
    /// Blobs that are spooled into nameless files in `dir`, count against `budget`, and are masked for guests by `redactor`.
    pub(crate) fn new(dir: impl Into<PathBuf>, budget: Arc<BlobBudget>, redactor: Redactor) -> Self {
        Self { dir: dir.into().into(), budget, redactor }
    }

    /// The same space, its blobs masked by another redactor.
    pub(crate) fn hiding(&self, redactor: &Redactor) -> Self {
        Self { redactor: redactor.clone(), ..self.clone() }
    }

    /// A blob that a task fills while others read. `size` is what the source said, if it did. Needs a tokio runtime.
    pub(crate) fn arriving(&self, mut source: impl Source + 'static, size: Option<u64>) -> Arc<dyn Blob> {
        let store = Arc::new(Store::new(self, size));
        let filled = Arc::clone(&store);
        let task = tokio::spawn(async move {
            let end = loop {
                match source.next().await {
                    Ok(None) => break Ok(()),
                    Ok(Some(bytes)) => {
                        if let Err(error) = filled.append(&bytes).await {
                            break Err(source.refused(error));
                        }
                    }
                    Err(error) => break Err(error),
                }
            };
            // The connection ends before waiters are told, so that "the blob is complete" means that nothing is open.
            drop(source);
            filled.end(end);
        });
        Part::whole(Held { store, task: Some(task) })
    }
}

impl Blobs for BlobSpace {
    fn open_writer(&self) -> Result<Box<dyn BlobWriter>> {
        Ok(Box::new(Writer { store: Arc::new(Store::new(self, None)), busy: false }))
    }
}

struct Writer {
    store: Arc<Store>,
    /// A write was begun and not finished: its caller was cancelled in it, and how much of it came through is unknown.
    busy: bool,
}

#[async_trait]
impl BlobWriter for Writer {
    async fn write(&mut self, data: Vec<u8>) -> Result<()> {
        if data.len() > STEP_BYTES_MAX {
            return Err(Error::limit("blob-bytes", format!("one write has at most {STEP_BYTES_MAX} bytes")));
        }
        self.ready()?;
        self.busy = true;
        let result = self.store.append(&data).await;
        self.busy = false;
        result
    }

    async fn finish(self: Box<Self>) -> Result<Arc<dyn Blob>> {
        self.ready()?;
        self.store.end(Ok(()));
        Ok(Part::whole(Held { store: self.store, task: None }))
    }
}

impl Writer {
    fn ready(&self) -> Result<()> {
        if self.busy {
            return Err(Error::cancelled("cancelled", "a write to this blob was cancelled, so it cannot go on"));
        }
        Ok(())
    }
}

/// A blob with what fills it. When the last handle goes, nobody can read what would still come.
struct Held {
    store: Arc<Store>,
    task: Option<JoinHandle<()>>,
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

/// A blob, or a part of one.
struct Part {
    held: Arc<Held>,
    /// Where it begins in the store.
    from: u64,
    /// Unset for all that follows.
    length: Option<u64>,
}

impl Part {
    fn whole(held: Held) -> Arc<dyn Blob> {
        Arc::new(Self { held: Arc::new(held), from: 0, length: None })
    }

    fn store(&self) -> &Store {
        &self.held.store
    }

    /// The range of the store to read, once at least one byte of it is there with `margin` more behind it, or no more will
    /// come. Nothing at the end of the part.
    async fn range(&self, offset: u64, max_bytes: usize, margin: u64) -> Result<Option<(u64, u64)>> {
        let Some(start) = self.from.checked_add(offset).filter(|_| self.length.is_none_or(|length| offset < length))
        else {
            return Ok(None);
        };
        let wanted = start.saturating_add(margin).saturating_add(1);
        let there = self.store().wait(|state| state.size >= wanted || state.end.is_some()).await;
        let readable = match there.end {
            None => there.size - margin,
            Some(_) => there.size,
        };
        if start >= readable {
            return there.end.unwrap_or(Ok(())).map(|()| None);
        }
        let part_end = self.length.map_or(u64::MAX, |length| self.from.saturating_add(length));
        let step = max_bytes.clamp(1, STEP_BYTES_MAX) as u64;
        Ok(Some((start, readable.min(part_end).min(start.saturating_add(step)))))
    }
}

#[async_trait]
impl Blob for Part {
    async fn size(&self) -> Result<u64> {
        if let Some(length) = self.length {
            return Ok(length);
        }
        let size = match self.store().said {
            Some(size) => size,
            None => {
                let there = self.store().wait(|state| state.end.is_some()).await;
                there.end.unwrap_or(Ok(()))?;
                there.size
            }
        };
        // A slice is only made where it lies within, so this does not go below zero.
        Ok(size.saturating_sub(self.from))
    }

    async fn read(&self, offset: u64, max_bytes: usize) -> Result<Vec<u8>> {
        match self.range(offset, max_bytes, 0).await? {
            None => Ok(Vec::new()),
            Some((start, end)) => self.store().bytes(start, end).await,
        }
    }

    async fn read_masked(&self, offset: u64, max_bytes: usize) -> Result<Vec<u8>> {
        let redactor = &self.store().redactor;
        // One more than the longest form: a short value counts only with what stands beside it.
        let margin = match Stream::new(redactor).held_bytes_max() as u64 {
            0 => 0,
            longest => longest + 1,
        };
        let Some((start, end)) = self.range(offset, max_bytes, margin).await? else { return Ok(Vec::new()) };
        let (before, after) = (start.saturating_sub(margin), end.saturating_add(margin).min(self.store().size()));
        let window = self.store().bytes(before, after).await?;
        let masked = redactor.mask(&window);
        // Both differences are below a step and two margins.
        let (from, to) = ((start - before) as usize, (end - before) as usize);
        masked.get(from..to).map(<[u8]>::to_vec).ok_or_else(short_file)
    }

    async fn slice(&self, offset: u64, length: Option<u64>) -> Result<Arc<dyn Blob>> {
        let range = || Error::invalid("range", "the part does not lie within the blob");
        let end = offset.checked_add(length.unwrap_or(0)).ok_or_else(range)?;
        let known = match self.length {
            Some(length) => Some(length),
            None => self.store().said.map(|size| size.saturating_sub(self.from)),
        };
        let size = match known {
            Some(size) => size,
            None => {
                let wanted = self.from.checked_add(end).ok_or_else(range)?;
                let there = self.store().wait(|state| state.size >= wanted || state.end.is_some()).await;
                if there.size < wanted {
                    there.end.unwrap_or(Ok(()))?;
                }
                there.size.saturating_sub(self.from)
            }
        };
        if end > size {
            return Err(range());
        }
        // Of a part with an end the rest has an end too.
        let length = length.or(self.length.map(|all| all - offset));
        let from = self.from.checked_add(offset).ok_or_else(range)?;
        Ok(Arc::new(Self { held: Arc::clone(&self.held), from, length }))
    }

    async fn digest(&self, algorithm: &str) -> Result<Vec<u8>> {
        let mut digest = Digest::new(algorithm)?;
        let mut offset = 0;
        loop {
            let bytes = self.read(offset, DIGEST_BYTES).await?;
            if bytes.is_empty() {
                return Ok(digest.finish());
            }
            offset += bytes.len() as u64;
            digest.update(&bytes);
            // Bytes in memory are read without waiting; others on this thread get their turn.
            tokio::task::yield_now().await;
        }
    }
}

enum Digest {
    Sha256(Sha256),
    Md5(Md5),
    Crc32c(u32),
}

impl Digest {
    fn new(algorithm: &str) -> Result<Self> {
        match algorithm {
            "sha256" => Ok(Self::Sha256(Sha256::new())),
            "md5" => Ok(Self::Md5(Md5::new())),
            "crc32c" => Ok(Self::Crc32c(0)),
            other => {
                let other = midplane_core::text::shown(other, 40);
                Err(Error::unsupported("digest", format!("there is no digest `{other}`"))
                    .hint("`sha256`, `md5` and `crc32c` are known"))
            }
        }
    }

    fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Sha256(hash) => hash.update(bytes),
            Self::Md5(hash) => hash.update(bytes),
            Self::Crc32c(crc) => *crc = crc32c::crc32c_append(*crc, bytes),
        }
    }

    fn finish(self) -> Vec<u8> {
        match self {
            Self::Sha256(hash) => hash.finalize().to_vec(),
            Self::Md5(hash) => hash.finalize().to_vec(),
            Self::Crc32c(crc) => crc.to_be_bytes().to_vec(),
        }
    }
}

/// The bytes of one blob. One writer or task appends; any number read.
struct Store {
    dir: Arc<Path>,
    budget: Arc<BlobBudget>,
    redactor: Redactor,
    /// The size that the source said before all bytes were there.
    said: Option<u64>,
    state: Mutex<State>,
    changed: Notify,
}

struct State {
    place: Place,
    /// How many bytes can be read.
    size: u64,
    /// How many were taken from the budget: never less than `size`.
    taken: u64,
    /// Set when no more will come, and why.
    end: Option<Result<()>>,
}

enum Place {
    Memory(Vec<u8>),
    File(Arc<File>),
}

/// How far a blob is.
struct There {
    size: u64,
    end: Option<Result<()>>,
}

impl Store {
    fn new(space: &BlobSpace, said: Option<u64>) -> Self {
        Self {
            dir: Arc::clone(&space.dir),
            budget: Arc::clone(&space.budget),
            redactor: space.redactor.clone(),
            said,
            state: Mutex::new(State { place: Place::Memory(Vec::new()), size: 0, taken: 0, end: None }),
            changed: Notify::new(),
        }
    }

    /// Adds bytes at the end. Of an append that was dropped half-way nothing can be read.
    async fn append(&self, data: &[u8]) -> Result<()> {
        let more = data.len() as u64;
        self.budget.take(more)?;
        let to_file = {
            let mut state = self.state();
            state.taken += more;
            let at = state.size;
            match &mut state.place {
                Place::Memory(bytes)
                    if at + more <= MEMORY_BYTES_MAX
                        && add_below(&self.budget.in_memory, more, MEMORY_TOTAL_BYTES_MAX) =>
                {
                    bytes.extend_from_slice(data);
                    state.size += more;
                    None
                }
                Place::Memory(bytes) => Some((None, [bytes.as_slice(), data].concat(), 0)),
                Place::File(file) => Some((Some(Arc::clone(file)), data.to_vec(), at)),
            }
        };
        if let Some((file, bytes, at)) = to_file {
            let dir = Arc::clone(&self.dir);
            let file = blocking(move || {
                let file = match file {
                    Some(file) => file,
                    None => Arc::new(tempfile::tempfile_in(dir)?),
                };
                file.write_all_at(&bytes, at)?;
                Ok(file)
            })
            .await?;
            let mut state = self.state();
            self.leave_memory(&mut state, Place::File(file));
            state.size += more;
        }
        self.changed.notify_waiters();
        Ok(())
    }

    /// Puts another place where the bytes in memory were.
    fn leave_memory(&self, state: &mut State, place: Place) {
        if let Place::Memory(bytes) = std::mem::replace(&mut state.place, place) {
            self.budget.in_memory.fetch_sub(bytes.len() as u64, Ordering::Relaxed);
        }
    }

    fn end(&self, end: Result<()>) {
        self.state().end = Some(end);
        self.changed.notify_waiters();
    }

    fn size(&self) -> u64 {
        self.state().size
    }

    async fn wait(&self, enough: impl Fn(&State) -> bool) -> There {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            // Registered before the look, so that a change in between is not missed.
            changed.as_mut().enable();
            {
                let state = self.state();
                if enough(&state) {
                    return There { size: state.size, end: state.end.clone() };
                }
            }
            changed.await;
        }
    }

    /// Bytes that are there, as they are.
    async fn bytes(&self, start: u64, end: u64) -> Result<Vec<u8>> {
        let file = match &self.state().place {
            Place::File(file) => Arc::clone(file),
            Place::Memory(bytes) => {
                let range = usize::try_from(start).unwrap_or(usize::MAX)..usize::try_from(end).unwrap_or(usize::MAX);
                return bytes.get(range).map(<[u8]>::to_vec).ok_or_else(short_file);
            }
        };
        blocking(move || {
            // A caller reads at most a step and two margins.
            let mut bytes = vec![0; usize::try_from(end - start).unwrap_or(0)];
            file.read_exact_at(&mut bytes, start)?;
            Ok(bytes)
        })
        .await
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing panics while it is held, so a poisoned lock still holds a whole state.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        let mut state = self.state();
        self.leave_memory(&mut state, Place::Memory(Vec::new()));
        self.budget.held.fetch_sub(state.taken, Ordering::Relaxed);
    }
}

/// File work off the threads that serve connections.
fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> std::io::Result<T> + Send + 'static,
) -> impl Future<Output = Result<T>> {
    let work = tokio::task::spawn_blocking(work);
    async move {
        match work.await {
            Ok(Ok(done)) => Ok(done),
            Ok(Err(error)) => Err(Error::internal("spool", format!("the host cannot spool a blob: {error}"))),
            Err(_) => Err(Error::internal("spool", "the host is shutting down")),
        }
    }
}

fn short_file() -> Error {
    Error::internal("spool", "a spooled blob is shorter than it was")
}

#[cfg(test)]
mod tests;
