//! Every code that a source of the host can refuse with stands in the catalogue, and every code of the catalogue is used.
//!
//! The sources are read as tokens: strings, and what is between them; comments and unit tests are left out. A code is the
//! first string in `Error::invalid("code", ..)` and its sisters, and the second argument of `Error::new(..)` and
//! `Problem::new(..)` where that is a string. A code that reaches an error by a variable is not seen there, so for the second
//! half any string of the sources counts as a use.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use midplane_core::ErrorKind;
use midplane_core::codes;

/// Codes that are put together, by the string that they are put together from.
const MADE: &[(&str, &str)] = &[("plugin-unknown", "{what}-unknown"), ("profile-unknown", "{what}-unknown")];

/// What is no code but has the place of one: the example in a comment is none either, and is not read at all.
const NO_CODES: &[&str] = &[];

#[test]
fn every_code_of_a_source_is_in_the_catalogue() {
    let mut missing = BTreeMap::new();
    let mut other_kind: BTreeMap<String, BTreeSet<&str>> = BTreeMap::new();
    for file in sources() {
        for (code, kind, line) in codes_of(&tokens(&file.text)) {
            if NO_CODES.contains(&code.as_str()) {
                continue;
            }
            if codes::all().all(|known| known.code != code) {
                missing.entry(code.clone()).or_insert(format!("{}:{line}", file.name));
            }
            if let Some(kind) = kind {
                other_kind.entry(code).or_default().insert(kind);
            }
        }
    }
    assert!(missing.is_empty(), "codes without a row in a `CODES`: {missing:#?}");
    // A code may come with several kinds; the one in the catalogue is among them.
    other_kind
        .retain(|code, kinds| codes::all().any(|known| known.code == *code && !kinds.contains(method(known.kind))));
    assert!(other_kind.is_empty(), "codes that are never of the kind in the catalogue: {other_kind:#?}");
}

#[test]
fn every_code_of_the_catalogue_is_used() {
    let strings: BTreeSet<String> = sources()
        .iter()
        .filter(|file| !file.name.contains("/codes"))
        .flat_map(|file| tokens(&file.text))
        .filter_map(|token| match token.what {
            What::Text(text) => Some(text),
            What::Mark(_) | What::Word(_) => None,
        })
        .collect();
    let made = |code: &str| MADE.iter().any(|(whole, from)| *whole == code && strings.contains(*from));
    // A row of a table is no use of its code: it takes the code twice, or once as an argument.
    let rows = rows();
    let unused: Vec<&str> = codes::all()
        .map(|code| code.code)
        .filter(|code| !made(code) && (!strings.contains(*code) || rows.contains(*code)))
        .collect();
    assert!(unused.is_empty(), "codes that no source uses: {unused:?}");
}

/// Codes whose only string in a source is that of their row, `Kind "code": ...`.
fn rows() -> BTreeSet<String> {
    let mut counts: BTreeMap<String, (usize, usize)> = BTreeMap::new();
    for file in sources().iter().filter(|file| !file.name.contains("/codes")) {
        let tokens = tokens(&file.text);
        for (at, token) in tokens.iter().enumerate() {
            let What::Text(text) = &token.what else { continue };
            let count = counts.entry(text.clone()).or_default();
            let of_kind = |token: &Token| KINDS.iter().any(|kind| token.is(&format!("{kind:?}")));
            let row = at >= 1 && of_kind(&tokens[at - 1]) && tokens.get(at + 1).is_some_and(|next| next.is(":"));
            if row { count.0 += 1 } else { count.1 += 1 }
        }
    }
    counts.into_iter().filter(|(_, (rows, uses))| *rows > 0 && *uses == 0).map(|(code, _)| code).collect()
}

struct Source {
    /// Relative to the folder of the host's crates.
    name: String,
    text: String,
}

/// The sources of all crates of the host, without unit tests.
fn sources() -> Vec<Source> {
    let host = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("this crate lies in a folder");
    let mut files = Vec::new();
    for krate in std::fs::read_dir(host).expect("the folder of the crates is there").flatten() {
        collect(&krate.path().join("src"), &mut files);
    }
    files.sort();
    assert!(files.len() > 50, "only {} sources were found", files.len());
    let read = |path: PathBuf| Source {
        name: path.strip_prefix(host).expect("it was found there").display().to_string(),
        text: std::fs::read_to_string(&path).expect("a source can be read"),
    };
    files.into_iter().map(read).collect()
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        let name = entry.file_name().to_string_lossy().into_owned();
        let test = matches!(name.as_str(), "tests" | "tests.rs" | "fakes.rs") || name.ends_with("_tests.rs");
        if path.is_dir() && !test {
            collect(&path, files);
        } else if name.ends_with(".rs") && !test {
            files.push(path);
        }
    }
}

struct Token {
    line: usize,
    what: What,
}

enum What {
    /// A name or a number.
    Word(String),
    /// The content of a string, escapes as they are written.
    Text(String),
    /// Any other character.
    Mark(char),
}

impl Token {
    fn is(&self, text: &str) -> bool {
        match &self.what {
            What::Word(word) => word == text,
            What::Mark(mark) => text.chars().eq([*mark]),
            What::Text(_) => false,
        }
    }
}

