//! From the located tree to a [`Playbook`], collecting every problem on the way.
//!
//! The checker walks the steps in the order in which they run and knows at each which variables have been set, so a
//! misspelt name is found before anything happens. What only some runs set (a step with `when`) counts as set: a step
//! that is skipped sets its variable to none.

use std::collections::{BTreeSet, HashSet};

use serde_json::{Map, Value as Json};

use crate::expr::{Engine, single};
use crate::limits::{STEP_DEPTH_MAX, STEPS_MAX};
use crate::playbook::{Action, Each, Expect, List, OnError, Playbook, Problem, Step};
use crate::source::{At, Key, Kind, Node};

/// Names that the run itself gives.
pub const BUILT_IN: [&str; 3] = ["task", "attachments", "errors"];
/// Names that exist only in some places and cannot be set.
const RESERVED: [&str; 6] = ["task", "attachments", "errors", "error", "result", "index"];

const PLAYBOOK_FIELDS: [&str; 7] = ["playbook", "name", "description", "vars", "steps", "output", "result"];
const STEP_FIELDS: [&str; 15] = [
    "name", "when", "for_each", "as", "tool", "with", "say", "steps", "fail", "expect", "on_error", "set", "save_as",
    "keep", "parallel",
];

/// Collects problems.
pub struct Checker<'e> {
    engine: &'e Engine,
    problems: Vec<Problem>,
    /// Variables that are set at the place where the walk is.
    known: BTreeSet<String>,
    step: Option<String>,
    path: Vec<String>,
    steps: usize,
}

impl<'e> Checker<'e> {
    /// A checker before the first line.
    pub fn new(engine: &'e Engine) -> Self {
        Self {
            engine,
            problems: Vec::new(),
            known: BUILT_IN.iter().map(|name| (*name).to_owned()).collect(),
            step: None,
            path: Vec::new(),
            steps: 0,
        }
    }

    /// What was found, in the order of the text.
    pub fn into_problems(mut self) -> Vec<Problem> {
        self.problems.sort_by_key(|problem| (problem.at.line, problem.at.column));
        self.problems
    }

    /// The playbook; what is missing in it is a problem.
    pub fn playbook(&mut self, root: &Node) -> Option<Playbook> {
        let Kind::Map(entries) = &root.kind else {
            self.say(
                root.at,
                format!("a playbook is a mapping, not {}", root.describe()),
                Some("begin with `playbook: 1`, `name:` and `steps:`; `examples/playbooks` has whole ones".into()),
            );
            return None;
        };
        self.unknown_fields(entries, &PLAYBOOK_FIELDS, "a playbook");
        match field(entries, "playbook") {
            Some(Node { kind: Kind::Number(version), .. }) if version.as_u64() == Some(1) => {}
            Some(node) => self.at("playbook", |this| {
                this.say(
                    node.at,
                    format!("version {} is not known", node.to_json()),
                    Some("write `playbook: 1`".into()),
                );
            }),
            None => {
                self.say(root.at, "the field `playbook` is missing".into(), Some("write `playbook: 1` first".into()))
            }
        }
        let name = self.required_text(entries, root.at, "name");
        let _ = self.optional_text(entries, "description");
        let vars = self.settings(entries, "vars");
        let steps = match field(entries, "steps") {
            Some(node) => self.at("steps", |this| this.steps(node, "", 1)),
            None => {
                self.say(root.at, "the field `steps` is missing".into(), None);
                Vec::new()
            }
        };
        self.step = None;
        let output = field(entries, "output").and_then(|node| self.at("output", |this| this.template(node)));
        let result = field(entries, "result").map(|node| self.at("result", |this| this.filled(node)));
        Some(Playbook { name: name?, vars, steps, output, result })
    }

