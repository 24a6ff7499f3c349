//! The operator's configuration: profiles with their settings, grants and secret references, limits, and what a runtime
//! context is made of. Layered: every value knows which file and line it comes from.
//!
//! # Layout
//! - here: [`Config`], which files it is read from ([`Sources`]) and for whom ([`Selection`])
//! - `schema`: what may stand in it; strict: an unknown key is refused with layer, file and line
//!
//! # The layers, from low to high
//! 1. `midplane.yaml` of the project: in the working directory, or above it as far as its repository goes
//! 2. `config.yaml` in the configuration folder: the operator's default
//! 3. `environment.yaml`, `machine.yaml`, `substrate.yaml`, `role.yaml` beside it, each with a block per name, of which the
//!    one of this identity counts; `_` is the block for all other names; a file that is not there says nothing
//! 4. assignments of the call
//!
//! # What it never does
//! A project's file is not the operator's: it grants nothing, names no secret, trusts nobody and raises no limit; it reads no
//! environment variable, and neither side's references see the other's values. No reference reads a variable that the
//! operator does not list under `environment_variables`.

mod schema;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use midplane_core::approval::Policy;
use midplane_core::layers::{Layer, Node, Origin, Refused, Source, Variables, merge};
use midplane_core::limits::Limits;
use midplane_core::permission::Grant;
use midplane_core::price::Price;
use midplane_core::problem::Problem;
use midplane_core::sandbox::SandboxSettings;
use midplane_core::{PluginName, ProfileName, Result};
use serde_json::Value;

/// What the configuration says.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Config {
    /// Profiles by name. Each plugin also has one of its own name without being listed.
    pub profiles: BTreeMap<ProfileName, ProfileConfig>,
    /// Where a secret comes from, for every profile that does not say otherwise.
    pub secrets: BTreeMap<String, String>,
    /// Bounds that differ from their defaults.
    pub limits: BTreeMap<String, u64>,
    /// What models cost, by name or by how a name begins (`llama*`), over the table that comes with the program.
    pub prices: BTreeMap<String, Price>,
    /// Files of certificate authorities to trust beside the public ones, for servers inside an organisation.
    pub certificate_authorities: Vec<String>,
    tree: Option<Arc<Node>>,
}

/// One profile: a plugin under a name.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ProfileConfig {
    /// The plugin; unset is the one of the profile's name.
    pub plugin: Option<PluginName>,
    /// Values of the plugin's settings.
    pub settings: BTreeMap<String, Value>,
    /// Where its secrets come from: `env:NAME`, `file:/path` or `vault:NAME`.
    pub secrets: BTreeMap<String, String>,
    /// What the operator allows it, beside what `midplane grant` does.
    pub grants: Vec<Grant>,
    /// What it answers to the questions of a vendor's program.
    pub approvals: Policy,
    /// What its local programs are kept from.
    pub sandbox: SandboxSettings,
}

/// For whom a configuration is: the names of the blocks that count. An empty name has only the block `_`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selection {
    /// Of `environment.yaml`.
    pub environment: String,
    /// Of `machine.yaml`.
    pub machine: String,
    /// Of `substrate.yaml`.
    pub substrate: String,
    /// Of `role.yaml`.
    pub role: String,
}

impl Selection {
    /// The name for a layer; none for one that has no blocks.
    fn of(&self, layer: Layer) -> Option<&str> {
        match layer {
            Layer::Environment => Some(&self.environment),
            Layer::Machine => Some(&self.machine),
            Layer::Substrate => Some(&self.substrate),
            Layer::Role => Some(&self.role),
            Layer::Project | Layer::Default | Layer::Overrides => None,
        }
    }
}

/// The files that a configuration is read from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sources {
    /// The operator's folder, with `config.yaml` and the files of the other layers. None of them has to be there.
    pub folder: PathBuf,
    /// The project's file.
    pub project: Option<PathBuf>,
}

/// The name of a project's file.
pub const PROJECT_FILE: &str = "midplane.yaml";
/// The block of a layer's file that counts for every name without one.
pub const FALLBACK: &str = "_";
/// What a folder holds that is the top of a repository.
const REPOSITORIES: [&str; 4] = [".git", ".hg", ".jj", ".svn"];
/// The largest configuration file that is read.
const CONFIG_BYTES_MAX: u64 = 1024 * 1024;

impl Sources {
    /// The operator's files in a folder, and no project.
    #[must_use]
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self { folder: folder.into(), project: None }
    }

    /// With the file of the project that a folder is part of: in it, or in one above it that belongs to the same
    /// repository. Outside of a repository only the folder itself is looked at.
    #[must_use]
    pub fn project_of(mut self, folder: &Path) -> Self {
        let is_top = |folder: &&Path| REPOSITORIES.iter().any(|name| folder.join(name).exists());
        let above = folder.ancestors().position(|folder| is_top(&folder)).unwrap_or(0);
        let files = folder.ancestors().take(above + 1).map(|folder| folder.join(PROJECT_FILE));
        self.project = files.into_iter().find(|file| file.exists());
        self
    }
}

impl Config {
    /// Reads the operator's default layer alone; a file that does not exist says nothing.
    pub fn read(path: &Path) -> Result<Self> {
        let shown = path.display().to_string();
        Ok(match text_of(path)? {
            Some(text) => Self::parse(&text, &shown)?,
            None => Self::default(),
        })
    }

    /// Reads a text as the operator's default layer. `origin` is its name in messages. No variable may be read in it.
    pub fn parse(text: &str, origin: &str) -> Result<Self> {
        if text.len() as u64 > CONFIG_BYTES_MAX {
            return Err(too_large(origin).into());
        }
        Ok(Self::settled(vec![Source::parse(Layer::Default, origin, text)?], None, &|_| None)?)
    }

