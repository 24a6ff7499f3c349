//! A YAML document as a tree in which every node knows its place.
//!
//! The syntax is that of YAML 1.1 as PyYAML reads it, because the files of the replaced packages were written for it:
//! NEL, LS and PS break lines, a tab separates nothing, an anchor is defined once, a text is one document. What a scalar
//! *means* is another question: see [`scalar`](super::scalar).
//!
//! Of the parsers at hand none reads YAML 1.1 and survives every text: the port of libyaml panics on some, and takes tabs.
//! So the events are those of a YAML 1.2 parser that does not panic, and what 1.1 has otherwise is bridged here. What still
//! differs from PyYAML, all of it refused: a comment that touches what it follows (`"a"#b`), `:` before a bracket without a
//! space in braces (`{a:[b]}`), `-` alone in braces, an escape for half a surrogate pair; and one thing that is taken: an
//! empty key (`: a`) at the beginning of a line.
//!
//! Aliases are expanded, within [`NODES_MAX`] and [`TEXT_MAX`], so that a small text cannot become a large tree. Reading
//! does not recurse, and no tree is deeper than [`DEPTH_MAX`], so that whoever walks one may.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use granit_parser::{ErrorKind, Event, Marker, Parser, ScalarStyle, ScanError, Span, StructureStyle, Tag};

pub use super::scalar::{BigInt, Dialect, Scalar, scalar};
use crate::problem::Mark;
use crate::text::shown;

/// Nodes of a document with its aliases expanded.
pub const NODES_MAX: usize = 100_000;
/// Bytes of text in scalars that aliases may repeat.
pub const TEXT_MAX: usize = 16 << 20;
/// Nodes between the root and any other, both counted.
pub const DEPTH_MAX: usize = 255;

/// Lines of quoted text that are indented for the parser; a text with more is refused as YAML 1.2 does.
const REINDENTS_MAX: usize = 100;

/// The tag of a node that stands for an alias to a collection that contains it; only [`read_with_cycles`] makes one.
pub(crate) const CYCLE: &str = "tag:midplane,cycle";

/// Why a text is not one document, or a node not what was wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Where.
    pub at: Mark,
    /// One sentence: lower case, no final period.
    pub message: String,
}

impl Fault {
    pub(crate) fn new(at: Mark, message: impl Into<String>) -> Self {
        Self { at, message: message.into() }
    }
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}: {}", self.at.line, self.at.column, self.message)
    }
}

/// A node of a document.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// Where it begins; of an alias, where its anchor's node begins.
    pub at: Mark,
    /// Its explicit tag in full (`tag:yaml.org,2002:str`). The tag `!` is no tag but makes a scalar plain.
    pub tag: Option<String>,
    /// What it holds.
    pub value: Yaml,
}

/// What a node holds.
#[derive(Debug, Clone, PartialEq)]
pub enum Yaml {
    /// A scalar before it means anything.
    Scalar {
        /// Its text: unquoted, unfolded, unescaped.
        text: String,
        /// Whether it was written without quotes, so that it can be other than text.
        plain: bool,
    },
    /// A list.
    Sequence(Vec<Node>),
    /// Keys and values in their order, repeated keys included.
    Mapping(Vec<(Node, Node)>),
}

impl Node {
    /// What a message calls it: `text`, `a list`, `a mapping`.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self.value {
            Yaml::Scalar { .. } => "a scalar",
            Yaml::Sequence(_) => "a list",
            Yaml::Mapping(_) => "a mapping",
        }
    }
}

/// Reads the one document of a text; none when the text has only comments. Refused are bad syntax, a second document, an
/// unknown alias, an alias inside the node that it names, and what exceeds a bound.
pub fn read(text: &str) -> Result<Option<Node>, Fault> {
    read_document(text, false)
}

/// [`read`], but an alias inside the node that it names is an empty collection with the tag [`CYCLE`]. PyYAML makes such
/// structures, and what it gives them to refuses them by their kind.
pub(crate) fn read_with_cycles(text: &str) -> Result<Option<Node>, Fault> {
    read_document(text, true)
}

