//! `midplane context`: identity, configuration, folders, databases and names of secrets, as a program gets them.

use midplane::RuntimeContext;
use midplane::context::RuntimeMetadata;
use midplane::core::identity::RuntimeIdentity;
use midplane::core::identity::settings::RuntimePaths;
use midplane::core::layers::Node;
use midplane::core::problem::Problem;
use midplane::core::redact::is_sensitive_key;
use midplane::core::text::{escape_controls, shown};
use serde::Serialize;
use serde_json::Value;

use crate::app::App;
use crate::commands::identity::IdentityArgs;
use crate::exit::Exit;
use crate::render::table::{Table, fields};

/// Show what a program gets here: identity, folders, databases, names of secrets
#[derive(Debug, clap::Args)]
pub(crate) struct ContextCommand {
    #[command(flatten)]
    stated: IdentityArgs,
    /// Show each value of the configuration with the layer and line that it comes from
    #[arg(long)]
    explain: bool,
}

/// The context as a document.
#[derive(Debug, Serialize)]
struct Document<'a> {
    identity: &'a RuntimeIdentity,
    metadata: RuntimeMetadata,
    paths: &'a RuntimePaths,
    databases: Vec<&'a String>,
    secrets: Vec<&'a String>,
    problems: Vec<Problem>,
    #[serde(skip_serializing_if = "Option::is_none")]
    values: Option<Vec<Line>>,
}

/// One value of the configuration.
#[derive(Debug, Serialize)]
struct Line {
    path: String,
    value: Value,
    origin: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    replaced: Vec<String>,
}

pub(crate) async fn run(app: &App, command: ContextCommand) -> anyhow::Result<Exit> {
    let context = app.context(&command.stated.stated())?;
    let document = document(&context, command.explain);
    app.answer(&document, || text(&document))?;
    Ok(if document.problems.is_empty() { Exit::Done } else { Exit::Failed })
}

fn document(context: &RuntimeContext, explain: bool) -> Document<'_> {
    Document {
        identity: context.identity(),
        metadata: context.metadata(),
        paths: context.paths(),
        databases: context.databases().keys().collect(),
        secrets: context.secrets().vault().refs().keys().collect(),
        problems: context.check(),
        values: explain.then(|| lines(context.tree())),
    }
}

/// Every value with its origin. A value whose name says that it is a credential is not shown: it should not be there, but
/// people put it there.
fn lines(config: &Node) -> Vec<Line> {
    let leaves = config.leaves().into_iter();
    leaves
        .map(|(path, node)| {
            let hidden = path.split('.').any(is_sensitive_key) && !path.starts_with("vault.");
            let value = if hidden { Value::from("[redacted]") } else { node.to_json() };
            let replaced = node.replaced.iter().map(|before| before.origin.to_string()).collect();
            Line { path, value, origin: node.origin.to_string(), replaced }
        })
        .collect()
}

fn text(document: &Document<'_>) -> String {
    let list = |names: &[&String]| match names {
        [] => "-".to_owned(),
        names => names.iter().map(|name| name.as_str()).collect::<Vec<_>>().join(", "),
    };
    let mut values: Vec<(&str, String)> =
        document.identity.fields().map(|(name, value)| (name, value.to_owned())).collect();
    let path = |path: &std::path::Path| escape_controls(&path.display().to_string(), false);
    values.extend([
        ("container", if document.metadata.is_container { "yes" } else { "no" }.to_owned()),
        ("data", path(&document.paths.data_root)),
        ("artifacts", path(&document.paths.artifact_root)),
        ("exports", path(&document.paths.export_root)),
        ("logs", path(&document.paths.log_root)),
        ("databases", escape_controls(&list(&document.databases), false)),
        ("secrets", list(&document.secrets)),
    ]);
    let mut text = fields(&values);
    for problem in &document.problems {
        text.push_str(&escape_controls(&format!("problem: {problem}"), false));
        text.push('\n');
    }
    if let Some(lines) = &document.values {
        let mut table = Table::new(["VALUE", "IS", "FROM", "INSTEAD OF"]);
        for line in lines {
            let instead = line.replaced.join(", ");
            table.row([line.path.clone(), shown(&line.value.to_string(), 60), line.origin.clone(), instead]);
        }
        text.push('\n');
        text.push_str(&table.text(""));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use midplane::Paths;
    use midplane::core::identity::{Evidence, discover};
    use midplane::identity::{Stated, identify_by};

    #[test]
    fn a_context_is_shown() {
        console::set_colors_enabled(false);
        let folder = tempfile::tempdir().expect("a folder");
        let config = "vault:\n  stores: {here: {backend: env, root: X_}}\n  refs: {k: {store: there, path: p, policy: p}}\n  \
                      policies: {p: {allowed_principals: []}}\ndatabases: {main: {host: h, password: hunter2}}\n\
                      paths: {log_root: /l}\n";
        std::fs::write(folder.path().join("config.yaml"), config).expect("a file");
        let facts = discover(&Evidence { hostname: "bridge".to_owned(), ..Evidence::default() });
        let identified = identify_by(&Stated::default(), facts, |_| None).expect("an identity");
        let home = Paths::under(folder.path());
        let context = RuntimeContext::builder(identified).home(home).env(|_| None).build().expect("a context");
        let shown = format!("{}----\n{}", text(&document(&context, false)), text(&document(&context, true)));
        // The width of a column follows the name of the folder.
        let shown = shown.replace(folder.path().to_str().expect("text"), "[home]").replace("  ", " ");
        let shown: Vec<String> =
            shown.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
        insta::assert_snapshot!(shown.join("\n"));
        assert!(!shown.join("\n").contains("hunter2"));
    }
}
