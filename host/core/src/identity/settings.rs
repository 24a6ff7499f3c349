//! The sections of a configuration that a runtime context is made of: secrets, databases, paths.
//!
//! The rules are those of mxm-runtime 0.1.2: the three sections are read in this order and each must be a mapping; databases
//! are kept as they are; of the paths four must be there, as texts.

use std::path::{Component, Path, PathBuf};

use serde::Serialize;
use serde_json::{Map, Value};

use crate::layers::{Node, Refused, Value as Held};
use crate::problem::Problem;
use crate::text::shown;
use crate::vault::Vault;
use crate::{Error, Result};

/// What the sections are called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sections {
    /// Stores, references and policies of secrets.
    pub secrets: &'static str,
    /// Databases, one mapping each.
    pub databases: &'static str,
    /// Folders.
    pub paths: &'static str,
}

impl Sections {
    /// The names in a configuration of Midplane.
    pub const OWN: Self = Self { secrets: "vault", databases: "databases", paths: "paths" };
    /// The names in a configuration of mxm-runtime.
    pub const MXM: Self = Self { secrets: "mxm_secrets", databases: "mxm_databases", paths: "mxm_paths" };
}

/// The folders of an application.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RuntimePaths {
    /// Its data.
    pub data_root: PathBuf,
    /// What it makes.
    pub artifact_root: PathBuf,
    /// What it hands on.
    pub export_root: PathBuf,
    /// Its logs.
    pub log_root: PathBuf,
}

/// What a configuration says about secrets, databases and paths.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The secrets.
    pub vault: Vault,
    /// The databases, as configured.
    pub databases: Map<String, Value>,
    /// The paths.
    pub paths: RuntimePaths,
}

impl Settings {
    /// Reads the sections of a configuration whose references are followed. `home` is what `~` stands for.
    ///
    /// # Errors
    /// `not-found` code `context-missing`, `invalid` codes `context-shape` and `context-home`, and the codes of
    /// [`Vault::parse`]; each with the file, the place and the layer of the value.
    pub fn read(config: &Node, sections: &Sections, home: Option<&str>) -> Result<Self> {
        let secrets = section(config, sections.secrets)?;
        let vault = Vault::parse(&secrets.to_json(), sections.secrets)
            .map_err(|problems| Error::from(located(problems, secrets, sections.secrets)))?;
        let databases = match section(config, sections.databases)?.to_json() {
            Value::Object(databases) => databases,
            _ => Map::new(),
        };
        let folders = section(config, sections.paths)?;
        let folder = |key: &str| path(folders, sections.paths, key, home);
        let paths = RuntimePaths {
            data_root: folder("data_root")?,
            artifact_root: folder("artifact_root")?,
            export_root: folder("export_root")?,
            log_root: folder("log_root")?,
        };
        Ok(Self { vault, databases, paths })
    }

    /// What of the secrets would fail at first use; see [`Vault::check`]. Each problem has its file, place and layer.
    #[must_use]
    pub fn check(&self, config: &Node, sections: &Sections) -> Vec<Problem> {
        let problems = self.vault.check(sections.secrets);
        match config.child(sections.secrets) {
            Some(secrets) => located(problems, secrets, sections.secrets),
            None => problems,
        }
    }
}

/// Problems of a section with the place of the value that each is about, or of the nearest one around it.
fn located(problems: Vec<Problem>, section: &Node, name: &str) -> Vec<Problem> {
    let locate = |problem: Problem| {
        let mut node = section;
        // Names with dots in them are refused as names; whatever holds them is near enough.
        for key in problem.field.split('.') {
            let Some(child) = node.child(key) else { break };
            node = child;
        }
        let dot = if problem.field.is_empty() { "" } else { "." };
        Problem {
            file: node.origin.file.to_string(),
            at: node.origin.at,
            field: format!("{name}{dot}{}", problem.field),
            message: format!("{} (layer {})", problem.message, node.origin.layer),
            ..problem
        }
    };
    problems.into_iter().map(locate).collect()
}

fn section<'a>(config: &'a Node, name: &str) -> Result<&'a Node> {
    match config.child(name) {
        None => Err(missing_section(name)),
        Some(node) => match &node.value {
            Held::Null => Err(missing_section(name)),
            Held::Map(_) => Ok(node),
            other => Err(Refused::at(
                &node.origin,
                name,
                "context-shape",
                format!("it must be a mapping, not {}", other.kind()),
            )
            .into()),
        },
    }
}

fn missing_section(name: &str) -> Error {
    Error::not_found("context-missing", format!("the configuration has no section `{name}`"))
        .hint(format!("add `{name}:` to one of its layers"))
}

fn path(section: &Node, of: &str, key: &str, home: Option<&str>) -> Result<PathBuf> {
    let field = format!("{of}.{key}");
    let Some(node) = section.child(key) else {
        return Err(Error::not_found("context-missing", format!("the configuration has no `{field}`"))
            .hint("a context needs `data_root`, `artifact_root`, `export_root` and `log_root`"));
    };
    let refused = |code, message: String| Refused::at(&node.origin, &field, code, message);
    match &node.value {
        Held::Text(text) => expand(text, home).map_err(|error| {
            let refused = refused("context-home", error.message);
            error.hint.map_or_else(|| refused.clone(), |hint| refused.clone().hint(hint)).into()
        }),
        other => Err(refused("context-shape", format!("it must be a text, not {}", other.kind())).into()),
    }
}

