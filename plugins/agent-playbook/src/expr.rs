//! Expressions and templates of a playbook.
//!
//! An *expression* (`when`, `for_each`, `expect`) gives a value. A *template* is text with `{{ .. }}` and `{% .. %}`;
//! one that is nothing but a single `{{ .. }}` gives the value itself, so that lists and numbers stay what they are.
//! Unknown names are errors, never empty text. Each evaluation has its own fuel.

use std::collections::{BTreeMap, HashSet};
use std::io;

use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Kwargs, Serde, Value};
use minijinja::{Environment, Error, ErrorKind, State, UndefinedBehavior};
use regex_lite::Regex;
use serde_json::Value as Json;

use crate::limits::{OPERATORS_MAX, TEMPLATE_BYTES_MAX, TEMPLATE_FUEL, TEMPLATE_RECURSION_MAX};

/// The variables by name.
pub type Scope = BTreeMap<String, Value>;

/// The template engine with what playbooks need.
pub struct Engine {
    env: Environment<'static>,
}

impl Engine {
    /// An engine with the filters of the README.
    pub fn new() -> Self {
        let mut env = Environment::new();
        env.set_undefined_behavior(UndefinedBehavior::Strict);
        env.set_fuel(Some(TEMPLATE_FUEL));
        env.set_recursion_limit(TEMPLATE_RECURSION_MAX);
        // A line with only a tag leaves no blank line in a report. The builder fails for unusable delimiters only.
        let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).keep_trailing_newline(true).build();
        if let Ok(syntax) = syntax {
            env.set_syntax(syntax);
        }
        env.add_filter("basename", |path: String| basename(&path).to_owned());
        env.add_filter("dirname", |path: String| dirname(&path).to_owned());
        env.add_filter("stem", |path: String| stem(&path).to_owned());
        env.add_filter("extension", |path: String| extension(&path).to_owned());
        env.add_filter("top_folder", |path: String| path.split_once('/').map_or(".", |(folder, _)| folder).to_owned());
        env.add_filter("as_set", as_set);
        env.add_filter("regex_replace", regex_replace);
        env.add_filter("regex_escape", |text: String| regex_lite::escape(&text));
        env.add_filter("regex_groups", regex_groups);
        env.add_filter("matching", matching);
        env.add_test("matching", |text: String, pattern: String| Ok::<_, Error>(regex(&pattern)?.is_match(&text)));
        env.add_filter("tally", tally);
        env.add_filter("with_field", with_field);
        env.add_filter("from_json", |text: String| {
            serde_json::from_str::<Json>(&text)
                .map(|value| from_json(&value))
                .map_err(|error| Error::new(ErrorKind::InvalidOperation, format!("not JSON: {error}")))
        });
        env.add_filter("filesizeformat", minijinja_contrib::filters::filesizeformat);
        env.add_filter("pluralize", minijinja_contrib::filters::pluralize);
        Self { env }
    }

    /// Checks an expression and gives the names that it reads.
    pub fn check_expression(&self, text: &str) -> Result<HashSet<String>, String> {
        check_operators(most_operators(&format!("{{{{{text}")))?;
        let expression = self.env.compile_expression(text).map_err(|error| say(&error))?;
        Ok(self.without_globals(expression.undeclared_variables(false)))
    }

    /// Checks a template and gives the names that it reads.
    pub fn check_template(&self, text: &str) -> Result<HashSet<String>, String> {
        check_operators(most_operators(text))?;
        let template = self.env.template_from_str(text).map_err(|error| say(&error))?;
        Ok(self.without_globals(template.undeclared_variables(false)))
    }

    fn without_globals(&self, mut names: HashSet<String>) -> HashSet<String> {
        for (name, _) in self.env.globals() {
            names.remove(name);
        }
        names
    }

    /// The value of an expression.
    pub fn expression(&self, text: &str, scope: &Scope) -> Result<Value, String> {
        let expression = self.env.compile_expression(text).map_err(|error| say(&error))?;
        let value = expression.eval(context(scope)).map_err(|error| say(&error))?;
        if value.is_undefined() {
            return Err("undefined value".into());
        }
        Ok(value)
    }

    /// Whether an expression holds.
    pub fn holds(&self, text: &str, scope: &Scope) -> Result<bool, String> {
        Ok(self.expression(text, scope)?.is_true())
    }

    /// The value of a template: what its single `{{ .. }}` gives, else text.
    pub fn template(&self, text: &str, scope: &Scope) -> Result<Json, String> {
        if !text.contains("{{") && !text.contains("{%") && !text.contains("{#") {
            return Ok(Json::String(text.to_owned()));
        }
        if let Some(inner) = single(text)
            && self.env.compile_expression(inner).is_ok()
        {
            return to_json(&self.expression(inner, scope)?);
        }
        self.text(text, scope).map(Json::String)
    }

    /// The text of a template.
    pub fn text(&self, text: &str, scope: &Scope) -> Result<String, String> {
        let template = self.env.template_from_str(text).map_err(|error| say(&error))?;
        let mut bounded = Bounded(Vec::new());
        template.render_captured_to(context(scope), &mut bounded).map_err(|error| say(&error))?;
        String::from_utf8(bounded.0).map_err(|_| "the template gave bytes that are no text".to_owned())
    }

    /// JSON with a template in each text.
    pub fn fill(&self, value: &Json, scope: &Scope) -> Result<Json, String> {
        Ok(match value {
            Json::String(text) => self.template(text, scope)?,
            Json::Array(items) => {
                Json::Array(items.iter().map(|item| self.fill(item, scope)).collect::<Result<_, _>>()?)
            }
            Json::Object(entries) => Json::Object(
                entries
                    .iter()
                    .map(|(key, value)| Ok((key.clone(), self.fill(value, scope)?)))
                    .collect::<Result<_, String>>()?,
            ),
            plain => plain.clone(),
        })
    }
}

