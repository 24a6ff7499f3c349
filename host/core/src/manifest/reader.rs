//! A strict reader over a TOML document that knows where each value stands.
//!
//! serde could read the same document, but its messages name neither the whole field nor the near names; this reader
//! fails at the first defect with `origin:line:column`, the field and a hint.

use std::ops::Range;

use serde_json::Value;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::text::{near, shown};
use crate::{Error, Result};

/// The text of a document and what to call it in messages.
#[derive(Clone, Copy)]
pub(super) struct Source<'d> {
    pub(super) text: &'d str,
    pub(super) origin: &'d str,
}

impl Source<'_> {
    /// An error at a place of the document.
    pub(super) fn fail(&self, at: &Range<usize>, what: impl AsRef<str>) -> Error {
        // A span comes from the parser of this very text, yet an end of file can lie behind the last character.
        let head = self.text.get(..at.start).unwrap_or(self.text);
        let line = head.matches('\n').count() + 1;
        let column = head.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        Error::invalid("manifest", format!("{}:{line}:{column}: {}", self.origin, what.as_ref()))
    }
}

/// A table whose fields are all known.
pub(super) struct Section<'d> {
    source: Source<'d>,
    path: String,
    at: Range<usize>,
    table: &'d DeTable<'d>,
}

impl<'d> Section<'d> {
    /// The document itself.
    pub(super) fn root(source: Source<'d>, table: &'d Spanned<DeTable<'d>>, known: &[&str]) -> Result<Self> {
        Self { source, path: String::new(), at: 0..0, table: table.get_ref() }.only(known)
    }

    /// The field, if it is there.
    pub(super) fn get(&self, name: &str) -> Option<Field<'d>> {
        self.entries().find(|(key, _)| *key == name).map(|(_, field)| field)
    }

    /// The field, or an error that it is missing.
    pub(super) fn need(&self, name: &str) -> Result<Field<'d>> {
        self.get(name).ok_or_else(|| self.fail(format!("`{}` is missing", self.name(name))))
    }

    /// Refuses the field where it does not belong.
    pub(super) fn without(&self, name: &str, why: &str) -> Result<()> {
        match self.get(name) {
            Some(field) => Err(field.fail(why)),
            None => Ok(()),
        }
    }

    /// Each field, by the order of its name.
    pub(super) fn entries(&self) -> impl Iterator<Item = (&'d str, Field<'d>)> {
        self.table.iter().map(|(key, value)| {
            let (source, path) = (self.source, self.name(key.get_ref()));
            (key.get_ref().as_ref(), Field { source, path, key: key.span(), value })
        })
    }

    /// An error about the whole table.
    pub(super) fn fail(&self, what: impl AsRef<str>) -> Error {
        self.source.fail(&self.at, what)
    }

    /// Where the table begins in the text.
    pub(super) fn start(&self) -> usize {
        self.at.start
    }

    fn only(self, known: &[&str]) -> Result<Self> {
        // By place, so that the first of several is the one that is told.
        let unknown = self.entries().filter(|(key, _)| !known.contains(key)).min_by_key(|(_, field)| field.key.start);
        match unknown {
            Some((key, field)) => Err(field.unknown(key, "field", known)),
            None => Ok(self),
        }
    }

    fn name(&self, key: &str) -> String {
        let key = shown(key, 80);
        if self.path.is_empty() { key } else { format!("{}.{key}", self.path) }
    }
}

/// A value and where it stands.
pub(super) struct Field<'d> {
    source: Source<'d>,
    path: String,
    key: Range<usize>,
    value: &'d Spanned<DeValue<'d>>,
}

impl<'d> Field<'d> {
    /// An error at the value: `` `path` `` and what is wrong with it.
    pub(super) fn fail(&self, what: impl AsRef<str>) -> Error {
        self.source.fail(&self.value.span(), format!("`{}` {}", self.path, what.as_ref()))
    }

    /// An error at the key, which nobody knows.
    pub(super) fn unknown(&self, key: &str, what: &str, known: &[&str]) -> Error {
        let error = self.source.fail(&self.key, format!("`{}` is not a known {what}", self.path));
        error.hint(suggestion(key, known))
    }