/// A path with `~` in place, in the plain form of the original: no `.` parts, no empty parts, `.` for nothing at all.
///
/// # Errors
/// `invalid` code `context-home` where `~` or `~name` stands for a folder that is not known.
pub fn expand(text: &str, home: Option<&str>) -> Result<PathBuf> {
    let mut path = plain(text);
    let head = path.components().next();
    let Some(Component::Normal(first)) = head else { return Ok(path) };
    let Some(user) = first.to_str().and_then(|first| first.strip_prefix('~')) else { return Ok(path) };
    let home = home.filter(|home| user.is_empty() && !home.is_empty()).ok_or_else(|| {
        Error::invalid("context-home", format!("the folder `~{}` is not known", shown(user, 40)))
            .hint("write the path in full, or set `HOME`")
    })?;
    let rest: PathBuf = path.components().skip(1).collect();
    path = plain(home);
    if !rest.as_os_str().is_empty() {
        path.push(rest);
    }
    Ok(path)
}

fn plain(text: &str) -> PathBuf {
    // `components` drops what means nothing (`.`, a second slash) except a `.` in front.
    let path: PathBuf = Path::new(text).components().filter(|part| !matches!(part, Component::CurDir)).collect();
    if path.as_os_str().is_empty() {
        return PathBuf::from(".");
    }
    // Exactly two slashes in front are a root of their own, by POSIX and in the original.
    let double = text.starts_with("//") && !text.starts_with("///");
    if double { PathBuf::from(format!("/{}", path.display())) } else { path }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layers::{Layer, Source, Variables, merge};
    use serde_json::json;

    #[test]
    fn paths_are_those_of_the_original() {
        // Each was put through `Path(..).expanduser()` of Python 3.13 with `HOME=/h`.
        let cases = [
            ("d", "d"),
            ("./a", "a"),
            ("../e", "../e"),
            ("", "."),
            (".", "."),
            ("~", "/h"),
            ("~/x//y/./z/", "/h/x/y/z"),
            ("a/~/b", "a/~/b"),
            ("./~/b", "/h/b"),
            ("//x", "//x"),
            ("///x", "/x"),
            ("/a/../b", "/a/../b"),
            ("???", "???"),
            (" a ", " a "),
            ("/", "/"),
            ("//", "//"),
        ];
        for (text, wanted) in cases {
            let path = expand(text, Some("/h")).expect(text);
            assert_eq!(path.as_os_str(), wanted, "{text}");
        }
        assert_eq!(expand("~nobody/x", Some("/h")).expect_err("another").code, "context-home");
        assert_eq!(expand("~/x", None).expect_err("none").code, "context-home");
    }

    #[test]
    fn sections_are_read_in_order() {
        let all = json!({
            "vault": {"stores": {}, "refs": {}, "policies": {}},
            "databases": {"main": {"host": "h"}},
            "paths": {"data_root": "~/d", "artifact_root": "/a", "export_root": "/e", "log_root": "/l", "tmp": 1},
        });
        let read = |text: &str| {
            let source = Source::parse(Layer::Role, "role.yaml", text)?;
            Settings::read(&merge([source], &none())?.resolve(&none())?, &Sections::OWN, Some("/h"))
        };
        let settings = read(&all.to_string()).expect("whole");
        assert_eq!(settings.paths.data_root, Path::new("/h/d"));
        assert_eq!(settings.databases["main"]["host"], "h");
        let mut seen = Vec::new();
        for (pointer, value) in [
            ("/paths/log_root", json!(1)),
            ("/paths/log_root", json!("~other")),
            ("/paths", json!([])),
            ("/paths", json!({})),
            ("/databases", json!(null)),
            ("/databases", json!("x")),
            ("/vault/refs", json!([])),
            ("/vault/refs", json!({"k": {"store": "a", "path": " "}})),
            ("/vault", json!(null)),
        ] {
            let mut config = all.clone();
            *config.pointer_mut(pointer).expect(pointer) = value;
            let error = read(&config.to_string()).expect_err(pointer);
            seen.push(format!("{} {}: {error}", error.kind, error.code));
        }
        insta::assert_snapshot!(seen.join("\n"));
    }

    #[test]
    fn what_would_fail_later_says_where() {
        let text = "vault:\n  stores: {}\n  refs:\n    k: {store: a, path: p, policy: q}\n  policies: {}\n  x: 1\n\
                    databases: {}\npaths: {data_root: d, artifact_root: a, export_root: e, log_root: l}\n";
        let source = Source::parse(Layer::Default, "config.yaml", text).expect("source");
        let config = merge([source], &none()).and_then(|merged| merged.resolve(&none())).expect("config");
        let settings = Settings::read(&config, &Sections::OWN, None).expect("settings");
        let problems = settings.check(&config, &Sections::OWN);
        insta::assert_snapshot!(problems.iter().map(Problem::to_string).collect::<Vec<_>>().join("\n"));
    }

    fn none() -> Variables {
        Variables::default()
    }
}
