//! The Anthropic plugin through the library, against `aimock` and against scripted answers that it cannot give.
use serde_json::json;
use crate::peer::Aimock;
use crate::world::{KEY, Setup};

#[tokio::test]
async fn text() {
    let fixtures = json!({"fixtures": [{"match": {"userMessage": "greet"}, "response": {"content": "Hello from the mock.", "usage": {"input_tokens": 11, "output_tokens": 7}}}]});
    let Some(mock) = Aimock::start(KEY, &fixtures).await else { return };
    let world = Setup::new(mock.url()).open().await;
    let ran = world.run(world.task("greet me")).await;
    for r in &ran.records { eprintln!("{}", serde_json::to_string(r).unwrap()); }
    eprintln!("{}", ran.story());
    eprintln!("{}", json!(mock.journal().await));
}
