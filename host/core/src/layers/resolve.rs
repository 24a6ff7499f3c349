//! Following references: what a value that refers to others stands for.
//!
//! References look at the merged tree, so a later layer can mend an earlier one. Nothing is changed in the tree: a resolved
//! copy is made of it. Recursion and growth are bounded by [`CHAIN_MAX`], [`super::NODES_MAX`],
//! [`super::TEXT_BYTES_MAX`] and [`FOLLOWED_MAX`].

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use indexmap::IndexMap;

use super::expression::{Element, Expression, Key, Part, Reference};
use super::path::{Step, index, place, split};
use super::shown::within_text;
use super::source::number;
use super::{DEPTH_MAX, MANDATORY, NODES_MAX, Node, Origin, Refused, TEXT_BYTES_MAX, Value, problem};
use crate::problem::{PROBLEMS_MAX, Problem};
use crate::text::{near, shown};

/// References that may wait for each other.
const CHAIN_MAX: usize = 64;
/// References that are followed for one tree.
const FOLLOWED_MAX: usize = 200_000;

/// The environment variables that a configuration may read. By default none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Variables {
    allowed: BTreeSet<String>,
    values: BTreeMap<String, String>,
}

impl Variables {
    /// The allowed names, and the environment, of which only these are kept.
    #[must_use]
    pub fn new(
        allowed: impl IntoIterator<Item = String>,
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Self {
        let allowed: BTreeSet<String> = allowed.into_iter().collect();
        let values = environment.into_iter().filter(|(name, _)| allowed.contains(name)).collect();
        Self { allowed, values }
    }

    /// The names that may be read.
    pub fn allowed(&self) -> impl Iterator<Item = &str> {
        self.allowed.iter().map(String::as_str)
    }

    /// The value of a variable, if it is set; a fault if it may not be read.
    pub(super) fn get(&self, name: &str) -> Result<Option<&str>, Fault> {
        if self.allowed.contains(name) {
            return Ok(self.values.get(name).map(String::as_str));
        }
        let fault = Fault::new("config-variable", format!("the variable `{}` may not be read", shown(name, 80)));
        Err(match self.allowed.is_empty() {
            true => fault.hint("no variable is allowed; the operator says which may be read"),
            false => fault.hint(format!(
                "allowed: {}",
                self.allowed.iter().take(20).map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
            )),
        })
    }
}

/// What is wrong with a reference, before it is known where.
#[derive(Debug)]
pub(super) struct Fault {
    code: &'static str,
    message: String,
    hint: Option<String>,
    /// Set by the innermost value that could not be made.
    place: Option<(Origin, String)>,
}

impl Fault {
    pub(super) fn new(code: &'static str, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), hint: None, place: None }
    }

    pub(super) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    fn locate(mut self, at: &At<'_>) -> Self {
        self.place.get_or_insert_with(|| (at.node.origin.clone(), place(at)));
        self
    }

    fn into_problem(self, whole: &Origin) -> Problem {
        let (origin, field) = self.place.unwrap_or_else(|| (whole.clone(), String::new()));
        let problem = problem(&origin, &field, self.code, self.message);
        match self.hint {
            Some(hint) => problem.hint(hint),
            None => problem,
        }
    }
}

/// A node and the way to it.
#[derive(Debug, Clone)]
pub(super) struct At<'t> {
    pub node: &'t Node,
    up: Option<Rc<Self>>,
    step: Option<Step>,
}

impl<'t> At<'t> {
    fn root(node: &'t Node) -> Self {
        Self { node, up: None, step: None }
    }

    fn below(self: &Rc<Self>, node: &'t Node, step: Step) -> Rc<Self> {
        Rc::new(Self { node, up: Some(self.clone()), step: Some(step) })
    }

    pub(super) fn steps(&self) -> Vec<Step> {
        let mut steps: Vec<Step> = self.chain().filter_map(|at| at.step.clone()).collect();
        steps.reverse();
        steps
    }