    fn steps(&mut self, node: &Node, above: &str, depth: usize) -> Vec<Step> {
        let Kind::List(items) = &node.kind else {
            self.say(
                node.at,
                format!("steps are a list, not {}", node.describe()),
                Some("begin each with `- name:`".into()),
            );
            return Vec::new();
        };
        if items.is_empty() {
            self.say(node.at, "there is no step".into(), None);
        }
        if depth > STEP_DEPTH_MAX {
            self.say(node.at, format!("steps are more than {STEP_DEPTH_MAX} deep"), None);
            return Vec::new();
        }
        let (outer_step, outer_path) = (self.step.take(), std::mem::take(&mut self.path));
        let mut steps = Vec::new();
        for (index, item) in items.iter().enumerate() {
            self.steps += 1;
            if self.steps == STEPS_MAX + 1 {
                self.step = None;
                self.say(item.at, format!("the playbook has more than {STEPS_MAX} steps"), None);
            }
            if self.steps > STEPS_MAX {
                break;
            }
            let number = if above.is_empty() { (index + 1).to_string() } else { format!("{above}.{}", index + 1) };
            steps.extend(self.step(item, number, depth));
            self.path.clear();
        }
        (self.step, self.path) = (outer_step, outer_path);
        steps
    }

    fn step(&mut self, node: &Node, number: String, depth: usize) -> Option<Step> {
        self.step = Some(format!("step {number}"));
        let Kind::Map(entries) = &node.kind else {
            self.say(node.at, format!("a step is a mapping, not {}", node.describe()), None);
            return None;
        };
        if let Some(Node { kind: Kind::Text(name), .. }) = field(entries, "name") {
            self.step = Some(format!("step {number} `{name}`"));
        }
        let label = self.step.clone();
        self.unknown_fields(entries, &STEP_FIELDS, "a step");
        let name = self.required_text(entries, node.at, "name");

        let each = field(entries, "for_each").and_then(|node| self.at("for_each", |this| this.list(node)));
        let item = self.variable_name(entries, "as");
        if let (Some((_, at)), None) = (&item, &each) {
            self.at("as", |this| this.say(*at, "`as` names the item of a `for_each`, which is missing".into(), None));
        }
        let each = each.map(|list| Each { list, name: item.map_or_else(|| "item".to_owned(), |(name, _)| name) });
        let before = self.known.clone();
        if let Some(each) = &each {
            self.known.extend([each.name.clone(), "index".to_owned()]);
        }
        let when = field(entries, "when").and_then(|node| self.at("when", |this| this.expression(node)));
        let action = self.action(entries, node.at, &number, depth);
        self.step = label;
        let is_tool = matches!(action, Some(Action::Tool { .. }));
        if is_tool {
            self.known.insert("result".into());
        }
        let expect =
            field(entries, "expect").map(|node| self.at("expect", |this| this.expects(node))).unwrap_or_default();
        let set = self.settings(entries, "set");
        let keep = field(entries, "keep").map(|node| self.at("keep", |this| this.filled(node)));
        self.known.remove("result");
        let on_error = self.on_error(entries, &number, depth);
        self.step = Some(format!("step {number} `{}`", name.as_deref().unwrap_or("?")));
        // What the body sets stays; the loop's own variables end with it.
        if let Some(each) = &each {
            for name in [each.name.as_str(), "index"] {
                if !before.contains(name) {
                    self.known.remove(name);
                }
            }
        }
        let save_as = self.variable_name(entries, "save_as");
        if let Some((name, at)) = &save_as {
            if keep.is_none() && !is_tool {
                self.at("save_as", |this| {
                    this.say(
                        *at,
                        "the step has no value to save".into(),
                        Some("give it with `keep:`, or use `tool:`".into()),
                    );
                });
            }
            self.known.insert(name.clone());
        } else if let (Some(_), Some(node)) = (&keep, field(entries, "keep")) {
            self.at("keep", |this| {
                this.say(node.at, "what is kept needs a name".into(), Some("add `save_as:`".into()))
            });
        }
        let parallel = field(entries, "parallel").and_then(|node| {
            self.at("parallel", |this| match &node.kind {
                Kind::Bool(value) => Some(*value),
                _ => {
                    this.say(node.at, format!("must be `true` or `false`, not {}", node.describe()), None);
                    None
                }
            })
        });
        if let (Some(true), Some(node)) = (parallel, field(entries, "parallel"))
            && (each.is_none() || !is_tool || !set.is_empty())
        {
            self.at("parallel", |this| {
                this.say(node.at, "only a loop over a tool without `set` can run side by side".into(), None);
            });
        }
        Some(Step {
            number,
            name: name?,
            when,
            each,
            action: action?,
            expect,
            on_error,
            set,
            save_as: save_as.map(|(name, _)| name),
            keep,
            parallel,
        })
    }

