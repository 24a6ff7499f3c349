//! Small pieces of a translation that most vendors need: reading an event, a call, counters.

use serde_json::{Map, Value};

use super::Delta;
use crate::agent::Usage;
use crate::error::{Error, Result};
use crate::host::{Call, Tool};
use crate::sse::SseEvent;

/// The error of data that no stream of the vendor has.
#[must_use]
pub fn malformed(what: &str) -> Error {
    Error::internal("stream-malformed", format!("the vendor's stream is malformed: {what}"))
}

/// The data of an event, an object; none for the `[DONE]` with which some servers end any stream.
pub fn event_data(event: &SseEvent) -> Result<Option<Value>> {
    if event.data.trim() == "[DONE]" {
        return Ok(None);
    }
    match serde_json::from_str(&event.data) {
        Ok(data @ Value::Object(_)) => Ok(Some(data)),
        Ok(_) => Err(malformed("an event is not an object")),
        Err(error) => Err(malformed(&format!("the data of `{}` is not JSON: {error}", event.name))),
    }
}

/// Adds a delta of a text, where it is one and has something in it.
pub fn say(deltas: &mut Vec<Delta>, text: &Value, delta: fn(String) -> Delta) {
    if let Some(text) = text.as_str().filter(|text| !text.is_empty()) {
        deltas.push(delta(text.to_owned()));
    }
}

/// A call, whose arguments are none or an object.
pub fn call(id: Option<&str>, name: &Value, arguments: &Value) -> Result<Call> {
    let (Some(id), Some(name)) = (id, name.as_str()) else {
        return Err(malformed("a tool call has no id or no name"));
    };
    let arguments = match arguments {
        Value::Null => "{}".to_owned(),
        Value::Object(_) => arguments.to_string(),
        _ => return Err(malformed("the input of a tool call is not an object")),
    };
    Ok(Call { id: id.to_owned(), name: name.to_owned(), arguments })
}

/// The calls among the blocks of a reply: those of this type, with their arguments in this field.
pub fn calls(blocks: &[Value], kind: &str, arguments: &str) -> Result<Vec<Call>> {
    let calls = blocks.iter().filter(|block| block["type"] == kind);
    calls.map(|block| call(block["id"].as_str(), &block["name"], &block[arguments])).collect()
}

/// The arguments of a call that came in pieces of text; nothing where there were none.
pub fn joined_input(pieces: &str) -> Result<Option<Value>> {
    if pieces.is_empty() {
        return Ok(None);
    }
    let read = serde_json::from_str(pieces);
    read.map(Some).map_err(|error| malformed(&format!("the input of a tool call is not JSON: {error}")))
}

/// An object of those fields that have a value; none where no field has one.
#[must_use]
pub fn object<const N: usize>(fields: [(&str, Option<Value>); N]) -> Option<Value> {
    Some(self::fields(fields)).filter(|object| !object.is_empty()).map(Value::Object)
}

/// Those fields that have a value.
#[must_use]
pub fn fields<const N: usize>(fields: [(&str, Option<Value>); N]) -> Map<String, Value> {
    fields.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect()
}

/// The tools in the vendor's form, which is made of a tool and its schema; none where there are no tools.
pub fn tools(tools: &[Tool], form: impl Fn(&Tool, Value) -> Value) -> Result<Option<Value>> {
    let tools: Result<Vec<Value>> = tools.iter().map(|tool| Ok(form(tool, schema(&tool.input_schema)?))).collect();
    Ok(Some(tools?).filter(|tools| !tools.is_empty()).map(Value::Array))
}

/// The JSON Schema of a tool as vendors take it: they know no `$schema`.
pub fn schema(text: &str) -> Result<Value> {
    let mut schema: Value = serde_json::from_str(text)?;
    if let Some(fields) = schema.as_object_mut() {
        fields.remove("$schema");
    }
    Ok(schema)
}

