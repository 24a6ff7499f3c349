//! `approval`: a vendor program asks before it acts.

use super::{Answer, answer};
use crate::bindings::approval::{Decision, Host, Question};
use crate::data::Data;
use crate::ports;

impl Host for Data {
    async fn ask(&mut self, question: Question) -> Answer<Decision> {
        let question = ports::Question {
            kind: question.kind,
            title: question.title,
            detail: question.detail,
            call_id: question.call_id,
        };
        let port = self.ports.approval.clone();
        let decision = self.ports.control.guard(port.ask(question)).await;
        answer(decision.map(|decision| Decision { allowed: decision.allowed, message: decision.message }))
    }
}
