//! Plugins: what is installed, and loading it.
//!
//! ```text
//! plugin.toml + component ─► manifest, digest ─► inspect ─► compile in a bounded worker ─► link ─► trial instance ─► row
//! ```
//! First-party plugins are embedded in the program and walk the same path when they are first used; only their bytes come
//! from elsewhere. The compiled form is cached by digest and engine, and is never accepted from outside.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use midplane_core::limits::Limits;
use midplane_core::manifest::{Manifest, PluginKind, check_release};
use midplane_core::redact::Redactor;
use midplane_core::{Digest, Error, PluginName, Result};
use midplane_engine::{Engine, Plugin, WIT_RELEASE};
use midplane_store::{Component, PluginRow, Store};

use crate::helper;

/// A plugin that comes with the program.
#[derive(Debug, Clone, Copy)]
pub struct Embedded {
    /// Its `plugin.toml`.
    pub manifest: &'static str,
    /// Its component.
    pub component: &'static [u8],
}

/// An installed plugin.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) manifest: Arc<Manifest>,
    pub(crate) digest: Digest,
    pub(crate) origin: Origin,
    /// When it was installed; none for what is embedded.
    pub(crate) installed_ms: Option<u64>,
}

/// Where the bytes of a plugin are.
#[derive(Debug, Clone)]
pub(crate) enum Origin {
    /// In the program.
    Embedded(&'static [u8]),
    /// In the artifacts of the store.
    Installed,
}

/// All plugins of a host.
pub(crate) struct Registry {
    engine: Engine,
    store: Store,
    cache: PathBuf,
    helper: Option<PathBuf>,
    limits: Limits,
    embedded: BTreeMap<PluginName, Entry>,
    /// Loaded plugins by digest. A few hundred KiB each, and as many as are installed.
    loaded: Mutex<HashMap<Digest, Plugin>>,
    /// One compile at a time a process: it takes all cores by itself.
    compiling: tokio::sync::Mutex<()>,
}

impl Registry {
    pub(crate) fn new(
        engine: Engine,
        store: Store,
        cache: PathBuf,
        helper: Option<PathBuf>,
        limits: Limits,
        embedded: &[Embedded],
    ) -> Result<Self> {
        let mut entries = BTreeMap::new();
        for plugin in embedded {
            let manifest = Manifest::parse(plugin.manifest, "embedded plugin.toml")?;
            let entry = Entry {
                digest: Digest::of(plugin.component),
                origin: Origin::Embedded(plugin.component),
                installed_ms: None,
                manifest: Arc::new(manifest),
            };
            entries.insert(entry.manifest.name.clone(), entry);
        }
        let compiling = tokio::sync::Mutex::new(());
        Ok(Self { engine, store, cache, helper, limits, embedded: entries, loaded: Mutex::default(), compiling })
    }

    /// The helper program, if one was named.
    pub(crate) fn helper(&self) -> Option<&PathBuf> {
        self.helper.as_ref()
    }

    /// All plugins by name. An installed one stands in front of an embedded one of the same name.
    pub(crate) async fn list(&self) -> Result<Vec<Entry>> {
        let mut all = self.embedded.clone();
        for row in self.store.plugins.list().await? {
            let entry = installed(row)?;
            all.insert(entry.manifest.name.clone(), entry);
        }
        Ok(all.into_values().collect())
    }

    /// One plugin; `not-found` with the names that are near.
    pub(crate) async fn get(&self, name: &str) -> Result<Entry> {
        if let Ok(name) = PluginName::new(name) {
            if let Some(row) = self.store.plugins.get(&name).await? {
                return installed(row);
            }
            if let Some(entry) = self.embedded.get(&name) {
                return Ok(entry.clone());
            }
        }
        let all = self.list().await?;
        Err(unknown("plugin", name, all.iter().map(|entry| entry.manifest.name.as_str())))
    }

