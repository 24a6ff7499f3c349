//! `midplane config`: what is configured, which file and line each value comes from, and what differs between identities.

use std::collections::BTreeMap;

use clap::Subcommand;
use console::style;
use midplane::core::layers::{Node, Refused, Step, Value, dotted};
use midplane::core::text::{escape_controls, near};
use midplane::core::{Error, ErrorKind};
use midplane::{Config, Selection};
use serde_json::{Value as Json, json};

use crate::app::App;
use crate::commands::identity::PartArgs;
use crate::exit::Exit;

/// Show the configuration, where each value comes from, and how identities differ
#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Show the configuration that is in force, or that of one profile
    #[command(after_help = LAYERS)]
    Show {
        /// Only what is configured for this profile
        profile: Option<String>,
        /// Say where each value comes from and what it replaced
        #[arg(long)]
        explain: bool,
        #[command(flatten)]
        identity: PartArgs,
        /// Set a value for this call, such as `limits.run_events_max=1000`; may be repeated
        #[arg(long, value_name = "PATH=VALUE")]
        set: Vec<String>,
    },
    /// Show what differs between two identities
    Diff {
        /// The first, such as `environment=dev,role=research`; what is not named is as the environment says
        #[arg(long, value_name = "IDENTITY", default_value = "", value_parser = part, hide_default_value = true)]
        from: PartArgs,
        /// The second
        #[arg(long, value_name = "IDENTITY", value_parser = part)]
        to: PartArgs,
        /// Set a value for both, such as `limits.run_events_max=1000`; may be repeated
        #[arg(long, value_name = "PATH=VALUE")]
        set: Vec<String>,
    },
}

const LAYERS: &str = "\
Layers, from low to high; a file that is not there says nothing:
  project       `midplane.yaml` of the project; grants nothing, names no secret, raises no limit
  default       `config.yaml` in the configuration folder
  environment   `environment.yaml` beside it: the block that the environment names, else the block `_`
  machine, substrate, role
                `machine.yaml`, `substrate.yaml`, `role.yaml`, likewise
  overrides     `--set`
A value can refer to another: `${a.b}`; to a variable that `environment_variables` lists: `${oc.env:NAME,default}`";

impl PartArgs {
    fn over(&self, stated: Selection) -> Selection {
        Selection {
            environment: self.environment.clone().unwrap_or(stated.environment),
            machine: self.machine.clone().unwrap_or(stated.machine),
            substrate: self.substrate.clone().unwrap_or(stated.substrate),
            role: self.role.clone().unwrap_or(stated.role),
        }
    }
}

/// Reads `environment=dev,role=research`.
fn part(text: &str) -> Result<PartArgs, String> {
    let mut identity = PartArgs::default();
    for pair in text.split(',').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').ok_or_else(|| format!("`{pair}` is not of the form `NAME=VALUE`"))?;
        let field = match name {
            "environment" => &mut identity.environment,
            "machine" => &mut identity.machine,
            "substrate" => &mut identity.substrate,
            "role" => &mut identity.role,
            _ => return Err(format!("`{name}` is not one of `environment`, `machine`, `substrate`, `role`")),
        };
        if field.replace(value.to_owned()).is_some() {
            return Err(format!("`{name}` is there twice"));
        }
    }
    Ok(identity)
}

pub(crate) fn run(app: &App, command: &ConfigCommand) -> anyhow::Result<Exit> {
    // The blocks that a run would have, unless others are named.
    let here = app.selection()?;
    match command {
        ConfigCommand::Show { profile, explain, identity, set } => {
            let config = match app.config_for(&identity.over(here), set) {
                Ok(config) => config,
                Err(refused) => return broken(app, &refused),
            };
            let Some(node) = part_of(&config, profile.as_deref())? else {
                app.answer(&json!({}), || "nothing is configured\n".to_owned())?;
                return Ok(Exit::Done);
            };
            let values = leaves(node);
            if *explain {
                let document: Vec<Json> = values.iter().map(|(path, node)| document(path, node)).collect();
                app.answer(&document, || text(&values, true))?;
            } else {
                app.answer(&hidden_below("", node), || text(&values, false))?;
            }
        }
        ConfigCommand::Diff { from, to, set } => {
            let load = |identity: &PartArgs| app.config_for(&identity.over(here.clone()), set);
            let (from, to) = match (load(from), load(to)) {
                (Ok(from), Ok(to)) => (from, to),
                (Err(refused), _) | (_, Err(refused)) => return broken(app, &refused),
            };
            let changes = changes(from.tree(), to.tree());
            let documents: Vec<Json> = changes
                .iter()
                .map(|(path, from, to)| {
                    let side = |node: &Option<&Node>| node.map(|node| document(path, node));
                    json!({ "path": path, "from": side(from), "to": side(to) })
                })
                .collect();
            app.answer(&documents, || diff(&changes))?;
        }
    }
    Ok(Exit::Done)
}

