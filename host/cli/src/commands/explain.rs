//! `midplane explain`: what a code means, and what to do about it.

use midplane::core::codes::{self, Code};
use midplane::core::{Error, Result};
use serde_json::{Value, json};

use crate::app::App;
use crate::exit::Exit;
use crate::render::table::Table;

/// Say what a code of an error or a problem means
#[derive(Debug, clap::Args)]
pub(crate) struct ExplainArgs {
    /// The code, as it stands in `[brackets]` or in the field `code`; without one, all are listed
    code: Option<String>,
}

pub(crate) fn run(app: &App, args: &ExplainArgs) -> anyhow::Result<Exit> {
    match &args.code {
        None => {
            let all: Vec<&Code> = codes::all().collect();
            let documents: Vec<Value> = all.iter().map(|code| document(code)).collect();
            app.answer(&documents, || list(&all))?;
        }
        Some(word) => {
            let code = find(word)?;
            app.answer(&document(code), || text(code))?;
        }
    }
    Ok(Exit::Done)
}

/// The code of that name, also with the brackets around it in which `check` prints it.
fn find(word: &str) -> Result<&'static Code> {
    let word = word.trim().trim_start_matches('[').trim_end_matches(']');
    codes::find(word).ok_or_else(|| {
        let error = Error::not_found("code-unknown", format!("there is no code `{word}`"));
        match codes::nearest(word) {
            Some(near) => error.hint(format!("did you mean `{near}`? `midplane explain` lists all")),
            None => error.hint("`midplane explain` lists all"),
        }
    })
}

fn document(code: &Code) -> Value {
    json!({ "code": code.code, "kind": code.kind, "meaning": code.meaning, "recovery": code.recovery })
}

fn text(code: &Code) -> String {
    format!("{} ({})\n\n  {}\n\nhint: {}\n", code.code, code.kind, code.meaning, code.recovery)
}

fn list(all: &[&Code]) -> String {
    let mut table = Table::new(["CODE", "KIND", "MEANING"]);
    for code in all {
        table.row([code.code.to_owned(), code.kind.to_string(), code.meaning.to_owned()]);
    }
    table.text("")
}
