//! The tokens of an expression, by the modes of OmegaConf's lexer: text, a reference, arguments, quoted text.
//!
//! The longest match wins, and the first of two that are equally long. What no rule matches is an error: the grammar names
//! every character that may stand without quotes.

use super::expression::Malformed;

/// What a token is. Names follow the grammar's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Text that stands for itself.
    Any,
    /// Backslashes before `${`, an odd number: the last one escapes it.
    EscapedOpen,
    /// Pairs of backslashes, which are halved only before a reference (and, in quotes, at the end).
    Pairs {
        quoted: bool,
    },
    /// An escape that always loses its backslashes.
    Escape,
    /// `${`
    Open,
    /// `}` after a reference
    Close,
    Dot,
    BracketOpen,
    BracketClose,
    Colon,
    BraceOpen,
    BraceClose,
    Comma,
    Quote,
    QuoteClose,
    Id,
    /// A key that is no identifier.
    Key,
    Float,
    Int,
    Bool,
    Null,
    /// A punctuation character that needs no quotes.
    Char,
    Space,
}

/// One token: its kind and its text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Token {
    pub kind: Kind,
    pub text: String,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    /// A whole value.
    Text,
    /// Arguments, and what `oc.decode` reads.
    Value,
    /// Between `${` and its end or its colon.
    Reference,
    /// Within quotes of this character.
    Quoted(char),
}

/// Nesting of modes that is followed.
const MODES_MAX: usize = 64;

/// All tokens of a text that begins in a mode.
pub(super) fn tokens(text: &str, mode: Mode) -> Result<Vec<Token>, Malformed> {
    let chars: Vec<char> = text.chars().collect();
    let mut modes = vec![mode];
    let mut found = Vec::new();
    let mut at = 0;
    while at < chars.len() {
        // A closing brace without an opening one leaves no mode to go on in.
        let Some(mode) = modes.last().copied() else { return Err(Malformed::new("a `}` closes nothing")) };
        let rest = &chars[at..];
        let Some((kind, length)) = next(rest, mode) else {
            return Err(Malformed::new(format!("`{}` cannot stand here without quotes", rest[0].escape_debug())));
        };
        match (kind, mode) {
            (Kind::Open, _) => modes.push(Mode::Reference),
            (Kind::Close | Kind::BraceClose | Kind::QuoteClose, _) => drop(modes.pop()),
            (Kind::Colon, Mode::Reference) => modes.splice(modes.len() - 1.., [Mode::Value]).for_each(drop),
            (Kind::BraceOpen, _) => modes.push(Mode::Value),
            (Kind::Quote, _) => modes.push(Mode::Quoted(rest[0])),
            _ => {}
        }
        if modes.len() > MODES_MAX {
            return Err(Malformed::new(format!("it is nested more than {MODES_MAX} deep")));
        }
        found.push(Token { kind, text: rest[..length].iter().collect() });
        at += length;
    }
    Ok(found)
}

fn next(rest: &[char], mode: Mode) -> Option<(Kind, usize)> {
    match mode {
        Mode::Text => Some(text(rest, None)),
        Mode::Quoted(quote) => Some(text(rest, Some(quote))),
        Mode::Reference => reference(rest),
        Mode::Value => value(rest),
    }
}

/// Text at the top (`quote` is none) or in quotes. There is a token for every text.
fn text(rest: &[char], quote: Option<char>) -> (Kind, usize) {
    if let Some(length) = open(rest) {
        return (Kind::Open, length);
    }
    if quote == Some(rest[0]) {
        return (Kind::QuoteClose, 1);
    }
    if rest[0] == '$' {
        return (Kind::Any, 1);
    }
    let run = rest.iter().take_while(|c| **c != '$' && Some(**c) != quote).count();
    let backslashes = rest[..run].iter().rev().take_while(|c| **c == '\\').count();
    if run > backslashes {
        return (Kind::Any, run - backslashes);
    }
    let odd = run % 2 == 1;
    match rest.get(run) {
        Some('$') if odd && rest.get(run + 1) == Some(&'{') => (Kind::EscapedOpen, run + 2),
        Some(c) if odd && Some(*c) == quote => (Kind::Escape, run + 1),
        _ if odd => (Kind::Any, run),
        _ => (Kind::Pairs { quoted: quote.is_some() }, run),
    }
}

