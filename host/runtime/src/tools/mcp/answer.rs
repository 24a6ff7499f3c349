//! What a server's tool gives back, as an answer of the host: texts as they are, the rest summarised.

use rmcp::model::{CallToolResult, ContentBlock, ResourceContents};

use crate::tools::answer::{Answer, Status};

/// An answer is a list of blocks; a model and an event get text. Images are open question 4 of the contract.
pub(super) fn answer(result: CallToolResult) -> Answer {
    let mut parts: Vec<String> = result.content.iter().map(block).collect();
    if let (true, Some(structured)) = (parts.is_empty(), &result.structured_content) {
        parts.push(structured.to_string());
    }
    let status = if result.is_error == Some(true) { Status::Error } else { Status::Ok };
    Answer { text: parts.join("\n"), structured: result.structured_content, status }
}

/// A kind of a later release of the protocol.
const UNKNOWN: &str = "[something that this host does not know]";

fn block(block: &ContentBlock) -> String {
    match block {
        ContentBlock::Text(text) => text.text.clone(),
        ContentBlock::Image(image) => bytes("image", &image.mime_type, &image.data),
        ContentBlock::Audio(audio) => bytes("audio", &audio.mime_type, &audio.data),
        ContentBlock::ResourceLink(link) => match &link.description {
            Some(description) => format!("[resource {} ({}): {description}]", link.uri, link.name),
            None => format!("[resource {} ({})]", link.uri, link.name),
        },
        ContentBlock::Resource(resource) => match &resource.resource {
            ResourceContents::TextResourceContents { uri, text, .. } => format!("[resource {uri}]\n{text}"),
            ResourceContents::BlobResourceContents { uri, mime_type, blob, .. } => {
                bytes(&format!("resource {uri}"), mime_type.as_deref().unwrap_or("bytes"), blob)
            }
            _ => UNKNOWN.to_owned(),
        },
        _ => UNKNOWN.to_owned(),
    }
}

/// Bytes that came as base64, by their size.
fn bytes(what: &str, kind: &str, base64: &str) -> String {
    format!("[{what}, {kind}, {} bytes, not shown]", base64.trim_end_matches('=').len() * 3 / 4)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn blocks_become_text() {
        let shown = [
            json!({ "content": [{ "type": "text", "text": "a" }, { "type": "text", "text": "b" }] }),
            json!({ "content": [{ "type": "text", "text": "no such tool" }], "isError": true }),
            json!({ "content": [], "structuredContent": { "n": 1 } }),
            json!({ "content": [{ "type": "text", "text": "{\"n\":1}" }], "structuredContent": { "n": 1 } }),
            json!({ "content": [
                { "type": "image", "mimeType": "image/png", "data": "aGVsbG8=" },
                { "type": "audio", "mimeType": "audio/wav", "data": "aGVsbG8hIQ==" },
                { "type": "resource_link", "uri": "file:///a", "name": "a", "description": "the first" },
                { "type": "resource", "resource": { "uri": "demo://1", "text": "inside" } },
                { "type": "resource", "resource": { "uri": "demo://2", "mimeType": "application/zip", "blob": "aGVs" } },
            ] }),
        ]
        .map(|result| {
            let answer = answer(serde_json::from_value(result).unwrap());
            format!("{} {:?} {:?}", answer.status.as_str(), answer.text, answer.structured.map(|value| value.to_string()))
        });
        insta::assert_snapshot!(shown.join("\n"));
    }
}
