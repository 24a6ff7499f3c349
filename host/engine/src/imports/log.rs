//! `log`: lines for the operator.

use crate::bindings::log::{Host, Level};
use crate::data::Data;
use crate::ports;

impl Host for Data {
    fn write(&mut self, level: Level, message: String) -> wasmtime::Result<()> {
        let level = match level {
            Level::Debug => ports::Level::Debug,
            Level::Info => ports::Level::Info,
            Level::Warn => ports::Level::Warn,
            Level::Error => ports::Level::Error,
        };
        self.ports.log.write(level, message);
        Ok(())
    }
}
