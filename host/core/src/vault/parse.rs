//! A vault from configuration: every mistake as a problem, and what would fail at first use.
//!
//! [`Vault::parse`] refuses what the original refuses when it loads (shape and form). [`Vault::check`] finds what the original
//! finds at first use only (dangling names, unknown backends, bad paths) or never (unknown fields).

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use super::{Backend, SecretPolicy, SecretRef, SecretStore, StoreOptions, TIMEOUT_MS_MAX, Vault, clean, identifier};
use crate::permission::variable_name;
use crate::problem::{PROBLEMS_MAX, Problem};
use crate::text::shown;

impl Vault {
    /// Reads `{stores: {name: {backend, root}}, refs: {name: {store, path, policy}}, policies: {name: {allowed_principals}}}`.
    /// `file` is what problems call it. Problems come in the order in which the original would meet them: the sections,
    /// then references, stores, policies.
    ///
    /// # Errors
    /// Problems with the codes `vault-shape` (what is missing or of the wrong type) and `vault-value` (what is not well
    /// formed).
    pub fn parse(config: &Value, file: &str) -> Result<Self, Vec<Problem>> {
        let mut reader = Reader { file, problems: Vec::new(), unknown: Vec::new() };
        let vault = reader.vault(config);
        if !reader.problems.is_empty() {
            reader.problems.truncate(PROBLEMS_MAX);
            return Err(reader.problems);
        }
        Ok(Self { unknown: reader.unknown, ..vault })
    }

    /// What would fail when a secret is first asked for, and fields that mean nothing. `file` is what problems call it.
    #[must_use]
    pub fn check(&self, file: &str) -> Vec<Problem> {
        let mut problems = Vec::new();
        for secret in self.refs.values() {
            let field = |part: &str| format!("refs.{}.{part}", secret.name);
            let dangling = |what: &str, name: &str, code: &'static str, known: Vec<&str>| {
                let problem = Problem::new(file, code, format!("there is no {what} `{name}`"));
                match crate::text::near(name, known).first() {
                    Some(near) => problem.hint(format!("did you mean `{near}`?")),
                    None => problem,
                }
            };
            if !self.policies.contains_key(&secret.policy) {
                let known = self.policies.keys().map(String::as_str).collect();
                let problem = dangling("policy", &secret.policy, "secret-policy-unknown", known);
                problems.push(problem.field(field("policy")));
            }
            match self.stores.get(&secret.store) {
                None => {
                    let known = self.stores.keys().map(String::as_str).collect();
                    let problem = dangling("store", &secret.store, "secret-store-unknown", known);
                    problems.push(problem.field(field("store")));
                }
                Some(store) => {
                    if let Err(error) = store.resolve_path(&secret.path) {
                        problems.push(of_error(file, error).field(field("path")));
                    }
                }
            }
        }
        for store in self.stores.values() {
            match Backend::of(store) {
                Err(error) => problems.push(of_error(file, error).field(format!("stores.{}.backend", store.name))),
                Ok(backend) => problems.extend(options(file, store, backend)),
            }
        }
        for field in &self.unknown {
            problems.push(Problem::new(file, "vault-key", "this field means nothing here").field(field.as_str()));
        }
        problems.truncate(PROBLEMS_MAX);
        problems
    }
}

fn of_error(file: &str, error: crate::Error) -> Problem {
    Problem { hint: error.hint, ..Problem::new(file, error.code, error.message) }
}

