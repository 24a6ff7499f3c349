//! `control`: time left, cancel, steering.

use std::time::Duration;

use super::{Answer, answer};
use crate::bindings::control::{Host, Signal};
use crate::control::cancelled;
use crate::data::Data;

impl Host for Data {
    fn cancelled(&mut self) -> wasmtime::Result<bool> {
        Ok(self.ports.control.is_cancelled())
    }

    fn remaining_ms(&mut self) -> wasmtime::Result<u64> {
        Ok(self.ports.control.remaining_ms())
    }

    async fn next(&mut self, timeout_ms: u32) -> Answer<Option<Signal>> {
        let control = self.ports.control.clone();
        // After a cancel it is said once, then signals are given again.
        if control.is_cancelled() && !std::mem::replace(&mut self.cancel_said.control, true) {
            return answer(Err(cancelled()));
        }
        let deadline = tokio::time::Instant::now() + Duration::from_millis(timeout_ms.into());
        loop {
            if let Some(signal) = control.take_signal() {
                return Ok(Ok(Some(Signal { kind: signal.kind, text: signal.text })));
            }
            let mut announced = 0;
            tokio::select! {
                () = control.signal_waiting(&mut announced) => {}
                () = control.cancelled(), if !self.cancel_said.control => {
                    self.cancel_said.control = true;
                    return answer(Err(cancelled()));
                }
                () = tokio::time::sleep_until(deadline) => return Ok(Ok(None)),
            }
        }
    }
}