    fn action(&mut self, entries: &[(Key, Node)], at: At, number: &str, depth: usize) -> Option<Action> {
        let actions = ["tool", "say", "steps", "fail"];
        let present: Vec<&str> = actions.into_iter().filter(|name| field(entries, name).is_some()).collect();
        if let [first, second, ..] = present.as_slice() {
            let place = field(entries, second).map_or(at, |node| node.at);
            self.say(
                place,
                format!("a step does one thing, this one has `{first}` and `{second}`"),
                Some("make two steps of it".into()),
            );
            return None;
        }
        if let (Some(with), false) = (field(entries, "with"), present == ["tool"]) {
            self.at("with", |this| this.say(with.at, "only a `tool` takes arguments".into(), None));
        }
        let Some(name) = present.first().copied() else {
            let computes = ["set", "keep", "expect"].iter().any(|name| field(entries, name).is_some());
            // A misspelt field is said already, and is most likely what it should do.
            let misspelt = entries.iter().any(|(key, _)| !STEP_FIELDS.contains(&key.name.as_str()));
            if !computes && !misspelt {
                self.say(
                    at,
                    "the step does nothing".into(),
                    Some("give it `tool`, `say`, `steps`, `fail`, `set`, `keep` or `expect`".into()),
                );
            }
            return Some(Action::Compute);
        };
        let node = field(entries, name)?;
        self.at(name, |this| match name {
            "tool" => {
                let tool = this.text(node)?;
                let with = match field(entries, "with") {
                    None => Json::Object(Map::new()),
                    Some(with) => {
                        this.path.pop();
                        this.path.push("with".into());
                        if !matches!(with.kind, Kind::Map(_)) {
                            this.say(with.at, format!("arguments are a mapping, not {}", with.describe()), None);
                        }
                        this.filled(with)
                    }
                };
                Some(Action::Tool { tool, with })
            }
            "say" => this.template(node).map(Action::Say),
            "fail" => this.template(node).map(Action::Fail),
            _ => Some(Action::Steps(this.steps(node, number, depth + 1))),
        })
    }

    fn on_error(&mut self, entries: &[(Key, Node)], number: &str, depth: usize) -> OnError {
        let Some(node) = field(entries, "on_error") else { return OnError::Fail };
        self.at("on_error", |this| match &node.kind {
            Kind::Text(word) if word == "fail" => OnError::Fail,
            Kind::Text(word) if word == "continue" => OnError::Continue,
            Kind::Map(entries) => {
                this.unknown_fields(entries, &["steps"], "`on_error`");
                let Some(steps) = field(entries, "steps") else { return OnError::Fail };
                this.known.insert("error".into());
                let steps = this.steps(steps, &format!("{number}.error"), depth + 1);
                this.known.remove("error");
                OnError::Steps(steps)
            }
            _ => {
                this.say(
                    node.at,
                    format!("`{}` is not known here", short(node)),
                    Some("write `fail`, `continue`, or `steps:` below it".into()),
                );
                OnError::Fail
            }
        })
    }

    fn list(&mut self, node: &Node) -> Option<List> {
        match &node.kind {
            Kind::Text(_) => self.expression(node).map(List::Expression),
            Kind::List(_) => Some(List::Items(self.filled(node))),
            _ => {
                self.say(node.at, format!("a loop goes over an expression or a list, not {}", node.describe()), None);
                None
            }
        }
    }

