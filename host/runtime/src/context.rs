//! Everything that a program needs to know of where it runs, in one value: its identity, its layered configuration, its
//! secrets, its folders, its databases.
//!
//! The configuration is [`Config`]'s, whose layers are selected by the identity: machine and substrate by what is stated or found
//! out, environment and role by what is stated. The sections `vault`, `databases` and `paths` may be left out.
//!
//! # What it never does
//! It reads no secret: [`RuntimeContext::secrets`] does when it is asked. A project's file says nothing about secrets and
//! folders, which are the operator's.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use midplane_core::Result;
use midplane_core::identity::RuntimeIdentity;
use midplane_core::identity::settings::{RuntimePaths, Sections, Settings};
use midplane_core::layers::{Layer, Node, Refused, Source, Variables, merge};
use midplane_core::problem::Problem;
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::config::{Config, Sources};
use crate::identity::{Identified, Stated, identify};
use crate::paths::Paths;
use crate::secret::Environment;
use crate::secret::keeper::Keeper;

/// What stands for the file of a value that no file gives.
const USUAL: &str = "usual values";

/// Where a program runs. Clones share what is in it.
#[derive(Clone)]
pub struct RuntimeContext {
    identified: Arc<Identified>,
    config: Arc<Config>,
    tree: Arc<Node>,
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
    project: Option<std::path::PathBuf>,
    assignments: Vec<String>,
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
            assignments: Vec::new(),
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

    /// The configuration of a host.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Every value of the configuration with its origin, and what holds where it says nothing.
    #[must_use]
    pub fn tree(&self) -> &Node {
        &self.tree
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
        self.settings.check(&self.tree, &Sections::OWN)
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

    /// The project that a folder is part of; see [`Sources::project_of`].
    #[must_use]
    pub fn project_of(mut self, folder: &Path) -> Self {
        self.project = Sources::new("").project_of(folder).project;
        self
    }

    /// The highest layer: assignments such as `paths.data_root=/srv`.
    #[must_use]
    pub fn set(mut self, assignments: impl IntoIterator<Item = String>) -> Self {
        self.assignments.extend(assignments);
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
        let sources = Sources { folder: home.config.clone(), project: self.project };
        let config = Config::load(&sources, &self.identified.selection(), &self.assignments, &*env)?;
        let tree = with_usual(&config, &home)?;
        let mut settings = Settings::read(&tree, &Sections::OWN, env("HOME").as_deref())?;
        // The home itself, where its name is no text.
        for (key, folder, own) in [
            ("data_root", &mut settings.paths.data_root, home.data.clone()),
            ("artifact_root", &mut settings.paths.artifact_root, home.data.join("artifacts")),
        ] {
            let node = tree.child(Sections::OWN.paths).and_then(|paths| paths.child(key));
            if node.is_some_and(|node| &*node.origin.file == USUAL) {
                *folder = own;
            }
        }
        let keeper = Keeper::new(settings.vault.clone(), &self.identified.identity.role).env_of(env);
        Ok(RuntimeContext {
            identified: Arc::new(self.identified),
            config: Arc::new(config),
            tree: Arc::new(tree),
            settings: Arc::new(settings),
            keeper,
            home,
        })
    }
}

/// The configuration above what holds where it says nothing: no secrets, no databases, folders below the host's own.
fn with_usual(config: &Config, home: &Paths) -> Result<Node, Refused> {
    let folder = |name: &str| home.data.join(name).display().to_string();
    let usual = Map::from_iter([
        ("vault".to_owned(), json!({ "stores": {}, "refs": {}, "policies": {} })),
        ("databases".to_owned(), json!({})),
        (
            "paths".to_owned(),
            json!({
                "data_root": home.data.display().to_string(),
                "artifact_root": folder("artifacts"),
                "export_root": folder("exports"),
                "log_root": folder("logs"),
            }),
        ),
    ]);
    let usual = Source::from_data(Layer::Default, USUAL, &usual)?;
    let stated = config.tree().cloned().map(Source::settled);
    let none = Variables::default();
    merge(std::iter::once(usual).chain(stated), &none)?.resolve(&none)
}

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
            .project_of(folder.path())
            .env(|name| (name == "HOME").then(|| "/h".to_owned()));
        (folder, builder)
    }

    fn shown(context: &Result<RuntimeContext>, folder: &tempfile::TempDir) -> String {
        let text = match context {
            Ok(context) => {
                let leaves = context.tree().leaves().into_iter();
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
            ("midplane.yaml", "profiles: {x: {settings: {level: project}}}\n"),
            (
                "config.yaml",
                "environment_variables: [HOME]\nprofiles: {x: {settings: {level: config}}}\n\
                 paths: {data_root: '${oc.env:HOME}/d'}\nlimits: {runs_max: 2}\ndatabases: {main: {host: h}}\n",
            ),
            ("environment.yaml", "_: {limits: {runs_max: 3}}\n"),
            (
                "machine.yaml",
                "bridge: {profiles: {x: {settings: {level: machine}}}, paths: {log_root: ~/logs}}\nother: {}\n",
            ),
            ("role.yaml", "research: {profiles: {x: {settings: {level: role}}}}\n"),
        ]);
        let context = builder.set(["paths.export_root=/e".to_owned()]).build();
        insta::assert_snapshot!(shown(&context, &folder));
        let context = context.unwrap();
        assert_eq!(context.databases()["main"]["host"], "h");
        assert_eq!(context.config().limits["runs_max"], 3);
        assert_eq!(context.metadata(), RuntimeMetadata { substrate: "local-process".to_owned(), is_container: false });
        assert_eq!(context.host_paths().data, Path::new("/h/d"));
    }

    #[test]
    fn what_is_refused_says_where() {
        let cases: &[&[(&str, &str)]] = &[
            &[],
            &[("midplane.yaml", "vault: {stores: {}}\n")],
            &[("config.yaml", "vault:\n  stores: {red: {backend: gopass, root: 1}}\n")],
            &[("role.yaml", "marketdata: {}\n")],
            &[("config.yaml", "paths: {data_root: ~other/x}\n")],
            &[("config.yaml", "paths: {data_root: 1}\n")],
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
