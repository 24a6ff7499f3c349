//! Small changes to YAML text that leave everything else as it is: comments, order, style.
//!
//! An edit is made at a place that the parser's events give, and the result is parsed again for the next one. Where a place
//! cannot be told for certain, there is no result: the caller writes the document anew. Whoever uses this compares what the
//! result means with what was meant.

use granit_parser::{Event, Span, StructureStyle};
use serde_json::Value;

use super::tree::events;
use super::write::{self, Order};

/// One change. Keys of a path that are absent are added.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Edit {
    /// Adds an item to the list at a path.
    Append { path: Vec<String>, item: Value },
    /// Gives the key at the end of a path this value, which is no collection.
    Set { path: Vec<String>, value: Value },
}

/// Changes that are made at once: each reads the text anew.
const EDITS_MAX: usize = 200;

/// Makes all changes in their order; none if one of them has no certain place, or if they are too many.
pub(crate) fn all(text: &str, edits: &[Edit], order: Order) -> Option<String> {
    if edits.len() > EDITS_MAX {
        return None;
    }
    // In a file that is JSON what is added must be too.
    let json = serde_json::from_str::<Value>(text).is_ok();
    edits.iter().try_fold(text.to_owned(), |text, edit| one(&text, edit, json, order))
}

/// Where a node stands in the text.
#[derive(Debug)]
struct Place {
    start: usize,
    /// After its last character; of a block collection, after that of its last member.
    end: usize,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Scalar(String),
    /// What stands elsewhere.
    Alias,
    Sequence {
        flow: bool,
        items: Vec<Place>,
    },
    Mapping {
        flow: bool,
        entries: Vec<(Place, Place)>,
    },
}

fn one(text: &str, edit: &Edit, json: bool, order: Order) -> Option<String> {
    let (path, what) = match edit {
        Edit::Append { path, item } => (path, item),
        Edit::Set { path, value } => (path, value),
    };
    let mut here = &places(text)?;
    for (depth, step) in path.iter().enumerate() {
        let Kind::Mapping { entries, .. } = &here.kind else { return None };
        match entries.iter().find(|(key, _)| matches!(&key.kind, Kind::Scalar(name) if name == step)) {
            Some((_, value)) => here = value,
            None => {
                let mut value = what.clone();
                if matches!(edit, Edit::Append { .. }) {
                    value = Value::Array(vec![value]);
                }
                for step in path[depth + 1..].iter().rev() {
                    value = Value::Object([(step.clone(), value)].into_iter().collect());
                }
                return add(text, here, Some(step), &value, json, order);
            }
        }
    }
    match edit {
        Edit::Append { item, .. } => add(text, here, None, item, json, order),
        Edit::Set { value, .. } => match here.kind {
            Kind::Scalar(_) if here.start < here.end => {
                Some(format!("{}{}{}", &text[..here.start], write::inline(value, order), &text[here.end..]))
            }
            _ => None,
        },
    }
}

/// Adds an entry to a mapping, or an item to a list.
fn add(text: &str, to: &Place, key: Option<&str>, value: &Value, json: bool, order: Order) -> Option<String> {
    let flow = match (&to.kind, key) {
        (Kind::Mapping { flow, .. }, Some(_)) | (Kind::Sequence { flow, .. }, None) => *flow,
        _ => return None,
    };
    let whole = match key {
        Some(key) => Value::Object([(key.to_owned(), value.clone())].into_iter().collect()),
        None => Value::Array(vec![value.clone()]),
    };
    if flow {
        let last = match &to.kind {
            Kind::Mapping { entries, .. } => entries.last().map(|(_, value)| value.end),
            Kind::Sequence { items, .. } => items.last().map(|item| item.end),
            _ => None,
        };
        let written = if json { whole.to_string() } else { write::inline(&whole, order) };
        let written = &written[1..written.len() - 1];
        // Right after what is there: a comma or a comment that follows stays where it is.
        let (at, comma) = last.map_or((to.start + 1, ""), |last| (last, ", "));
        return Some(format!("{}{comma}{written}{}", text.get(..at)?, text.get(at..)?));
    }
    // The column of the first key, or of the dash before the first item: a list's own place may be that of its key.
    let first = match &to.kind {
        Kind::Sequence { items, .. } => text[..items.first()?.start].trim_end_matches(' ').strip_suffix('-')?.len(),
        _ => to.start,
    };
    let line = &text[text[..first].rfind('\n').map_or(0, |at| at + 1)..first];
    // A collection that begins within a line (`- a: 1`) still has the column of its first key as its indentation.
    if !line.chars().all(|c| c == ' ' || c == '-') {
        return None;
    }
    let indent = line.len();
    let mut lines = String::new();
    write::block(&whole, indent, order, &mut lines);
    let mut newline = "\n";
    if text.contains("\r\n") {
        newline = "\r\n";
        lines = lines.replace('\n', newline);
    }
    let line_end = match text.get(..to.end)?.ends_with('\n') {
        true => to.end,
        false => text[to.end..].find('\n').map_or(text.len(), |at| to.end + at + 1),
    };
    let newline = if text[..line_end].ends_with('\n') || line_end == 0 { "" } else { newline };
    Some(format!("{}{newline}{lines}{}", &text[..line_end], &text[line_end..]))
}

/// The places of a document's nodes. Not recursive; depth is bounded by the parser.
fn places(text: &str) -> Option<Place> {
    let mut open: Vec<(Place, Option<Place>)> = Vec::new();
    for event in events(text) {
        let (event, span): (Event<'_>, Span) = event.ok()?;
        let range = span.byte_range();
        let place = |kind| range.clone().map(|range| Place { start: range.start, end: range.end, kind });
        let mut done = match event {
            Event::Scalar(value, ..) => place(Kind::Scalar(value.into_owned()))?,
            Event::Alias(_) => place(Kind::Alias)?,
            Event::SequenceStart(style, ..) => {
                open.push((place(Kind::Sequence { flow: style == StructureStyle::Flow, items: Vec::new() })?, None));
                continue;
            }
            Event::MappingStart(style, ..) => {
                open.push((place(Kind::Mapping { flow: style == StructureStyle::Flow, entries: Vec::new() })?, None));
                continue;
            }
            Event::SequenceEnd | Event::MappingEnd => {
                let (mut place, _) = open.pop()?;
                let last = match &place.kind {
                    Kind::Sequence { flow: false, items } => items.last(),
                    Kind::Mapping { flow: false, entries } => entries.last().map(|(_, value)| value),
                    _ => None,
                };
                place.end = last.map_or(range?.end, |last| last.end);
                place
            }
            _ => continue,
        };
        let Some((parent, key)) = open.last_mut() else { return Some(done) };
        match &mut parent.kind {
            Kind::Sequence { items, .. } => items.push(done),
            Kind::Mapping { entries, .. } => match key.take() {
                None => *key = Some(done),
                Some(key) => {
                    // A value that was left out stands where its key ends.
                    if done.start == done.end {
                        (done.start, done.end) = (key.end, key.end);
                    }
                    entries.push((key, done));
                }
            },
            Kind::Scalar(_) | Kind::Alias => return None,
        }
    }
    None
}
