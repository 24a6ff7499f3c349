//! Artifacts: files kept by the SHA-256 of their content, and which run or plugin refers to them.
//!
//! ```text
//!  put: bytes ─► artifacts/tmp/… ─► fsync ─► row ─► rename to artifacts/aa/<digest> ─► fsync of the folder
//!  gc:  under the write lock: unreferenced and old ─► row and file removed
//! ```
//! The row comes before the file and is young from then on, and a collection takes only what is old and holds the write
//! lock while it removes; so a collection, in whatever process, never takes a file from under a `put`.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::UNIX_EPOCH;

use midplane_core::{Digest, Error, Result, RunId};
use rusqlite::{Connection, OptionalExtension, params};
use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};

use crate::sqlite::Db;
use crate::sqlite::error::{damaged, file as file_error, int, sql, uint};

/// Bytes that are moved at once.
const CHUNK_BYTES: usize = 64 * 1024;

/// Something that is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// SHA-256 of its content.
    pub digest: Digest,
    /// Its length.
    pub size_bytes: u64,
}

/// That a run made or uses something that is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArtifactRef {
    /// The run.
    pub run_id: RunId,
    /// Its name in the run; a later one of the same name replaces it.
    pub name: String,
    /// What it is, such as `file`.
    pub kind: String,
    /// Its content.
    pub digest: Digest,
    /// The content's length.
    pub size_bytes: u64,
}

/// The handle.
#[derive(Clone)]
pub struct Artifacts {
    db: Arc<Db>,
    files: Files,
}

/// Where the bytes are.
#[derive(Clone)]
enum Files {
    Folder(Arc<PathBuf>),
    Memory(Arc<Mutex<HashMap<Digest, Arc<[u8]>>>>),
}

impl Artifacts {
    pub(crate) fn in_folder(db: Arc<Db>, folder: PathBuf) -> Result<Self> {
        let tmp = folder.join("tmp");
        make_folder(&tmp)?;
        Ok(Self { db, files: Files::Folder(Arc::new(folder)) })
    }

    pub(crate) fn in_memory(db: Arc<Db>) -> Self {
        Self { db, files: Files::Memory(Arc::default()) }
    }

    /// Keeps what a reader gives. Durable when it returns; keeping the same content again is harmless, and mends it
    /// should the file have been damaged. `now_ms` makes it young for [`Artifacts::gc`].
    ///
    /// Errors: `limit` `artifact-size` beyond `bytes_max`, `limit` `disk`; `unavailable` `artifact-source` when the
    /// reader fails.
    pub async fn put(
        &self,
        source: &mut (dyn AsyncRead + Send + Unpin),
        bytes_max: u64,
        now_ms: u64,
    ) -> Result<Stored> {
        match &self.files {
            Files::Folder(folder) => {
                let temporary = Temporary::new(folder)?;
                let mut file = tokio::fs::File::from_std(temporary.open()?);
                let mut counted = Counted::new(bytes_max);
                while let Some(chunk) = counted.next(source).await? {
                    file.write_all(chunk).await.map_err(|e| file_error("write", &temporary.path, &e))?;
                }
                let stored = counted.finish();
                file.sync_all().await.map_err(|e| file_error("write", &temporary.path, &e))?;
                drop(file);
                self.touch(&stored, now_ms).await?;
                let target = path(folder, &stored.digest);
                blocking(move || temporary.keep_as(&target)).await?;
                Ok(stored)
            }
            Files::Memory(files) => {
                let mut bytes = Vec::new();
                let mut counted = Counted::new(bytes_max);
                while let Some(chunk) = counted.next(source).await? {
                    bytes.extend_from_slice(chunk);
                }
                let stored = counted.finish();
                self.touch(&stored, now_ms).await?;
                lock(files).insert(stored.digest.clone(), bytes.into());
                Ok(stored)
            }
        }
    }

    /// Keeps some bytes; as [`Artifacts::put`].
    pub async fn put_bytes(&self, mut bytes: &[u8], now_ms: u64) -> Result<Stored> {
        self.put(&mut bytes, u64::MAX, now_ms).await
    }

    /// Opens something that is kept, to be read piece by piece. Errors: `not-found` `artifact`.
    pub async fn open(&self, digest: &Digest) -> Result<ArtifactReader> {
        let source = match &self.files {
            Files::Folder(folder) => {
                let path = path(folder, digest);
                let file = tokio::fs::File::open(&path).await.map_err(|e| match e.kind() {
                    io::ErrorKind::NotFound => absent(digest),
                    _ => file_error("read", &path, &e),
                })?;
                Source::File(file, path)
            }
            Files::Memory(files) => Source::Memory(lock(files).get(digest).cloned().ok_or_else(|| absent(digest))?, 0),
        };
        Ok(ArtifactReader { source, digest: digest.clone(), hasher: Some(Sha256::new()) })
    }

