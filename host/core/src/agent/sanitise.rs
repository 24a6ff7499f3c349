//! What of an attribute may be seen: values under sensitive names and credentials inside texts are hidden, what is too
//! deep or too long is cut, and the whole is bounded.
//!
//! The order is the original's: a sensitive name first, whatever the value; then the depth; then the length of texts.
//! Where the original looks at names only, this also looks at pairs (`["Authorization", "Bearer x"]`, `{"name": "API_KEY",
//! "value": "x"}`) and inside texts (`password=...`, `Bearer ...`, user information of URLs, keys of known forms). What
//! has no form of its own is not found: live values are taken out by [`crate::redact`] before.

use std::borrow::Cow;
use std::sync::LazyLock;

use regex::{Captures, Regex};
use serde_json::{Map, Value};

use crate::redact::is_sensitive_key;

/// What stands for a hidden value.
pub const HIDDEN: &str = "[redacted]";
/// What stands for a value that is too deep.
pub const TOO_DEEP: &str = "[truncated: max depth]";
/// What stands for a value that would make the whole too large.
pub const TOO_LARGE: &str = "[truncated: max size]";
/// What follows a text that was cut.
pub const CUT: &str = "...[truncated]";
/// Most code points of a text.
pub const TEXT_CHARS_MAX: usize = 1000;
/// The map of attributes is depth 0; at this depth a value is not shown any more.
pub const DEPTH_MAX: usize = 8;

/// A sanitised map of attributes, and whether something in it was hidden that no name announced.
#[derive(Debug, Clone, PartialEq)]
pub struct Sanitised {
    /// What may be shown.
    pub attributes: Map<String, Value>,
    /// Whether a credential was found inside a text or a pair.
    pub found_credential: bool,
    /// Whether values were left out because the whole was too large.
    pub too_large: bool,
}

/// Sanitises attributes, of which the JSON text then has at most `bytes_max` bytes, unless what `keep` names is larger by
/// itself.
#[must_use]
pub fn attributes(attributes: Map<String, Value>, keep: &[&str], bytes_max: u64) -> Sanitised {
    let mut found_credential = false;
    let mut attributes = map(attributes, 0, &mut found_credential);
    let too_large = shrink(&mut attributes, keep, usize::try_from(bytes_max).unwrap_or(usize::MAX));
    Sanitised { attributes, found_credential, too_large }
}

/// The first [`TEXT_CHARS_MAX`] code points, and whether more followed.
#[must_use]
pub fn preview(text: &str) -> (&str, bool) {
    match text.char_indices().nth(TEXT_CHARS_MAX) {
        None => (text, false),
        Some((end, _)) => (&text[..end], true),
    }
}

/// A text as it may be shown: credentials hidden, then cut. Hiding comes first, since a cut credential is not found.
#[must_use]
pub fn text(text: &str) -> Cow<'_, str> {
    let clean = credentials(text);
    match preview(&clean) {
        (_, false) => clean,
        (head, true) => Cow::Owned(format!("{head}{CUT}")),
    }
}

// The depth bounds the recursion, whatever the value.
fn value(of: Value, depth: usize, found: &mut bool) -> Value {
    if depth >= DEPTH_MAX {
        return Value::from(TOO_DEEP);
    }
    match of {
        Value::Object(fields) => Value::Object(map(fields, depth, found)),
        Value::Array(items) => {
            // A list of two whose first names a credential is a header or a variable.
            let pair = matches!(&items[..], [Value::String(name), Value::String(_)] if is_sensitive_key(name));
            let mut items: Vec<Value> = items.into_iter().map(|item| value(item, depth + 1, found)).collect();
            if let (true, [_, held]) = (pair && depth + 1 < DEPTH_MAX, &mut items[..]) {
                *held = Value::from(HIDDEN);
                *found = true;
            }
            Value::Array(items)
        }
        Value::String(raw) => {
            let clean = credentials(&raw);
            *found |= matches!(clean, Cow::Owned(_));
            match text(&clean) {
                Cow::Borrowed(same) if same.len() == raw.len() => Value::String(raw),
                shown => Value::String(shown.into_owned()),
            }
        }
        scalar => scalar,
    }
}