/// The entries of a mapping with its merge keys (`<<`) applied as YAML 1.1 does: what is merged comes first, a key of the
/// mapping itself comes later and so wins, and of several merged mappings the first wins. Keys may be repeated; the last
/// of them counts. `entries` are those of a [`Yaml::Mapping`].
pub fn merged(entries: &[(Node, Node)]) -> Result<Vec<(&Node, &Node)>, Fault> {
    let (mut from_elsewhere, mut own) = (Vec::new(), Vec::new());
    for (key, value) in entries {
        if !is_merge_key(key) {
            own.push((key, value));
            continue;
        }
        match &value.value {
            Yaml::Mapping(inner) => from_elsewhere.extend(merged(inner)?),
            Yaml::Sequence(items) => {
                // The last of several equal keys counts, so the mapping that must win goes last.
                for item in items.iter().rev() {
                    let Yaml::Mapping(inner) = &item.value else { return Err(not_mergeable(item)) };
                    from_elsewhere.extend(merged(inner)?);
                }
            }
            Yaml::Scalar { .. } => return Err(not_mergeable(value)),
        }
    }
    from_elsewhere.extend(own);
    Ok(from_elsewhere)
}

fn is_merge_key(key: &Node) -> bool {
    match (&key.tag, &key.value) {
        (Some(tag), _) => tag == "tag:yaml.org,2002:merge",
        (None, Yaml::Scalar { text, plain: true }) => text == "<<",
        _ => false,
    }
}

fn not_mergeable(node: &Node) -> Fault {
    Fault::new(node.at, format!("only a mapping or a list of mappings can be merged, not {}", node.kind()))
}

fn read_document(text: &str, cycles: bool) -> Result<Option<Node>, Fault> {
    refuse_unprintable(text)?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    // NEL is a line break like any other in YAML 1.1, and read as a newline wherever it stands.
    let text: Cow<'_, str> = if text.contains('\u{85}') { text.replace('\u{85}', "\n").into() } else { text.into() };
    let breaks = ['\u{2028}', '\u{2029}'];
    match build(&text, cycles) {
        // LS and PS break lines too, but stay themselves within quotes: there they are no character of note to the
        // parser, and need nothing. A text that is right with them elsewhere is right with newlines there.
        Err(_) if text.contains(breaks) => build(&text.replace(breaks, "\n"), cycles),
        built => built,
    }
}

fn build(text: &str, cycles: bool) -> Result<Option<Node>, Fault> {
    let fault = match build_indented(text, cycles) {
        Ok(root) => return Ok(root),
        Err(fault) => fault,
    };
    let (text, shifted) = indent_quoted(text);
    if shifted.is_empty() {
        return Err(fault);
    }
    let unshifted = |at: Mark| match shifted.get(&at.line) {
        Some(by) => Mark { column: at.column.saturating_sub(*by).max(1), ..at },
        None => at,
    };
    let built = build_indented(&text, cycles).map_err(|fault| Fault { at: unshifted(fault.at), ..fault })?;
    Ok(built.map(|root| moved(root, &unshifted)))
}

fn build_indented(text: &str, cycles: bool) -> Result<Option<Node>, Fault> {
    let mut builder = Builder { aliased: aliased(text)?, cycles, ..Builder::default() };
    let mut between = Between { text, done: 0, flows: Vec::new() };
    let mut documents = 0;
    for event in events(text) {
        let (event, span) = event.map_err(|error| syntax(&error))?;
        documents += usize::from(matches!(event, Event::DocumentStart(..)));
        if documents > 1 {
            return Err(Fault::new(mark(span.start), "a second document begins here, and a file is one document"));
        }
        between.pass(&event, span)?;
        builder.take(event, span)?;
    }
    between.check(text.len())?;
    Ok(builder.root)
}

