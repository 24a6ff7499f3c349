//! A reply that comes as a list of blocks: each is begun, filled by deltas and ended, under its number.
//!
//! A block is rebuilt exactly as it came, also one of a type that nobody here knows, because vendors want their blocks
//! back unchanged: a thought is signed.

use std::collections::BTreeMap;

use serde_json::Value;

use super::parts::{joined_input, malformed};
use crate::error::Result;

/// Blocks of one reply at most.
const BLOCKS_MAX: usize = 1024;

/// The blocks of one reply, in their order.
#[derive(Debug, Default)]
pub struct Blocks(BTreeMap<u64, Block>);

/// One block.
#[derive(Debug)]
pub struct Block {
    /// As it began, with what its deltas added.
    pub value: Value,
    /// The joined pieces of the input of a call, which is JSON only when it is whole.
    pub input: String,
}

impl Blocks {
    /// A block begins: `data` has its number in `index`, `value` is what is there of it.
    pub fn begin(&mut self, data: &Value, value: &Value) -> Result<()> {
        if !value.is_object() || self.0.len() >= BLOCKS_MAX {
            return Err(malformed("a block does not begin as an object, or there are too many"));
        }
        self.0.insert(index(data)?, Block { value: value.clone(), input: String::new() });
        Ok(())
    }

    /// The block whose number is the `index` of `data`.
    pub fn of(&mut self, data: &Value) -> Result<&mut Block> {
        let block = self.0.get_mut(&index(data)?);
        block.ok_or_else(|| malformed("a delta names a block that did not begin"))
    }

    /// The blocks as they go back to the vendor, with the joined input of each call under `field`. In a reply that was
    /// cut, a call that broke off in its input is left out: it cannot be run, and need not be answered.
    pub fn finish(self, field: &str, was_cut: bool) -> Result<Vec<Value>> {
        let mut values = Vec::new();
        for Block { mut value, input } in self.0.into_values() {
            match joined_input(&input) {
                Ok(None) => values.push(value),
                Ok(Some(input)) => {
                    value[field] = input;
                    values.push(value);
                }
                Err(_) if was_cut => {}
                Err(error) => return Err(error),
            }
        }
        Ok(values)
    }
}

impl Block {
    /// Adds text to that of a field.
    pub fn append(&mut self, field: &str, text: &Value) {
        let Some(text) = text.as_str() else { return };
        match &mut self.value[field] {
            Value::String(joined) => joined.push_str(text),
            other => *other = Value::String(text.to_owned()),
        }
    }
}

fn index(data: &Value) -> Result<u64> {
    data["index"].as_u64().ok_or_else(|| malformed("an event of a block has no index"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn at(index: u64) -> Value {
        json!({ "index": index })
    }

    #[test]
    fn blocks_stand_in_the_order_of_their_numbers_with_all_that_was_added() {
        let mut blocks = Blocks::default();
        blocks.begin(&at(4), &json!({ "type": "call", "own": 7 })).expect("begins");
        blocks.begin(&at(2), &json!({ "type": "text", "text": "a" })).expect("begins");
        blocks.of(&at(2)).expect("there").append("text", &json!("b"));
        blocks.of(&at(2)).expect("there").append("signature", &json!("s"));
        blocks.of(&at(2)).expect("there").append("text", &json!(5));
        for piece in ["{\"a\":", "1}"] {
            blocks.of(&at(4)).expect("there").input.push_str(piece);
        }
        assert_eq!(
            blocks.finish("input", false),
            Ok(vec![
                json!({ "type": "text", "text": "ab", "signature": "s" }),
                json!({ "type": "call", "own": 7, "input": { "a": 1 } }),
            ])
        );
    }

    #[test]
    fn a_call_that_broke_off_is_left_out_of_a_reply_that_was_cut_and_is_an_error_else() {
        for was_cut in [true, false] {
            let mut blocks = Blocks::default();
            blocks.begin(&at(0), &json!({ "text": "kept" })).expect("begins");
            blocks.begin(&at(1), &json!({})).expect("begins");
            blocks.of(&at(1)).expect("there").input.push_str("{\"a\":");
            let kept = blocks.finish("input", was_cut).map_err(|error| error.code);
            let expected = if was_cut { Ok(vec![json!({ "text": "kept" })]) } else { Err("stream-malformed".into()) };
            assert_eq!(kept, expected);
        }
    }

    #[test]
    fn what_no_vendor_sends_is_malformed() {
        let mut blocks = Blocks::default();
        assert!(blocks.begin(&json!({}), &json!({})).is_err(), "no number");
        assert!(blocks.begin(&at(0), &json!("x")).is_err(), "no object");
        assert!(blocks.of(&at(0)).is_err(), "did not begin");
        for index in 0..BLOCKS_MAX as u64 {
            blocks.begin(&at(index), &json!({})).expect("room");
        }
        assert_eq!(blocks.begin(&at(9999), &json!({})).expect_err("full").code, "stream-malformed");
    }
}