impl Default for Engine {
    fn default() -> Self {
        Self::new()
    }
}

/// A value as JSON. What has no JSON form (a function, a number that is not finite) is an error.
pub fn to_json(value: &Value) -> Result<Json, String> {
    serde_json::to_value(value).map_err(|error| format!("the value has no JSON form: {error}"))
}

/// JSON as a value.
pub fn from_json(value: &Json) -> Value {
    Value::from(Serde(value))
}

/// The inside of a template that is one `{{ .. }}` and nothing else.
pub fn single(text: &str) -> Option<&str> {
    text.trim().strip_prefix("{{")?.strip_suffix("}}")
}

fn context(scope: &Scope) -> Value {
    Value::from_pairs(scope.iter().map(|(name, value)| (name.clone(), value.clone())))
}

/// Refuses an expression with so many operators that the engine, which goes into each by recursion, could run out of
/// the small stack of a component. An overflow there would be a trap, not an error that says where.
fn check_operators(count: usize) -> Result<(), String> {
    if count > OPERATORS_MAX {
        return Err(format!("an expression has {count} operators, at most {OPERATORS_MAX} are allowed"));
    }
    Ok(())
}

/// Operators of an expression: everything outside of quotes that could make the engine go one deeper.
fn operators(expression: &str) -> usize {
    let marks = expression.bytes().filter(|byte| b"+-*/%~|.[({<>=!:".contains(byte)).count();
    let words = expression.split(|c: char| !c.is_alphanumeric() && c != '_');
    marks + words.filter(|word| ["not", "and", "or", "if", "else", "is", "in", "for"].contains(word)).count()
}

/// The most operators of any `{{ .. }}` or `{% .. %}` of a template, each read as far as the engine would read it: its
/// end is not looked for inside of quotes and braces, and what is in quotes does not count.
fn most_operators(text: &str) -> usize {
    let bytes = text.as_bytes();
    let mut most = 0;
    let mut at = 0;
    while at + 1 < bytes.len() {
        if bytes[at] != b'{' || !matches!(bytes[at + 1], b'{' | b'%') {
            at += 1;
            continue;
        }
        let end = if bytes[at + 1] == b'{' { *b"}}" } else { *b"%}" };
        at += 2;
        let mut braces = 0u32;
        let mut unquoted = Vec::new();
        while at < bytes.len() {
            match bytes[at] {
                quote @ (b'"' | b'\'') => at = end_of_text(bytes, at, quote),
                b'{' => braces += 1,
                b'}' if braces > 0 => braces -= 1,
                _ if bytes[at..].starts_with(&end) => break,
                _ => {}
            }
            unquoted.extend(bytes.get(at));
            at += 1;
        }
        most = most.max(operators(&String::from_utf8_lossy(&unquoted)));
    }
    most
}

/// Where a text in quotes that begins at `at` ends.
fn end_of_text(bytes: &[u8], mut at: usize, quote: u8) -> usize {
    at += 1;
    while at < bytes.len() && bytes[at] != quote {
        at += if bytes[at] == b'\\' { 2 } else { 1 };
    }
    at
}

