//! The files of a project: `runtm.yaml`, `runtm.requests.yaml`, `runtm.discovery.yaml`.
//!
//! # Layout
//! - [`manifest`]: what is deployed, and what it needs
//! - [`requests`]: what an agent proposes to change in the manifest; `apply` merges it into the text of one
//! - [`discovery`]: what an app says about itself
//! - [`schema()`]: the three as JSON Schemas
//! - `table`: how a file is described, and the one reader that goes by the description; `names`: rules of names in it
//! - `value`, `lax`, `moment`: what a file holds, and how one kind of value becomes another
//!
//! There is one parser with two modes. Rules come from runtm-shared 0.2.4 (PyYAML and pydantic): [`Mode::Compat`] accepts and
//! refuses what it does; [`Mode::Strict`] accepts less, and whatever it accepts means the same to both.
//!
//! # What it never does
//! It reads no file and resolves no name: a text comes in, a value or all its problems go out.

pub mod discovery;
pub mod manifest;
pub mod requests;

mod apply;
mod lax;
mod moment;
mod names;
mod schema;
mod table;
mod value;

use crate::codes::codes;

pub use schema::{SCHEMAS, schema};

/// How much is accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mode {
    /// Nothing is converted, no key or name twice, only what YAML 1.1 and 1.2 read alike, names that hosts can have,
    /// defaults that fit their types. Every problem is reported at its own place, in the order of the file.
    #[default]
    Strict,
    /// What runtm-shared accepts: YAML 1.1, converted as pydantic's lax mode does. Problems are found in the original's
    /// order: what holds between fields is looked at only when each field is right, and one failure ends it.
    Compat,
}

/// The error type of the original for a code of this module: pydantic's name, which its users may branch on. None where
/// the original raises before pydantic sees anything (bad YAML, a document that is no mapping), and for what only the
/// strict parser refuses.
#[must_use]
pub fn original_type(code: &str) -> Option<&'static str> {
    let known = CODES.iter().any(|known| known.code == code);
    Some(match code {
        "field-missing" => "missing",
        "field-unknown" => "extra_forbidden",
        "key-not-text" => "invalid_key",
        "not-text" => "string_type",
        "not-utf8" => "string_unicode",
        "not-a-list" => "list_type",
        "not-a-mapping" => "model_type",
        "unknown-choice" => "enum",
        "not-a-boolean" => "bool_type",
        "boolean-text" => "bool_parsing",
        "not-a-whole-number" => "int_type",
        "whole-number-text" => "int_parsing",
        "whole-number-fraction" => "int_from_float",
        "number-not-finite" => "finite_number",
        "number-too-long" => "int_parsing_size",
        "too-small" => "greater_than_equal",
        "too-large" => "less_than_equal",
        "not-a-moment" => "datetime_type",
        "moment-text" => "datetime_from_date_parsing",
        "moment-range" => "datetime_parsing",
        "file-not-a-mapping" | "egress-host" | "egress-unused" | "openapi-path" | "request-conflict" => return None,
        _ if !known || code.starts_with("yaml-") || code.starts_with("duplicate-") => return None,
        _ => "value_error",
    })
}

/// The order of keys in what is written, for all three files.
const KEY_ORDER: &[&str] = &[
    "name",
    "template",
    "runtime",
    "health_path",
    "port",
    "tier",
    "env_schema",
    "requested",
    "notes",
    "features",
    "env_vars",
    "egress_allowlist",
    "connections",
    "summary",
    "capabilities",
    "use_cases",
    "tags",
    "api",
    "generated",
    "mode",
    "egress",
    "policy",
    "volumes",
    "path",
    "size_gb",
    "type",
    "required",
    "secret",
    "description",
    "default",
    "reason",
    "database",
    "auth",
];

