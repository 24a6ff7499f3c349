//! `config`: the settings of the profile.

use crate::bindings::config::Host;
use crate::data::Data;

impl Host for Data {
    fn get(&mut self, name: String) -> wasmtime::Result<Option<String>> {
        Ok(self.ports.config.get(&name).cloned())
    }
}
