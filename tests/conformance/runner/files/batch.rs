//! Event batches: antpath's validator to the letter.
//!
//! Files: `runner_event_batch.json`.

use midplane_core::Error;
use midplane_core::batch::{validate, validate_bytes};
use serde_json::{Value, json};

use crate::case::{Case, Check, Ours};

pub(crate) const CHECKS: &[(&str, Check)] = &[("runner_event_batch.json", batch)];

fn batch(case: &Case<'_>) -> Ours {
    let text = case.raw["input_text"].as_str().unwrap_or_default();
    let original = case.expect();
    // As bytes it is the same batch; what is compared in full is the text.
    let from_bytes = validate_bytes(text.as_bytes()).map(|batch| batch.to_json_text());
    let validated = validate(text).map(|batch| batch.to_json_text());
    let ours = match &validated {
        Ok(printed) => accepted(case, printed),
        Err(error) => {
            let Error { code, message, .. } = Error::from(error.clone());
            Ours::refused(code.clone())
                .equal("ok", &json!(false), &original["ok"])
                .equal("code", &json!(code), &original["code"])
                .equal("message", &json!(message), &original["message"])
        }
    };
    if from_bytes == validated { ours } else { ours.differs("as bytes it is judged otherwise") }
}

fn accepted(case: &Case<'_>, printed: &str) -> Ours {
    let ours = Ours::accepted().equal("ok", &json!(true), &case.expect()["ok"]);
    // Our printer is the original's, so texts are compared byte by byte and not as values.
    let ours = ours.equal("batch_text", &Value::from(printed), &case.raw["batch_text"]);
    // What was printed is a batch again, and the same one.
    match validate(printed).map(|batch| batch.to_json_text()) {
        Ok(again) if again == printed => ours,
        Ok(again) => ours.differs(format!("what was printed is read as another batch: {again}")),
        Err(error) => ours.differs(format!("what was printed is refused: {error}")),
    }
}