codes! {
    /// The codes of problems in a project's files.
    Invalid "yaml-syntax":
        "The text is not one YAML document, or exceeds a bound on nodes, depth or aliases."
        => "Look at the place that is named: often a tab, a missing quote or wrong indentation stands there or just before.";
    Invalid "yaml-value":
        "A value has a tag that it does not fit, or is a date that does not exist."
        => "Correct the value, or put it in quotes if it is text.";
    Invalid "yaml-tag":
        "A list or mapping has a tag that gives it another kind."
        => "Remove the tag.";
    Invalid "yaml-ambiguous":
        "Readers of YAML 1.1 and of YAML 1.2 take the value for different things."
        => "Put it in quotes if it is text; write `true`, `false` or a plain decimal number if it is not.";
    Invalid "yaml-duplicate-key":
        "A mapping has the same key twice."
        => "Keep one of them.";
    Invalid "file-not-a-mapping":
        "The file does not hold a mapping of keys to values."
        => "Write `key: value` lines; see `midplane schema` for the keys.";
    Invalid "field-missing":
        "A key that is required is absent."
        => "Add it.";
    Invalid "field-unknown":
        "A key is not one of those that stand here."
        => "Correct its name or remove it.";
    Invalid "key-not-text":
        "A key is a number, a date or something else that is not text."
        => "Put it in quotes.";
    Invalid "not-text":
        "The value must be text."
        => "Put it in quotes.";
    Invalid "not-utf8":
        "A binary value is not text."
        => "Write text instead of `!!binary`.";
    Invalid "not-a-list":
        "The value must be a list."
        => "Write each item on a line of its own after `- `.";
    Invalid "not-a-mapping":
        "The value must be a mapping of keys to values."
        => "Write `key: value` lines below it.";
    Invalid "not-a-boolean":
        "The value must be a boolean."
        => "Write `true` or `false`, without quotes.";
    Invalid "boolean-text":
        "The value is no word for a boolean."
        => "Write `true` or `false`.";
    Invalid "not-a-whole-number":
        "The value must be a whole number."
        => "Write digits, without quotes.";
    Invalid "whole-number-text":
        "The text is no whole number."
        => "Write digits, without quotes.";
    Invalid "whole-number-fraction":
        "The number has a fraction."
        => "Write a whole number.";
    Invalid "number-not-finite":
        "The number is infinite or no number."
        => "Write a whole number.";
    Invalid "number-too-long":
        "The number has too many digits."
        => "Write a number in the range that the message names.";
    Invalid "too-small":
        "The number is below its range."
        => "Write a number in the range that the message names.";
    Invalid "too-large":
        "The number is above its range."
        => "Write a number in the range that the message names.";
    Invalid "unknown-choice":
        "The value is not one of the words that are allowed."
        => "Use one of those that the message lists.";
    Invalid "not-a-moment":
        "The value must be a date and time."
        => "Write it as `2025-01-31T10:30:00Z`.";
    Invalid "moment-text":
        "The text is no date and time."
        => "Write it as `2025-01-31T10:30:00Z`.";
    Invalid "moment-range":
        "The moment is outside the years 1 to 9999."
        => "Correct it.";
    Invalid "list-empty":
        "The list needs at least one item."
        => "Add an item, or remove what holds the list.";
    Invalid "app-name":
        "The name of the app cannot be part of a host name."
        => "Use 1 to 63 of a-z, 0-9 and `-`, with a letter or digit first and last.";
    Invalid "unknown-template":
        "There is no such template."
        => "Use one of those that the message lists.";
    Invalid "unknown-runtime":
        "There is no such runtime."
        => "Use `fullstack`, `node` or `python`.";
    Invalid "runtime-missing":
        "Every template but `docker` needs a runtime."
        => "Add `runtime: fullstack`, `node` or `python`.";
    Invalid "unknown-tier":
        "There is no such size of machine."
        => "Use `starter`, `performance` or `pro`.";
    Invalid "health-path":
        "The path that is asked for health is not a path of the app."
        => "Write a path such as `/health`.";
    Invalid "port-range":
        "The port is not between 1 and 65535."
        => "Write a port in that range.";
    Invalid "env-name":
        "The name cannot be that of an environment variable."
        => "Use letters, digits and `_`, with a letter first.";
    Invalid "env-default-secret":
        "A secret has a default, so its value would stand in the file."
        => "Remove the default and set the secret's value outside the file.";
    Invalid "env-default-type":
        "The default does not fit the type of the variable."
        => "Correct the default or the type.";
    Invalid "env-undeclared":
        "A connection names a variable that `env_schema` does not declare."
        => "Add the variable to `env_schema`, or correct its name.";
    Invalid "connection-name":
        "The name of a connection has characters that it cannot have."
        => "Use a-z, 0-9, `-` and `_`.";
    Invalid "unknown-egress":
        "Egress is neither `public` nor `allowlist`."
        => "Use one of the two.";
    Invalid "egress-host":
        "An entry of the allowlist is no host name."
        => "Write `api.example.com`, or `*.example.com` for all names below a domain; no scheme, port or path.";
    Invalid "egress-unused":
        "There is an allowlist, but egress is `public`, so it restricts nothing."
        => "Set `egress: allowlist`, or remove the list.";
    Invalid "volume-name":
        "The name of a volume has characters that it cannot have, or more than 30."
        => "Use 1 to 30 of a-z, 0-9, `-` and `_`.";
    Invalid "volume-path":
        "The path of a volume is no absolute path in its simplest form, or belongs to the system."
        => "Write a path such as `/data`.";
    Invalid "auth-needs-database":
        "Authentication keeps its users in the database, which is not enabled."
        => "Set `features.database: true`.";
    Invalid "auth-template":
        "Authentication works with the template `web-app` only."
        => "Use that template, or remove `features.auth`.";
    Invalid "auth-secret":
        "Authentication needs the variable AUTH_SECRET, required and secret."
        => "Add `- {name: AUTH_SECRET, required: true, secret: true}` to `env_schema`.";
    Invalid "duplicate-name":
        "Two entries of a list have the same name."
        => "Rename or remove one of them.";
    Invalid "duplicate-path":
        "Two volumes are mounted at the same path."
        => "Give each volume a path of its own.";
    Invalid "duplicate-item":
        "A list names the same thing twice."
        => "Remove one of them.";
    Invalid "openapi-path":
        "The path of the API description is not a path of the app."
        => "Write a path such as `/openapi.json`.";
    Conflict "request-conflict":
        "A proposal contradicts the manifest."
        => "Change one of the two: approval adds to the manifest, it never changes what stands there.";
}

#[cfg(test)]
mod tests;