    /// Loads a plugin: from memory, from the cache, or by compiling it.
    pub(crate) async fn load(&self, entry: &Entry) -> Result<Plugin> {
        if let Some(plugin) = self.loaded().get(&entry.digest) {
            return Ok(plugin.clone());
        }
        let compiled = self.engine.cached(&self.cache, &entry.digest);
        let plugin = match self.engine.load(&compiled) {
            Ok(plugin) => plugin,
            // Not there, from another engine, or damaged: made again. Any other reason comes back from the second try.
            Err(_) => {
                let _one = self.compiling.lock().await;
                self.compile(entry, &compiled).await?;
                self.engine.load(&compiled)?
            }
        };
        self.loaded().insert(entry.digest.clone(), plugin.clone());
        Ok(plugin)
    }

    /// Installs a plugin from its files. Nothing is kept unless all checks pass.
    pub(crate) async fn install(&self, manifest_file: &Path, component_file: &Path, now_ms: u64) -> Result<Entry> {
        let origin = manifest_file.display().to_string();
        let text = read_bounded(manifest_file, midplane_core::manifest::MANIFEST_BYTES_MAX as u64).await?;
        let text =
            String::from_utf8(text).map_err(|_| Error::invalid("manifest", format!("{origin}: is not UTF-8")))?;
        let manifest = Manifest::parse(&text, &origin)?;
        let host = semver::Version::parse(WIT_RELEASE).map_err(|error| {
            Error::internal("wit-release", format!("the host's own release is no version: {error}"))
        })?;
        check_release(&manifest.wit, &host)?;
        self.limits.clone().lowered(&manifest.limits)?;
        let component = read_bounded(component_file, self.limits.component_bytes_max).await?;
        // Told apart before anything is written; the worker looks again at what it compiles.
        midplane_engine::inspect(&component, manifest.kind, &self.limits)?;
        let digest = Digest::of(&component);
        self.store.artifacts.put_bytes(&component, now_ms).await?;
        let entry = Entry {
            manifest: Arc::new(manifest),
            digest: digest.clone(),
            origin: Origin::Installed,
            installed_ms: Some(now_ms),
        };
        if let Err(error) = self.try_out(&entry).await {
            self.discard(&entry.digest).await;
            return Err(error);
        }
        let row = PluginRow {
            name: entry.manifest.name.clone(),
            version: entry.manifest.version.to_string(),
            kind: entry.manifest.kind.as_str().to_owned(),
            component: Component::Artifact(digest.clone()),
            digest,
            manifest_toml: text,
            // Asked anew for each run, since they may depend on a profile's settings.
            capabilities: "{}".to_owned(),
            verdict: "loads".to_owned(),
            installed_ms: now_ms,
            origin: std::path::absolute(manifest_file)
                .unwrap_or_else(|_| manifest_file.to_owned())
                .display()
                .to_string(),
        };
        self.store.plugins.put(row).await?;
        Ok(entry)
    }

    /// Loads it and starts it once.
    async fn try_out(&self, entry: &Entry) -> Result<()> {
        let plugin = self.load(entry).await?;
        let nothing = crate::reach::pure(Arc::default(), Redactor::default(), tracing::Span::none(), &self.limits);
        plugin.trial(nothing, &self.limits).await
    }

    /// Removes what a refused install has left. What another plugin refers to stays.
    async fn discard(&self, digest: &Digest) {
        match self.store.artifacts.remove(digest).await {
            Ok(_) => {
                self.loaded().remove(digest);
                // Of the cache, which may be emptied at any time: one file too many in it does no harm.
                let _ = std::fs::remove_file(self.engine.cached(&self.cache, digest));
            }
            Err(error) if error.code == "artifact-used" => {}
            Err(error) => tracing::warn!(%digest, %error, "what a refused install has left could not be removed"),
        }
    }

    /// Removes an installed plugin; an embedded one of the same name comes to light again.
    pub(crate) async fn remove(&self, name: &str) -> Result<()> {
        let entry = self.get(name).await?;
        if matches!(entry.origin, Origin::Embedded(_)) {
            return Err(Error::unsupported(
                "embedded",
                format!("plugin `{name}` is part of this program and cannot be removed"),
            )
            .hint("without grants it can do nothing; see `midplane grant list`"));
        }
        self.store.plugins.remove(&entry.manifest.name).await?;
        self.loaded().remove(&entry.digest);
        Ok(())
    }

