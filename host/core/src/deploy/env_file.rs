//! Env files: text to assignments, and assignments to what is added to an environment.
//!
//! # Layout
//! - [`EnvFile::parse`]: the statements of a file, with their lines, and a problem for each that is none
//! - [`EnvFile::additions`]: expansion of `${NAME}`, and which variables are added beside those that exist
//! - [`written`]: a value as it has to be written to be read back
//! - [`project_root`]: which folder's file is meant
//!
//! The language is python-dotenv's (1.2), which runtm-shared loads its file with: `export`, comments, three kinds of values,
//! escapes, values over several lines, `${NAME}` and `${NAME:-default}` in all three kinds; a bare `$NAME` and `$(..)` mean
//! nothing. A line that cannot be read is skipped and reported. Existing variables win, in the environment and in
//! expansions.
//!
//! # What it never does
//! It reads no file and no environment. No message and no `Debug` text holds a value: any of them may be a secret.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use super::is_space;
use crate::problem::{Mark, PROBLEMS_MAX, Problem};
use crate::text::shown;
use crate::{Error, Result};

/// Bytes of a file.
pub const FILE_BYTES_MAX: usize = 1024 * 1024;

/// Bytes of all values of one file after expansion: a few lines that name each other twice would fill the memory.
pub const VALUES_BYTES_MAX: usize = 4 * FILE_BYTES_MAX;

/// The files and folders that mark the root of a project.
pub const ROOT_MARKERS: [&str; 4] = ["pyproject.toml", "README.md", ".git", "infra/docker-compose.yml"];

/// One statement.
#[derive(Clone, PartialEq, Eq)]
pub struct Assignment {
    /// The line on which it begins, from 1.
    pub line: usize,
    /// The name. It may be anything but empty; see [`EnvFile::additions`].
    pub name: String,
    /// The value, unquoted but not expanded; none where no `=` follows the name.
    pub value: Option<String>,
}

/// Without the value.
impl fmt::Debug for Assignment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}{}", self.line, self.name, if self.value.is_some() { "=..." } else { "" })
    }
}

/// A file that was read.
#[derive(Debug, Clone)]
pub struct EnvFile {
    /// Its name, for messages.
    pub origin: String,
    /// Its statements, in their order. A name may come more than once; the last counts.
    pub assignments: Vec<Assignment>,
    /// The lines that were skipped (`env-line`), at most [`PROBLEMS_MAX`]. They are warnings: the rest counts.
    pub problems: Vec<Problem>,
}

impl EnvFile {
    /// Reads a file's text. `origin` is its name in messages. Refused is only a text of more than [`FILE_BYTES_MAX`] bytes
    /// (`limit`, code `env-file-size`).
    pub fn parse(text: &str, origin: &str) -> Result<Self> {
        if text.len() > FILE_BYTES_MAX {
            return Err(Error::limit("env-file-size", format!("`{origin}` has more than {FILE_BYTES_MAX} bytes"))
                .hint("an env file has one short line for each variable"));
        }
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        // Line ends are made one, within quoted values too.
        let text = text.replace("\r\n", "\n").replace('\r', "\n");
        let mut reader = Reader { rest: &text, line: 1 };
        let mut file = Self { origin: origin.to_owned(), assignments: Vec::new(), problems: Vec::new() };
        loop {
            reader.take_while(is_space);
            if reader.rest.is_empty() {
                return Ok(file);
            }
            let line = reader.line;
            match reader.statement() {
                Ok(Some((name, value))) => file.assignments.push(Assignment { line, name, value }),
                Ok(None) => {}
                Err(why) => {
                    let at = Mark { line: reader.line, column: 1 };
                    reader.take_while(|c| c != '\n');
                    if file.problems.len() < PROBLEMS_MAX {
                        let problem = Problem::new(origin, "env-line", format!("the line is skipped: {why}"));
                        file.problems
                            .push(problem.at(at).hint("write `NAME=value`, and quote a value with spaces or `#`"));
                    }
                }
            }
        }
    }

