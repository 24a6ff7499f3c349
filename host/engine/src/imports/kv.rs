//! `kv`: small durable state of the profile. Works after a cancel as if nothing had happened.

use super::{Answer, answer};
use crate::bindings::kv::{Entry, Host};
use crate::data::Data;

impl Host for Data {
    async fn get(&mut self, key: String) -> Answer<Option<Entry>> {
        let found = self.ports.kv.clone().get(&key).await;
        answer(found.map(|found| found.map(|(value, revision)| Entry { value, revision })))
    }

    async fn put(&mut self, key: String, value: Vec<u8>, expect: Option<u64>) -> Answer<u64> {
        answer(self.ports.kv.clone().put(&key, value, expect).await)
    }

    async fn remove(&mut self, key: String, expect: Option<u64>) -> Answer<bool> {
        answer(self.ports.kv.clone().remove(&key, expect).await)
    }

    async fn keys(&mut self, prefix: String, after: Option<String>, limit: u32) -> Answer<Vec<String>> {
        answer(self.ports.kv.clone().keys(&prefix, after.as_deref(), limit).await)
    }
}
