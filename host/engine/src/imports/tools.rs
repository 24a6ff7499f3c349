//! `tools`: the tools of an agent loop, run by the host.

use super::{Answer, answer};
use crate::bindings::tools::{Answer as ToolAnswer, Call, Host, Tool};
use crate::control::cancelled;
use crate::data::Data;
use crate::ports;

impl Host for Data {
    async fn offered(&mut self) -> Answer<Vec<Tool>> {
        let port = self.ports.tools.clone();
        let tools = self.ports.control.guard(port.offered()).await;
        let to_wit = |tool: ports::Tool| Tool {
            name: tool.name,
            description: tool.description,
            input_schema: tool.input_schema,
        };
        answer(tools.map(|tools| tools.into_iter().map(to_wit).collect()))
    }

    async fn call_all(&mut self, calls: Vec<Call>) -> Answer<Vec<ToolAnswer>> {
        // Not guarded: a cancel while it works must not lose the answers that there are. The port watches the flag.
        if self.ports.control.is_cancelled() {
            return answer(Err(cancelled()));
        }
        let calls =
            calls.into_iter().map(|call| ports::ToolCall { id: call.id, name: call.name, arguments: call.arguments });
        let answers = self.ports.tools.clone().call_all(calls.collect()).await;
        let to_wit = |answer: ports::ToolAnswer| ToolAnswer {
            id: answer.id,
            text: answer.text,
            structured: answer.structured,
            is_error: answer.is_error,
        };
        answer(answers.map(|answers| answers.into_iter().map(to_wit).collect()))
    }
}
