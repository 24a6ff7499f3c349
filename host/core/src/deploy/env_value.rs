//! Values of variables against the types that a manifest declares, and the example file that follows from it.
//!
//! runtm-shared has the four types in its manifest (`env_schema`) and never compares a value with them; the rules here are
//! this project's. A value is read strictly: white space around it belongs to it, so `" 8080"` is no number.
//!
//! # What it never does
//! No message, hint or `Debug` text holds a value: any of them may be a secret.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::env_file::written;
use crate::problem::Problem;
use crate::text::{escape_controls, shown};
use crate::{Error, Result};

/// What a value must be.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EnvType {
    /// Any text.
    #[default]
    String,
    /// An absolute URL with `//`: `https://host/path`, `postgres://host/name`, `sqlite:///file`.
    Url,
    /// A finite decimal number: `8080`, `-1.5`, `1e3`.
    Number,
    /// One of [`EnvType::TRUE`] or [`EnvType::FALSE`], in any case.
    Boolean,
}

/// A value that has its type.
#[derive(Clone, PartialEq)]
pub enum EnvValue {
    /// Any text.
    String(String),
    /// A URL, in the normal form.
    Url(url::Url),
    /// A number.
    Number(f64),
    /// A truth value.
    Boolean(bool),
}

/// Without the value.
impl fmt::Debug for EnvValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::String(_) => "String(..)",
            Self::Url(_) => "Url(..)",
            Self::Number(_) => "Number(..)",
            Self::Boolean(_) => "Boolean(..)",
        })
    }
}

impl EnvType {
    /// All of them, in the order of declaration.
    pub const ALL: [Self; 4] = [Self::String, Self::Url, Self::Number, Self::Boolean];
    /// The words for true.
    pub const TRUE: [&'static str; 6] = ["true", "1", "yes", "on", "t", "y"];
    /// The words for false.
    pub const FALSE: [&'static str; 6] = ["false", "0", "no", "off", "f", "n"];

    /// The word in a manifest.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::String => "string",
            Self::Url => "url",
            Self::Number => "number",
            Self::Boolean => "boolean",
        }
    }

    /// Takes a value if it has this type (`invalid`, code `env-type`). The message does not name the variable.
    pub fn read(self, text: &str) -> Result<EnvValue> {
        let wrong = |why: &str| Err(Error::invalid("env-type", why.to_owned()).hint(self.example()));
        match self {
            Self::String => Ok(EnvValue::String(text.to_owned())),
            Self::Url => match url::Url::parse(text) {
                _ if text.contains(|c: char| c.is_whitespace() || c.is_control()) => wrong("it has white space in it"),
                Ok(url) if text[url.scheme().len()..].starts_with("://") => Ok(EnvValue::Url(url)),
                Ok(_) => wrong("it is not an absolute URL: `//` is missing"),
                Err(error) => wrong(&format!("it is not a URL: {error}")),
            },
            Self::Number => match text.parse::<f64>() {
                // Rust reads `inf` and `nan` too, which are no digits.
                Ok(number) if number.is_finite() && text.bytes().any(|b| b.is_ascii_digit()) => {
                    Ok(EnvValue::Number(number))
                }
                Ok(_) => wrong("it is not a finite number"),
                Err(_) => wrong("it is not a decimal number"),
            },
            Self::Boolean => {
                let is = |words: &[&str]| words.iter().any(|word| word.eq_ignore_ascii_case(text));
                match () {
                    () if is(&Self::TRUE) => Ok(EnvValue::Boolean(true)),
                    () if is(&Self::FALSE) => Ok(EnvValue::Boolean(false)),
                    () => wrong("it is neither true nor false"),
                }
            }
        }
    }

    fn example(self) -> &'static str {
        match self {
            Self::String => "any text is one",
            Self::Url => "write it with scheme and host, such as `https://example.com/path`",
            Self::Number => "write digits, such as `8080` or `0.5`",
            Self::Boolean => "write `true` or `false`",
        }
    }
}

impl fmt::Display for EnvType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A variable that a manifest declares.
#[derive(Debug, Clone, Copy)]
pub struct Declared<'a> {
    /// Its name.
    pub name: &'a str,
    /// What its value must be.
    pub kind: EnvType,
    /// Whether a deployment needs it.
    pub required: bool,
    /// Whether its value is a secret.
    pub secret: bool,
    /// What it is for.
    pub description: Option<&'a str>,
    /// What it is where nobody sets it.
    pub default: Option<&'a str>,
}

/// Checks the values that `value` looks up against what is declared. `origin` says where values come from, for messages.
///
/// A required variable that is not set and has no default is missing (`env-missing`); so is an empty one, which is how an
/// example file has it. A value of another type is `env-type`. An empty value of an optional variable is taken as not set.
pub fn check<'a>(
    declared: impl IntoIterator<Item = Declared<'a>>,
    origin: &str,
    value: impl Fn(&str) -> Option<String>,
) -> Vec<Problem> {
    let mut problems = Vec::new();
    for Declared { name, kind, required, secret, default, .. } in declared {
        let set = value(name).filter(|value| !value.is_empty());
        let name = shown(name, 80);
        match set.as_deref().or(default) {
            None if required => {
                let how = if secret { "set it as a secret" } else { "set it in the environment or an env file" };
                let problem = Problem::new(origin, "env-missing", format!("`{name}` is required and not set"));
                problems.push(problem.field(name).hint(how));
            }
            None => {}
            Some(text) => {
                let Err(error) = kind.read(text) else { continue };
                let of = if set.is_some() { "the value" } else { "the default" };
                let message = format!("{of} of `{name}` is no {kind}: {}", error.message);
                problems.push(Problem { hint: error.hint, ..Problem::new(origin, error.code, message).field(name) });
            }
        }
    }
    problems
}