/// Whether a store has the options that its backend uses.
fn options(file: &str, store: &SecretStore, backend: Backend) -> Vec<Problem> {
    let StoreOptions { command, env, absent_exit, timeout_ms: _ } = &store.options;
    let problem = |field: &str, why: &str| {
        Problem::new(file, "vault-option", why.to_owned()).field(format!("stores.{}.{field}", store.name))
    };
    let mut problems = Vec::new();
    if backend == Backend::Command {
        if command.is_empty() {
            problems.push(problem("command", "the backend `command` needs a program with its arguments"));
        } else if !command.iter().skip(1).any(|word| word.contains("{path}")) {
            problems.push(problem("command", "no argument has `{path}` in it, so every secret would be the same"));
        }
        return problems;
    }
    let used = [("command", !command.is_empty()), ("absent_exit", !absent_exit.is_empty())];
    let env_used = ("env", !env.is_empty() && backend != Backend::Gopass);
    for (field, _) in used.into_iter().chain([env_used]).filter(|(_, is_set)| *is_set) {
        problems.push(problem(field, &format!("the backend `{}` does not use this", backend.as_str())));
    }
    problems
}

struct Reader<'a> {
    file: &'a str,
    problems: Vec<Problem>,
    unknown: Vec<String>,
}

const SECTIONS: [&str; 3] = ["stores", "refs", "policies"];

