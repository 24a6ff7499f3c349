//! A project's files with a bound, and parsers whose mistakes become problems with a place.

use std::ops::Range;

use serde::de::DeserializeOwned;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::{FILE_BYTES_MAX, ProjectFiles};
use crate::problem::{Mark, Problem};
use crate::text::shown;

/// YAML nodes of one lock file; the largest seen have a fifth of this.
const YAML_NODES_MAX: usize = 4_000_000;

/// One folder of a project.
#[derive(Clone, Copy)]
pub(super) struct Folder<'a> {
    pub(super) files: &'a dyn ProjectFiles,
    /// Empty for the project itself, else a name that ends with `/`.
    pub(super) prefix: &'a str,
}

/// Whose fault a malformed file is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    Lock,
    Source,
}

impl Role {
    fn code(self) -> &'static str {
        match self {
            Self::Lock => "lock-unreadable",
            Self::Source => "lock-source-unreadable",
        }
    }
}

/// A text and what it is called in messages.
pub(super) struct Document {
    /// Relative to the project.
    pub(super) file: String,
    pub(super) text: String,
    role: Role,
}

impl Folder<'_> {
    /// The path of a file of this folder, relative to the project.
    pub(super) fn path(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.files.exists(&self.path(name))
    }

    /// The bytes of a file that is there.
    pub(super) fn bytes(&self, name: &str, role: Role) -> Result<Vec<u8>, Problem> {
        let file = self.path(name);
        match self.files.read(&file) {
            None => Err(Problem::new(file, role.code(), "the file cannot be read")),
            Some(bytes) if bytes.len() > FILE_BYTES_MAX => {
                let message = format!("the file has more than {} MiB", FILE_BYTES_MAX / (1024 * 1024));
                Err(Problem::new(file, "lock-too-large", message))
            }
            Some(bytes) => Ok(bytes),
        }
    }

    /// A file that is there, as UTF-8 without a byte order mark.
    pub(super) fn document(&self, name: &str, role: Role) -> Result<Document, Problem> {
        let file = self.path(name);
        let text = String::from_utf8(self.bytes(name, role)?).map_err(|error| {
            let line =
                error.as_bytes()[..error.utf8_error().valid_up_to()].iter().filter(|byte| **byte == b'\n').count();
            Problem::new(file.clone(), role.code(), format!("line {} is not UTF-8", line + 1))
        })?;
        let text = text.strip_prefix('\u{feff}').map_or(text.clone(), str::to_owned);
        Ok(Document { file, text, role })
    }
}

impl Document {
    /// Where a byte of the text is.
    pub(super) fn mark(&self, offset: usize) -> Mark {
        // An offset comes from a parser of this very text, yet the end of a file can lie behind its last character.
        let head = self.text.get(..offset).unwrap_or(&self.text);
        let line_start = head.rfind('\n').map_or(0, |at| at + 1);
        Mark { line: head.matches('\n').count() + 1, column: head[line_start..].chars().count() + 1 }
    }

    /// A problem of this file at a byte.
    pub(super) fn problem(&self, offset: usize, message: impl Into<String>) -> Problem {
        self.malformed(Some(self.mark(offset)), message)
    }

    /// A problem of this file as a whole.
    pub(super) fn whole(&self, message: impl Into<String>) -> Problem {
        self.malformed(None, message)
    }

    /// The refusal of a format version.
    pub(super) fn version(&self, found: &str, known: &str) -> Problem {
        let message = format!("format version `{}` is not known", shown(found, 40));
        Problem::new(self.file.clone(), "lock-version", message).hint(format!("known are {known}"))
    }

    fn malformed(&self, at: Option<Mark>, message: impl Into<String>) -> Problem {
        let problem = Problem { at, ..Problem::new(self.file.clone(), self.role.code(), message) };
        match self.role {
            Role::Source => problem,
            // The usual way in which a generated file breaks.
            Role::Lock if self.text.lines().any(|line| line.starts_with("<<<<<<< ")) => {
                problem.hint("the file has conflict markers of a merge: settle them, then write the lock file anew")
            }
            Role::Lock => problem.hint("restore the file from version control, or delete it and write it anew"),
        }
    }