fn map(fields: Map<String, Value>, depth: usize, found: &mut bool) -> Map<String, Value> {
    // `{"name": "API_KEY", "value": "x"}` is a variable or a header.
    let named =
        ["name", "key"].iter().any(|part| fields.get(*part).and_then(Value::as_str).is_some_and(is_sensitive_key));
    let hidden = |key: &str| named && key == "value";
    let mut shown = Map::new();
    for (key, of) in fields {
        let of = if is_sensitive_key(&key) {
            Value::from(HIDDEN)
        } else if hidden(&key) && depth + 1 < DEPTH_MAX {
            *found = true;
            Value::from(HIDDEN)
        } else {
            value(of, depth + 1, found)
        };
        shown.insert(key, of);
    }
    shown
}

/// Leaves out the largest values until the whole fits. Whether any was left out.
fn shrink(attributes: &mut Map<String, Value>, keep: &[&str], bytes_max: usize) -> bool {
    let mut sizes: Vec<(usize, String)> = Vec::new();
    let mut total = 2;
    for (key, of) in attributes.iter() {
        let size = of.to_string().len();
        total += size + key.len() + 4;
        if !keep.contains(&key.as_str()) {
            sizes.push((size, key.clone()));
        }
    }
    sizes.sort_unstable_by(|a, b| b.cmp(a));
    let mut shrunk = false;
    for (size, key) in sizes {
        if total <= bytes_max {
            break;
        }
        shrunk = true;
        total -= size;
        if key.len() > TEXT_CHARS_MAX {
            // A name can be what is large.
            total -= key.len() + 4;
            attributes.remove(&key);
        } else {
            total += TOO_LARGE.len() + 2;
            attributes.insert(key, Value::from(TOO_LARGE));
        }
    }
    shrunk
}

/// A text with what has the form of a credential hidden.
fn credentials(text: &str) -> Cow<'_, str> {
    // Each form has one of these marks, so that nearly all texts are looked at once and left as they are.
    let marked = text.contains("://") || text.bytes().any(|byte| byte == b'=' || byte == b':') || FORMS.is_match(text);
    if !marked {
        return Cow::Borrowed(text);
    }
    let text = replace(&USER_INFO, Cow::Borrowed(text), |found| Some(format!("{}{HIDDEN}@", &found["scheme"])));
    let text = replace(&FORMS, text, |found| {
        let scheme = found.name("bearer").map_or("", |scheme| scheme.as_str());
        Some(format!("{scheme}{HIDDEN}"))
    });
    replace(&ASSIGNED, text, |found| {
        let part = |name| found.name(name).map_or("", |part| part.as_str());
        let (name, sign, held) = (part("name"), [part("is"), part("says")].concat(), [part("a"), part("b")].concat());
        // What stands there already stays, so that hiding twice changes nothing.
        let hide = is_sensitive_key(name) && !held.starts_with('[');
        hide.then(|| format!("{name}{sign}{HIDDEN}"))
    })
}

/// Replaces what a pattern finds and the closure wants replaced; the text stays borrowed if nothing is.
fn replace<'t>(pattern: &Regex, text: Cow<'t, str>, with: impl Fn(&Captures<'_>) -> Option<String>) -> Cow<'t, str> {
    let mut changed = false;
    let new = pattern.replace_all(&text, |found: &Captures<'_>| match with(found) {
        Some(new) => {
            changed = true;
            new
        }
        None => found[0].to_owned(),
    });
    if changed { Cow::Owned(new.into_owned()) } else { text }
}

fn pattern(text: &str) -> Regex {
    Regex::new(text).expect("the patterns of this file are compiled by its tests")
}