    fn expects(&mut self, node: &Node) -> Vec<Expect> {
        match &node.kind {
            Kind::List(items) => items.iter().filter_map(|item| self.expect(item)).collect(),
            _ => self.expect(node).into_iter().collect(),
        }
    }

    fn expect(&mut self, node: &Node) -> Option<Expect> {
        let Kind::Map(entries) = &node.kind else {
            return Some(Expect { that: self.expression(node)?, message: None });
        };
        self.unknown_fields(entries, &["that", "message"], "an expectation");
        let Some(that) = field(entries, "that") else {
            self.say(node.at, "the field `that` is missing".into(), None);
            return None;
        };
        let message = field(entries, "message").and_then(|node| self.at("message", |this| this.template(node)));
        Some(Expect { that: self.at("that", |this| this.expression(that))?, message })
    }

    /// A mapping of variables to values.
    fn settings(&mut self, entries: &[(Key, Node)], name: &str) -> Vec<(String, Json)> {
        let Some(node) = field(entries, name) else { return Vec::new() };
        self.at(name, |this| {
            let Kind::Map(entries) = &node.kind else {
                this.say(node.at, format!("must be a mapping of variables to values, not {}", node.describe()), None);
                return Vec::new();
            };
            let mut settings = Vec::new();
            for (key, value) in entries {
                let value = this.at(&key.name, |this| {
                    this.check_name(&key.name, key.at);
                    this.filled(value)
                });
                this.known.insert(key.name.clone());
                settings.push((key.name.clone(), value));
            }
            settings
        })
    }

    fn variable_name(&mut self, entries: &[(Key, Node)], name: &str) -> Option<(String, At)> {
        let node = field(entries, name)?;
        self.at(name, |this| {
            let text = this.text(node)?;
            this.check_name(&text, node.at);
            Some((text, node.at))
        })
    }

    fn check_name(&mut self, name: &str, at: At) {
        let mut chars = name.chars();
        let fits = chars.next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_')
            && chars.all(|c| c.is_ascii_alphanumeric() || c == '_');
        if !fits {
            self.say(
                at,
                format!("`{name}` is no name of a variable"),
                Some("use letters, digits and `_`, a letter first".into()),
            );
        } else if RESERVED.contains(&name) {
            self.say(at, format!("`{name}` is set by the run itself"), Some("use another name".into()));
        }
    }

    /// An expression. A boolean or a number stands for itself.
    fn expression(&mut self, node: &Node) -> Option<String> {
        let text = match &node.kind {
            Kind::Text(text) => text,
            Kind::Bool(_) | Kind::Number(_) => return Some(node.to_json().to_string()),
            _ => {
                self.say(node.at, format!("must be an expression, not {}", node.describe()), None);
                return None;
            }
        };
        if single(text).is_some() {
            self.say(
                node.at,
                "this field is an expression already".into(),
                Some("write it without `{{` and `}}`".into()),
            );
            return None;
        }
        match self.engine.check_expression(text) {
            Ok(names) => self.check_known(&names, node.at),
            Err(error) => self.say(node.at, format!("`{}` is no expression: {error}", short(node)), None),
        }
        Some(text.clone())
    }

    /// Text with templates.
    fn template(&mut self, node: &Node) -> Option<String> {
        let text = match &node.kind {
            Kind::Bool(_) | Kind::Number(_) => node.to_json().to_string(),
            _ => self.text(node)?,
        };
        self.check_template(&text, node.at);
        Some(text)
    }

    fn check_template(&mut self, text: &str, at: At) {
        match self.engine.check_template(text) {
            Ok(names) => self.check_known(&names, at),
            Err(error) => self.say(at, format!("the template does not parse: {error}"), None),
        }
    }

