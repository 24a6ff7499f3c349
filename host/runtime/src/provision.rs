//! What a run needs before its plugin is called, and what is kept of it afterwards.
//!
//! Attachments are staged into the workspace, in a folder of the run's own that is removed at its end; files that the run
//! made or changed are kept among the artifacts, by digest, whatever happens to the workspace later.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::path::Path;
use std::sync::Arc;

use cap_std::fs::Dir;
use midplane_core::limits::Limits;
use midplane_core::outcome::{Artifact, Claim};
use midplane_core::task::{Attachment, AttachmentKind};
use midplane_core::{Digest, Error, Result, RunId};
use midplane_engine::Attached;
use midplane_store::{ArtifactRef, Store};
use serde_json::{Value, json};

use crate::driver::Work;
use crate::endpoints::{Endpoints, Plan};
use crate::placeholder::Placeholders;
use crate::process::place::Place;
use crate::tools::mcp::Server;
use crate::tools::mcp::bridge::{Bridges, Sockets};
use crate::tools::{Change, HostTools};
use crate::workspace::Workspace;

/// What is prepared for a run.
pub(crate) struct Provision {
    pub(crate) run_id: RunId,
    pub(crate) store: Store,
    pub(crate) limits: Limits,
    pub(crate) workspace: Option<Arc<Workspace>>,
    pub(crate) attachments: Vec<Attachment>,
    pub(crate) output_schema: Option<Value>,
    pub(crate) tools: Arc<HostTools>,
    /// Taken when they are started.
    pub(crate) endpoints: Option<Plan>,
    /// Where the run's programs run.
    pub(crate) place: Arc<Place>,
    pub(crate) placeholders: Placeholders,
    /// MCP servers with the sockets by which a vendor's program reaches them; taken when those are opened.
    pub(crate) servers: Option<(Sockets, Vec<Arc<Server>>)>,
}

/// What was prepared.
pub(crate) struct Provisioned {
    /// What was staged.
    pub(crate) attachments: Vec<Attached>,
    /// The workspace as a child sees it.
    pub(crate) working_directory: Option<String>,
    /// Open until the run has ended.
    endpoints: Option<Endpoints>,
    /// As long.
    bridges: Option<Bridges>,
    of: Provision,
}

/// What is kept of a run.
#[derive(Default)]
pub(crate) struct Kept {
    /// Files that it made or changed.
    pub(crate) artifacts: Vec<Artifact>,
    /// The answer that it gave through the `return_result` tool.
    pub(crate) parsed_output: Option<Value>,
}

/// The folder in a workspace below which attachments are staged.
const STAGE: &str = ".midplane";
/// Files that one attachment may have, and all attachments together.
const FILES_MAX: usize = 1_000;
/// Levels of folders in an attachment.
const DEPTH_MAX: usize = 16;

impl Provision {
    /// Prepares it.
    pub(crate) async fn prepare(mut self) -> Result<Provisioned> {
        let working_directory = self.workspace.as_ref().map(|workspace| workspace.path().display().to_string());
        let mut attachments = Vec::new();
        if !self.attachments.is_empty() {
            let Some(workspace) = self.workspace.clone() else {
                return Err(Error::invalid(
                    "attachments",
                    "attachments are staged in the workspace, and the task has none",
                )
                .hint("add `--workspace DIR`"));
            };
            let (wanted, run_id, bytes_max) =
                (self.attachments.clone(), self.run_id.clone(), self.limits.tool_file_bytes_max);
            let staged = tokio::task::spawn_blocking(move || stage(&wanted, &workspace, &run_id, bytes_max));
            attachments = staged
                .await
                .map_err(|error| Error::internal("attachments", format!("staging was lost: {error}")))??;
        }
        let endpoints = match self.endpoints.take() {
            Some(plan) => Some(plan.start(&self.placeholders).await?),
            None => None,
        };
        // Where programs have no network, they still have what the host serves them.
        self.place.serve(endpoints.as_ref().and_then(|endpoints| endpoints.port));
        let bridges = match self.servers.take() {
            Some((sockets, servers)) => Some(sockets.listen(&servers)?),
            None => None,
        };
        Ok(Provisioned { attachments, working_directory, endpoints, bridges, of: self })
    }
}

impl Provisioned {
    /// The schema of the wanted answer.
    pub(crate) fn schema(&self) -> Option<Value> {
        self.of.output_schema.clone()
    }

    /// The plugin's settings with what it reads of its endpoints.
    pub(crate) fn config(&self, settings: &Arc<BTreeMap<String, String>>) -> Arc<BTreeMap<String, String>> {
        match &self.endpoints {
            Some(endpoints) if !endpoints.config.is_empty() => {
                let mut config = (**settings).clone();
                config.extend(endpoints.config.clone());
                Arc::new(config)
            }
            _ => settings.clone(),
        }
    }

