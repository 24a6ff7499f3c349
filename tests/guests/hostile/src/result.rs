//! Outcomes that are none.

use midplane_plugin::agent::{Artifact, Outcome, ToolAudit};
use midplane_plugin::{Error, ErrorKind, Result};

use crate::{Behaviour, Call};

pub(crate) const BEHAVIOURS: &[(&str, Behaviour)] = &[
    ("outcome_unknown_word", unknown_word),
    ("outcome_done_with_error", done_with_error),
    ("outcome_no_error", no_error),
    ("outcome_output", output),
    ("outcome_cost", cost),
    ("outcome_not_json", not_json),
    ("outcome_bloat", bloat),
    ("outcome_error_bloat", error_bloat),
    ("outcome_claims_timeout", claims_timeout),
    ("outcome_nested", nested),
];

fn unknown_word(_call: &Call<'_>) -> Result<Outcome> {
    Ok(Outcome::new("great"))
}

fn done_with_error(_call: &Call<'_>) -> Result<Outcome> {
    Ok(Outcome { error: Some(Error::conflict("both", "done and not done")), ..Outcome::done("") })
}

fn no_error(_call: &Call<'_>) -> Result<Outcome> {
    Ok(Outcome::new("failed"))
}

/// The parameter is its length in MiB.
fn output(call: &Call<'_>) -> Result<Outcome> {
    Ok(Outcome::done("x".repeat(usize::try_from(call.number(1)).unwrap_or(0) * 1024 * 1024)))
}

fn cost(call: &Call<'_>) -> Result<Outcome> {
    let mut outcome = Outcome::done("");
    outcome.usage.cost_usd = Some(call.word(1).parse().unwrap_or(f64::NAN));
    Ok(outcome)
}

fn not_json(_call: &Call<'_>) -> Result<Outcome> {
    Ok(Outcome { metadata: "{".into(), parsed_output: Some("{".into()), ..Outcome::done("") })
}

/// Every text of it long. The parameter is the length of each in KiB.
fn bloat(call: &Call<'_>) -> Result<Outcome> {
    let long = || "x".repeat(usize::try_from(call.number(1)).unwrap_or(0) * 1024);
    let mut outcome = Outcome::done("");
    outcome.session_id = Some(long());
    outcome.metadata = format!("{{\"a\":\"{}\"}}", long());
    outcome.artifacts = vec![Artifact { uri: long(), kind: long(), metadata: format!("{{\"a\":\"{}\"}}", long()) }; 2];
    outcome.tool_calls = vec![
        ToolAudit {
            name: long(),
            arguments: format!("{{\"a\":\"{}\"}}", long()),
            result_preview: long(),
            status: long(),
            duration_ms: Some(u64::MAX)
        };
        2
    ];
    outcome.rounds = u32::MAX;
    outcome.usage.total_tokens = Some(u64::MAX);
    Ok(outcome)
}

/// A code and a message beyond their lengths: not made with the SDK's constructor, which would cut them.
fn error_bloat(_call: &Call<'_>) -> Result<Outcome> {
    Err(Error {
        kind: ErrorKind::Invalid,
        code: "c".repeat(100_000),
        message: "m".repeat(4 * 1024 * 1024),
        retry_after_ms: Some(u64::MAX),
    })
}

/// A reason that is the host's to give is only a claim.
fn claims_timeout(_call: &Call<'_>) -> Result<Outcome> {
    Ok(Outcome::new("timed_out"))
}

/// JSON whose depth could exhaust the stack of a careless reader.
fn nested(_call: &Call<'_>) -> Result<Outcome> {
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    Ok(Outcome { parsed_output: Some(deep.clone()), metadata: format!("{{\"a\":{deep}}}"), ..Outcome::done("") })
}