    /// How many plugins are loaded.
    pub(crate) fn count_loaded(&self) -> usize {
        self.loaded().len()
    }

    async fn compile(&self, entry: &Entry, compiled: &Path) -> Result<()> {
        helper::private_folder(&self.cache)?;
        let kind = entry.manifest.kind;
        let Some(program) = &self.helper else {
            return match entry.origin {
                // Bytes that were compiled into this very program need no fence between them and it.
                Origin::Embedded(bytes) => self.compile_here(bytes, kind, compiled).await,
                Origin::Installed => Err(Error::unsupported(
                    "helper-missing",
                    format!("plugin `{}` has to be compiled, which needs the helper program", entry.manifest.name),
                )
                .hint("name it with `Host::builder().helper(path)`; the `midplane` command is one")),
            };
        };
        let bytes = match entry.origin {
            Origin::Embedded(bytes) => std::borrow::Cow::Borrowed(bytes),
            Origin::Installed => {
                self.store.artifacts.read(&entry.digest, self.limits.component_bytes_max).await?.into()
            }
        };
        // The worker reads a file, which is there for as long as it works.
        let file = tempfile::NamedTempFile::new_in(&self.cache)
            .and_then(|file| std::fs::write(file.path(), &bytes).map(|()| file))
            .map_err(|error| {
                Error::unavailable("cache", format!("`{}` cannot be written: {error}", self.cache.display()))
            })?;
        helper::compile(program, file.path(), compiled, kind, &self.limits).await
    }

    async fn compile_here(&self, bytes: &'static [u8], kind: PluginKind, compiled: &Path) -> Result<()> {
        let (compiled, limits) = (compiled.to_owned(), self.limits.clone());
        tokio::task::spawn_blocking(move || helper::compile_here(bytes, kind, &compiled, &limits))
            .await
            .map_err(|error| Error::internal("compile", format!("compiling was lost: {error}")))?
    }

    fn loaded(&self) -> std::sync::MutexGuard<'_, HashMap<Digest, Plugin>> {
        // Nothing panics while it is held.
        self.loaded.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn installed(row: PluginRow) -> Result<Entry> {
    let manifest = Manifest::parse(&row.manifest_toml, &format!("plugin `{}`", row.name))?;
    Ok(Entry {
        manifest: Arc::new(manifest),
        digest: row.digest,
        origin: Origin::Installed,
        installed_ms: Some(row.installed_ms),
    })
}

/// A file that is read only up to a bound.
async fn read_bounded(path: &Path, bytes_max: u64) -> Result<Vec<u8>> {
    use tokio::io::AsyncReadExt as _;
    let failed = |error: std::io::Error| {
        let message = format!("`{}` cannot be read: {error}", path.display());
        match error.kind() {
            std::io::ErrorKind::NotFound => Error::not_found("file", message),
            _ => Error::invalid("file", message),
        }
    };
    let file = tokio::fs::File::open(path).await.map_err(failed)?;
    let mut bytes = Vec::new();
    file.take(bytes_max + 1).read_to_end(&mut bytes).await.map_err(failed)?;
    if bytes.len() as u64 > bytes_max {
        return Err(Error::limit("file-size", format!("`{}` has more than {bytes_max} bytes", path.display()))
            .hint("of a component, an operator may raise `component_bytes_max` in the configuration"));
    }
    Ok(bytes)
}

/// That there is no such thing, with the names that are near.
pub(crate) fn unknown<'a>(what: &str, name: &str, known: impl Iterator<Item = &'a str> + Clone) -> Error {
    let shown = midplane_core::text::shown(name, 60);
    let error = Error::not_found(format!("{what}-unknown"), format!("there is no {what} `{shown}`"));
    let near = midplane_core::text::near(name, known.clone());
    if near.is_empty() {
        let all: Vec<&str> = known.collect();
        error.hint(format!("there are: {}", all.join(", ")))
    } else {
        error.hint(format!("did you mean `{}`?", near.join("` or `")))
    }
}