    /// All of something that is kept, checked against its digest before it is given. Errors: as [`Artifacts::open`] and
    /// [`ArtifactReader::read`]; `limit` `artifact-size` beyond `bytes_max`.
    pub async fn read(&self, digest: &Digest, bytes_max: u64) -> Result<Vec<u8>> {
        let mut reader = self.open(digest).await?;
        let mut bytes = Vec::new();
        loop {
            let chunk = reader.read(CHUNK_BYTES).await?;
            if chunk.is_empty() {
                return Ok(bytes);
            }
            if (bytes.len() + chunk.len()) as u64 > bytes_max {
                return Err(too_large(bytes_max));
            }
            bytes.extend_from_slice(&chunk);
        }
    }

    /// The length of something, or unset if it is not kept.
    pub async fn size(&self, digest: &Digest) -> Result<Option<u64>> {
        match &self.files {
            Files::Folder(folder) => {
                let path = path(folder, digest);
                match tokio::fs::metadata(&path).await {
                    Ok(found) => Ok(Some(found.len())),
                    Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
                    Err(e) => Err(file_error("read", &path, &e)),
                }
            }
            Files::Memory(files) => Ok(lock(files).get(digest).map(|bytes| bytes.len() as u64)),
        }
    }

    /// Whether something is kept.
    pub async fn exists(&self, digest: &Digest) -> Result<bool> {
        Ok(self.size(digest).await?.is_some())
    }

    /// Removes something and says whether it was there. Errors: `conflict` `artifact-used` while it is referred to.
    pub async fn remove(&self, digest: &Digest) -> Result<bool> {
        let (files, digest) = (self.files.clone(), digest.clone());
        let remove = move |conn: &Connection| {
            let used: bool = conn
                .query_row(&format!("SELECT {USED} FROM (SELECT ?1 AS digest) AS a"), [digest.as_str()], |row| {
                    row.get(0)
                })
                .map_err(sql)?;
            if used {
                return Err(Error::conflict(
                    "artifact-used",
                    format!("a run or a plugin refers to artifact `{}`", digest.short()),
                ));
            }
            let row = conn.execute("DELETE FROM artifacts WHERE digest = ?", [digest.as_str()]).map_err(sql)?;
            Ok(files.remove(&digest)? || row == 1)
        };
        self.db.write(remove).await
    }

    /// Notes that a run refers to something that is kept. Errors: `not-found` `artifact`.
    pub async fn add_ref(&self, reference: ArtifactRef) -> Result<()> {
        let size_bytes = int(reference.size_bytes)?;
        let add = move |conn: &Connection| {
            let ArtifactRef { run_id, name, kind, digest, .. } = &reference;
            let kept = conn
                .query_row("SELECT 1 FROM artifacts WHERE digest = ?", [digest.as_str()], |_| Ok(()))
                .optional()
                .map_err(sql)?;
            kept.ok_or_else(|| absent(digest))?;
            conn.prepare_cached(
                "INSERT OR REPLACE INTO artifact_refs (run_id, name, kind, digest, size_bytes) VALUES (?, ?, ?, ?, ?)",
            )
            .and_then(|mut s| s.execute(params![run_id.as_str(), name, kind, digest.as_str(), size_bytes]))
            .map(|_| ())
            .map_err(sql)
        };
        self.db.write(add).await
    }

    /// What a run refers to, by name.
    pub async fn refs(&self, run_id: &RunId) -> Result<Vec<ArtifactRef>> {
        let run_id = run_id.clone();
        let list = move |conn: &Connection| {
            let mut statement = conn
                .prepare_cached(
                    "SELECT name, kind, digest, size_bytes FROM artifact_refs WHERE run_id = ? ORDER BY name",
                )
                .map_err(sql)?;
            let mut rows = statement.query([run_id.as_str()]).map_err(sql)?;
            let mut found = Vec::new();
            while let Some(row) = rows.next().map_err(sql)? {
                found.push(ArtifactRef {
                    run_id: run_id.clone(),
                    name: row.get(0).map_err(sql)?,
                    kind: row.get(1).map_err(sql)?,
                    digest: Digest::new(row.get::<_, String>(2).map_err(sql)?).map_err(damaged)?,
                    size_bytes: uint(row.get(3).map_err(sql)?)?,
                });
            }
            Ok(found)
        };
        self.db.read(list).await
    }