/// An error of the engine in one line, without the name of a template, which a playbook does not have.
fn say(error: &Error) -> String {
    let kind = match error.kind() {
        ErrorKind::OutOfFuel => return format!("it takes more than {TEMPLATE_FUEL} instructions"),
        ErrorKind::WriteFailure => return format!("its text is longer than {TEMPLATE_BYTES_MAX} bytes"),
        kind => kind,
    };
    match error.detail() {
        Some(detail) => format!("{kind}: {detail}"),
        None => kind.to_string(),
    }
}

/// Takes the output of a template up to its bound.
struct Bounded(Vec<u8>);

impl io::Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0.len() + bytes.len() > TEMPLATE_BYTES_MAX {
            return Err(io::Error::other("too long"));
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn basename(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

fn dirname(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(dir, _)| dir)
}

/// The last part of the name after a dot, without it. A name that only begins with a dot has none.
fn extension(path: &str) -> &str {
    match basename(path).rsplit_once('.') {
        Some((stem, extension)) if !stem.is_empty() => extension,
        _ => "",
    }
}

fn stem(path: &str) -> &str {
    match basename(path).rsplit_once('.') {
        Some((stem, _)) if !stem.is_empty() => stem,
        _ => basename(path),
    }
}

fn regex(pattern: &str) -> Result<Regex, Error> {
    Regex::new(pattern).map_err(|error| {
        Error::new(ErrorKind::InvalidOperation, format!("`{pattern}` is no regular expression: {error}"))
    })
}

/// `$1` and `${name}` in the replacement stand for groups.
fn regex_replace(text: String, pattern: String, replacement: String) -> Result<String, Error> {
    Ok(regex(&pattern)?.replace_all(&text, replacement.as_str()).into_owned())
}

/// The groups of the first match, the whole match first; none when there is no match.
fn regex_groups(text: String, pattern: String) -> Result<Value, Error> {
    let Some(captures) = regex(&pattern)?.captures(&text).map(|captures| {
        captures
            .iter()
            .map(|group| group.map_or(Value::from(()), |group| Value::from(group.as_str())))
            .collect::<Value>()
    }) else {
        return Ok(Value::from(()));
    };
    Ok(captures)
}

/// The items of a list that match; `attribute` looks at a field of each.
fn matching(items: &Value, pattern: String, kwargs: Kwargs) -> Result<Value, Error> {
    let regex = regex(&pattern)?;
    let attribute: Option<String> = kwargs.get("attribute")?;
    kwargs.assert_all_used()?;
    let mut kept = Vec::new();
    for item in items.try_iter()? {
        let text = match &attribute {
            Some(name) => item.get_attr(name)?,
            None => item.clone(),
        };
        if text.as_str().is_some_and(|text| regex.is_match(text)) {
            kept.push(item);
        }
    }
    Ok(kept.into())
}

/// A mapping with each item as a key, in which `in` is fast.
fn as_set(items: &Value) -> Result<Value, Error> {
    Ok(Value::from_pairs(items.try_iter()?.map(|item| (item, Value::from(true)))))
}

/// How often each value occurs: a list of `{value, count}`, the most frequent first, then by value.
fn tally(items: &Value) -> Result<Value, Error> {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for item in items.try_iter()? {
        *counts.entry(item.to_string()).or_default() += 1;
    }
    let mut counts: Vec<(String, usize)> = counts.into_iter().collect();
    counts.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    Ok(counts
        .into_iter()
        .map(|(value, count)| Value::from_pairs([("value", Value::from(value)), ("count", Value::from(count))]))
        .collect())
}

/// Each mapping of a list with one more field: another field, passed through a filter.
/// `files | with_field("ext", "path", "extension")`
fn with_field(state: &mut State, items: &Value, name: String, from: String, filter: String) -> Result<Value, Error> {
    let mut out = Vec::new();
    for item in items.try_iter()? {
        let added = state.apply_filter(&filter, &[item.get_attr(&from)?])?;
        let mut fields: Vec<(Value, Value)> = Vec::new();
        for key in item.try_iter()? {
            let value = item.get_item(&key)?;
            fields.push((key, value));
        }
        fields.push((Value::from(name.clone()), added));
        out.push(Value::from_pairs(fields));
    }
    Ok(out.into())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn scope() -> Scope {
        let files = json!([
            { "path": "a/x.rs", "size_bytes": 10 },
            { "path": "b.tar.gz", "size_bytes": 2048 },
            { "path": ".gitignore", "size_bytes": 1 },
        ]);
        BTreeMap::from([
            ("files".into(), from_json(&files)),
            ("n".into(), Value::from(3)),
            ("name".into(), Value::from("x")),
        ])
    }

    #[test]
    fn a_single_expression_keeps_its_type_and_everything_else_is_text() {
        let cases = [
            ("plain", json!("plain")),
            ("{{ n }}", json!(3)),
            (" {{ files | length }} ", json!(3)),
            ("{{ n }}{{ n }}", json!("33")),
            ("n is {{ n }}", json!("n is 3")),
            ("{{ {'a': [n]} }}", json!({ "a": [3] })),
            ("{% if n > 2 %}many{% endif %}", json!("many")),
            ("{{ files | map(attribute='path') | list }}", json!(["a/x.rs", "b.tar.gz", ".gitignore"])),
        ];
        let engine = Engine::new();
        for (text, expected) in cases {
            assert_eq!(engine.template(text, &scope()), Ok(expected), "{text}");
        }
    }

    #[test]
    fn filters_do_what_the_readme_says() {
        let cases = [
            "'a/b.tar.gz' | basename",
            "'a/b.tar.gz' | dirname",
            "'a/b.tar.gz' | stem",
            "'a/b.tar.gz' | extension",
            "'.gitignore' | extension",
            "'img_001.png' | regex_replace('img_(\\\\d+)', 'photo-$1')",
            "'v1.2' | regex_groups('v(\\\\d+)\\\\.(\\\\d+)(x)?')",
            "'a.b (c)' | regex_escape",
            "'v' | regex_groups('\\\\d')",
            "files | matching('s$', attribute='path') | map(attribute='path') | list",
            "'abc' is matching('^a')",
            "['a/b/c', 'd'] | map('top_folder') | list",
            "['a', 'b'] | select('in', ['b', 'x'] | as_set) | list",
            "['b', 'a', 'b'] | tally",
            "files | with_field('ext', 'path', 'extension') | map(attribute='ext') | list",
            "'{\"a\": 1}' | from_json",
            "2048 | filesizeformat(true)",
            "files | sum(attribute='size_bytes')",
        ];
        let engine = Engine::new();
        let lines: Vec<String> = cases
            .iter()
            .map(|text| match engine.expression(text, &scope()).and_then(|value| to_json(&value)) {
                Ok(value) => format!("{text}  ->  {value}"),
                Err(error) => format!("{text}  ->  error {error}"),
            })
            .collect();
        insta::assert_snapshot!(lines.join("\n"));
    }

    #[test]
    fn what_goes_wrong_is_said_in_one_line() {
        let cases = [
            "nothing",
            "files.x.y",
            "n | nofilter",
            "n +",
            "n | regex_replace('(', '')",
            "range(100000) | map('string') | list | length",
            "'x' | from_json",
            "nofunction()",
        ];
        let engine = Engine::new();
        let lines: Vec<String> = cases
            .iter()
            .map(|text| format!("{text}  ->  {:?}", engine.expression(text, &scope()).map(|value| value.to_string())))
            .collect();
        insta::assert_snapshot!(lines.join("\n"));
    }

    #[test]
    fn a_template_that_never_ends_or_floods_is_stopped() {
        let engine = Engine::new();
        let spin = "{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}{% endfor %}";
        let error = engine.text(spin, &scope()).expect_err("too much");
        assert!(error.contains("instructions"), "{error}");
        let flood = "{% for a in range(100000) %}0123456789012345678901234567890123456789012345678901234567890123456789{% endfor %}";
        let error = engine.text(flood, &scope()).expect_err("too long");
        assert!(error.contains("longer than"), "{error}");
    }

    #[test]
    fn operators_are_counted_as_far_as_the_engine_reads() {
        let cases = [
            ("none", 0),
            ("a - b {{ c }} + d", 0),
            ("{{ a + b }}{% if not c and d.e %}", 4),
            ("{{ '}} - - -' + 1 }} + 1", 1),
            ("{{ {'a': {}}['a'] + 1 }}", 5),
            (r"{{ 'it\'s }} - -' }}", 0),
            ("{{ note | notify }}", 1),
            ("{{ - - never ends", 2),
            ("{", 0),
        ];
        for (text, expected) in cases {
            assert_eq!(most_operators(text), expected, "{text}");
        }
    }

    #[test]
    fn the_names_that_a_template_reads_are_known_before_it_runs() {
        let engine = Engine::new();
        let names = engine.check_template("{% set a = b %}{{ a }}{{ c.d }}{{ range(3) }}").expect("a template");
        assert_eq!(names, HashSet::from(["b".to_owned(), "c".to_owned()]));
    }
}