/// `https://user:password@host`
static USER_INFO: LazyLock<Regex> =
    LazyLock::new(|| pattern(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]{0,30}://)[^\s/?#@:]*:[^\s/?#@]*@"));

/// Keys whose first characters tell whose they are, JSON web tokens, and the bearer scheme.
static FORMS: LazyLock<Regex> = LazyLock::new(|| {
    pattern(
        r"(?x)
        \b(?: (?: sk|rk|pk)[-_][A-Za-z0-9_-]{6,}
          | (?: gh[pousr]_|github_pat_|glpat-|xox[abeoprs]-|npm_|hf_|ya29\.|AIza) [A-Za-z0-9_.-]{8,}
          | (?: AKIA|ASIA) [A-Z0-9]{12,}
          | eyJ [A-Za-z0-9_-]{8,} \. [A-Za-z0-9_-]+ \. [A-Za-z0-9_-]* )
        | (?P<bearer>\bBearer\s) \s* [A-Za-z0-9._~+/=-]{3,}",
    )
});

/// `password=x`, `?token=x`, `"api_key": "x"`, `Authorization: x`; but `https://` is no value of `https`.
static ASSIGNED: LazyLock<Regex> = LazyLock::new(|| {
    pattern(
        r#"(?x) (?P<name>[A-Za-z][A-Za-z0-9_.-]{0,80})
        (?: (?P<is>=["']?) (?P<a>[^\s"'&;,)}<>]+)
          | (?P<says>["']\s{0,8}[:=]\s{0,8}["'] | :\s{0,8}(?:(?:Basic|Bearer|Token|Digest)\s+)?) (?P<b>[^\s"'&;,)}<>/][^\s"'&;,)}<>]*) )"#,
    )
});

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn sanitised(of: Value) -> Value {
        let Value::Object(map) = of else { panic!("an object") };
        Value::Object(attributes(map, &[], 1 << 18).attributes)
    }

    #[test]
    fn credentials_in_texts() {
        let texts = [
            "password=hunter2 sk-ant-api03-aaaa Bearer abc",
            "https://u:p@example.test/?token=abc&page=2",
            "401 for key sk-live-123 password=x",
            "curl -H 'Authorization: Bearer abc.def' https://example.test:8080/a",
            "Authorization: Basic dTpwYXNzd29yZA==",
            r#"{"api_key": "x-1", "model": "m"}"#,
            "export GITHUB_TOKEN=ghp_0123456789abcdef AWS=AKIAIOSFODNN7EXAMPLE",
            "eyJhbGciOiJIUzI1.eyJzdWIi.c2ln",
            "max_tokens=5 model: m, see http://example.test:80/x and a:b",
            "the bearer of bad news, a task-list and sketch-1",
            "plain",
        ];
        let shown: Vec<String> = texts.iter().map(|of| format!("{of}\n    {}", text(of))).collect();
        insta::assert_snapshot!(shown.join("\n"));
    }

    #[test]
    fn pairs_and_variables() {
        let of = json!({"headers": [["Authorization", "x"], ["accept", "json"]], "env": [{"name": "API_KEY", "value": "x"},
            {"name": "HOME", "value": "/"}], "tags": ["token", 1]});
        assert_eq!(
            sanitised(of),
            json!({"headers": [["Authorization", HIDDEN], ["accept", "json"]], "env": [{"name": "API_KEY", "value": HIDDEN},
                {"name": "HOME", "value": "/"}], "tags": ["token", 1]})
        );
    }

    #[test]
    fn the_whole_is_bounded() {
        let mut of = Map::new();
        of.insert("task_id".to_owned(), json!("t".repeat(100)));
        of.insert("k".repeat(5000), json!(1));
        of.insert("list".to_owned(), json!(vec!["x".repeat(500); 50]));
        let done = attributes(of, &["task_id"], 400);
        assert!(done.too_large && Value::Object(done.attributes.clone()).to_string().len() <= 400);
        assert_eq!(done.attributes.get("list"), Some(&json!(TOO_LARGE)));
        assert!(done.attributes.contains_key("task_id"));
    }

    proptest::proptest! {
        /// A second pass changes nothing but the mark of a cut, and a text is never longer than its bound and that mark.
        #[test]
        fn hiding_is_stable(of in "[A-Za-z0-9_=:/@ .\"'&-]{0,80}") {
            let once = credentials(&of).into_owned();
            let twice = credentials(&once).into_owned();
            proptest::prop_assert_eq!(&once, &twice);
            proptest::prop_assert!(text(&of).chars().count() <= TEXT_CHARS_MAX + CUT.len());
        }
    }
}