/// The counters of a vendor that counts into the input what came from the cache, and the output in parts. The contract
/// has the input without the cache, and the output whole; unknown stays unknown.
#[must_use]
pub fn usage(input: Option<u64>, cached: Option<u64>, output: [Option<u64>; 2], total: Option<u64>) -> Usage {
    let written = match output {
        [Some(a), Some(b)] => Some(a.saturating_add(b)),
        [a, b] => a.or(b),
    };
    Usage {
        input_tokens: input.map(|input| input.saturating_sub(cached.unwrap_or(0))),
        output_tokens: written,
        cache_read_tokens: cached,
        total_tokens: total,
        ..Usage::default()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_call_needs_an_id_a_name_and_an_object() {
        assert_eq!(call(Some("1"), &json!("a"), &Value::Null).map(|call| call.arguments), Ok("{}".to_owned()));
        assert_eq!(
            call(Some("1"), &json!("a"), &json!({"b": 1})).map(|call| call.arguments),
            Ok("{\"b\":1}".to_owned())
        );
        for (id, name, arguments) in
            [(None, json!("a"), json!({})), (Some("1"), json!(7), json!({})), (Some("1"), json!("a"), json!([1]))]
        {
            assert_eq!(call(id, &name, &arguments).expect_err("no call").code, "stream-malformed");
        }
        let blocks = [json!({"type": "text"}), json!({"type": "use", "id": "1", "name": "a", "input": {"b": 1}})];
        let found = calls(&blocks, "use", "input").expect("whole");
        assert_eq!(found, [Call { id: "1".into(), name: "a".into(), arguments: "{\"b\":1}".into() }]);
        assert_eq!(calls(&blocks, "text", "input").expect_err("no id").code, "stream-malformed");
        assert_eq!(joined_input(""), Ok(None));
        assert_eq!(joined_input("{\"a\":1}"), Ok(Some(json!({"a": 1}))));
        assert_eq!(joined_input("{").expect_err("cut").code, "stream-malformed");
    }

    #[test]
    fn an_event_holds_an_object_or_is_the_end() {
        let event = |data: &str| SseEvent { name: "message".into(), data: data.into() };
        assert_eq!(event_data(&event("{}")), Ok(Some(json!({}))));
        assert_eq!(event_data(&event("[DONE]")), Ok(None));
        for bad in ["[1]", "{", ""] {
            assert_eq!(event_data(&event(bad)).expect_err("malformed").code, "stream-malformed", "{bad}");
        }
    }

    #[test]
    fn only_a_text_with_something_in_it_is_a_delta() {
        let mut deltas = Vec::new();
        for value in [json!("a"), json!(""), json!(null), json!(7), json!(["b"])] {
            say(&mut deltas, &value, Delta::Thinking);
        }
        assert_eq!(deltas, [Delta::Thinking("a".into())]);
    }

    #[test]
    fn fields_and_tools_that_are_not_there_are_left_out() {
        assert_eq!(object([("a", None), ("b", None)]), None);
        assert_eq!(object([("a", Some(json!(1))), ("b", None)]), Some(json!({"a": 1})));
        let tool = |schema: &str| Tool { name: "t".into(), description: String::new(), input_schema: schema.into() };
        let form = |tool: &Tool, schema: Value| json!([tool.name, schema]);
        assert_eq!(tools(&[], form), Ok(None));
        let with_schema = tool(r#"{"$schema": "x", "type": "object"}"#);
        assert_eq!(tools(&[with_schema], form), Ok(Some(json!([["t", {"type": "object"}]]))));
        assert_eq!(tools(&[tool("{")], form).expect_err("no JSON").code, "not-json");
    }

    #[test]
    fn unknown_counters_stay_unknown() {
        assert_eq!(usage(None, Some(3), [None, None], None).input_tokens, None);
        let known = usage(Some(10), Some(4), [Some(2), None], Some(12));
        assert_eq!((known.input_tokens, known.cache_read_tokens, known.output_tokens), (Some(6), Some(4), Some(2)));
        assert_eq!(usage(Some(1), Some(4), [Some(2), Some(3)], None).output_tokens, Some(5));
    }
}