fn reference(rest: &[char]) -> Option<(Kind, usize)> {
    if let Some(length) = open(rest) {
        return Some((Kind::Open, length));
    }
    let space = spaces(rest);
    match rest.get(space) {
        Some(':') => return Some((Kind::Colon, space + 1 + spaces(&rest[space + 1..]))),
        Some('}') => return Some((Kind::Close, space + 1)),
        _ => {}
    }
    match rest[0] {
        '.' => return Some((Kind::Dot, 1)),
        '[' => return Some((Kind::BracketOpen, 1)),
        ']' => return Some((Kind::BracketClose, 1)),
        _ => {}
    }
    let id = id(rest);
    let mut key = 0;
    while let Some(c) = rest.get(key) {
        key += match (c, rest.get(key + 1)) {
            ('\\', Some('\\' | '.' | '[' | ']' | ':' | '=')) => 2,
            ('\t' | ' ' | '"' | '\'' | '(' | ')' | '.' | ':' | '[' | '\\' | ']' | '{' | '}', _) => break,
            _ => 1,
        };
    }
    (key > 0).then_some(if key > id { (Kind::Key, key) } else { (Kind::Id, id) })
}

fn value(rest: &[char]) -> Option<(Kind, usize)> {
    if let Some(length) = open(rest) {
        return Some((Kind::Open, length));
    }
    let space = spaces(rest);
    let trailing = |at: usize| at + spaces(&rest[at..]);
    match rest.get(space) {
        Some('}') => return Some((Kind::BraceClose, space + 1)),
        Some(']') => return Some((Kind::BracketClose, space + 1)),
        Some(',') => return Some((Kind::Comma, trailing(space + 1))),
        Some(':') => return Some((Kind::Colon, trailing(space + 1))),
        _ => {}
    }
    match rest[0] {
        '{' => return Some((Kind::BraceOpen, trailing(1))),
        '[' => return Some((Kind::BracketOpen, trailing(1))),
        '\'' | '"' => return Some((Kind::Quote, 1)),
        _ => {}
    }
    let mut escape = 0;
    while let ['\\', '\\' | '(' | ')' | '[' | ']' | '{' | '}' | ':' | '=' | ',' | ' ' | '\t', ..] = &rest[escape..] {
        escape += 2;
    }
    let id = id(rest);
    let char = usize::from(matches!(rest[0], '$' | '%' | '*' | '+' | '-' | '.' | '/' | '?' | '@' | '\\' | '|'));
    // In the grammar's order, so that the first of the longest wins.
    let candidates = [
        (Kind::Float, float(rest)),
        (Kind::Int, signed(rest, unsigned)),
        (Kind::Bool, word(rest, "true").max(word(rest, "false"))),
        (Kind::Null, word(rest, "null")),
        (Kind::Char, char),
        (Kind::Id, id),
        (Kind::Escape, escape),
        (Kind::Space, space),
    ];
    let longest = candidates.iter().map(|(_, length)| *length).max().filter(|length| *length > 0)?;
    candidates.into_iter().find(|(_, length)| *length == longest)
}

/// `${` with the space after it.
fn open(rest: &[char]) -> Option<usize> {
    rest.starts_with(&['$', '{']).then(|| 2 + spaces(&rest[2..]))
}

fn spaces(rest: &[char]) -> usize {
    rest.iter().take_while(|c| matches!(c, ' ' | '\t')).count()
}

fn id(rest: &[char]) -> usize {
    match rest.first() {
        Some(c) if c.is_ascii_alphabetic() || *c == '_' => {
            rest.iter().take_while(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-')).count()
        }
        _ => 0,
    }
}

fn word(rest: &[char], word: &str) -> usize {
    let fits = rest.len() >= word.len() && word.chars().zip(rest).all(|(a, b)| a == b.to_ascii_lowercase());
    if fits { word.len() } else { 0 }
}

/// Digits with single underscores between them.
fn digits(rest: &[char]) -> usize {
    let mut at = 0;
    loop {
        match &rest[at..] {
            [c, ..] if c.is_ascii_digit() => at += 1,
            ['_', c, ..] if at > 0 && c.is_ascii_digit() => at += 2,
            _ => return at,
        }
    }
}

/// `0`, or digits that do not begin with it.
fn unsigned(rest: &[char]) -> usize {
    if rest.first() == Some(&'0') { 1 } else { digits(rest) }
}

fn signed(rest: &[char], number: fn(&[char]) -> usize) -> usize {
    let sign = usize::from(matches!(rest.first(), Some('+' | '-')));
    match number(&rest[sign..]) {
        0 => 0,
        length => sign + length,
    }
}

fn float(rest: &[char]) -> usize {
    signed(rest, |rest| {
        let whole = unsigned(rest);
        let point = match rest.get(whole) {
            Some('.') => match digits(&rest[whole + 1..]) {
                0 if whole == 0 => 0,
                fraction => whole + 1 + fraction,
            },
            _ => 0,
        };
        let mantissa = whole.max(point);
        let exponent = match rest.get(mantissa) {
            Some('e' | 'E') if mantissa > 0 => {
                signed(&rest[mantissa + 1..], digits).checked_sub(1).map_or(0, |length| mantissa + 2 + length)
            }
            _ => 0,
        };
        point.max(exponent).max(word(rest, "inf")).max(word(rest, "nan"))
    })
}
