//! Schemas of draft 3, which the crate does not know, in the words of draft 4.

use std::sync::LazyLock;

use jsonschema::Validator;
use serde_json::{Map, Value, json};

use crate::{Error, Result};

/// Its identifier, without an empty fragment.
pub(super) const DIALECT: &str = "http://json-schema.org/draft-03/schema";

/// Deepest nesting of a schema. A value of JSON text is no deeper than this either.
const DEPTH_MAX: usize = 128;

/// What a schema of draft 3 is, said in draft 4.
static META: LazyLock<Validator> = LazyLock::new(|| {
    let schema = json!({"$ref": "#"});
    let kinds = json!({"anyOf": [{"type": "string"},
        {"type": "array", "uniqueItems": true, "items": {"anyOf": [{"type": "string"}, schema]}}]});
    let schemas = json!({"type": "object", "additionalProperties": schema});
    let count = json!({"type": "integer", "minimum": 0});
    let meta = json!({
        "$schema": "http://json-schema.org/draft-04/schema",
        "type": "object",
        "properties": {
            "type": kinds, "disallow": kinds,
            "properties": schemas, "patternProperties": schemas,
            "additionalProperties": {"anyOf": [schema, {"type": "boolean"}]},
            "additionalItems": {"anyOf": [schema, {"type": "boolean"}]},
            "items": {"anyOf": [schema, {"type": "array", "items": schema}]},
            "extends": {"anyOf": [schema, {"type": "array", "items": schema}]},
            "dependencies": {"type": "object", "additionalProperties": {"anyOf": [{"type": "string"},
                {"type": "array", "items": {"type": "string"}}, schema]}},
            "required": {"type": "boolean"}, "uniqueItems": {"type": "boolean"},
            "minimum": {"type": "number"}, "maximum": {"type": "number"},
            "exclusiveMinimum": {"type": "boolean"}, "exclusiveMaximum": {"type": "boolean"},
            "minItems": count, "maxItems": count, "minLength": count, "maxLength": {"type": "integer"},
            "divisibleBy": {"type": "number", "minimum": 0, "exclusiveMinimum": true},
            "enum": {"type": "array", "minItems": 1, "uniqueItems": true},
            "pattern": {"type": "string"}, "title": {"type": "string"}, "description": {"type": "string"},
            "format": {"type": "string"}, "id": {"type": "string"}, "$ref": {"type": "string"},
            "$schema": {"type": "string"},
        },
        "dependencies": {"exclusiveMinimum": ["minimum"], "exclusiveMaximum": ["maximum"]},
    });
    jsonschema::draft4::new(&meta).expect("the schema of draft 3 is compiled by a test of this file")
});

/// The same schema in draft 4 (`invalid`, code `output-schema` where it is none of draft 3).
pub(super) fn as_draft4(schema: &Value) -> Result<Value> {
    if let Err(error) = META.validate(schema) {
        return Err(super::refused(&error));
    }
    translate(schema, 0)
}

fn translate(schema: &Value, depth: usize) -> Result<Value> {
    if depth > DEPTH_MAX {
        return Err(Error::limit("output-schema", format!("the output schema is nested deeper than {DEPTH_MAX}")));
    }
    let Value::Object(fields) = schema else { return Ok(schema.clone()) };
    let inner = |schema: &Value| translate(schema, depth + 1);
    let each = |schemas: &Value| match schemas {
        Value::Array(list) => list.iter().map(inner).collect::<Result<Vec<_>>>(),
        one => inner(one).map(|one| vec![one]),
    };
    let mut new = Map::new();
    let mut all_of = Vec::new();
    for (name, value) in fields {
        match name.as_str() {
            "$schema" => {
                new.insert(name.clone(), Value::from("http://json-schema.org/draft-04/schema"));
            }
            "type" => all_of.extend(kinds(value, &inner)?),
            "disallow" => all_of.push(match kinds(value, &inner)? {
                Some(kinds) => json!({ "not": kinds }),
                // Everything is disallowed.
                None => json!({"not": {}}),
            }),
            "extends" => all_of.extend(each(value)?),
            "divisibleBy" => {
                new.insert("multipleOf".to_owned(), value.clone());
            }
            // Whether a property is required is said beside it, and read below where the properties are.
            "required" => {}
            "properties" => {
                new.insert(name.clone(), translate_map(value, &inner)?);
                let required: Vec<&String> = value
                    .as_object()
                    .into_iter()
                    .flatten()
                    .filter(|(_, of)| of.get("required") == Some(&Value::Bool(true)))
                    .map(|(property, _)| property)
                    .collect();
                if !required.is_empty() {
                    new.insert("required".to_owned(), json!(required));
                }
            }
            "patternProperties" => {
                new.insert(name.clone(), translate_map(value, &inner)?);
            }
            "dependencies" => {
                let mut all = Map::new();
                for (property, needs) in value.as_object().into_iter().flatten() {
                    let needs = match needs {
                        Value::String(one) => json!([one]),
                        Value::Array(_) => needs.clone(),
                        schema => inner(schema)?,
                    };
                    // An empty list needs nothing, and is none in draft 4.
                    if needs != json!([]) {
                        all.insert(property.clone(), needs);
                    }
                }
                new.insert(name.clone(), Value::Object(all));
            }
            // Schemas to refer to. What is none is no schema in draft 4 either, and nothing of draft 3.
            "definitions" | "$defs" if value.is_object() => {
                let mut kept = value.clone();
                if let Some(fields) = kept.as_object_mut() {
                    fields.retain(|_, of| of.is_object());
                }
                new.insert(name.clone(), translate_map(&kept, &inner)?);
            }
            // An empty list says nothing of any item, and is none in draft 4.
            "items" if *value == json!([]) => {}
            "items" if value.is_array() => {
                new.insert(name.clone(), Value::Array(each(value)?));
            }
            "items" | "additionalItems" | "additionalProperties" => {
                new.insert(name.clone(), inner(value)?);
            }
            "maxLength" if value.as_i64().is_some_and(|length| length < 0) => {
                all_of.push(json!({"not": {"type": "string"}}))
            }
            // Words that only later drafts have mean nothing here.
            "allOf" | "anyOf" | "oneOf" | "not" | "multipleOf" | "minProperties" | "maxProperties" => {}
            _ => {
                new.insert(name.clone(), value.clone());
            }
        }
    }
    if !all_of.is_empty() {
        new.insert("allOf".to_owned(), Value::Array(all_of));
    }
    Ok(Value::Object(new))
}