    /// This place and all above it.
    fn chain(&self) -> impl Iterator<Item = &Self> {
        std::iter::successors(Some(self), |at| at.up.as_deref())
    }
}

/// What a reference stands for: a place in the tree that is no expression, or a value that was made.
#[derive(Debug)]
pub(super) enum Got<'t> {
    At(Rc<At<'t>>),
    Made(Node),
}

impl Got<'_> {
    pub(super) fn node(&self) -> &Node {
        match self {
            Self::At(at) => at.node,
            Self::Made(node) => node,
        }
    }
}

/// Follows the references of one tree.
#[derive(Debug)]
pub(super) struct Resolver<'t> {
    root: Rc<At<'t>>,
    pub(super) variables: &'t Variables,
    /// Expressions that are being followed, outermost first.
    active: Vec<Rc<At<'t>>>,
    /// Mappings and lists that are being copied, outermost first.
    open: Vec<*const Node>,
    followed: usize,
    nodes: usize,
    bytes: usize,
    problems: Vec<Problem>,
}

impl<'t> Resolver<'t> {
    pub(super) fn new(root: &'t Node, variables: &'t Variables) -> Self {
        Self {
            root: Rc::new(At::root(root)),
            variables,
            active: Vec::new(),
            open: Vec::new(),
            followed: 0,
            nodes: 0,
            bytes: 0,
            problems: Vec::new(),
        }
    }

    /// The whole tree with every reference followed, or every problem.
    pub(super) fn whole(mut self) -> Result<Node, Refused> {
        let root = Got::At(self.root.clone());
        self.finish(root)
    }

    /// What was got with every reference below it followed, or every problem.
    pub(super) fn finish(&mut self, got: Got<'t>) -> Result<Node, Refused> {
        let node = self.settle(got, 0);
        match std::mem::take(&mut self.problems) {
            problems if problems.is_empty() => Ok(node),
            problems => Err(Refused { problems }),
        }
    }