    /// What the file adds to an environment of which `existing` looks up a variable: names that exist already, even
    /// with an empty value, and names without a value are left out.
    ///
    /// `${NAME}` stands for the existing variable, else for what the file gave it before, else for the default, else for
    /// nothing. Refused are names and values that no environment can hold (`invalid`, code `env-file-name` and `env-nul`), and an
    /// expansion beyond [`VALUES_BYTES_MAX`] (`limit`, code `env-values-size`).
    pub fn additions(&self, existing: impl Fn(&str) -> Option<String>) -> Result<BTreeMap<String, String>> {
        let mut given: BTreeMap<&str, Option<String>> = BTreeMap::new();
        let mut room = VALUES_BYTES_MAX;
        for Assignment { line, name, value } in &self.assignments {
            let lookup = |name: &str| {
                // A name that the file mentions without a value is known, and empty.
                existing(name).or_else(|| given.get(name).map(|value| value.clone().unwrap_or_default()))
            };
            let value = match value {
                None => None,
                Some(value) => Some(expand(value, lookup, &mut room).ok_or_else(|| {
                    let at = format!("{}:{line}", self.origin);
                    Error::limit("env-values-size", format!("{at}: the values have more than {VALUES_BYTES_MAX} bytes"))
                        .hint("look for values that name one another")
                })?),
            };
            given.insert(name, value);
        }
        let mut added = BTreeMap::new();
        for (name, value) in given {
            let Some(value) = value else { continue };
            if existing(name).is_some() {
                continue;
            }
            let (code, why) = match () {
                () if name.contains(['=', '\0']) => ("env-file-name", "cannot be the name of a variable"),
                () if value.contains('\0') => ("env-nul", "has a value with a NUL character"),
                () => {
                    added.insert(name.to_owned(), value);
                    continue;
                }
            };
            let line = self.assignments.iter().rfind(|one| one.name == name).map_or(0, |one| one.line);
            return Err(Error::invalid(code, format!("{}:{line}: `{}` {why}", self.origin, shown(name, 80))));
        }
        Ok(added)
    }
}

/// A value as it has to be written after `NAME=` so that reading gives it back; none where no way of writing it does: the
/// language has no escape for `${`, and NUL is in no environment.
#[must_use]
pub fn written(value: &str) -> Option<String> {
    if value.contains('\0') || !References::of(value).all(|piece| matches!(piece, Piece::Text(_))) {
        return None;
    }
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-./:@%+,=?&~".contains(c);
    if value.chars().all(plain) {
        return Some(value.to_owned());
    }
    let mut out = String::with_capacity(value.len() + 2);
    out.push('"');
    for c in value.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            c => out.push(c),
        }
    }
    out.push('"');
    Some(out)
}

/// The root of the project that a folder belongs to: the nearest, itself included, that holds one of [`ROOT_MARKERS`],
/// whatever it is. `exists` answers for a path below `start` or one of the folders above it.
pub fn project_root(start: &Path, exists: impl Fn(&Path) -> bool) -> Option<PathBuf> {
    let marked = |folder: &&Path| ROOT_MARKERS.iter().any(|marker| exists(&folder.join(marker)));
    start.ancestors().find(marked).map(Path::to_owned)
}

/// The value with its references replaced, or nothing if that takes more than `room` bytes.
fn expand(value: &str, lookup: impl Fn(&str) -> Option<String>, room: &mut usize) -> Option<String> {
    let mut out = String::new();
    let mut add = |text: &str| {
        *room = room.checked_sub(text.len())?;
        out.push_str(text);
        Some(())
    };
    for piece in References::of(value) {
        match piece {
            Piece::Text(text) => add(text)?,
            Piece::Name { name, default } => match lookup(name) {
                Some(value) => add(&value)?,
                None => add(default)?,
            },
        }
    }
    Some(out)
}

/// A part of a value.
enum Piece<'v> {
    Text(&'v str),
    Name { name: &'v str, default: &'v str },
}

/// Splits a value at its `${NAME}` and `${NAME:-default}`. A name has no `}` and no `:`, a default no `}`; what does not fit
/// is text.
struct References<'v> {
    value: &'v str,
    at: usize,
    /// Where the next `}` or `:`, and the next `}`, were found last. Kept, so that a value of nothing but `${` is read in one
    /// pass and not once for each.
    end_of_name: Option<usize>,
    end_of_default: Option<usize>,
    waiting: Option<Piece<'v>>,
}

impl<'v> References<'v> {
    fn of(value: &'v str) -> Self {
        Self { value, at: 0, end_of_name: None, end_of_default: None, waiting: None }
    }

    /// The reference that begins at `start`, and where it ends.
    fn reference(&mut self, start: usize) -> Option<(Piece<'v>, usize)> {
        let begin = start + 2;
        let colon = next(self.value, begin, &mut self.end_of_name, |c| c == '}' || c == ':')?;
        let name = &self.value[begin..colon];
        let after = &self.value[colon..];
        if after.starts_with('}') {
            return Some((Piece::Name { name, default: "" }, colon + 1));
        }
        let begin = colon + after.strip_prefix(":-").map(|_| 2)?;
        let end = next(self.value, begin, &mut self.end_of_default, |c| c == '}')?;
        Some((Piece::Name { name, default: &self.value[begin..end] }, end + 1))
    }
}

/// The first place from `begin` on with such a character. `known` is what an earlier call found.
fn next(value: &str, begin: usize, known: &mut Option<usize>, fits: impl Fn(char) -> bool) -> Option<usize> {
    let at = match *known {
        Some(at) if at >= begin => at,
        _ => value[begin..].find(fits).map_or(value.len(), |at| begin + at),
    };
    *known = Some(at);
    (at < value.len()).then_some(at)
}

impl<'v> Iterator for References<'v> {
    type Item = Piece<'v>;