/// The lines of quoted text may begin anywhere in YAML 1.1, and must be indented in YAML 1.2. What stands before them is
/// not part of the text, so they are indented here. The map says which lines were, and by how much.
fn indent_quoted(text: &str) -> (Cow<'_, str>, BTreeMap<usize, usize>) {
    let mut text = Cow::Borrowed(text);
    let mut shifted = BTreeMap::new();
    for _ in 0..REINDENTS_MAX {
        let Some(error) = events(&text).find_map(Result::err) else { break };
        if *error.kind() != ErrorKind::InvalidQuotedScalarIndent {
            break;
        }
        let line = error.marker().line();
        let start: usize = text.split_inclusive('\n').take(line.saturating_sub(1)).map(str::len).sum();
        let rest = text.get(start..).unwrap_or_default();
        // These end a document, within quotes too.
        if rest.is_empty() || rest.starts_with("---") || rest.starts_with("...") {
            break;
        }
        *shifted.entry(line).or_insert(0) += DEPTH_MAX;
        text.to_mut().insert_str(start, &" ".repeat(DEPTH_MAX));
    }
    (text, shifted)
}

/// A tree with other places. As deep as the tree is.
fn moved(node: Node, to: &impl Fn(Mark) -> Mark) -> Node {
    let value = match node.value {
        Yaml::Sequence(items) => Yaml::Sequence(items.into_iter().map(|item| moved(item, to)).collect()),
        Yaml::Mapping(entries) => {
            Yaml::Mapping(entries.into_iter().map(|(key, value)| (moved(key, to), moved(value, to))).collect())
        }
        scalar @ Yaml::Scalar { .. } => scalar,
    };
    Node { at: to(node.at), value, ..node }
}

/// The events of a text, without comments.
pub(super) fn events(text: &str) -> Parser<'_, granit_parser::StrInput<'_>> {
    let options = granit_parser::options! { emit_anchor_events: true, emit_comments: false };
    Parser::new_from_str_with_options(text, options)
}

/// The anchors that are named by an alias: only their nodes need to be kept.
fn aliased(text: &str) -> Result<BTreeSet<usize>, Fault> {
    let mut ids = BTreeSet::new();
    if text.contains('*') {
        for event in events(text) {
            if let Event::Alias(id) = event.map_err(|error| syntax(&error))?.0 {
                ids.insert(id);
            }
        }
    }
    Ok(ids)
}

fn syntax(error: &ScanError) -> Fault {
    Fault::new(mark(*error.marker()), shown(&error.info(), 200))
}

fn mark(at: Marker) -> Mark {
    Mark { line: at.line(), column: at.col() + 1 }
}

/// The place of a byte of a text.
fn mark_of(text: &str, byte: usize) -> Mark {
    let before = text[..byte].replace("\r\n", "\n").replace('\r', "\n");
    let line = before.bytes().filter(|b| *b == b'\n').count() + 1;
    let column = before.chars().rev().take_while(|c| *c != '\n').count() + 1;
    Mark { line, column }
}

fn refuse_unprintable(text: &str) -> Result<(), Fault> {
    let printable = |c: char| match c {
        '\t' | '\n' | '\r' | '\u{85}' => true,
        '\u{fffe}' | '\u{ffff}' => false,
        c => !c.is_control(),
    };
    match text.char_indices().find(|(_, c)| !printable(*c)) {
        None => Ok(()),
        Some((byte, c)) => {
            Err(Fault::new(mark_of(text, byte), format!("the character U+{:04X} cannot stand in YAML", u32::from(c))))
        }
    }
}

/// What stands between scalars, and what YAML 1.1 does not allow there although YAML 1.2 does.
struct Between<'a> {
    text: &'a str,
    /// Bytes that were looked at.
    done: usize,
    /// Of each open collection, whether it is in flow style (`[]`, `{}`).
    flows: Vec<bool>,
}

