//! What the program asks before it acts, and the answers.
//!
//! A question about one action goes to the host's `approval` and comes back as `accept` or `decline`; never as an
//! answer for later actions too. What can only be answered for more than one action (more permissions for the rest of
//! the turn) and what this adapter has nothing to say to is declined without asking.

use midplane_plugin::child::visible;
use midplane_plugin::error::cut;
use midplane_plugin::host::{Level, Question};
use midplane_plugin::jsonrpc::{self, Id, Peer};
use midplane_plugin::{Host, Result, Value, json};

/// Longest title, in bytes.
const TITLE_BYTES_MAX: usize = 2048;
/// Longest detail, in bytes; a longer one is told by its size.
const DETAIL_BYTES_MAX: usize = 64 * 1024;

/// Answers one request of the program. `about` says what is known of the item that it names; `cancelled` whether the run
/// is over, when everything is declined.
pub fn answer(
    host: &dyn Host,
    peer: &mut Peer<'_>,
    id: &Id,
    method: &str,
    params: &Value,
    about: Option<&str>,
    cancelled: bool,
) -> Result<()> {
    let ask = |kind: &str, title: &str| !cancelled && allowed(host, kind, title, params);
    let decision = |allowed: bool| json!({ "decision": if allowed { "accept" } else { "decline" } });
    match method {
        "item/commandExecution/requestApproval" => {
            let network = !params["networkApprovalContext"].is_null();
            let title = [params["command"].as_str(), params["reason"].as_str(), about];
            let title = title.into_iter().flatten().next().unwrap_or("a command");
            peer.answer(id, &decision(ask(if network { "network" } else { "command" }, title)))
        }
        "item/fileChange/requestApproval" => {
            let title = about.or(params["reason"].as_str()).unwrap_or("a change of files");
            peer.answer(id, &decision(ask("file-change", title)))
        }
        "mcpServer/elicitation/request" => {
            // Only the question whether a tool may be called has a yes or no; a form would need a person's words.
            let is_call = params["_meta"]["codex_approval_kind"].as_str() == Some("mcp_tool_call");
            let words = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            let (server, tool) = (words(&params["serverName"]), words(&params["_meta"]["tool_name"]));
            // Named as the host's own tools of MCP servers are.
            let title = format!("{server}__{tool} {}", params["_meta"]["tool_params"]);
            if is_call && ask("tool", &title) {
                peer.answer(id, &json!({ "action": "accept", "content": {} }))
            } else {
                peer.answer(id, &json!({ "action": "decline", "content": null }))
            }
        }
        // What would be granted holds for the whole turn.
        "item/permissions/requestApproval" => peer.answer(id, &json!({ "permissions": {}, "scope": "turn" })),
        "item/tool/requestUserInput" => peer.answer(id, &json!({ "answers": {} })),
        "item/tool/call" => {
            let text = "there is no such tool";
            peer.answer(id, &json!({ "contentItems": [{ "type": "inputText", "text": text }], "success": false }))
        }
        // Of an older protocol, which is never spoken first here.
        "applyPatchApproval" | "execCommandApproval" => peer.answer(id, &json!({ "decision": "denied" })),
        _ => {
            host.log(Level::Info, &format!("codex asked `{}`, which is not known here", visible(&short(method))));
            peer.refuse(id, jsonrpc::METHOD_NOT_FOUND, "not known to this client")
        }
    }
}

fn allowed(host: &dyn Host, kind: &str, title: &str, params: &Value) -> bool {
    let detail = params.to_string();
    let detail = if detail.len() > DETAIL_BYTES_MAX || !params.is_object() {
        json!({ "left_out_bytes": detail.len() }).to_string()
    } else {
        detail
    };
    let question = Question {
        kind: kind.into(),
        title: cut(title.to_owned(), TITLE_BYTES_MAX),
        detail,
        call_id: params["itemId"].as_str().map(short),
    };
    match host.ask(&question) {
        Ok(decision) => decision.allowed,
        Err(error) => {
            if !error.is_cancelled() {
                host.log(
                    Level::Warn,
                    &format!("a question was declined because it could not be asked: {}", error.message),
                );
            }
            false
        }
    }
}

fn short(text: &str) -> String {
    cut(text.to_owned(), 256)
}