    /// Reads all layers for an identity. `assignments` are those of the call, such as `limits.run_events_max=1000`;
    /// `environment` reads a variable, and is asked only for those that the operator lists.
    ///
    /// # Errors
    /// Every problem that was found, each with its layer, file and place.
    pub fn load(
        sources: &Sources,
        selection: &Selection,
        assignments: &[String],
        environment: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Self, Refused> {
        let mut operator = Vec::new();
        for layer in [Layer::Default, Layer::Environment, Layer::Machine, Layer::Substrate, Layer::Role] {
            let name = if layer == Layer::Default { "config.yaml".to_owned() } else { format!("{layer}.yaml") };
            let path = sources.folder.join(name);
            let Some(text) = text_of(&path)? else { continue };
            let source = Source::parse(layer, &path.display().to_string(), &text)?;
            operator.push(match selection.of(layer) {
                None => source,
                Some(name) => block(&source, layer, name)?,
            });
        }
        if !assignments.is_empty() {
            operator.push(Source::assignments("--set", assignments)?);
        }
        let project = match &sources.project {
            Some(path) => match text_of(path)? {
                Some(text) => Some(Source::parse(Layer::Project, &path.display().to_string(), &text)?),
                None => None,
            },
            None => None,
        };
        Self::settled(operator, project, environment)
    }

    /// Merges and reads. Each side's references are followed before the two meet, so that a project can neither read nor
    /// change what the operator's stand for.
    fn settled(
        operator: Vec<Source>,
        project: Option<Source>,
        environment: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Self, Refused> {
        let none = Variables::default();
        let merged = merge(operator, &none)?;
        let names = schema::variables(merged.root())?;
        let values: Vec<(String, String)> =
            names.iter().filter_map(|name| Some((name.clone(), environment(name)?))).collect();
        let mut tree = merged.resolve(&Variables::new(names, values)).map_err(|refused| {
            unlisted(refused, "list it under `environment_variables` in the operator's configuration")
        })?;
        if let Some(project) = project {
            let project = merge([project], &none)?
                .resolve(&none)
                .map_err(|refused| unlisted(refused, "a project's file reads no variables; write the value itself"))?;
            schema::of_project(&project)?;
            tree = merge([Source::settled(project), Source::settled(tree)], &none)?.resolve(&none)?;
        }
        let config = schema::read(&tree)?;
        Ok(Self { tree: Some(Arc::new(tree)), ..config })
    }

    /// Every value with where it comes from; none for a configuration that was not read.
    #[must_use]
    pub fn tree(&self) -> Option<&Node> {
        self.tree.as_deref()
    }

    /// Where the value at a path of keys comes from.
    #[must_use]
    pub fn origin(&self, path: &[&str]) -> Option<&Origin> {
        let node = path.iter().try_fold(self.tree()?, |node, key| node.child(key))?;
        Some(&node.origin)
    }

    /// The bounds in force.
    pub fn limits(&self) -> Result<Limits> {
        Limits::default().configured(&self.limits)
    }

    /// Where each grant of a profile stands that the configuration gives.
    pub(crate) fn grants(&self, profile: &ProfileName) -> impl Iterator<Item = (&Grant, Option<&Origin>)> {
        let grants = self.profiles.get(profile).into_iter().flat_map(|profile| &profile.grants).enumerate();
        grants.map(move |(at, grant)| (grant, self.origin(&["profiles", profile.as_str(), "grants", &at.to_string()])))
    }

    /// Whether a project says which plugin a profile is: what was granted to another plugin under that name is not meant.
    pub(crate) fn is_of_project(&self, profile: &ProfileName) -> bool {
        self.origin(&["profiles", profile.as_str(), "plugin"]).is_some_and(|origin| origin.layer == Layer::Project)
    }
}

/// Problems with variables, with what can be done about them here.
fn unlisted(mut refused: Refused, hint: &str) -> Refused {
    for problem in refused.problems.iter_mut().filter(|problem| problem.code == "config-variable") {
        problem.hint = Some(hint.to_owned());
    }
    refused
}

/// The block of a layer's file that counts.
fn block(source: &Source, layer: Layer, name: &str) -> Result<Source, Refused> {
    source.select(name, Some(FALLBACK), &Variables::default()).map_err(|refused| {
        if name.is_empty() {
            let variable = layer.as_str().to_uppercase();
            refused.hint(format!(
                "no {layer} is stated: set `MIDPLANE_{variable}`, or add a block `{FALLBACK}` for all names"
            ))
        } else {
            refused
        }
    })
}

/// The text of a file; none if there is no such file.
fn text_of(path: &Path) -> Result<Option<String>, Refused> {
    use std::io::Read as _;

    let shown = path.display().to_string();
    let unreadable = |error: &std::io::Error| {
        Refused::of(Problem::new(shown.as_str(), "config-file", format!("it cannot be read: {error}")))
    };
    let file = match std::fs::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(unreadable(&error)),
    };
    let mut text = String::new();
    file.take(CONFIG_BYTES_MAX + 1).read_to_string(&mut text).map_err(|error| unreadable(&error))?;
    if text.len() as u64 > CONFIG_BYTES_MAX {
        return Err(too_large(&shown));
    }
    Ok(Some(text))
}

fn too_large(file: &str) -> Refused {
    Refused::of(Problem::new(file, "config-too-large", format!("it has more than {CONFIG_BYTES_MAX} bytes")))
}
