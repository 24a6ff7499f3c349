//! JSON Schemas of the files, from the same tables by which they are parsed.
//!
//! A schema says what one file alone can show: the strict rules of each field. What holds between fields (a connection names
//! declared variables) is left to the parser.

use serde_json::{Map, Value, json};

use super::table::{Default, Model, Shape};
use super::{discovery, manifest, requests};

/// The files that have a schema, by the names that [`schema`] takes.
pub const SCHEMAS: [&str; 3] = ["manifest", "requests", "discovery"];

/// The JSON Schema (draft 2020-12) of a file: `manifest`, `requests` or `discovery`; none for another name.
#[must_use]
pub fn schema(name: &str) -> Option<Value> {
    let model = match name {
        "manifest" => &manifest::MANIFEST,
        "requests" => &requests::REQUESTS,
        "discovery" => &discovery::DISCOVERY,
        _ => return None,
    };
    let mut schema = object(model);
    schema.insert("$schema".to_owned(), json!("https://json-schema.org/draft/2020-12/schema"));
    schema.insert("title".to_owned(), json!(model.name));
    Some(Value::Object(schema))
}

fn object(model: &Model) -> Map<String, Value> {
    let mut properties = Map::new();
    let mut required = Vec::new();
    for field in model.fields {
        let mut schema = shape(&field.shape);
        if field.nullable {
            let plain = Value::Object(std::mem::take(&mut schema));
            schema.insert("anyOf".to_owned(), json!([plain, {"type": "null"}]));
        }
        schema.insert("description".to_owned(), json!(field.about));
        match &field.default {
            Default::Required => required.push(field.name),
            Default::Null => {}
            Default::Is(value) => {
                schema.insert("default".to_owned(), value());
            }
        }
        properties.insert(field.name.to_owned(), Value::Object(schema));
    }
    let mut schema = Map::new();
    schema.insert("type".to_owned(), json!("object"));
    schema.insert("description".to_owned(), json!(model.about));
    schema.insert("properties".to_owned(), Value::Object(properties));
    if !required.is_empty() {
        schema.insert("required".to_owned(), json!(required));
    }
    if !model.open {
        schema.insert("additionalProperties".to_owned(), json!(false));
    }
    schema
}

fn shape(shape_of: &Shape) -> Map<String, Value> {
    let schema = match shape_of {
        Shape::Text { pattern: None, .. } => json!({"type": "string"}),
        Shape::Text { pattern: Some(pattern), .. } => json!({"type": "string", "pattern": pattern}),
        Shape::Choice(of) => json!({"enum": of}),
        Shape::Flag => json!({"type": "boolean"}),
        Shape::Whole { min, max, .. } => json!({"type": "integer", "minimum": min, "maximum": max}),
        Shape::List { item, least: 0 } => json!({"type": "array", "items": shape(item)}),
        Shape::List { item, least } => json!({"type": "array", "items": shape(item), "minItems": least}),
        // Not `date-time`: a date alone is one too, and so is a time without an offset.
        Shape::Moment => json!({"type": "string"}),
        Shape::Model(model) => return object(model),
    };
    match schema {
        Value::Object(schema) => schema,
        _ => Map::new(),
    }
}
