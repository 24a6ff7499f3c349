//! Everything that a program needs to know of where it runs, in one value: its identity, its layered configuration, its
//! secrets, its folders, its databases.
//!
//! ```text
//! usual values < project < config.yaml < apps/APP/default.yaml < environment < machine < substrate < role < overrides
//! ```
//! The files of an application lie beside the operator's `config.yaml`; each of the four between holds a block for each
//! environment, machine, substrate or role, and must have one for this identity if it is there at all.
//!
//! # What it never does
//! It reads no secret: [`RuntimeContext::secrets`] does when it is asked. A project's file may say nothing about secrets, folders
//! and trust, which are the operator's: whoever runs something in a folder that came from elsewhere did not write it.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use midplane_core::identity::RuntimeIdentity;
use midplane_core::identity::settings::{RuntimePaths, Sections, Settings};
use midplane_core::layers::{Layer, Node, Refused, Source, Variables, merge};
use midplane_core::problem::Problem;
use midplane_core::Result;
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::identity::{Identified, Stated, identify};
use crate::paths::Paths;
use crate::secret::Environment;
use crate::secret::keeper::Keeper;

/// The largest file of a configuration that is read.
const FILE_BYTES_MAX: u64 = 1024 * 1024;
/// Variables that a configuration may refer to unless others are allowed.
const VARIABLES_ALLOWED: [&str; 2] = ["HOME", "USER"];
/// Sections that a project's file may not have.
const OPERATORS_OWN: [&str; 6] = ["vault", "paths", "databases", "secrets", "grants", "certificate_authorities"];

/// Where a program runs. Clones share what is in it.
#[derive(Clone)]
pub struct RuntimeContext {
    identified: Arc<Identified>,
    config: Arc<Node>,
    settings: Arc<Settings>,
    keeper: Keeper,
    home: Paths,
}

/// What kind of place a program runs in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RuntimeMetadata {
    /// The substrate, as the identity has it.
    pub substrate: String,
    /// Whether it is a container of any kind.
    pub is_container: bool,
}

/// Makes a [`RuntimeContext`] from other places than the usual ones.
pub struct Builder {
    identified: Identified,
    home: Option<Paths>,
    project: Option<PathBuf>,
    overrides: Map<String, Value>,
    assignments: Vec<String>,
    allowed: Vec<String>,
    env: Environment,
}

impl RuntimeContext {
    /// The context of an identity: configuration and state in the usual folders (`MIDPLANE_HOME`, else the XDG ones), without
    /// a project. The identity is validated, and attested against this process.
    ///
    /// # Errors
    /// Those of [`Identified::of`], the codes of configuration and of [`Settings::read`], and `invalid` code `home`.
    pub fn build(identity: RuntimeIdentity) -> Result<Self> {
        Self::builder(Identified::of(identity)?).build()
    }

    /// The context of this process, by what is stated of its identity.
    ///
    /// # Errors
    /// As [`Self::build`].
    pub fn of_process(stated: &Stated) -> Result<Self> {
        Self::builder(identify(stated)?).build()
    }

    /// A context of an identity from other places.
    #[must_use]
    pub fn builder(identified: Identified) -> Builder {
        Builder {
            identified,
            home: None,
            project: None,
            overrides: Map::new(),
            assignments: Vec::new(),
            allowed: VARIABLES_ALLOWED.map(str::to_owned).to_vec(),
            env: Arc::new(|name| std::env::var(name).ok()),
        }
    }

    /// Who runs where.
    #[must_use]
    pub fn identity(&self) -> &RuntimeIdentity {
        &self.identified.identity
    }

    /// The identity with its sources and the facts behind it.
    #[must_use]
    pub fn identified(&self) -> &Identified {
        &self.identified
    }

    /// The configuration, every reference in it followed, every value with its origin.
    #[must_use]
    pub fn config(&self) -> &Node {
        &self.config
    }

    /// The secrets that this identity may ask for.
    #[must_use]
    pub fn secrets(&self) -> &Keeper {
        &self.keeper
    }