    /// Closes the endpoints, ends MCP servers, keeps what the run made and removes what was staged for it. What cannot be kept is said in the trace and skipped:
    /// the run has ended as it has.
    pub(crate) fn finish(self) -> Work<Kept> {
        Box::pin(self.keep_all())
    }

    async fn keep_all(mut self) -> Kept {
        self.endpoints.take();
        self.bridges.take();
        self.of.tools.close().await;
        let mut kept = Kept { artifacts: Vec::new(), parsed_output: self.of.tools.parsed_output() };
        let Some(workspace) = self.of.workspace.clone() else { return kept };
        for change in self.of.tools.changes() {
            if change.change == Change::Deleted || change.path.starts_with(STAGE) {
                continue;
            }
            let kept_file = keep(
                self.of.store.clone(),
                self.of.run_id.clone(),
                workspace.clone(),
                change.path.clone(),
                &self.of.limits,
            )
            .await;
            match kept_file {
                Ok((digest, size_bytes)) => kept.artifacts.push(Artifact {
                    uri: change.path,
                    kind: "file".to_owned(),
                    metadata: json!({ "digest": digest, "size_bytes": size_bytes, "change": change.change.as_str() }),
                }),
                Err(error) => {
                    tracing::warn!(run = %self.of.run_id, path = %change.path, error = %error, "a changed file could not be kept");
                }
            }
        }
        if !self.attachments.is_empty() {
            let (workspace, run_id) = (workspace.clone(), self.of.run_id.clone());
            let removed = tokio::task::spawn_blocking(move || {
                workspace.dir().remove_dir_all(Path::new(STAGE).join(run_id.as_str()))?;
                // Other runs may have theirs in it.
                let _ = workspace.dir().remove_dir(STAGE);
                Ok::<_, std::io::Error>(())
            });
            if let Ok(Err(error)) = removed.await {
                tracing::warn!(run = %self.of.run_id, error = %error, "staged attachments could not be removed");
            }
        }
        kept
    }
}

async fn keep(
    store: Store,
    run_id: RunId,
    workspace: Arc<Workspace>,
    path: String,
    limits: &Limits,
) -> Result<(Digest, u64)> {
    let (name, max) = (path.clone(), limits.tool_file_bytes_max);
    let bytes = tokio::task::spawn_blocking(move || read_bounded(workspace.dir(), &name, max))
        .await
        .map_err(|error| Error::internal("outputs", format!("reading was lost: {error}")))??;
    let stored = store.artifacts.put_bytes(&bytes, crate::driver::now_ms()).await?;
    let reference = ArtifactRef {
        run_id,
        name: path,
        kind: "file".to_owned(),
        digest: stored.digest.clone(),
        size_bytes: stored.size_bytes,
    };
    store.artifacts.add_ref(reference).await?;
    Ok((stored.digest, stored.size_bytes))
}

/// Checks the structured answer against the task's schema. An answer that came as text is taken for one if the whole text
/// is one JSON document.
pub(crate) fn check_output(schema: Option<&Value>, claim: &mut Claim) -> Result<()> {
    let Some(schema) = schema else { return Ok(()) };
    if claim.finish_reason != "done" {
        return Ok(());
    }
    let native = claim.parsed_output.take();
    // Without a value of the vendor's the whole text is the answer; what is none is not told as one.
    let given = Some(native.is_some());
    let answer = midplane_core::agent::output::resolve(schema, claim.output.trim(), native.as_ref(), given)?;
    claim.parsed_output = Some(answer);
    Ok(())
}

fn read_bounded(dir: &Dir, name: &str, bytes_max: u64) -> Result<Vec<u8>> {
    let failed = |error: std::io::Error| Error::unavailable("outputs", format!("`{name}` cannot be read: {error}"));
    let metadata = dir.symlink_metadata(name).map_err(failed)?;
    if !metadata.is_file() || metadata.len() > bytes_max {
        return Err(Error::limit("outputs", format!("`{name}` is no plain file of at most {bytes_max} bytes")));
    }
    let mut bytes = Vec::new();
    dir.open(name).map_err(failed)?.take(bytes_max).read_to_end(&mut bytes).map_err(failed)?;
    Ok(bytes)
}