    /// Removes what nothing refers to and what was last kept before `before_ms`, and says what that was. With `dry_run`
    /// it only says. What interrupted `put`s left behind goes too.
    pub async fn gc(&self, before_ms: u64, dry_run: bool) -> Result<Vec<Stored>> {
        let (files, before) = (self.files.clone(), int(before_ms)?);
        let collect = move |conn: &Connection| {
            let mut statement = conn
                .prepare_cached(&format!(
                    "SELECT digest, size_bytes FROM artifacts AS a WHERE stored_ms < ? AND NOT {USED} ORDER BY digest"
                ))
                .map_err(sql)?;
            let mut rows = statement.query([before]).map_err(sql)?;
            let mut found = Vec::new();
            while let Some(row) = rows.next().map_err(sql)? {
                let digest = Digest::new(row.get::<_, String>(0).map_err(sql)?).map_err(damaged)?;
                found.push(Stored { digest, size_bytes: uint(row.get(1).map_err(sql)?)? });
            }
            if !dry_run {
                for stored in &found {
                    conn.execute("DELETE FROM artifacts WHERE digest = ?", [stored.digest.as_str()]).map_err(sql)?;
                    files.remove(&stored.digest)?;
                }
                files.remove_leftovers(before_ms)?;
            }
            Ok(found)
        };
        if dry_run { self.db.read(collect).await } else { self.db.write(collect).await }
    }

    /// Makes something known, and young. Before its file is in place: see the head of this file.
    async fn touch(&self, stored: &Stored, now_ms: u64) -> Result<()> {
        let (digest, size_bytes, now) = (stored.digest.clone(), int(stored.size_bytes)?, int(now_ms)?);
        let touch = move |conn: &Connection| {
            conn.prepare_cached(
                "INSERT INTO artifacts (digest, size_bytes, stored_ms) VALUES (?, ?, ?)
                 ON CONFLICT DO UPDATE SET stored_ms = max(stored_ms, excluded.stored_ms)",
            )
            .and_then(|mut s| s.execute(params![digest.as_str(), size_bytes, now]))
            .map(|_| ())
            .map_err(sql)
        };
        self.db.write(touch).await
    }
}

/// Whether a run or a plugin refers to `a.digest`.
const USED: &str = "(EXISTS (SELECT 1 FROM artifact_refs WHERE digest = a.digest)
    OR EXISTS (SELECT 1 FROM plugins WHERE component_digest = a.digest))";

/// Reads something that is kept, and checks it on the way.
pub struct ArtifactReader {
    source: Source,
    digest: Digest,
    /// Gone once the end was checked.
    hasher: Option<Sha256>,
}

enum Source {
    File(tokio::fs::File, PathBuf),
    Memory(Arc<[u8]>, usize),
}

impl ArtifactReader {
    /// The next bytes, at most `max_bytes`; none at the end. Errors: `internal` `artifact-damaged` instead of the end,
    /// when what was read is not what was kept: whoever acts on the bytes before the end acts on unchecked ones.
    pub async fn read(&mut self, max_bytes: usize) -> Result<Vec<u8>> {
        let chunk = match &mut self.source {
            Source::File(file, path) => {
                let mut chunk = vec![0; max_bytes.clamp(1, CHUNK_BYTES)];
                let read = file.read(&mut chunk).await.map_err(|e| file_error("read", path, &e))?;
                chunk.truncate(read);
                chunk
            }
            Source::Memory(bytes, offset) => {
                let rest = bytes.get(*offset..).unwrap_or_default();
                let chunk = rest.get(..max_bytes.clamp(1, CHUNK_BYTES)).unwrap_or(rest).to_vec();
                *offset += chunk.len();
                chunk
            }
        };
        if chunk.is_empty() {
            if let Some(hasher) = self.hasher.take() {
                let found = Digest::from_bytes(hasher.finalize().as_ref());
                if found != self.digest {
                    return Err(Error::internal(
                        "artifact-damaged",
                        format!("artifact `{}` is not what was kept", self.digest.short()),
                    )
                    .hint("keep it again from its source; that mends it"));
                }
            }
        } else if let Some(hasher) = &mut self.hasher {
            hasher.update(&chunk);
        }
        Ok(chunk)
    }
}

impl Files {
    /// Removes a file and says whether it was there.
    fn remove(&self, digest: &Digest) -> Result<bool> {
        match self {
            Self::Folder(folder) => {
                let path = path(folder, digest);
                match fs::remove_file(&path) {
                    Ok(()) => Ok(true),
                    Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
                    Err(e) => Err(file_error("remove", &path, &e)),
                }
            }
            Self::Memory(files) => Ok(lock(files).remove(digest).is_some()),
        }
    }