/// The tokens of a source up to its unit tests, which come last.
fn tokens(text: &str) -> Vec<Token> {
    let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    let (mut tokens, mut line, mut rest) = (Vec::new(), 1, text);
    while let Some(c) = rest.chars().next() {
        let (length, what) = if rest.starts_with("//") {
            (rest.find('\n').unwrap_or(rest.len()), None)
        } else if rest.starts_with("/*") {
            (rest.find("*/").map_or(rest.len(), |at| at + 2), None)
        } else if let Some((length, text)) = raw_string(rest) {
            (length, Some(What::Text(text)))
        } else if c == '"' {
            let length = string_length(rest);
            (length, Some(What::Text(rest[1..length - 1].to_owned())))
        } else if let Some(length) = character_length(rest) {
            (length, None)
        } else if c.is_alphanumeric() || c == '_' {
            let length = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
            (length, Some(What::Word(rest[..length].to_owned())))
        } else {
            (c.len_utf8(), (!c.is_whitespace()).then_some(What::Mark(c)))
        };
        tokens.extend(what.map(|what| Token { line, what }));
        line += rest[..length].matches('\n').count();
        rest = &rest[length..];
    }
    tokens
}

/// `r"..."`, `r#"..."#` and so on.
fn raw_string(rest: &str) -> Option<(usize, String)> {
    let after = rest.strip_prefix("br").or_else(|| rest.strip_prefix('r'))?;
    let hashes = after.len() - after.trim_start_matches('#').len();
    let content = after[hashes..].strip_prefix('"')?;
    let end = content.find(&format!("\"{}", "#".repeat(hashes)))?;
    let head = rest.len() - content.len();
    Some((head + end + 1 + hashes, content[..end].to_owned()))
}

/// With both quotes.
fn string_length(rest: &str) -> usize {
    let mut escaped = false;
    let end = rest.char_indices().skip(1).find(|(_, c)| {
        let end = *c == '"' && !escaped;
        escaped = *c == '\\' && !escaped;
        end
    });
    end.map_or(rest.len(), |(at, _)| at + 1)
}

/// A character in quotes, so that `'"'` opens no string. A lifetime is none.
fn character_length(rest: &str) -> Option<usize> {
    let inner = rest.strip_prefix('\'')?;
    if inner.starts_with('\\') {
        return inner.char_indices().skip(2).find(|(_, c)| *c == '\'').map(|(at, _)| at + 2);
    }
    let first = inner.chars().next()?;
    inner[first.len_utf8()..].starts_with('\'').then_some(first.len_utf8() + 2)
}

const KINDS: [ErrorKind; 10] = [
    ErrorKind::Invalid,
    ErrorKind::Denied,
    ErrorKind::NotFound,
    ErrorKind::Conflict,
    ErrorKind::Unavailable,
    ErrorKind::Limit,
    ErrorKind::Cancelled,
    ErrorKind::Unsupported,
    ErrorKind::Internal,
    ErrorKind::Uncertain,
];

/// The constructor of a kind: `Error::not_found`.
fn method(kind: ErrorKind) -> &'static str {
    if kind == ErrorKind::NotFound { "not_found" } else { kind.as_str() }
}

/// The codes that a source names where it makes an error or a problem: with the constructor, and the line.
fn codes_of(tokens: &[Token]) -> Vec<(String, Option<&'static str>, usize)> {
    let mut found = Vec::new();
    for at in 0..tokens.len() {
        let call = |names: &[&str]| {
            let path = names.iter().any(|name| tokens[at].is(name));
            path && tokens.get(at + 1..at + 3).is_some_and(|two| two.iter().all(|token| token.is(":")))
        };
        let Some(name) = tokens.get(at + 3).filter(|_| tokens.get(at + 4).is_some_and(|token| token.is("("))) else {
            continue;
        };
        let kind = KINDS.iter().map(|kind| method(*kind)).find(|kind| name.is(kind));
        let code = if kind.is_some() && call(&["Error", "Self"]) {
            tokens.get(at + 5)
        } else if name.is("new") && call(&["Error", "Problem"]) {
            second_argument(&tokens[at + 5..])
        } else {
            None
        };
        if let Some(Token { what: What::Text(code), line }) = code {
            found.push((code.clone(), kind, *line));
        }
    }
    found
}

/// The first token after the first comma that is in no inner bracket.
fn second_argument(tokens: &[Token]) -> Option<&Token> {
    let mut depth = 0_usize;
    for (at, token) in tokens.iter().enumerate() {
        match token.what {
            What::Mark('(' | '[' | '{') => depth += 1,
            What::Mark(')' | ']' | '}') => depth = depth.checked_sub(1)?,
            What::Mark(',') if depth == 0 => return tokens.get(at + 1),
            _ => {}
        }
    }
    None
}

#[test]
fn the_scanner_sees_codes_and_nothing_else() {
    let source = r##"
        // Error::invalid("in-a-comment", x)
        fn a<'a>(x: &'a str) { let c = '"'; Error::invalid(
            "one", format!("`{}` \" // no comment", x)); }
        let raw = r#"Error::denied("in-a-string")"#;
        Error::new(kind(a, b), "two", "x"); Problem::new(file.clone(), "three", m); Self::limit("four", m)
        Error::invalid(code, "five"); other::invalid("six"); Error::new(kind, code, "seven");
#[cfg(test)]
mod tests {
        Error::invalid("in-a-test", "x");
    }"##;
    let found: Vec<String> =
        codes_of(&tokens(source)).into_iter().map(|(code, kind, line)| format!("{code} {kind:?} {line}")).collect();
    assert_eq!(found, ["one Some(\"invalid\") 4", "two None 6", "three None 6", "four Some(\"limit\") 6"]);
}