fn stage(wanted: &[Attachment], workspace: &Workspace, run_id: &RunId, bytes_max: u64) -> Result<Vec<Attached>> {
    let failed =
        |error: std::io::Error| Error::unavailable("attachments", format!("attachments cannot be staged: {error}"));
    let base = format!("{STAGE}/{run_id}");
    workspace.dir().create_dir_all(&base).map_err(failed)?;
    let into = workspace.dir().open_dir(&base).map_err(failed)?;
    let mut left = Room { files: FILES_MAX, bytes: bytes_max };
    let mut staged = Vec::with_capacity(wanted.len());
    for attachment in wanted {
        let source = Path::new(&attachment.path);
        let name = name_of(attachment)?;
        if staged.iter().any(|other: &Attached| other.name == name) {
            return Err(Error::invalid("attachments", format!("two attachments have the name `{name}`"))
                .hint("give one another `name`"));
        }
        let bad = |why: &str| Error::invalid("attachments", format!("attachment `{}` {why}", attachment.path));
        let metadata = std::fs::metadata(source).map_err(|error| {
            Error::not_found("attachments", format!("attachment `{}` cannot be read: {error}", attachment.path))
        })?;
        let digest = match (attachment.kind, metadata.is_dir()) {
            (AttachmentKind::Skill, true) => copy_folder(source, &into, &name, &mut left, DEPTH_MAX)?,
            (AttachmentKind::Skill, false) => return Err(bad("is no folder, and a skill is one")),
            (_, true) => return Err(bad("is a folder; attach it as a `skill`")),
            (_, false) => copy_file(source, &into, &name, &mut left)?,
        };
        staged.push(Attached {
            kind: attachment.kind.as_str().to_owned(),
            path: format!("{base}/{name}"),
            name,
            digest: digest.to_string(),
        });
    }
    Ok(staged)
}

/// What attachments may still take.
struct Room {
    files: usize,
    bytes: u64,
}

fn name_of(attachment: &Attachment) -> Result<String> {
    let name = match &attachment.name {
        Some(name) => name.clone(),
        None => Path::new(&attachment.path)
            .file_name()
            .map(|name| name.to_string_lossy().into_owned())
            .ok_or_else(|| Error::invalid("attachments", format!("attachment `{}` has no name", attachment.path)))?,
    };
    let plain = !name.is_empty()
        && !matches!(name.as_str(), "." | "..")
        && !name.contains(['/', '\\', '\0'])
        && name.len() <= 255;
    if plain {
        Ok(name)
    } else {
        Err(Error::invalid(
            "attachments",
            format!("`{}` is no name for an attachment", midplane_core::text::shown(&name, 80)),
        ))
    }
}

fn copy_file(source: &Path, into: &Dir, name: &str, left: &mut Room) -> Result<Digest> {
    let failed = |error: std::io::Error| {
        Error::unavailable("attachments", format!("`{}` cannot be staged: {error}", source.display()))
    };
    let full = || {
        Error::limit(
            "attachments",
            format!("attachments have at most {FILES_MAX} files and the bytes of `tool_file_bytes_max`"),
        )
    };
    left.files = left.files.checked_sub(1).ok_or_else(full)?;
    let mut bytes = Vec::new();
    std::fs::File::open(source).map_err(failed)?.take(left.bytes + 1).read_to_end(&mut bytes).map_err(failed)?;
    left.bytes = left.bytes.checked_sub(bytes.len() as u64).ok_or_else(full)?;
    into.create(name).and_then(|mut file| file.write_all(&bytes)).map_err(failed)?;
    Ok(Digest::of(&bytes))
}

/// The digest of a folder is that of its sorted names with the digests of what they name.
fn copy_folder(source: &Path, into: &Dir, name: &str, left: &mut Room, depth: usize) -> Result<Digest> {
    let failed = |error: std::io::Error| {
        Error::unavailable("attachments", format!("`{}` cannot be staged: {error}", source.display()))
    };
    let Some(depth) = depth.checked_sub(1) else {
        return Err(Error::limit(
            "attachments",
            format!("`{}` is nested more than {DEPTH_MAX} deep", source.display()),
        ));
    };
    into.create_dir(name).map_err(failed)?;
    let folder = into.open_dir(name).map_err(failed)?;
    let mut entries: Vec<_> = std::fs::read_dir(source).map_err(failed)?.collect::<Result<_, _>>().map_err(failed)?;
    entries.sort_by_key(std::fs::DirEntry::file_name);
    let mut listing = String::new();
    for entry in entries {
        let name = entry.file_name().to_string_lossy().into_owned();
        let kind = entry.file_type().map_err(failed)?;
        let digest = if kind.is_dir() {
            copy_folder(&entry.path(), &folder, &name, left, depth)?
        } else if kind.is_file() {
            copy_file(&entry.path(), &folder, &name, left)?
        } else {
            // A link may lead anywhere on the operator's machine; what is attached is what is in the folder.
            continue;
        };
        listing.push_str(&format!("{digest} {name}\n"));
    }
    Ok(Digest::of(listing.as_bytes()))
}