/// The text of `.env.example`: each variable with what is known of it. Required ones wait for a value; others are
/// commented out, with their default. Of a secret only the name is written.
#[must_use]
pub fn example<'a>(declared: impl IntoIterator<Item = Declared<'a>>) -> String {
    let mut out = String::from("# copy to `.env` and fill in; keep that file out of version control\n");
    for Declared { name, kind, required, secret, description, default } in declared {
        out.push('\n');
        for line in description.unwrap_or_default().lines() {
            out.push_str(&format!("# {}\n", escape_controls(line, false)));
        }
        let mut notes = vec![kind.as_str(), if required { "required" } else { "optional" }];
        notes.extend(secret.then_some("secret"));
        let default = default.filter(|_| !secret).and_then(written);
        let hidden = if required && default.is_none() { "" } else { "# " };
        let name = written_name(name);
        out.push_str(&format!("# ({})\n{hidden}{name}={}\n", notes.join(", "), default.unwrap_or_default()));
    }
    out
}

/// A name that the language does not read bare stands in quotes.
fn written_name(name: &str) -> String {
    let plain = !name.is_empty() && name.chars().all(|c| c.is_alphanumeric() || "_.-".contains(c));
    if plain && name != "export" { name.to_owned() } else { format!("'{}'", escape_controls(name, false)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::deploy::env_file::EnvFile;

    #[test]
    fn values_have_their_types() {
        use EnvType::{Boolean, Number, String, Url};
        let good = [
            (String, ""),
            (String, " x "),
            (Url, "https://h"),
            (Url, "postgres://u:p@h:5432/db"),
            (Url, "sqlite:///f"),
        ];
        let good = good.into_iter().chain([
            (Number, "8080"),
            (Number, "-1.5e3"),
            (Number, ".5"),
            (Boolean, "YES"),
            (Boolean, "0"),
        ]);
        for (kind, text) in good {
            assert!(kind.read(text).is_ok(), "{kind} {text:?}");
        }
        let bad = [
            (Url, ""),
            (Url, "localhost:80"),
            (Url, "/x"),
            (Url, "mailto:a@b"),
            (Url, "https://"),
            (Url, " https://h"),
            (Url, "https://a b"),
        ];
        let bad = bad.into_iter().chain([
            (Number, ""),
            (Number, " 1"),
            (Number, "inf"),
            (Number, "NaN"),
            (Number, "0x10"),
            (Number, "1_000"),
        ]);
        let bad = bad.into_iter().chain([
            (Number, "1e999"),
            (Number, "١"),
            (Boolean, ""),
            (Boolean, "2"),
            (Boolean, " true"),
        ]);
        for (kind, text) in bad {
            assert_eq!(kind.read(text).expect_err(text).code, "env-type", "{kind} {text:?}");
        }
        assert_eq!(Boolean.read("oN").expect("a boolean"), EnvValue::Boolean(true));
    }

    const DECLARED: [Declared<'static>; 6] = {
        const BASE: Declared<'static> = Declared {
            name: "",
            kind: EnvType::String,
            required: false,
            secret: false,
            description: None,
            default: None,
        };
        [
            Declared {
                name: "API_URL",
                kind: EnvType::Url,
                required: true,
                description: Some("Where it is.\nNo slash."),
                ..BASE
            },
            Declared { name: "API_KEY", required: true, secret: true, ..BASE },
            Declared { name: "PORT", kind: EnvType::Number, required: true, default: Some("8080"), ..BASE },
            Declared { name: "DEBUG", kind: EnvType::Boolean, default: Some("false"), ..BASE },
            Declared { name: "GREETING", default: Some("hello # world"), ..BASE },
            Declared { name: "NOTE", ..BASE },
        ]
    };

    #[test]
    fn problems_name_variables_and_no_values() {
        let values = [("API_URL", "hunter2"), ("API_KEY", ""), ("PORT", "hunter2"), ("DEBUG", "hunter2")];
        let value = |name: &str| values.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned());
        let problems = check(DECLARED, "environment", value);
        let lines: Vec<String> =
            problems.iter().map(|p| format!("{} [{}] ({})", p, p.code, p.hint.as_deref().unwrap_or("-"))).collect();
        assert!(!lines.join("").contains("hunter2"));
        insta::assert_snapshot!(lines.join("\n"));
    }

    #[test]
    fn the_example_file() {
        let text = example(DECLARED);
        insta::assert_snapshot!(text);
        let file = EnvFile::parse(&text, ".env.example").expect("small");
        assert!(file.problems.is_empty());
        let names: Vec<&str> = file.assignments.iter().map(|one| one.name.as_str()).collect();
        assert_eq!(names, ["API_URL", "API_KEY"]);
    }
}