/// All problems, as they stand in the files; the exit code is that of the first.
fn broken(app: &App, refused: &Refused) -> anyhow::Result<Exit> {
    let error = Error::from(refused.clone());
    if refused.problems.len() < 2 {
        return Err(error.into());
    }
    app.answer(&json!({ "ok": false, "problems": refused.problems }), || {
        let lines = refused.problems.iter().map(|problem| {
            let code = style(format!("[{}]", problem.code)).dim();
            let hint = problem.hint.as_ref().map_or(String::new(), |hint| {
                format!("    {} {}\n", style("hint:").cyan(), escape_controls(hint, false))
            });
            format!("{} {code}\n{hint}", escape_controls(&problem.to_string(), false))
        });
        lines.collect()
    })?;
    Ok(Exit::Failed)
}

/// What is configured, or what is configured for a profile.
fn part_of<'c>(config: &'c Config, profile: Option<&str>) -> Result<Option<&'c Node>, Error> {
    let Some(name) = profile else {
        // Layers that say nothing make an empty tree, which has no path to be shown at.
        return Ok(config.tree().filter(|tree| tree.entries().is_none_or(|entries| !entries.is_empty())));
    };
    let profiles = config.tree().and_then(|tree| tree.child("profiles"));
    if let Some(node) = profiles.and_then(|profiles| profiles.child(name)) {
        return Ok(Some(node));
    }
    let names: Vec<&str> =
        profiles.and_then(Node::entries).into_iter().flat_map(|map| map.keys().map(String::as_str)).collect();
    let error = Error::new(ErrorKind::NotFound, "config-path", format!("nothing is configured for `{name}`"));
    Err(match near(name, names).first() {
        Some(near) => error.hint(format!("did you mean `{near}`?")),
        None => error.hint("`midplane profile show` shows a profile with what its plugin says"),
    })
}

/// Every value below with its path, in order. A list is one value, because a layer gives it as a whole; a mapping is one
/// if it is empty, replaced something, or was made from an expression.
fn leaves(node: &Node) -> Vec<(String, &Node)> {
    let mut leaves = Vec::new();
    let mut todo = vec![(Vec::new(), node)];
    while let Some((path, node)) = todo.pop() {
        let below = node.entries().filter(|map| !map.is_empty());
        if below.is_none() || !node.replaced.is_empty() || node.written.is_some() {
            leaves.push((dotted(&path), node));
        }
        for (key, node) in below.into_iter().flatten().rev() {
            let mut path = path.clone();
            path.push(Step::Key(key.clone()));
            todo.push((path, node));
        }
    }
    leaves
}

/// A value as it may be shown. Where a reference to a secret belongs, only a reference is.
fn hidden(path: &str, value: &Value) -> Json {
    let of_secrets = path.starts_with("secrets.") || path.contains(".secrets.");
    match value {
        Value::Text(text) if of_secrets && !["env:", "file:", "vault:"].iter().any(|form| text.starts_with(form)) => {
            Json::from("(not shown)")
        }
        value => value.to_json(),
    }
}

/// A tree as it may be shown.
fn hidden_below(path: &str, node: &Node) -> Json {
    let below = |key: &str| if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
    match &node.value {
        Value::Map(map) => map.iter().map(|(key, node)| (key.clone(), hidden_below(&below(key), node))).collect(),
        value => hidden(path, value),
    }
}