    /// A text, as it stands.
    pub(super) fn string(&self) -> Result<&'d str> {
        match self.value.get_ref() {
            DeValue::String(text) => Ok(text),
            _ => Err(self.wrong_type("a string")),
        }
    }

    /// A text of one line that is fit to be shown.
    pub(super) fn line(&self, chars_max: usize) -> Result<&'d str> {
        let text = self.string()?;
        if text.trim().is_empty() {
            Err(self.fail("is empty"))
        } else if text.chars().count() > chars_max {
            Err(self.fail(format!("is longer than {chars_max} characters")))
        } else if shown(text, chars_max) != text {
            Err(self.fail("contains control characters").hint("write one line of plain text"))
        } else {
            Ok(text)
        }
    }

    /// One of a few words.
    pub(super) fn choice<T: Copy>(&self, choices: &[(&str, T)]) -> Result<T> {
        let word = self.string()?;
        let found = choices.iter().find(|(name, _)| *name == word).map(|(_, value)| *value);
        found.ok_or_else(|| {
            let names: Vec<&str> = choices.iter().map(|(name, _)| *name).collect();
            self.fail(format!("cannot be `{}`", shown(word, 80))).hint(suggestion(word, &names))
        })
    }

    /// `true` or `false`.
    pub(super) fn boolean(&self) -> Result<bool> {
        self.value.get_ref().as_bool().ok_or_else(|| self.wrong_type("`true` or `false`"))
    }

    /// A whole number that is not negative.
    pub(super) fn unsigned(&self) -> Result<u64> {
        let DeValue::Integer(integer) = self.value.get_ref() else {
            return Err(self.wrong_type("a whole number"));
        };
        u64::from_str_radix(integer.as_str(), integer.radix()).map_err(|_| self.fail("must be 0 or more, in 64 bits"))
    }

    /// The elements of an array.
    pub(super) fn list(&self) -> Result<Vec<Field<'d>>> {
        let Some(array) = self.value.get_ref().as_array() else {
            let error = self.wrong_type("an array");
            let table = self.value.get_ref().is_table();
            return Err(if table { error.hint(format!("write `[[{}]]`", self.path)) } else { error });
        };
        let element = |(index, value): (usize, &'d Spanned<DeValue<'d>>)| Field {
            source: self.source,
            path: format!("{}[{index}]", self.path),
            key: value.span(),
            value,
        };
        Ok(array.iter().enumerate().map(element).collect())
    }

    /// A table with no other fields than these.
    pub(super) fn section(&self, known: &[&str]) -> Result<Section<'d>> {
        self.open()?.only(known)
    }

    /// A table whose field names are the document's own.
    pub(super) fn open(&self) -> Result<Section<'d>> {
        let Some(table) = self.value.get_ref().as_table() else {
            let error = self.wrong_type("a table");
            let array = self.value.get_ref().is_array();
            return Err(if array { error.hint(format!("write `[{}]`, once", self.path)) } else { error });
        };
        Ok(Section { source: self.source, path: self.path.clone(), at: self.value.span(), table })
    }

    /// The value as JSON; a date or a number that JSON lacks is refused.
    pub(super) fn json(&self) -> Result<Value> {
        Ok(match self.value.get_ref() {
            DeValue::String(text) => Value::from(text.as_ref()),
            DeValue::Boolean(flag) => Value::from(*flag),
            DeValue::Integer(integer) => i64::from_str_radix(integer.as_str(), integer.radix())
                .map(Value::from)
                .map_err(|_| self.fail("does not fit into 64 bits"))?,
            // Out of range becomes infinite, which JSON has no number for.
            DeValue::Float(float) => match float.as_str().parse::<f64>().ok().filter(|number| number.is_finite()) {
                Some(number) => Value::from(number),
                None => return Err(self.fail("must be a finite number")),
            },
            DeValue::Datetime(_) => {
                return Err(self.fail("is a date").hint("write dates as strings"));
            }
            DeValue::Array(_) => self.list()?.iter().map(Self::json).collect::<Result<_>>()?,
            DeValue::Table(_) => {
                let section = self.open()?;
                let fields = section.entries().map(|(key, field)| Ok((key.to_owned(), field.json()?)));
                Value::Object(fields.collect::<Result<_>>()?)
            }
        })
    }

    /// An error that the value is of another type.
    pub(super) fn wrong_type(&self, wanted: &str) -> Error {
        let found = match self.value.get_ref() {
            DeValue::String(_) => "a string",
            DeValue::Integer(_) => "a whole number",
            DeValue::Float(_) => "a number with a fraction",
            DeValue::Boolean(_) => "a boolean",
            DeValue::Datetime(_) => "a date",
            DeValue::Array(_) => "an array",
            DeValue::Table(_) => "a table",
        };
        self.fail(format!("must be {wanted}, not {found}"))
    }
}

/// What to write instead: the nearest name, or all there are, if they fit into a line.
pub(super) fn suggestion(wanted: &str, known: &[&str]) -> String {
    match near(wanted, known.iter().copied()).first() {
        Some(name) => format!("did you mean `{name}`?"),
        None if known.is_empty() => "there is none".to_owned(),
        None if known.len() > 12 => "no known name is like it".to_owned(),
        None => format!("known here: `{}`", known.join("`, `")),
    }
}