impl Between<'_> {
    fn pass(&mut self, event: &Event<'_>, span: Span) -> Result<(), Fault> {
        match event {
            Event::SequenceStart(style, ..) | Event::MappingStart(style, ..) => {
                self.flows.push(*style == StructureStyle::Flow);
            }
            Event::SequenceEnd | Event::MappingEnd => {
                self.flows.pop();
            }
            Event::Scalar(_, style, ..) => {
                let Some(range) = span.byte_range().filter(|range| range.start >= self.done) else { return Ok(()) };
                self.check(range.start)?;
                let source = self.text.get(range.clone()).unwrap_or_default();
                self.done = range.end;
                match style {
                    ScalarStyle::Plain => self.check_plain(source, range.start)?,
                    ScalarStyle::Literal | ScalarStyle::Folded => {
                        let header = source.lines().next().unwrap_or_default();
                        let header = header.split('#').next().unwrap_or_default();
                        self.refuse_tab(header, range.start)?;
                    }
                    ScalarStyle::SingleQuoted | ScalarStyle::DoubleQuoted => {}
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn check_plain(&self, source: &str, start: usize) -> Result<(), Fault> {
        self.refuse_tab(source, start)?;
        let in_flow = self.flows.last().copied().unwrap_or(false);
        // Both end plain text in YAML 1.1, and nothing that may follow it begins with them.
        let stop = source.find(|c| matches!(c, '\u{2028}' | '\u{2029}') || (in_flow && c == '?'));
        match stop {
            None => Ok(()),
            Some(at) => {
                let at = mark_of(self.text, start + at);
                Err(Fault::new(at, "this character cannot stand in text without quotes here: put the text in quotes"))
            }
        }
    }

    /// Looks at the text up to a byte, in which there is no scalar: indicators, spaces, comments, anchors and tags.
    fn check(&mut self, end: usize) -> Result<(), Fault> {
        let mut rest = self.text.get(self.done..end).unwrap_or_default();
        let mut at = self.done;
        self.done = end;
        while !rest.is_empty() {
            let comment = rest.find('#').unwrap_or(rest.len());
            self.refuse_tab(&rest[..comment], at)?;
            let line_end = rest[comment..].find(['\n', '\r']).map_or(rest.len(), |length| comment + length);
            at += line_end;
            rest = &rest[line_end..];
        }
        Ok(())
    }

    fn refuse_tab(&self, source: &str, start: usize) -> Result<(), Fault> {
        match source.find('\t') {
            None => Ok(()),
            Some(at) => Err(Fault::new(mark_of(self.text, start + at), "a tab cannot separate or indent: use spaces")),
        }
    }
}

/// How much a node is with all that is in it.
#[derive(Clone, Copy, Default)]
struct Size {
    nodes: usize,
    text: usize,
    depth: usize,
}

/// A collection whose end has not come.
struct Open {
    node: Node,
    anchor: usize,
    /// Whether it is a mapping in braces.
    flow: bool,
    /// A key that waits for its value.
    key: Option<Node>,
    size: Size,
}

impl Open {
    fn expects_flow_key(&self) -> bool {
        self.flow && self.key.is_none()
    }
}

/// Builds a tree from events, without recursion.
#[derive(Default)]
struct Builder {
    root: Option<Node>,
    open: Vec<Open>,
    names: BTreeSet<String>,
    aliased: BTreeSet<usize>,
    anchors: BTreeMap<usize, (Node, Size)>,
    cycles: bool,
    /// What was made or copied, against the bounds.
    nodes: usize,
    copied: usize,
}

impl Builder {
    fn take(&mut self, event: Event<'_>, span: Span) -> Result<(), Fault> {
        let at = mark(span.start);
        match event {
            Event::Anchor(_, name) => {
                // YAML 1.1 as PyYAML reads it: which of two equal anchors an alias means would be a guess.
                if !self.names.insert(name.clone().into_owned()) {
                    return Err(Fault::new(at, format!("the anchor `{name}` is defined twice")));
                }
                Ok(())
            }
            Event::Scalar(text, style, anchor, tag) => {
                // What was left out is reported as `~`.
                let absent = style == ScalarStyle::Plain && span.is_empty();
                let text = if absent { Cow::Borrowed("") } else { text };
                let size = Size { nodes: 1, text: text.len(), depth: 1 };
                if self.open.last().is_some_and(Open::expects_flow_key) && span.start.line() != span.end.line() {
                    return Err(Fault::new(at, "a key stands on one line"));
                }
                let (tag, forced_plain) = resolved(tag.as_deref());
                let plain = (style == ScalarStyle::Plain && tag.is_none()) || forced_plain;
                let value = Yaml::Scalar { text: text.into_owned(), plain };
                self.done(Node { at, tag, value }, size, 1, anchor)
            }
            Event::SequenceStart(_, anchor, tag) => {
                self.begin(at, tag.as_deref(), Yaml::Sequence(Vec::new()), anchor, false)
            }
            Event::MappingStart(style, anchor, tag) => {
                let flow = style == StructureStyle::Flow;
                self.begin(at, tag.as_deref(), Yaml::Mapping(Vec::new()), anchor, flow)
            }
            Event::SequenceEnd | Event::MappingEnd => match self.open.pop() {
                // Its members were counted when each was done.
                Some(Open { node, anchor, size, .. }) => self.done(node, size, 1, anchor),
                None => Ok(()),
            },
            Event::Alias(anchor) => self.alias(at, anchor),
            _ => Ok(()),
        }
    }

    fn begin(&mut self, at: Mark, tag: Option<&Tag>, value: Yaml, anchor: usize, flow: bool) -> Result<(), Fault> {
        if self.open.len() >= DEPTH_MAX {
            return Err(too_deep(at));
        }
        let node = Node { at, tag: resolved(tag).0, value };
        let size = Size { nodes: 1, text: 0, depth: 1 };
        self.open.push(Open { node, anchor, flow, key: None, size });
        Ok(())
    }

    fn alias(&mut self, at: Mark, anchor: usize) -> Result<(), Fault> {
        if let Some((node, size)) = self.anchors.get(&anchor).cloned() {
            if self.open.len() + size.depth > DEPTH_MAX {
                return Err(too_deep(at));
            }
            self.copied += size.text;
            return self.done(node, size, size.nodes, 0);
        }
        let outer = self.open.iter().find(|open| open.anchor == anchor).filter(|_| self.cycles);
        let Some(outer) = outer else {
            return Err(Fault::new(at, "this alias stands inside the node that it names"));
        };
        let value = match outer.node.value {
            Yaml::Mapping(_) => Yaml::Mapping(Vec::new()),
            _ => Yaml::Sequence(Vec::new()),
        };
        self.done(Node { at, tag: Some(CYCLE.to_owned()), value }, Size { nodes: 1, text: 0, depth: 1 }, 1, 0)
    }

    /// Puts a whole node where it belongs. `added` counts the nodes that it brings.
    fn done(&mut self, node: Node, size: Size, added: usize, anchor: usize) -> Result<(), Fault> {
        self.nodes += added;
        if self.aliased.contains(&anchor) {
            self.copied += size.text;
            self.nodes += size.nodes;
            self.anchors.insert(anchor, (node.clone(), size));
        }
        if self.nodes > NODES_MAX || self.copied > TEXT_MAX {
            let why =
                format!("the document has more than {NODES_MAX} nodes, or aliases repeat more than {TEXT_MAX} bytes");
            return Err(Fault::new(node.at, why));
        }
        let Some(parent) = self.open.last_mut() else {
            self.root = Some(node);
            return Ok(());
        };
        parent.size.nodes += size.nodes;
        parent.size.text += size.text;
        parent.size.depth = parent.size.depth.max(size.depth + 1);
        match (&mut parent.node.value, parent.key.take()) {
            (Yaml::Mapping(entries), Some(key)) => entries.push((key, node)),
            (Yaml::Mapping(_), None) => parent.key = Some(node),
            (Yaml::Sequence(items), _) => items.push(node),
            // Only collections are opened.
            (Yaml::Scalar { .. }, _) => {}
        }
        Ok(())
    }
}

/// A tag in full, and whether it is the one that makes any scalar plain.
fn resolved(tag: Option<&Tag>) -> (Option<String>, bool) {
    match tag.map(|tag| format!("{}{}", tag.handle(), tag.suffix())) {
        Some(tag) if tag == "!" => (None, true),
        tag => (tag, false),
    }
}

fn too_deep(at: Mark) -> Fault {
    Fault::new(at, format!("nodes are nested more than {DEPTH_MAX} deep"))
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