impl Reader<'_> {
    fn vault(&mut self, config: &Value) -> Vault {
        let empty = Map::new();
        let Some(config) = config.as_object() else {
            self.shape("", "the configuration of secrets must be a mapping");
            return Vault::default();
        };
        let [stores, refs, policies] = SECTIONS.map(|name| {
            config.get(name).and_then(Value::as_object).unwrap_or_else(|| {
                self.shape(name, "this section must be there and be a mapping");
                &empty
            })
        });
        self.known("", config, &SECTIONS);
        Vault {
            refs: self.entries("refs", refs, Self::secret),
            stores: self.entries("stores", stores, Self::store),
            policies: self.entries("policies", policies, Self::policy),
            unknown: Vec::new(),
        }
    }

    /// Reads each entry of a section that is a mapping under a well-formed name.
    fn entries<T>(
        &mut self,
        section: &str,
        entries: &Map<String, Value>,
        read: impl Fn(&mut Self, &str, &str, &Map<String, Value>) -> T,
    ) -> BTreeMap<String, T> {
        let mut all = BTreeMap::new();
        for (name, entry) in entries {
            let at = format!("{section}.{}", shown(name, 64));
            let Some(entry) = entry.as_object() else {
                self.shape(&at, "this must be a mapping");
                continue;
            };
            self.well_formed(&at, "the name", identifier(name));
            all.insert(name.clone(), read(self, &at, name, entry));
        }
        all
    }

    fn secret(&mut self, at: &str, name: &str, entry: &Map<String, Value>) -> SecretRef {
        self.known(at, entry, &["store", "path", "policy"]);
        SecretRef {
            name: name.to_owned(),
            store: self.text(at, entry, "store", identifier),
            path: self.text(at, entry, "path", clean),
            policy: self.text(at, entry, "policy", identifier),
        }
    }

    fn store(&mut self, at: &str, name: &str, entry: &Map<String, Value>) -> SecretStore {
        self.known(at, entry, &["backend", "root", "command", "env", "absent_exit", "timeout_ms"]);
        let backend = self.text(at, entry, "backend", identifier);
        let root = self.text(at, entry, "root", clean);
        let command = self.texts(at, entry, "command", |word| {
            if word.is_empty() || word.contains('\0') { Err("is empty or has a NUL in it") } else { Ok(()) }
        });
        let env = self.texts(at, entry, "env", |name| {
            if variable_name(name) { Ok(()) } else { Err("is not the name of a variable") }
        });
        let absent_exit = self.numbers(at, entry, "absent_exit", 1, 255);
        let timeout_ms =
            entry.get("timeout_ms").and_then(|value| self.number(at, "timeout_ms", value, 1, TIMEOUT_MS_MAX));
        let absent_exit = absent_exit.into_iter().filter_map(|code| i32::try_from(code).ok()).collect();
        let options = StoreOptions { command, env, absent_exit, timeout_ms };
        SecretStore { name: name.to_owned(), backend, root, options }
    }

    fn policy(&mut self, at: &str, name: &str, entry: &Map<String, Value>) -> SecretPolicy {
        self.known(at, entry, &["allowed_principals"]);
        let field = "allowed_principals";
        if entry.get(field).is_none() {
            self.shape(&format!("{at}.{field}"), "this must be a list of texts");
        }
        let allowed_principals = self.texts(at, entry, field, identifier);
        let mut seen = BTreeSet::new();
        for (index, principal) in allowed_principals.iter().enumerate() {
            if !seen.insert(principal) {
                self.value(&format!("{at}.{field}.{index}"), format!("`{}` is listed twice", shown(principal, 64)));
            }
        }
        SecretPolicy { name: name.to_owned(), allowed_principals }
    }

    fn text(
        &mut self,
        at: &str,
        entry: &Map<String, Value>,
        field: &str,
        rule: impl Fn(&str) -> Result<(), &'static str>,
    ) -> String {
        let at = format!("{at}.{field}");
        match entry.get(field) {
            Some(Value::String(text)) => {
                self.well_formed(&at, "it", rule(text));
                text.clone()
            }
            Some(_) => {
                self.shape(&at, "this must be a text");
                String::new()
            }
            None => {
                self.shape(&at, "this is missing: it must be a text");
                String::new()
            }
        }
    }

    fn texts(
        &mut self,
        at: &str,
        entry: &Map<String, Value>,
        field: &str,
        rule: impl Fn(&str) -> Result<(), &'static str>,
    ) -> Vec<String> {
        let at = format!("{at}.{field}");
        let list = match entry.get(field) {
            None => return Vec::new(),
            Some(Value::Array(list)) => list,
            Some(_) => {
                self.shape(&at, "this must be a list of texts");
                return Vec::new();
            }
        };
        let mut texts = Vec::new();
        for (index, item) in list.iter().enumerate() {
            let at = format!("{at}.{index}");
            match item.as_str() {
                Some(text) => {
                    self.well_formed(&at, "it", rule(text));
                    texts.push(text.to_owned());
                }
                None => self.shape(&at, "this must be a text"),
            }
        }
        texts
    }

    fn numbers(&mut self, at: &str, entry: &Map<String, Value>, field: &str, min: u64, max: u64) -> Vec<u64> {
        match entry.get(field) {
            None => Vec::new(),
            Some(Value::Array(list)) => {
                let numbers = list.iter().enumerate();
                numbers
                    .filter_map(|(index, item)| self.number(at, &format!("{field}.{index}"), item, min, max))
                    .collect()
            }
            Some(_) => {
                self.shape(&format!("{at}.{field}"), "this must be a list of numbers");
                Vec::new()
            }
        }
    }

    fn number(&mut self, at: &str, field: &str, value: &Value, min: u64, max: u64) -> Option<u64> {
        let at = format!("{at}.{field}");
        match value.as_u64() {
            Some(number) if (min..=max).contains(&number) => Some(number),
            Some(_) => {
                self.value(&at, format!("this must be from {min} to {max}"));
                None
            }
            None => {
                self.shape(&at, "this must be a whole number");
                None
            }
        }
    }

    fn known(&mut self, at: &str, entry: &Map<String, Value>, known: &[&str]) {
        let dot = if at.is_empty() { "" } else { "." };
        let unknown = entry.keys().filter(|key| !known.contains(&key.as_str()));
        self.unknown.extend(unknown.map(|key| format!("{at}{dot}{}", shown(key, 64))).take(PROBLEMS_MAX));
    }

    fn well_formed(&mut self, at: &str, what: &str, verdict: Result<(), &'static str>) {
        if let Err(why) = verdict {
            self.value(at, format!("{what} {why}"));
        }
    }

    fn shape(&mut self, field: &str, message: &str) {
        self.push("vault-shape", field, message.to_owned());
    }

    fn value(&mut self, field: &str, message: String) {
        self.push("vault-value", field, message);
    }

    fn push(&mut self, code: &'static str, field: &str, message: String) {
        // One more than is shown says that there are more; the rest would only cost memory.
        if self.problems.len() <= PROBLEMS_MAX {
            self.problems.push(Problem::new(self.file, code, message).field(field));
        }
    }
}
