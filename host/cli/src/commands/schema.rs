//! `midplane schema`: the JSON Schemas of the files that people write, for editors and for other programs.

use midplane::core::{Error, project};

use crate::app::App;
use crate::exit::Exit;

/// Print the JSON Schema of a file
#[derive(Debug, clap::Args)]
pub(crate) struct SchemaArgs {
    /// Which: `manifest`, `requests`, `discovery`; without one, the names
    name: Option<String>,
}

pub(crate) fn run(app: &App, args: &SchemaArgs) -> anyhow::Result<Exit> {
    let Some(name) = &args.name else {
        app.answer(&project::SCHEMAS, || format!("{}\n", project::SCHEMAS.join("\n")))?;
        return Ok(Exit::Done);
    };
    let schema = project::schema(name).ok_or_else(|| {
        Error::not_found("schema-unknown", format!("there is no schema `{name}`"))
            .hint(format!("one of: {}", project::SCHEMAS.join(", ")))
    })?;
    // A schema is JSON in either form.
    app.print(&serde_json::to_string_pretty(&schema)?)?;
    Ok(Exit::Done)
}