/// The types of draft 3 as a schema: words and schemas side by side. None where any will do.
fn kinds(value: &Value, inner: &impl Fn(&Value) -> Result<Value>) -> Result<Option<Value>> {
    let one = std::slice::from_ref(value);
    let kinds = value.as_array().map_or(one, Vec::as_slice);
    // A word that is not known is any type, as the draft says.
    let known = ["string", "number", "integer", "boolean", "object", "array", "null"];
    if kinds.iter().any(|kind| kind.as_str().is_some_and(|word| !known.contains(&word))) {
        return Ok(None);
    }
    if kinds.is_empty() {
        return Ok(Some(json!({"not": {}})));
    }
    let any_of: Vec<Value> = kinds
        .iter()
        .map(|kind| match kind {
            Value::String(word) => Ok(json!({ "type": word })),
            schema => inner(schema),
        })
        .collect::<Result<_>>()?;
    Ok(Some(match <[Value; 1]>::try_from(any_of) {
        Ok([only]) => only,
        Err(several) => json!({ "anyOf": several }),
    }))
}

fn translate_map(value: &Value, inner: &impl Fn(&Value) -> Result<Value>) -> Result<Value> {
    let fields = value.as_object().into_iter().flatten();
    fields.map(|(name, of)| Ok((name.clone(), inner(of)?))).collect::<Result<Map<_, _>>>().map(Value::Object)
}

#[cfg(test)]
mod tests {
    use super::super::{Schema, check};
    use super::*;

    #[test]
    fn schemas_of_draft_3() {
        let with = |mut schema: Value| {
            schema["$schema"] = json!(format!("{DIALECT}#"));
            schema
        };
        let fits =
            |schema: Value, value: Value| Schema::new(&with(schema)).expect("a schema").mismatch(&value).is_none();
        let person = json!({"properties": {"name": {"type": "string", "required": true}, "age": {"divisibleBy": 2}}});
        assert!(fits(person.clone(), json!({"name": "a", "age": 4})));
        assert!(!fits(person.clone(), json!({"age": 4})) && !fits(person, json!({"name": "a", "age": 3})));
        assert!(fits(json!({"type": ["string", {"minimum": 3, "type": "number"}]}), json!(3)));
        assert!(!fits(json!({"type": ["string", {"minimum": 3, "type": "number"}]}), json!(2)));
        assert!(fits(json!({"type": "any"}), json!(null)) && !fits(json!({"disallow": ["any"]}), json!(1)));
        assert!(!fits(json!({"extends": [{"type": "string"}, {"minLength": 2}]}), json!("a")));
        assert!(!fits(json!({"dependencies": {"a": "b", "c": []}}), json!({"a": 1})));
        for bad in [
            json!({"required": ["a"]}),
            json!({"properties": []}),
            json!({"exclusiveMinimum": true}),
            json!({"enum": []}),
        ] {
            assert_eq!(check(&with(bad.clone())).expect_err("refused").code, "output-schema", "{bad}");
        }
    }
}