    /// Any value, with templates in its texts.
    fn filled(&mut self, node: &Node) -> Json {
        match &node.kind {
            Kind::Text(text) => self.check_template(text, node.at),
            Kind::List(items) => {
                for (index, item) in items.iter().enumerate() {
                    self.at(&format!("[{index}]"), |this| this.filled(item));
                }
            }
            Kind::Map(entries) => {
                for (key, value) in entries {
                    self.at(&key.name, |this| this.filled(value));
                }
            }
            _ => {}
        }
        node.to_json()
    }

    fn check_known(&mut self, names: &HashSet<String>, at: At) {
        let mut unknown: Vec<&String> = names.iter().filter(|name| !self.known.contains(*name)).collect();
        unknown.sort();
        for name in unknown {
            let hint = near(name, self.known.iter().map(String::as_str)).or_else(|| match name.as_str() {
                "result" => Some("`result` is there in `expect`, `set` and `keep` of a step with a `tool`".into()),
                "error" => Some("`error` is there in the steps of `on_error`".into()),
                "index" | "item" => Some("a loop (`for_each`) gives it".into()),
                _ => Some("set it in `vars`, `set` or `save_as` before this step".into()),
            });
            self.say(at, format!("nothing sets the variable `{name}` before this"), hint);
        }
    }

    fn required_text(&mut self, entries: &[(Key, Node)], at: At, name: &str) -> Option<String> {
        if field(entries, name).is_none() {
            self.say(at, format!("the field `{name}` is missing"), None);
        }
        self.optional_text(entries, name)
    }

    fn optional_text(&mut self, entries: &[(Key, Node)], name: &str) -> Option<String> {
        let node = field(entries, name)?;
        self.at(name, |this| this.text(node))
    }

    fn text(&mut self, node: &Node) -> Option<String> {
        match &node.kind {
            Kind::Text(text) if !text.trim().is_empty() => Some(text.clone()),
            Kind::Text(_) => {
                self.say(node.at, "must not be blank".into(), None);
                None
            }
            _ => {
                self.say(node.at, format!("must be text, not {}", node.describe()), None);
                None
            }
        }
    }

    fn unknown_fields(&mut self, entries: &[(Key, Node)], known: &[&str], what: &str) {
        for (key, _) in entries.iter().filter(|(key, _)| !known.contains(&key.name.as_str())) {
            let hint = near(&key.name, known.iter().copied()).unwrap_or_else(|| {
                format!("{what} has {}", known.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", "))
            });
            self.say(key.at, format!("{what} has no field `{}`", key.name), Some(hint));
        }
    }

    /// Does something one field deeper.
    fn at<T>(&mut self, field: &str, f: impl FnOnce(&mut Self) -> T) -> T {
        self.path.push(field.to_owned());
        let depth = self.path.len();
        let value = f(self);
        self.path.truncate(depth - 1);
        value
    }

    fn say(&mut self, at: At, message: String, hint: Option<String>) {
        let field = self.path.join(".").replace(".[", "[");
        self.problems.push(Problem { step: self.step.clone(), field, at, message, hint });
    }
}

fn field<'n>(entries: &'n [(Key, Node)], name: &str) -> Option<&'n Node> {
    entries.iter().find(|(key, _)| key.name == name).map(|(_, node)| node)
}

/// "Did you mean", when one of the names is near enough.
pub fn near<'n>(name: &str, names: impl Iterator<Item = &'n str>) -> Option<String> {
    let best = names.map(|known| (strsim::damerau_levenshtein(name, known), known)).min()?;
    let allowed = (name.chars().count() / 3).max(1);
    (best.0 <= allowed).then(|| format!("did you mean `{}`", best.1))
}

/// The beginning of a value, for a message.
fn short(node: &Node) -> String {
    let text = match &node.kind {
        Kind::Text(text) => text.clone(),
        _ => node.to_json().to_string(),
    };
    if text.chars().count() <= 60 {
        return text;
    }
    let start: String = text.chars().take(60).collect();
    format!("{start}...")
}
