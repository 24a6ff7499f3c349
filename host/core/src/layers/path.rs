//! Paths into a tree: dots, brackets, and backslashes for keys that hold them.

use super::resolve::{At, Got, Resolver, Variables};
use super::{Merged, Node, Origin, Refused, Value};
use crate::text::shown;

/// A part of a merged configuration. What it refers to is looked up in the whole, when it is asked for.
#[derive(Debug)]
pub struct View<'t> {
    resolver: Resolver<'t>,
    got: Got<'t>,
}

impl Merged {
    /// The mapping at a path: keys with dots between them or in brackets (`a.b`, `a[b]`, `list[0]`), the empty path for the
    /// whole. References on the way are followed, those below are not until they are read.
    ///
    /// Nothing there, or null, is `config-path`; anything but a mapping is `config-not-mapping`.
    pub fn view<'t>(&'t self, path: &str, variables: &'t Variables) -> Result<View<'t>, Refused> {
        let whole = Origin { at: None, ..self.root().origin.clone() };
        let missing =
            || Refused::at(&whole, path, "config-path", format!("the configuration has no `{}`", shown(path, 80)));
        let mut resolver = Resolver::new(self.root(), variables);
        // One dot at the start is tolerated: it means "from here". A second would be above the whole.
        let relative = path.strip_prefix('.').unwrap_or(path);
        if relative.starts_with('.') {
            return Err(missing());
        }
        let keys = if relative.is_empty() { Vec::new() } else { split(relative) };
        let got = resolver.select(&keys)?.ok_or_else(missing)?;
        match &got.node().value {
            Value::Map(_) => Ok(View { resolver, got }),
            Value::Null => Err(missing()),
            value => Err(Refused::at(
                &got.node().origin,
                path,
                "config-not-mapping",
                format!("`{}` is {}, not a mapping", shown(path, 80), value.kind()),
            )
            .hint("name the mapping that holds it")),
        }
    }
}

impl View<'_> {
    /// The values of this part with every reference followed. Fails with every reference that leads nowhere.
    pub fn resolve(mut self) -> Result<Node, Refused> {
        self.resolver.finish(self.got)
    }

    /// The values of a part that stands by itself: none of them refers to another. A tree is never written to, so a part
    /// that has references is refused here (`config-unsettled`) and goes through [`Self::resolve`]. That is what
    /// mxm-config's `make_view(.., resolve=True)` does, which resolves in place what it made read-only.
    pub fn settled(self) -> Result<Node, Refused> {
        let mut references = Vec::new();
        collect_references(self.node(), &mut Vec::new(), &mut references);
        let Some((field, origin)) = references.first().cloned() else { return self.resolve() };
        // Where all of them lead nowhere, that says more than that they are there.
        match self.resolve() {
            Err(refused) if refused.problems.len() == references.len() => return Err(refused),
            _ => {}
        }
        Err(Refused::at(
            &origin,
            &field,
            "config-unsettled",
            format!("`{}` refers to another value", shown(&field, 80)),
        )
        .hint("resolve the part instead"))
    }

    /// The part as it was written.
    #[must_use]
    pub fn node(&self) -> &Node {
        self.got.node()
    }
}

/// The values below a node that refer to others, with their paths. Trees are at most `DEPTH_MAX` deep.
fn collect_references(node: &Node, steps: &mut Vec<Step>, found: &mut Vec<(String, Origin)>) {
    let mut below = |step: Step, node: &Node| {
        steps.push(step);
        collect_references(node, steps, found);
        steps.pop();
    };
    match &node.value {
        Value::List(items) => items.iter().enumerate().for_each(|(at, item)| below(Step::Index(at), item)),
        Value::Map(entries) => entries.iter().for_each(|(key, value)| below(Step::Key(key.clone()), value)),
        Value::Expression(_) => found.push((dotted(steps), node.origin.clone())),
        _ => {}
    }
}

/// One step of a place in a tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Into a mapping.
    Key(String),
    /// Into a list.
    Index(usize),
}

/// A path as it is written in problems: keys and indices with dots between them.
#[must_use]
pub fn dotted(steps: &[Step]) -> String {
    steps.iter().fold(String::new(), |path, step| match step {
        Step::Key(key) => joined(&path, key),
        Step::Index(at) => joined(&path, &at.to_string()),
    })
}

/// A path and one more key; a key that holds dots or brackets is written so that [`split`] gives it back.
pub(super) fn joined(path: &str, key: &str) -> String {
    let mut escaped = String::with_capacity(path.len() + key.len() + 1);
    escaped.push_str(path);
    if !path.is_empty() {
        escaped.push('.');
    }
    for c in key.chars() {
        if matches!(c, '.' | '[' | ']') {
            escaped.push('\\');
        }
        escaped.push(c);
    }
    escaped
}

/// The keys of a path. `\.`, `\[`, `\]` and `\=` stand for the character; any other backslash is one. What follows an
/// unclosed bracket is dropped, as is text between a bracket and the next dot.
pub(super) fn split(path: &str) -> Vec<String> {
    let chars: Vec<char> = path.chars().collect();
    let mut keys = Vec::new();
    let mut at = 0;
    let escapes = path.contains('\\');
    if chars.first() != Some(&'[') {
        keys.push(segment(&chars, &mut at, |c| matches!(c, '.' | '[')));
    }
    while at < chars.len() {
        match chars[at] {
            '.' => {
                at += 1;
                keys.push(segment(&chars, &mut at, |c| matches!(c, '.' | '[')));
            }
            '[' => {
                let start = at + 1;
                let mut end = start;
                let key = segment(&chars, &mut end, |c| c == ']');
                if end == chars.len() {
                    if escapes {
                        return keys;
                    }
                    // Without escapes the original goes on looking behind the bracket.
                    at = start;
                    continue;
                }
                // Right after leading dots a bracket takes the place of the empty key before it.
                if !escapes && keys.last().is_some_and(String::is_empty) && chars[..at].iter().all(|c| *c == '.') {
                    keys.pop();
                }
                keys.push(key);
                at = end + 1;
            }
            _ => at += 1,
        }
    }
    keys
}

fn segment(chars: &[char], at: &mut usize, ends: impl Fn(char) -> bool) -> String {
    let mut key = String::new();
    while let Some(c) = chars.get(*at) {
        match (c, chars.get(*at + 1)) {
            ('\\', Some(next @ ('.' | '[' | ']' | '='))) => {
                key.push(*next);
                *at += 2;
            }
            _ if ends(*c) => break,
            _ => {
                key.push(*c);
                *at += 1;
            }
        }
    }
    key
}

/// The index that a key is in a list of that length: a whole number, from the end if it is negative.
pub(super) fn index(key: &str, length: usize) -> Result<Option<usize>, ()> {
    let digits = key.trim().replace('_', "");
    let at: i64 = digits.parse().map_err(|_| ())?;
    let at = if at < 0 { i64::try_from(length).map_or(-1, |length| length + at) } else { at };
    Ok(usize::try_from(at).ok().filter(|at| *at < length))
}

/// Where a node is, for messages.
pub(super) fn place(at: &At<'_>) -> String {
    dotted(&at.steps())
}
