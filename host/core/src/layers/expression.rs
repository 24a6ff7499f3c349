//! The grammar of a value that refers to others: `${a.b}`, `${oc.env:NAME,default}`, text around them, escapes.
//!
//! The rules are OmegaConf's (2.4). A value is an expression if it holds `${`; a malformed one is refused where it stands, even
//! if a later layer replaces it.

use super::lex::{Kind, Mode, Token, tokens};

/// A value that refers to others.
#[derive(Debug, Clone, PartialEq)]
pub struct Expression {
    /// As it was written.
    pub text: String,
    pub(super) parts: Vec<Part>,
}

/// Why a text is no expression.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Malformed(pub String);

impl Malformed {
    pub(super) fn new(why: impl Into<String>) -> Self {
        Self(why.into())
    }
}

/// Text, already without its escapes, or a reference.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Part {
    Text(String),
    Reference(Reference),
}

/// What stands in `${ }`.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Reference {
    /// A place in the tree.
    Node {
        /// Dots before the first key: none is from the root, one is beside the value, each more is one level up.
        dots: usize,
        keys: Vec<Key>,
    },
    /// A function of that name.
    Call { name: Vec<Part>, arguments: Vec<Element> },
}

/// One step of a path.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Key {
    pub step: Part,
    pub in_brackets: bool,
}

/// One argument.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Element {
    Null,
    Bool(bool),
    Number(String),
    /// Parts in quotes are text even when they are one reference.
    Text {
        parts: Vec<Part>,
        quoted: bool,
    },
    List(Vec<Element>),
    Map(Vec<(Element, Element)>),
}

/// Whether a text is to be read as an expression.
pub(super) fn is_expression(text: &str) -> bool {
    text.contains("${")
}

impl Expression {
    pub(super) fn parse(text: &str) -> Result<Self, Malformed> {
        let mut reader = Reader { tokens: tokens(text, Mode::Text)?, at: 0, lists: 0 };
        let parts = reader.text()?;
        reader.end()?;
        Ok(Self { text: text.to_owned(), parts })
    }
}

/// What `oc.decode` reads.
pub(super) fn element(text: &str) -> Result<Element, Malformed> {
    let mut reader = Reader { tokens: tokens(text, Mode::Value)?, at: 0, lists: 0 };
    let element = reader.element()?;
    reader.end()?;
    Ok(element)
}

/// Recursion is bounded by the modes that [`tokens`] follows, and for lists, which need no mode, by [`LISTS_MAX`].
struct Reader {
    tokens: Vec<Token>,
    at: usize,
    /// Lists that are open.
    lists: usize,
}

const LISTS_MAX: usize = 64;

impl Reader {
    fn peek(&self) -> Option<Kind> {
        self.tokens.get(self.at).map(|token| token.kind)
    }

    fn take(&mut self, kind: Kind) -> bool {
        let taken = self.peek() == Some(kind);
        self.at += usize::from(taken);
        taken
    }

    fn expect(&mut self, kind: Kind, what: &str) -> Result<(), Malformed> {
        if self.take(kind) { Ok(()) } else { Err(self.unexpected(what)) }
    }

    fn unexpected(&self, what: &str) -> Malformed {
        Malformed(match self.tokens.get(self.at) {
            Some(token) => format!("{what} is expected before `{}`", token.text.escape_debug()),
            None => format!("{what} is expected at its end"),
        })
    }

    fn end(&self) -> Result<(), Malformed> {
        if self.at == self.tokens.len() { Ok(()) } else { Err(self.unexpected("the end")) }
    }

    /// Text and references, at least one.
    fn text(&mut self) -> Result<Vec<Part>, Malformed> {
        let text = [Kind::Any, Kind::Escape, Kind::EscapedOpen];
        let ends = |kind: Option<Kind>| {
            !matches!(kind, Some(Kind::Open | Kind::Pairs { .. })) && kind.is_none_or(|kind| !text.contains(&kind))
        };
        self.parts(ends)
    }