    /// What stands at a path of plain keys, itself followed if it is an expression.
    pub(super) fn at_path(&mut self, keys: &[String]) -> Result<Got<'t>, Refused> {
        self.select(keys)?.ok_or_else(|| Refused::at(&self.root.node.origin, "", "config-path", "nothing is there"))
    }

    /// What stands at a path; none if there is nothing, as below a value that has no parts.
    pub(super) fn select(&mut self, keys: &[String]) -> Result<Option<Got<'t>>, Refused> {
        let root = self.root.clone();
        match self.walk(&root, keys, true) {
            Ok(got) => Ok(got.filter(|got| !got.node().value.is_mandatory())),
            Err(fault) => Err(Refused::of(fault.into_problem(&self.root.node.origin))),
        }
    }

    fn report(&mut self, fault: Fault) {
        let problem = fault.into_problem(&self.root.node.origin);
        // Whoever refers to a broken value breaks with it: the cause is said once.
        if self.problems.len() < PROBLEMS_MAX && !self.problems.contains(&problem) {
            self.problems.push(problem);
        }
    }

    /// A copy without expressions. Problems are collected, and null stands in for what could not be made.
    fn settle(&mut self, got: Got<'t>, depth: usize) -> Node {
        match got {
            Got::Made(node) => node,
            Got::At(at) => self.copy(&at, depth),
        }
    }

    fn copy(&mut self, at: &Rc<At<'t>>, depth: usize) -> Node {
        let source = at.node;
        let mut made = Node { value: Value::Null, ..bare(source) };
        self.nodes += 1;
        let fault = if self.nodes > NODES_MAX {
            Some(Fault::new("config-too-large", format!("references copy more than {NODES_MAX} values")))
        } else if depth > DEPTH_MAX {
            Some(Fault::new("config-too-large", format!("references nest more than {DEPTH_MAX} deep")))
        } else if self.open.contains(&std::ptr::from_ref(source)) {
            Some(Fault::new("config-cycle", format!("`{}` contains itself by way of a reference", place(at))))
        } else {
            None
        };
        if let Some(fault) = fault {
            let culprit = self.active.last().unwrap_or(at).clone();
            self.report(fault.locate(&culprit));
            return made;
        }
        made.value = match &source.value {
            Value::Expression(expression) => match self.follow(at) {
                Ok(got) => {
                    // The expression stays active while what it stands for is copied: it is what a problem there is about.
                    self.active.push(at.clone());
                    let settled = self.settle(got, depth);
                    self.active.pop();
                    made.written = Some(expression.text.as_str().into());
                    settled.value
                }
                Err(fault) => {
                    self.report(fault);
                    Value::Null
                }
            },
            Value::Map(map) => {
                self.open.push(source);
                let mut copied = IndexMap::with_capacity(map.len().min(NODES_MAX));
                for (key, node) in map {
                    if self.nodes > NODES_MAX {
                        break;
                    }
                    copied.insert(key.clone(), self.copy(&at.below(node, Step::Key(key.clone())), depth + 1));
                }
                self.open.pop();
                Value::Map(copied)
            }
            Value::List(list) => {
                self.open.push(source);
                let mut copied = Vec::new();
                for (index, node) in list.iter().enumerate() {
                    if self.nodes > NODES_MAX {
                        break;
                    }
                    copied.push(self.copy(&at.below(node, Step::Index(index)), depth + 1));
                }
                self.open.pop();
                Value::List(copied)
            }
            Value::Text(text) => Value::Text(unescaped(text).to_owned()),
            value => value.clone(),
        };
        made
    }

    /// What an expression stands for.
    fn follow(&mut self, at: &Rc<At<'t>>) -> Result<Got<'t>, Fault> {
        let Value::Expression(expression) = &at.node.value else { return Ok(Got::At(at.clone())) };
        self.followed += 1;
        if let Some(start) = self.active.iter().position(|active| std::ptr::eq(active.node, at.node)) {
            let names: Vec<String> = self.active[start..].iter().map(|at| format!("`{}`", place(at))).collect();
            let circle = if names.len() == 1 {
                format!("{} refers to itself", names[0])
            } else {
                format!("{} refer to each other in a circle", names.join(" → "))
            };
            return Err(Fault::new("config-cycle", circle).locate(at));
        }
        if self.active.len() >= CHAIN_MAX || self.followed > FOLLOWED_MAX {
            let fault = if self.active.len() >= CHAIN_MAX {
                format!("more than {CHAIN_MAX} references wait for each other")
            } else {
                format!("there are more than {FOLLOWED_MAX} references to follow")
            };
            return Err(Fault::new("config-too-large", fault).locate(at));
        }
        self.active.push(at.clone());
        let got = self.evaluate(expression, at);
        self.active.pop();
        let got = got.map_err(|fault| fault.locate(at))?;
        match &got {
            Got::At(target) if at.chain().any(|above| std::ptr::eq(above.node, target.node)) => {
                Err(Fault::new("config-cycle", format!("it refers to `{}`, which it is part of", place(target)))
                    .locate(at))
            }
            Got::Made(node) if node.value.is_mandatory() => {
                Err(Fault::new("config-mandatory", "it comes to `???`, which stands for a value that is missing")
                    .locate(at))
            }
            _ => Ok(got),
        }
    }

    fn evaluate(&mut self, expression: &Expression, at: &Rc<At<'t>>) -> Result<Got<'t>, Fault> {
        match expression.parts.as_slice() {
            [Part::Reference(reference)] => self.reference(reference, at),
            parts => {
                let text = self.text(parts, at)?;
                Ok(Got::Made(self.made(Value::Text(text), at)))
            }
        }
    }

    /// A value that was made where an expression stands.
    pub(super) fn made(&self, value: Value, at: &At<'_>) -> Node {
        Node::new(value, at.node.origin.clone())
    }

    fn text(&mut self, parts: &[Part], at: &Rc<At<'t>>) -> Result<String, Fault> {
        let mut text = String::new();
        for part in parts {
            match part {
                Part::Text(part) => text.push_str(part),
                Part::Reference(reference) => {
                    let got = self.reference(reference, at)?;
                    text.push_str(&within_text(&self.value(got)));
                }
            }
            self.bytes += text.len();
            if self.bytes > TEXT_BYTES_MAX {
                let fault = format!("references make more than {TEXT_BYTES_MAX} bytes of text");
                return Err(Fault::new("config-too-large", fault));
            }
        }
        Ok(text)
    }

    /// The value of what was got, without expressions.
    pub(super) fn value(&mut self, got: Got<'t>) -> Value {
        self.settle(got, 0).value
    }

    fn reference(&mut self, reference: &Reference, at: &Rc<At<'t>>) -> Result<Got<'t>, Fault> {
        match reference {
            Reference::Node { dots, keys } => self.node(*dots, keys, at),
            Reference::Call { name, arguments } => {
                let name = self.text(name, at)?;
                let mut values = Vec::new();
                for argument in arguments {
                    values.push(self.element(argument, at)?);
                }
                self.call(&name, values, at)
            }
        }
    }

    fn node(&mut self, dots: usize, keys: &[Key], at: &Rc<At<'t>>) -> Result<Got<'t>, Fault> {
        let (mut dots, mut path) = (dots, Vec::new());
        for key in keys {
            let reference = match &key.step {
                Part::Text(text) => {
                    path.push(text.clone());
                    continue;
                }
                Part::Reference(reference) => reference,
            };
            let got = self.reference(reference, at)?;
            let text = match self.value(got) {
                Value::Text(text) => text,
                Value::Int(number) => number.to_string(),
                value => {
                    let fault = format!("a key must be text or a whole number, and comes to {}", value.kind());
                    return Err(Fault::new("config-reference", fault));
                }
            };
            if key.in_brackets {
                path.extend(split(&format!("[{text}]")));
                continue;
            }
            let mut keys = split(&text);
            if path.is_empty() {
                // A path that was made may be relative as well.
                let leading = text.chars().take_while(|c| *c == '.').count();
                dots += leading;
                keys = if leading == text.chars().count() { Vec::new() } else { keys.split_off(leading) };
            }
            path.extend(keys);
        }
        let missing = || {
            let path = path.iter().fold(".".repeat(dots), |shown, key| {
                let between = if shown.is_empty() || shown.ends_with('.') { "" } else { "." };
                format!("{shown}{between}{key}")
            });
            shown(&path, 80)
        };
        let Some(start) = self.start(dots, at) else {
            let fault = format!("`{}` leads above the top of the configuration", missing());
            return Err(Fault::new("config-reference", fault));
        };
        match self.walk(&start, &path, false)? {
            Some(got) if got.node().value.is_mandatory() => Err(Fault::new(
                "config-mandatory",
                format!("it refers to `{}`, which is `???`: a value that some layer must give", missing()),
            )),
            Some(got) => Ok(got),
            None => {
                let fault = Fault::new("config-reference", format!("it refers to `{}`, which is nowhere", missing()));
                let names = start.node.entries().into_iter().flat_map(|map| map.keys().map(String::as_str));
                Err(match path.first().and_then(|key| near(key, names).first().copied()) {
                    Some(name) if path.first().is_some_and(|key| key != name) => {
                        fault.hint(format!("did you mean `{}`?", shown(name, 80)))
                    }
                    _ => fault,
                })
            }
        }
    }

    /// Where a path with that many leading dots starts: at the root, beside the value, or further up.
    pub(super) fn start(&self, dots: usize, at: &Rc<At<'t>>) -> Option<Rc<At<'t>>> {
        if dots == 0 {
            return Some(self.root.clone());
        }
        (0..dots).try_fold(at.clone(), |at, _| at.up.clone())
    }

    /// Goes down a path. `lenient` finds nothing below what has no parts; else that is a fault.
    pub(super) fn walk(
        &mut self,
        start: &Rc<At<'t>>,
        path: &[String],
        lenient: bool,
    ) -> Result<Option<Got<'t>>, Fault> {
        let mut got = Got::At(start.clone());
        for (at, key) in path.iter().enumerate() {
            let node = got.node();
            if node.value.is_mandatory() && at > 0 {
                return if lenient { Ok(None) } else { Ok(Some(got)) };
            }
            let step = match &node.value {
                Value::Map(map) if map.contains_key(key) => Step::Key(key.clone()),
                Value::Map(_) => return Ok(None),
                Value::List(list) => match index(key, list.len()) {
                    Ok(Some(at)) => Step::Index(at),
                    Ok(None) => return Ok(None),
                    Err(()) => {
                        let fault = format!("`{}` is no index of a list", shown(key, 80));
                        return Err(Fault::new("config-reference", fault));
                    }
                },
                _ if lenient => return Ok(None),
                value => {
                    let fault = format!("it looks for `{}` in {}, which has no parts", shown(key, 80), value.kind());
                    return Err(Fault::new("config-reference", fault));
                }
            };
            got = match got {
                Got::At(parent) => match down(parent.node, &step) {
                    Some(child) => self.follow(&parent.below(child, step))?,
                    None => return Ok(None),
                },
                Got::Made(node) => match into(node, &step) {
                    Some(child) => Got::Made(child),
                    None => return Ok(None),
                },
            };
        }
        Ok(Some(got))
    }

    fn element(&mut self, element: &Element, at: &Rc<At<'t>>) -> Result<Value, Fault> {
        Ok(match element {
            Element::Null => Value::Null,
            Element::Bool(value) => Value::Bool(*value),
            Element::Number(text) => number(text),
            Element::Text { parts, quoted: false } => match parts.as_slice() {
                [Part::Reference(reference)] => {
                    let got = self.reference(reference, at)?;
                    self.value(got)
                }
                parts => Value::Text(self.text(parts, at)?),
            },
            Element::Text { parts, quoted: true } => Value::Text(self.text(parts, at)?),
            Element::List(items) => {
                let mut list = Vec::new();
                for item in items {
                    let value = self.element(item, at)?;
                    list.push(self.made(value, at));
                }
                Value::List(list)
            }
            Element::Map(pairs) => {
                let mut map = IndexMap::new();
                for (key, value) in pairs {
                    let key = match self.element(key, at)? {
                        Value::Text(text) => text,
                        Value::Bool(key) => key.to_string(),
                        Value::Int(key) => key.to_string(),
                        Value::Float(key) => super::shown::float(key),
                        value => {
                            let fault = format!("a key is text, a number or a boolean, not {}", value.kind());
                            return Err(Fault::new("config-function", fault));
                        }
                    };
                    let value = self.element(value, at)?;
                    map.insert(key, self.made(value, at));
                }
                Value::Map(map)
            }
        })
    }

    /// The value of what `oc.decode` was given.
    pub(super) fn decoded(&mut self, element: &Element, at: &Rc<At<'t>>) -> Result<Value, Fault> {
        self.element(element, at)
    }
}

/// A node without its value.
fn bare(node: &Node) -> Node {
    Node {
        value: Value::Null,
        origin: node.origin.clone(),
        replaced: node.replaced.clone(),
        written: node.written.clone(),
    }
}

fn down<'t>(node: &'t Node, step: &Step) -> Option<&'t Node> {
    match (&node.value, step) {
        (Value::Map(map), Step::Key(key)) => map.get(key),
        (Value::List(list), Step::Index(at)) => list.get(*at),
        _ => None,
    }
}

fn into(node: Node, step: &Step) -> Option<Node> {
    match (node.value, step) {
        (Value::Map(mut map), Step::Key(key)) => map.swap_remove(key),
        (Value::List(list), Step::Index(at)) => list.into_iter().nth(*at),
        _ => None,
    }
}

/// `\???` is how the text `???` is written.
fn unescaped(text: &str) -> &str {
    match text.strip_prefix('\\') {
        Some(rest) if rest.strip_suffix(MANDATORY).is_some_and(|head| head.bytes().all(|b| b == b'\\')) => rest,
        _ => text,
    }
}