    /// The folders of the application.
    #[must_use]
    pub fn paths(&self) -> &RuntimePaths {
        &self.settings.paths
    }

    /// The databases, as configured: one mapping each.
    #[must_use]
    pub fn databases(&self) -> &Map<String, Value> {
        &self.settings.databases
    }

    /// What kind of place this is.
    #[must_use]
    pub fn metadata(&self) -> RuntimeMetadata {
        let Identified { identity, facts, .. } = &*self.identified;
        RuntimeMetadata { substrate: identity.substrate.clone(), is_container: facts.is_container() }
    }

    /// What of the secrets would fail when it is asked for: dangling names, unknown backends, bad paths, unknown fields.
    #[must_use]
    pub fn check(&self) -> Vec<Problem> {
        self.settings.check(&self.config, &Sections::OWN)
    }

    /// The folders of the host under this context: its data is the application's.
    #[must_use]
    pub fn host_paths(&self) -> Paths {
        Paths { data: self.settings.paths.data_root.clone(), ..self.home.clone() }
    }
}

impl fmt::Debug for RuntimeContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("RuntimeContext");
        shown.field("identity", self.identity()).field("paths", self.paths()).finish_non_exhaustive()
    }
}

impl Builder {
    /// Where configuration and state of the operator are.
    #[must_use]
    pub fn home(mut self, home: Paths) -> Self {
        self.home = Some(home);
        self
    }

    /// The file of a project, if it is there: `midplane.yaml`.
    #[must_use]
    pub fn project(mut self, file: impl Into<PathBuf>) -> Self {
        self.project = Some(file.into());
        self
    }

    /// The highest layer, with literal keys.
    #[must_use]
    pub fn overrides(mut self, overrides: Map<String, Value>) -> Self {
        self.overrides = overrides;
        self
    }

    /// Assignments such as `paths.data_root=/srv`, above the overrides.
    #[must_use]
    pub fn set(mut self, assignments: impl IntoIterator<Item = String>) -> Self {
        self.assignments.extend(assignments);
        self
    }

    /// Environment variables that the configuration may refer to, beside `HOME` and `USER`.
    #[must_use]
    pub fn allow_variables(mut self, names: impl IntoIterator<Item = String>) -> Self {
        self.allowed.extend(names);
        self
    }

    /// Where variables are looked up; the process's environment unless set.
    #[must_use]
    pub fn env(mut self, env: impl Fn(&str) -> Option<String> + Send + Sync + 'static) -> Self {
        self.env = Arc::new(env);
        self
    }

    /// Reads the layers and what they say.
    ///
    /// # Errors
    /// As [`RuntimeContext::build`].
    pub fn build(self) -> Result<RuntimeContext> {
        let env = self.env.clone();
        let home = match &self.home {
            Some(home) => home.clone(),
            None => Paths::from_env(|name| env(name).map(Into::into))?,
        };
        let allowed = self.allowed.clone();
        let values = allowed.iter().filter_map(|name| Some((name.clone(), env(name)?))).collect::<Vec<_>>();
        let variables = Variables::new(allowed, values);
        let sources = self.sources(&home, &variables)?;
        let config = merge(sources, &variables)?.resolve(&variables)?;
        let settings = Settings::read(&config, &Sections::OWN, env("HOME").as_deref())?;
        let keeper = Keeper::new(settings.vault.clone(), &self.identified.identity.role).env_of(env);
        let (config, settings) = (Arc::new(config), Arc::new(settings));
        Ok(RuntimeContext { identified: Arc::new(self.identified), config, settings, keeper, home })
    }

