//! The configuration of an application in a store of files: `apps/APP/{default,environment,machine,substrate,role}.yaml`.

use serde_json::{Map, Value as Json};

use super::{Layer, Merged, Refused, Source, Variables, merge};
use crate::problem::Problem;
use crate::text::shown;

/// For whom a configuration is: which application, and which block of each file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Selectors<'a> {
    /// The application: the name of a folder.
    pub app: &'a str,
    /// The block of `environment.yaml`.
    pub environment: &'a str,
    /// The block of `machine.yaml`.
    pub machine: &'a str,
    /// The block of `substrate.yaml`.
    pub substrate: &'a str,
    /// The block of `role.yaml`.
    pub role: &'a str,
}

/// What is at a path of the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// Nothing.
    Nothing,
    /// A folder, or anything else that is no file.
    NoFile,
    /// A file with this text.
    Text(String),
}

/// The merged configuration of an application for an identity. `read` tells what is at a path below the store; the paths that
/// it is asked for are plain: no name leads out of the store.
///
/// `default.yaml` is required; a file that is missing says nothing; a file that is there must have the block of this
/// identity. `overrides` is the highest layer, with literal keys.
pub fn load(
    selectors: Selectors<'_>,
    overrides: Option<&Map<String, Json>>,
    variables: &Variables,
    mut read: impl FnMut(&str) -> Result<Found, Refused>,
) -> Result<Merged, Refused> {
    let app = selectors.app;
    if !is_folder_name(app) {
        let message = format!("no application has the name `{}`", shown(app, 80));
        let problem = Problem::new("apps", "config-default", message);
        return Err(Refused::of(problem.hint("the name of an application is the name of one folder")));
    }
    let path = |layer: Layer| format!("apps/{app}/{layer}.yaml");
    let default = path(Layer::Default);
    let mut sources = match read(&default)? {
        Found::Text(text) => vec![Source::parse(Layer::Default, &default, &text)?],
        Found::Nothing | Found::NoFile => {
            let message = format!("the application `{}` has no such file", shown(app, 80));
            let problem = Problem::new(default, "config-default", message);
            return Err(Refused::of(problem.hint("check the application's name, or add the file; it may be empty")));
        }
    };
    let dimensions = [
        (Layer::Environment, selectors.environment),
        (Layer::Machine, selectors.machine),
        (Layer::Substrate, selectors.substrate),
        (Layer::Role, selectors.role),
    ];
    for (layer, selector) in dimensions {
        let path = path(layer);
        match read(&path)? {
            Found::Nothing => {}
            Found::NoFile => {
                return Err(Refused::of(Problem::new(path, "config-file", "this is no file")));
            }
            Found::Text(text) => sources.push(Source::parse(layer, &path, &text)?.select(selector, None, variables)?),
        }
    }
    if let Some(overrides) = overrides {
        sources.push(Source::from_data(Layer::Overrides, "overrides", overrides)?);
    }
    merge(sources, variables)
}

/// Whether a text names one folder, and nothing above, below or beside it.
fn is_folder_name(name: &str) -> bool {
    !matches!(name, "" | "." | "..") && !name.contains(['/', '\\']) && !name.chars().any(char::is_control)
}