    fn next(&mut self) -> Option<Piece<'v>> {
        if let Some(piece) = self.waiting.take() {
            return Some(piece);
        }
        let begin = self.at;
        let mut from = begin;
        while let Some(start) = self.value[from..].find("${").map(|at| from + at) {
            let Some((piece, end)) = self.reference(start) else {
                from = start + 2;
                continue;
            };
            self.at = end;
            if start == begin {
                return Some(piece);
            }
            self.waiting = Some(piece);
            return Some(Piece::Text(&self.value[begin..start]));
        }
        self.at = self.value.len();
        (begin < self.value.len()).then(|| Piece::Text(&self.value[begin..]))
    }
}

/// What of the text is not read yet.
struct Reader<'t> {
    rest: &'t str,
    line: usize,
}

impl<'t> Reader<'t> {
    /// One statement: a name with its value, or nothing for a comment. The error is the reason; what was read until
    /// then stays read, as the language has it.
    fn statement(&mut self) -> Result<Option<(String, Option<String>)>, &'static str> {
        if let Some(after) = self.rest.strip_prefix("export") {
            let name = after.trim_start_matches(is_blank);
            if name.len() < after.len() {
                self.rest = name;
            }
        }
        let name = self.name()?;
        self.take_while(is_blank);
        let value = if self.rest.starts_with('=') { Some(self.value()?) } else { None };
        self.end_of_statement()?;
        Ok(name.map(|name| (name, value)))
    }

    fn name(&mut self) -> Result<Option<String>, &'static str> {
        if self.rest.starts_with('#') {
            return Ok(None);
        }
        if let Some(inner) = self.rest.strip_prefix('\'') {
            let end = inner.find('\'').ok_or("the quote of the name is not closed")?;
            if end == 0 {
                return Err("the name is empty");
            }
            self.advance(end + 2);
            return Ok(Some(inner[..end].to_owned()));
        }
        let name = self.take_while(|c| c != '=' && c != '#' && !is_space(c));
        if name.is_empty() { Err("it has no name") } else { Ok(Some(name.to_owned())) }
    }

    /// From the `=` on.
    fn value(&mut self) -> Result<String, &'static str> {
        self.advance(1);
        let spaced = !self.take_while(is_blank).is_empty();
        match self.rest.chars().next() {
            // A comment begins at once: it is only told apart by the space before it.
            Some('#') if spaced => Ok(String::new()),
            Some('\'') => self.quoted('\'', |c| matches!(c, '\\' | '\'').then_some(c)),
            Some('"') => self.quoted('"', |c| {
                Some(match c {
                    '\\' | '\'' | '"' => c,
                    'a' => '\u{7}',
                    'b' => '\u{8}',
                    'f' => '\u{c}',
                    'n' => '\n',
                    'r' => '\r',
                    't' => '\t',
                    'v' => '\u{b}',
                    _ => return None,
                })
            }),
            _ => {
                let line = self.take_while(|c| c != '\n');
                let pairs = line.chars().zip(line.char_indices().skip(1));
                let comment =
                    pairs.into_iter().find_map(|(before, (at, c))| (c == '#' && is_space(before)).then_some(at));
                Ok(line[..comment.unwrap_or(line.len())].trim_end_matches(is_space).to_owned())
            }
        }
    }

    /// A quoted value, over lines. An escape that the quotes do not know stays as it is written.
    fn quoted(&mut self, quote: char, escaped: impl Fn(char) -> Option<char>) -> Result<String, &'static str> {
        let mut out = String::new();
        let mut chars = self.rest[1..].char_indices();
        while let Some((at, c)) = chars.next() {
            match c {
                c if c == quote => {
                    // One for each of the quotes, both of one byte.
                    self.advance(1 + at + 1);
                    return Ok(out);
                }
                '\\' => {
                    let Some((_, next)) = chars.next() else { break };
                    match escaped(next) {
                        Some(meant) => out.push(meant),
                        None => out.extend(['\\', next]),
                    }
                }
                c => out.push(c),
            }
        }
        Err("the quote of the value is not closed")
    }

    fn end_of_statement(&mut self) -> Result<(), &'static str> {
        self.take_while(is_blank);
        if self.rest.starts_with('#') {
            self.take_while(|c| c != '\n');
        }
        if self.rest.is_empty() || self.rest.starts_with('\n') { Ok(()) } else { Err("something follows its end") }
    }

    fn take_while(&mut self, fits: impl Fn(char) -> bool) -> &'t str {
        let end = self.rest.find(|c| !fits(c)).unwrap_or(self.rest.len());
        let taken = &self.rest[..end];
        self.advance(end);
        taken
    }

    fn advance(&mut self, bytes: usize) {
        self.line += self.rest[..bytes].bytes().filter(|b| *b == b'\n').count();
        self.rest = &self.rest[bytes..];
    }
}

/// White space that ends no line. Line ends of other kinds than `\n` are white space like any other.
fn is_blank(c: char) -> bool {
    c != '\n' && is_space(c)
}

#[cfg(test)]
#[path = "env_file_tests.rs"]
mod tests;