    /// The layers that are there, from low to high.
    fn sources(&self, home: &Paths, variables: &Variables) -> Result<Vec<Source>, Refused> {
        let mut sources = vec![usual(home)?];
        if let Some(project) = &self.project
            && let Some(source) = read(Layer::Project, project, &project.display().to_string())?
        {
            refuse_operators_own(&source)?;
            sources.push(source);
        }
        let named = |name: &str| (home.config.join(name), name.to_owned());
        let (file, name) = named("config.yaml");
        sources.extend(read(Layer::Default, &file, &name)?);
        // The identity was held to be safe in paths when it was made.
        let identity = &self.identified.identity;
        let of_app = |layer: Layer| named(&format!("apps/{}/{layer}.yaml", identity.app));
        let (file, name) = of_app(Layer::Default);
        sources.extend(read(Layer::Default, &file, &name)?);
        let dimensions = [
            (Layer::Environment, &identity.environment),
            (Layer::Machine, &identity.machine),
            (Layer::Substrate, &identity.substrate),
            (Layer::Role, &identity.role),
        ];
        for (layer, selector) in dimensions {
            let (file, name) = of_app(layer);
            if let Some(source) = read(layer, &file, &name)? {
                sources.push(source.select(selector, None, variables)?);
            }
        }
        if !self.overrides.is_empty() {
            sources.push(Source::from_data(Layer::Overrides, "overrides", &self.overrides)?);
        }
        if !self.assignments.is_empty() {
            sources.push(Source::assignments("--set", &self.assignments)?);
        }
        Ok(sources)
    }
}

/// What holds where no file says anything: no secrets, no databases, folders below the host's own.
fn usual(home: &Paths) -> Result<Source, Refused> {
    let folder = |name: &str| home.data.join(name).display().to_string();
    let usual = json!({
        "vault": { "stores": {}, "refs": {}, "policies": {} },
        "databases": {},
        "paths": {
            "data_root": home.data.display().to_string(),
            "artifact_root": folder("artifacts"),
            "export_root": folder("exports"),
            "log_root": folder("logs"),
        },
    });
    Source::from_data(Layer::Default, "usual values", usual.as_object().unwrap_or(&Map::new()))
}

/// A project came from anywhere; what it may not say is refused, not dropped, so that nobody relies on it.
fn refuse_operators_own(source: &Source) -> Result<(), Refused> {
    let entries = source.root().entries().into_iter().flatten();
    let problems: Vec<Problem> = entries
        .filter(|(key, _)| OPERATORS_OWN.contains(&key.as_str()))
        .flat_map(|(key, node)| {
            let message = format!("a project may not set `{key}`, which is the operator's");
            Refused::at(&node.origin, key, "context-project", message)
                .hint("set it in the operator's `config.yaml`")
                .problems
        })
        .collect();
    if problems.is_empty() { Ok(()) } else { Err(Refused { problems }) }
}

/// A layer of a file, or nothing where there is no file.
fn read(layer: Layer, file: &Path, name: &str) -> Result<Option<Source>, Refused> {
    use std::io::Read as _;
    let refused = |why: String| Refused::of(Problem::new(name, "config-file", why));
    let opened = match std::fs::metadata(file) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Ok(metadata) if !metadata.is_file() => return Err(refused("this is no file".to_owned())),
        _ => std::fs::File::open(file),
    };
    let mut text = String::new();
    let read = opened.and_then(|file| file.take(FILE_BYTES_MAX + 1).read_to_string(&mut text));
    read.map_err(|error| refused(format!("it cannot be read: {error}")))?;
    if text.len() as u64 > FILE_BYTES_MAX {
        return Err(refused(format!("it has more than {FILE_BYTES_MAX} bytes")));
    }
    Source::parse(layer, name, &text).map(Some)
}

