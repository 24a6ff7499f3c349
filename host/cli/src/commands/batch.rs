//! `midplane batch`: event batches without a run.

use std::io;

use clap::Subcommand;
use midplane::core::Error;
use midplane::core::batch::validate_bytes;
use midplane::core::json::Document;
use midplane::core::text::shown;
use serde_json::{Value, json};

use crate::app::App;
use crate::exit::Exit;
use crate::ndjson::Lines;
use crate::values::TEXT_BYTES_MAX;

/// Check event batches
#[derive(Debug, Subcommand)]
pub(crate) enum BatchCommand {
    /// Check batches from standard input, one a line or a single JSON text; one verdict each
    Validate,
}

pub(crate) fn run(app: &App, command: BatchCommand) -> anyhow::Result<Exit> {
    let BatchCommand::Validate = command;
    let bytes_max = usize::try_from(TEXT_BYTES_MAX).unwrap_or(usize::MAX);
    let refused = each(Lines::new(io::stdin().lock(), bytes_max), |number, bytes| {
        let judged = judge(bytes, bytes_max);
        app.print(&line(app.json, number, &judged))?;
        Ok(judged.is_err())
    })?;
    Ok(if refused { Exit::Failed } else { Exit::Done })
}

/// Gives each batch of an input, with the number of its line, and says whether any was refused.
fn each<R: io::BufRead>(
    mut lines: Lines<R>,
    mut judge: impl FnMut(u64, &[u8]) -> anyhow::Result<bool>,
) -> anyhow::Result<bool> {
    let Some(first) = lines.next()? else {
        // Nothing is no batch either.
        return judge(1, b"");
    };
    let mut refused = false;
    if Document::parse_bytes(&first.bytes).is_err() && first.bytes.len() <= lines.bytes_max() {
        // Perhaps the first line of a text of several.
        let mut whole = first.bytes.clone();
        whole.push(b'\n');
        whole.extend(lines.rest()?);
        if whole.len() > lines.bytes_max() || Document::parse_bytes(&whole).is_ok() {
            return judge(first.number, &whole);
        }
        for (number, line) in (first.number..).zip(whole.split(|byte| *byte == b'\n')) {
            if !line.trim_ascii().is_empty() {
                refused |= judge(number, line)?;
            }
        }
        return Ok(refused);
    }
    refused |= judge(first.number, &first.bytes)?;
    while let Some(line) = lines.next()? {
        refused |= judge(line.number, &line.bytes)?;
    }
    Ok(refused)
}

/// How many events a batch has, or why it is none.
fn judge(bytes: &[u8], bytes_max: usize) -> Result<usize, Error> {
    if bytes.len() > bytes_max {
        return Err(Error::limit("batch-size", format!("a batch has at most {bytes_max} bytes")));
    }
    Ok(validate_bytes(bytes)?.events().len())
}

fn line(is_json: bool, number: u64, judged: &Result<usize, Error>) -> String {
    match judged {
        Ok(events) if is_json => json!({ "line": number, "verdict": "accepted", "events": events }).to_string(),
        Ok(_) => "accepted".to_owned(),
        Err(error) => refusal(is_json, number, error, json!({})),
    }
}

/// Characters of a refusal's message for a person: it may quote a whole batch.
const MESSAGE_CHARS: usize = 400;

/// What is said of a batch that is refused.
pub(crate) fn refusal(is_json: bool, number: u64, error: &Error, more: Value) -> String {
    if !is_json {
        return format!("refused {}: {}", error.code, shown(&error.message, MESSAGE_CHARS));
    }
    let mut document = json!({ "line": number, "verdict": "refused", "code": error.code, "message": error.message });
    if let Some(hint) = &error.hint {
        document["hint"] = Value::from(hint.as_str());
    }
    if let (Some(document), Value::Object(more)) = (document.as_object_mut(), more) {
        document.extend(more);
    }
    document.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdicts(text: &str, bytes_max: usize, is_json: bool) -> String {
        let mut out = Vec::new();
        let refused = each(Lines::new(text.as_bytes(), bytes_max), |number, bytes| {
            let judged = judge(bytes, bytes_max);
            out.push(line(is_json, number, &judged));
            Ok(judged.is_err())
        });
        out.push(format!("refused: {}", refused.expect("read")));
        out.join("\n")
    }

    #[test]
    fn inputs_and_their_verdicts() {
        let good = r#"{"v":1,"runId":"r","events":[{"seq":0,"tMs":0,"kind":"notification","data":{}}]}"#;
        let pretty = good.replace(',', ",\n  ");
        let shown: Vec<String> = [
            ("nothing", String::new()),
            ("one", good.to_owned()),
            ("three", format!("{good}\n\n{{}}\n{good}\n")),
            ("a text of several lines", pretty.clone()),
            ("a text of several lines, refused", pretty.replace("\"v\":1", "\"v\":2")),
            ("first line no JSON", format!("nope\n{good}\n")),
            ("nothing is JSON", "a\n\nb".to_owned()),
            ("too long", format!("{good}\n{}\n{good}", good.replace("\"r\"", &format!("\"{}\"", "r".repeat(200))))),
            ("too long as a whole", format!("{{\n{}}}", " ".repeat(300))),
        ]
        .iter()
        .flat_map(|(what, text)| [false, true].map(|is_json| format!("== {what}\n{}", verdicts(text, 200, is_json))))
        .collect();
        insta::assert_snapshot!(shown.join("\n"));
    }
}