/// Values as assignments, so that a line can be given to `--set`.
fn text(values: &[(String, &Node)], explain: bool) -> String {
    let mut text = String::new();
    for (path, node) in values {
        let value = hidden(path, &node.value).to_string();
        text.push_str(&format!("{}={}\n", style(escape_controls(path, false)).bold(), escape_controls(&value, false)));
        if !explain {
            continue;
        }
        let mut line = |line: String| text.push_str(&format!("    {}\n", escape_controls(&line, false)));
        line(format!("from {}", node.origin));
        if let Some(written) = &node.written {
            line(format!("written as {written}"));
        }
        for replaced in node.replaced.iter().rev() {
            line(format!("replaces {} from {}", hidden(path, &replaced.value), replaced.origin));
        }
    }
    if text.is_empty() { "nothing is configured\n".to_owned() } else { text }
}

fn document(path: &str, node: &Node) -> Json {
    let replaced = node.replaced.iter().rev();
    let replaced: Vec<Json> =
        replaced.map(|replaced| json!({ "value": hidden(path, &replaced.value), "origin": replaced.origin })).collect();
    let mut document = json!({ "path": path, "value": hidden(path, &node.value), "origin": node.origin });
    if let Some(written) = &node.written {
        document["written"] = Json::from(&**written);
    }
    if !replaced.is_empty() {
        document["replaced"] = Json::from(replaced);
    }
    document
}

/// A path, and the value at it on each side.
type Change<'c> = (String, Option<&'c Node>, Option<&'c Node>);

/// What differs, by path.
fn changes<'c>(from: Option<&'c Node>, to: Option<&'c Node>) -> Vec<Change<'c>> {
    let of = |node: Option<&'c Node>| -> BTreeMap<String, &'c Node> {
        node.into_iter().flat_map(leaves).filter(|(_, node)| node.entries().is_none_or(|map| map.is_empty())).collect()
    };
    let (from, to) = (of(from), of(to));
    let paths: std::collections::BTreeSet<&String> = from.keys().chain(to.keys()).collect();
    let sides = paths.into_iter().map(|path| (path.clone(), from.get(path).copied(), to.get(path).copied()));
    sides.filter(|(_, from, to)| from.map(|node| node.value.to_json()) != to.map(|node| node.value.to_json())).collect()
}

fn diff(changes: &[Change<'_>]) -> String {
    let mut text = String::new();
    for (path, from, to) in changes {
        for (sign, node) in [("-", from), ("+", to)] {
            let Some(node) = node else { continue };
            let line = format!("{sign} {path}={}  # {}", hidden(path, &node.value), node.origin);
            let line = escape_controls(&line, false);
            let line = if sign == "-" { style(line).red() } else { style(line).green() };
            text.push_str(&format!("{line}\n"));
        }
    }
    if text.is_empty() { "the two do not differ\n".to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "secrets: {K: 'env:K'}\nprofiles:\n  x:\n    settings: {url: 'https://a', again: '${profiles.x.settings.url}/b'}\n    grants: [shell]\nlimits: {}\n";

    #[test]
    fn values_and_where_they_come_from() {
        let config = Config::parse(TEXT, "config.yaml").expect("a configuration");
        let other = Config::parse("profiles: {x: {grants: [], plugin: y}}\nlimits: {grace_ms: 1}\n", "other.yaml");
        let other = other.expect("a configuration");
        let values = leaves(config.tree().expect("a tree"));
        let shown = [text(&values, false), text(&values, true), diff(&changes(config.tree(), other.tree()))];
        insta::assert_snapshot!(console::strip_ansi_codes(&shown.join("----\n")));
        assert!(changes(config.tree(), config.tree()).is_empty());
    }

    #[test]
    fn what_is_no_reference_to_a_secret_is_not_shown() {
        let text = Value::Text("s3cret".to_owned());
        for path in ["secrets.K", "profiles.x.secrets.K"] {
            assert_eq!(hidden(path, &text), "(not shown)");
        }
        assert_eq!(hidden("profiles.x.settings.K", &text), "s3cret");
    }

    #[test]
    fn identities() {
        let identity = part("environment=dev,role=").expect("an identity");
        let stated = Selection { role: "r".into(), machine: "m".into(), ..Selection::default() };
        let wanted = Selection { environment: "dev".into(), machine: "m".into(), ..Selection::default() };
        assert_eq!(identity.over(stated), wanted);
        for text in ["env=dev", "role", "role=a,role=b"] {
            part(text).expect_err(text);
        }
    }
}