    /// Strict JSON into a type.
    pub(super) fn json<T: DeserializeOwned>(&self) -> Result<T, Problem> {
        serde_json::from_str(&self.text).map_err(|error| {
            let text = error.to_string();
            // The place stands in front; the library says it again at the end.
            let why = text.split(" at line ").next().unwrap_or_default();
            // Its column counts bytes, and is 0 for the end of a line.
            let start =
                self.text.split_inclusive('\n').take(error.line().saturating_sub(1)).map(str::len).sum::<usize>();
            let mut offset = start + error.column().saturating_sub(1);
            while !self.text.is_char_boundary(offset.min(self.text.len())) {
                offset -= 1;
            }
            self.problem(offset, shown(why, 200))
        })
    }

    /// JSON as a tree with places; with comments and trailing commas if `lenient`.
    pub(super) fn json_tree(&self, lenient: bool) -> Result<jsonc_parser::ast::Object<'_>, Problem> {
        let options = jsonc_parser::ParseOptions {
            allow_comments: lenient,
            allow_trailing_commas: lenient,
            allow_loose_object_property_names: false,
            allow_missing_commas: false,
            allow_single_quoted_strings: false,
            allow_hexadecimal_numbers: false,
            allow_unary_plus_numbers: false,
            allow_bare_decimal_point_numbers: false,
            allow_non_finite_numbers: false,
            allow_extended_string_escapes: false,
        };
        let parsed = jsonc_parser::parse_to_ast(&self.text, &jsonc_parser::CollectOptions::default(), &options)
            .map_err(|error| self.problem(error.range().start, shown(&error.kind().to_string(), 200).to_lowercase()))?;
        match parsed.value {
            Some(jsonc_parser::ast::Value::Object(object)) => Ok(object),
            _ => Err(self.problem(0, "it must be an object")),
        }
    }

    /// The documents of a YAML stream into a type.
    pub(super) fn yaml<T: DeserializeOwned>(&self) -> Result<Vec<T>, Problem> {
        let budget = serde_saphyr::budget! { max_nodes: YAML_NODES_MAX, max_events: 3 * YAML_NODES_MAX };
        let options = serde_saphyr::options! { budget: budget };
        serde_saphyr::from_multiple_with_options(&self.text, options).map_err(|error| {
            let at = error.location().map(|at| Mark {
                line: usize::try_from(at.line()).unwrap_or(1),
                column: usize::try_from(at.column()).unwrap_or(1),
            });
            let why = error.without_snippet().to_string();
            let why = why.lines().next().unwrap_or_default();
            let why = why.split(" at line ").next().unwrap_or(why);
            let why = why.split(", set ").next().unwrap_or(why);
            self.malformed(at, shown(why, 200))
        })
    }

    /// TOML as a tree with places.
    pub(super) fn toml(&self) -> Result<Spanned<DeTable<'_>>, Problem> {
        DeTable::parse(&self.text).map_err(|error| {
            let offset = error.span().map_or(0, |span| span.start);
            self.problem(offset, shown(error.message(), 200))
        })
    }
}

/// A value of a table with its place.
pub(super) type Value<'d> = Spanned<DeValue<'d>>;

/// A value below a table, by its path of keys.
pub(super) fn at<'t, 'd>(table: &'t DeTable<'d>, path: &[&str]) -> Option<&'t Value<'d>> {
    let (first, rest) = path.split_first()?;
    rest.iter().try_fold(table.get(*first)?, |value, key| value.get_ref().as_table()?.get(*key))
}

/// A table below a table.
pub(super) fn table<'t, 'd>(of: &'t DeTable<'d>, path: &[&str]) -> Option<&'t DeTable<'d>> {
    at(of, path)?.get_ref().as_table()
}

/// A text below a table.
pub(super) fn text<'t>(of: &'t DeTable<'_>, path: &[&str]) -> Option<&'t str> {
    at(of, path)?.get_ref().as_str()
}

/// The elements of a list below a table; empty if it is not there.
pub(super) fn list<'t, 'd>(of: &'t DeTable<'d>, path: &[&str]) -> impl Iterator<Item = &'t Value<'d>> + use<'t, 'd> {
    at(of, path).and_then(|value| value.get_ref().as_array()).into_iter().flat_map(|array| array.iter())
}

/// Where a value begins.
pub(super) fn start(span: Range<usize>) -> usize {
    span.start
}