    /// Parts until a token that is none of them. Escapes are undone here, where it is known what follows them.
    fn parts(&mut self, ends: impl Fn(Option<Kind>) -> bool) -> Result<Vec<Part>, Malformed> {
        let mut parts: Vec<Part> = Vec::new();
        while !ends(self.peek()) {
            if self.peek() == Some(Kind::Open) {
                parts.push(Part::Reference(self.reference()?));
                continue;
            }
            let token = &self.tokens[self.at];
            let following = self.tokens.get(self.at + 1).map(|token| token.kind);
            let escape = match token.kind {
                Kind::Escape => true,
                Kind::Pairs { quoted } => following == Some(Kind::Open) || (quoted && ends(following)),
                _ => false,
            };
            let text: String = if escape {
                token.text.chars().skip(1).step_by(2).collect()
            } else if token.kind == Kind::EscapedOpen {
                // Half of the backslashes before the one that escapes, then `${`.
                let keep = token.text.len() / 2 + 1;
                token.text[token.text.len() - keep..].to_owned()
            } else {
                token.text.clone()
            };
            match parts.last_mut() {
                Some(Part::Text(last)) => last.push_str(&text),
                _ => parts.push(Part::Text(text)),
            }
            self.at += 1;
        }
        if parts.is_empty() { Err(self.unexpected("a value")) } else { Ok(parts) }
    }

    fn reference(&mut self) -> Result<Reference, Malformed> {
        self.expect(Kind::Open, "`${`")?;
        if !self.is_call() {
            return self.path();
        }
        let name = self.name()?;
        self.expect(Kind::Colon, "`:`")?;
        let arguments = if self.peek() == Some(Kind::BraceClose) { Vec::new() } else { self.sequence()? };
        self.expect(Kind::BraceClose, "`,` or `}`")?;
        Ok(Reference::Call { name, arguments })
    }

    /// Which of the two a reference is shows only at its colon, so look for it past what is nested.
    fn is_call(&self) -> bool {
        let mut depth = 0_usize;
        for token in &self.tokens[self.at..] {
            match token.kind {
                Kind::Open | Kind::BraceOpen => depth += 1,
                Kind::Close | Kind::BraceClose if depth == 0 => return false,
                Kind::Close | Kind::BraceClose => depth -= 1,
                Kind::Colon if depth == 0 => return true,
                _ => {}
            }
        }
        false
    }

    /// Identifiers and references with dots between them, as parts to join.
    fn name(&mut self) -> Result<Vec<Part>, Malformed> {
        let mut parts = Vec::new();
        loop {
            parts.push(match self.peek() {
                Some(Kind::Id) => self.word(),
                Some(Kind::Open) => Part::Reference(self.reference()?),
                _ => return Err(self.unexpected("a name")),
            });
            if !self.take(Kind::Dot) {
                return Ok(parts);
            }
            parts.push(Part::Text(".".to_owned()));
        }
    }

    fn word(&mut self) -> Part {
        let text = self.tokens[self.at].text.clone();
        self.at += 1;
        Part::Text(text)
    }

    fn path(&mut self) -> Result<Reference, Malformed> {
        let mut dots = 0;
        while self.take(Kind::Dot) {
            dots += 1;
        }
        let mut keys = Vec::new();
        let mut dotted = true;
        loop {
            let in_brackets = self.peek() == Some(Kind::BracketOpen);
            if in_brackets {
                self.at += 1;
            } else if !dotted {
                return Err(self.unexpected("`.`, `[`, `:` or `}`"));
            }
            let step = match self.peek() {
                Some(Kind::Open) => Part::Reference(self.reference()?),
                Some(Kind::Id | Kind::Key) => match self.word() {
                    Part::Text(text) => Part::Text(unescape_key(&text)),
                    reference @ Part::Reference(_) => reference,
                },
                _ => return Err(self.unexpected("a key")),
            };
            if in_brackets {
                self.expect(Kind::BracketClose, "`]`")?;
            }
            keys.push(Key { step, in_brackets });
            if self.take(Kind::Close) {
                return Ok(Reference::Node { dots, keys });
            }
            dotted = self.take(Kind::Dot);
            if dotted && self.peek() == Some(Kind::BracketOpen) {
                return Err(self.unexpected("a key"));
            }
        }
    }

