//! `events`: the log of the run or operation, append only. Works after a cancel as if nothing had happened.

use super::{Answer, answer};
use crate::bindings::events::{Event, Host};
use crate::data::Data;

impl Host for Data {
    async fn emit(&mut self, events: Vec<Event>) -> Answer<()> {
        let events = events.into_iter().map(|event| (event.kind, event.data)).collect();
        answer(self.ports.events.clone().emit(events).await)
    }
}