    /// Removes temporary files that nobody has written to since.
    fn remove_leftovers(&self, before_ms: u64) -> Result<()> {
        let Self::Folder(folder) = self else { return Ok(()) };
        let tmp = folder.join("tmp");
        let entries = fs::read_dir(&tmp).map_err(|e| file_error("read", &tmp, &e))?;
        for entry in entries.flatten() {
            let modified = entry
                .metadata()
                .and_then(|found| found.modified())
                .ok()
                .and_then(|at| at.duration_since(UNIX_EPOCH).ok());
            if modified.is_some_and(|at| at.as_millis() < u128::from(before_ms)) {
                // Another process may have been faster.
                let _ = fs::remove_file(entry.path());
            }
        }
        Ok(())
    }
}

/// A file in the making, removed unless it is kept.
struct Temporary {
    path: PathBuf,
    kept: bool,
}

impl Temporary {
    fn new(folder: &Path) -> Result<Self> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let name = format!("{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        Ok(Self { path: folder.join("tmp").join(name), kept: false })
    }

    /// The file, new under this name.
    fn open(&self) -> Result<fs::File> {
        // A name is of this process alone, so what lies there was left by an earlier one with the same number.
        let open = || fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&self.path);
        let opened = match open() {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => fs::remove_file(&self.path).and_then(|()| open()),
            other => other,
        };
        opened.map_err(|e| file_error("write", &self.path, &e))
    }

    fn keep_as(mut self, target: &Path) -> Result<()> {
        let shelf = target.parent().unwrap_or(target);
        make_folder(shelf)?;
        fs::rename(&self.path, target).map_err(|e| file_error("write", target, &e))?;
        self.kept = true;
        let sync = |folder: &Path| {
            fs::File::open(folder).and_then(|folder| folder.sync_all()).map_err(|e| file_error("write", folder, &e))
        };
        sync(shelf)?;
        // The shelf itself may be new.
        sync(shelf.parent().unwrap_or(shelf))
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if !self.kept {
            // What cannot be removed now is a leftover for the next collection.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Bytes on their way, counted and digested. A type and not a function that takes an async closure: a future that
/// holds one cannot be proven to be `Send` by those who spawn it.
struct Counted {
    hasher: Sha256,
    size_bytes: u64,
    bytes_max: u64,
    chunk: Vec<u8>,
}

impl Counted {
    fn new(bytes_max: u64) -> Self {
        Self { hasher: Sha256::new(), size_bytes: 0, bytes_max, chunk: vec![0; CHUNK_BYTES] }
    }

    /// The next bytes; none at the end.
    async fn next(&mut self, source: &mut (dyn AsyncRead + Send + Unpin)) -> Result<Option<&[u8]>> {
        let read = source
            .read(&mut self.chunk)
            .await
            .map_err(|e| Error::unavailable("artifact-source", format!("cannot read what is to be kept: {e}")))?;
        let bytes = self.chunk.get(..read).unwrap_or_default();
        if bytes.is_empty() {
            return Ok(None);
        }
        self.size_bytes += read as u64;
        if self.size_bytes > self.bytes_max {
            return Err(too_large(self.bytes_max));
        }
        self.hasher.update(bytes);
        Ok(Some(bytes))
    }

    fn finish(self) -> Stored {
        Stored { digest: Digest::from_bytes(self.hasher.finalize().as_ref()), size_bytes: self.size_bytes }
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|e| Error::internal("store-file", format!("a file operation did not end: {e}")))?
}

fn make_folder(path: &Path) -> Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(|e| file_error("make", path, &e))
}

/// Two digits of the digest as a shelf, so that no folder becomes huge. A digest has 64.
fn path(folder: &Path, digest: &Digest) -> PathBuf {
    folder.join(digest.as_str().get(..2).unwrap_or_default()).join(digest.as_str())
}

fn lock(files: &Mutex<HashMap<Digest, Arc<[u8]>>>) -> MutexGuard<'_, HashMap<Digest, Arc<[u8]>>> {
    files.lock().unwrap_or_else(PoisonError::into_inner)
}

fn absent(digest: &Digest) -> Error {
    Error::not_found("artifact", format!("artifact `{}` is not kept here", digest.short()))
}

fn too_large(bytes_max: u64) -> Error {
    Error::limit("artifact-size", format!("it has more than {bytes_max} bytes"))
}