    /// Arguments or items; one that is left out is an empty text.
    fn sequence(&mut self) -> Result<Vec<Element>, Malformed> {
        let mut elements = Vec::new();
        loop {
            if matches!(self.peek(), Some(Kind::Comma | Kind::BraceClose | Kind::BracketClose) | None) {
                elements.push(Element::Text { parts: Vec::new(), quoted: true });
            } else {
                elements.push(self.element()?);
            }
            if !self.take(Kind::Comma) {
                return Ok(elements);
            }
        }
    }

    fn element(&mut self) -> Result<Element, Malformed> {
        match self.peek() {
            Some(Kind::Quote) => {
                self.at += 1;
                let parts = if self.peek() == Some(Kind::QuoteClose) { Vec::new() } else { self.text()? };
                self.expect(Kind::QuoteClose, "the closing quote")?;
                Ok(Element::Text { parts, quoted: true })
            }
            Some(Kind::BracketOpen) => {
                if self.lists >= LISTS_MAX {
                    return Err(Malformed::new(format!("it is nested more than {LISTS_MAX} deep")));
                }
                self.at += 1;
                self.lists += 1;
                let items = if self.peek() == Some(Kind::BracketClose) { Vec::new() } else { self.sequence()? };
                self.lists -= 1;
                self.expect(Kind::BracketClose, "`,` or `]`")?;
                Ok(Element::List(items))
            }
            Some(Kind::BraceOpen) => {
                self.at += 1;
                let mut pairs = Vec::new();
                while self.peek() != Some(Kind::BraceClose) || !pairs.is_empty() {
                    let key = self.primitive(true)?;
                    self.expect(Kind::Colon, "`:`")?;
                    pairs.push((key, self.element()?));
                    if !self.take(Kind::Comma) {
                        break;
                    }
                }
                self.expect(Kind::BraceClose, "`,` or `}`")?;
                Ok(Element::Map(pairs))
            }
            _ => self.primitive(false),
        }
    }

    /// One token with its type, or several as one text. The key of a mapping holds no reference and no colon.
    fn primitive(&mut self, key: bool) -> Result<Element, Malformed> {
        let start = self.at;
        let belongs = |kind: Kind| match kind {
            Kind::Id | Kind::Null | Kind::Int | Kind::Float | Kind::Bool | Kind::Char | Kind::Escape | Kind::Space => {
                true
            }
            Kind::Colon | Kind::Open => !key,
            _ => false,
        };
        let parts = self.parts(|kind| !kind.is_some_and(belongs))?;
        if let [token] = &self.tokens[start..self.at] {
            match token.kind {
                Kind::Null => return Ok(Element::Null),
                Kind::Bool => return Ok(Element::Bool(token.text.eq_ignore_ascii_case("true"))),
                Kind::Int | Kind::Float => return Ok(Element::Number(token.text.clone())),
                _ => {}
            }
        }
        Ok(Element::Text { parts, quoted: false })
    }
}

/// `\.`, `\[`, `\]`, `\:`, `\=` and `\\` in a key stand for the character.
fn unescape_key(text: &str) -> String {
    let mut plain = String::new();
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match chars.peek() {
            Some(next @ ('\\' | '.' | '[' | ']' | ':' | '=')) if c == '\\' => {
                plain.push(*next);
                chars.next();
            }
            _ => plain.push(c),
        }
    }
    plain
}