/// What contexts are refused with, beside the codes of configuration, identity and secrets.
pub const CODES: &[midplane_core::codes::Code] = &[midplane_core::codes::Code {
    code: "context-project",
    kind: midplane_core::ErrorKind::Invalid,
    meaning: "A project's `midplane.yaml` sets something that is the operator's: secrets, folders, databases, grants or trust.",
    recovery: "Move it to the operator's `config.yaml`, or to the files of the application beside it.",
}];

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

    use midplane_core::identity::{Evidence, discover};

    use super::*;
    use crate::identity::identify_by;

    /// A home with these files; the identity is `bridge`, `research`, `local`.
    fn home(files: &[(&str, &str)]) -> (tempfile::TempDir, Builder) {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        let facts = discover(&Evidence { hostname: "bridge.lan".to_owned(), ..Evidence::default() });
        let stated = Stated { role: Some("research".to_owned()), ..Stated::default() };
        let identified = identify_by(&stated, facts, |_| None).unwrap();
        let builder = RuntimeContext::builder(identified)
            .home(Paths::under(folder.path()))
            .project(folder.path().join("midplane.yaml"))
            .env(|name| (name == "HOME").then(|| "/h".to_owned()));
        (folder, builder)
    }

    fn shown(context: &Result<RuntimeContext>, folder: &tempfile::TempDir) -> String {
        let text = match context {
            Ok(context) => {
                let leaves = context.config().leaves().into_iter();
                let lines = leaves.map(|(path, node)| format!("{path} = {} ({})", node.to_json(), node.origin));
                lines.chain([format!("{:?}", context.paths())]).collect::<Vec<_>>().join("\n")
            }
            Err(error) => format!("{} {}: {error} | {}", error.kind, error.code, error.hint.as_deref().unwrap_or("-")),
        };
        text.replace(folder.path().to_str().unwrap(), "[home]")
    }

    #[test]
    fn layers_in_their_order() {
        let (folder, builder) = home(&[
            ("midplane.yaml", "level: project\nproject: 1\n"),
            ("config.yaml", "level: config\npaths: {data_root: '${oc.env:HOME}/d'}\nlimits: {runs_max: 2}\n"),
            ("apps/midplane/default.yaml", "level: default\ndatabases: {main: {host: h}}\n"),
            ("apps/midplane/machine.yaml", "bridge: {level: machine, paths: {log_root: ~/logs}}\nother: {}\n"),
            ("apps/midplane/role.yaml", "research: {level: role}\n"),
        ]);
        let context = builder.set(["paths.export_root=/e".to_owned()]).build();
        insta::assert_snapshot!(shown(&context, &folder));
        let context = context.unwrap();
        assert_eq!(context.databases()["main"]["host"], "h");
        assert_eq!(context.metadata(), RuntimeMetadata { substrate: "local-process".to_owned(), is_container: false });
        assert_eq!(context.host_paths().data, Path::new("/h/d"));
    }

    #[test]
    fn what_is_refused_says_where() {
        let cases: &[&[(&str, &str)]] = &[
            &[],
            &[("midplane.yaml", "vault: {stores: {}}\nx: 1\npaths: {}\n")],
            &[("config.yaml", "vault:\n  stores: {red: {backend: gopass, root: 1}}\n")],
            &[("config.yaml", "a: ${oc.env:PATH}\n")],
            &[("config.yaml", "a: [\n")],
            &[("config.yaml/x", "")],
            &[("apps/midplane/role.yaml", "marketdata: {}\n")],
            &[("config.yaml", "paths: {data_root: ~other/x}\n")],
            &[("config.yaml", "paths: null\n")],
        ];
        let seen: Vec<String> = cases
            .iter()
            .map(|files| {
                let (folder, builder) = home(files);
                format!("{files:?}\n{}\n", shown(&builder.build(), &folder))
            })
            .collect();
        insta::assert_snapshot!(seen.join("\n"));
    }

    #[tokio::test]
    async fn secrets_are_those_of_the_identity() {
        let vault = "vault:\n  stores: {here: {backend: file, root: ~/keys}}\n  refs:\n    a: {store: here, path: a, policy: p}\n    \
                     b: {store: here, path: b, policy: q}\n  policies:\n    p: {allowed_principals: [research]}\n    \
                     q: {allowed_principals: [execution]}\n";
        let (folder, builder) = home(&[("config.yaml", vault), ("keys/a", "value\n"), ("keys/b", "other\n")]);
        let at = folder.path().to_str().unwrap().to_owned();
        let context = builder.env(move |name| (name == "HOME").then(|| at.clone())).build().unwrap();
        assert!(context.check().is_empty());
        assert_eq!(context.secrets().require("a").await.unwrap().expose_text(), Some("value"));
        assert_eq!(context.secrets().require("b").await.unwrap_err().code, "secret-denied");
    }
}
