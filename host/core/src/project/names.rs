//! Rules of names and paths in a project's files. Strictly a name is one that hosts, shells and file systems can have; the
//! original lets any letter or digit of Unicode pass and lowers names as it keeps them.

use std::sync::LazyLock;

use regex::Regex;

use super::Mode;
use super::table::Wrong;
use crate::deploy::dns_name::Pattern;
use crate::permission::FolderPath;
use crate::text::shown;

/// Folders of a system, in which a volume would hide what is there.
const SYSTEM: [&str; 13] =
    ["/bin", "/boot", "/dev", "/etc", "/lib", "/lib32", "/lib64", "/proc", "/root", "/run", "/sbin", "/sys", "/usr"];

/// What Python's `isalnum` and `isalpha` hold for a letter or a number: by general category.
static ALNUM: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"^[\p{L}\p{N}]+$").expect("the pattern is a constant that tests use"));
static ALPHA: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"^\p{L}").expect("the pattern is a constant that tests use"));

/// The name of an app: a host label.
pub(super) fn app(text: &str, mode: Mode) -> Result<String, Wrong> {
    let wrong = |why: &str| Wrong::new("app-name", format!("`{}` {why}", shown(text, 80)));
    if text.is_empty() {
        return Err(Wrong::new("app-name", "the name is empty"));
    }
    if text.chars().count() > 63 {
        return Err(wrong("has more than 63 characters"));
    }
    let allowed = |part: &str| match mode {
        Mode::Strict => part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit()),
        Mode::Compat => ALNUM.is_match(part),
    };
    if !text.split('-').all(|part| part.is_empty() || allowed(part)) {
        return Err(lower_hint(wrong("has characters other than a-z, 0-9 and `-`"), text));
    }
    if text.starts_with('-') || text.ends_with('-') {
        return Err(wrong("does not begin and end with a letter or digit"));
    }
    Ok(text.to_lowercase())
}

/// The name of an environment variable.
pub(super) fn env(text: &str, mode: Mode) -> Result<String, Wrong> {
    let wrong = |why: &str| Wrong::new("env-name", format!("`{}` {why}", shown(text, 80)));
    if text.is_empty() {
        return Err(Wrong::new("env-name", "the name is empty"));
    }
    let letters = text.replace('_', "");
    let (allowed, head) = match mode {
        Mode::Strict => (
            letters.bytes().all(|b| b.is_ascii_alphanumeric()) && text.len() <= 128,
            text.starts_with(|c: char| c.is_ascii_alphabetic()),
        ),
        Mode::Compat => (ALNUM.is_match(&letters), ALPHA.is_match(text)),
    };
    if !allowed {
        let why = wrong("has characters other than letters, digits and `_`, or more than 128");
        let fixed: String = text.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
        return Err(if text.is_ascii() { why.hint(format!("`{}` would do", shown(&fixed, 80))) } else { why });
    }
    if head { Ok(text.to_owned()) } else { Err(wrong("does not begin with a letter")) }
}

/// The name of a connection.
pub(super) fn connection(text: &str, mode: Mode) -> Result<String, Wrong> {
    word("connection-name", text, 63, mode)
}

/// The name of a proposed connection, which the original takes as it is.
pub(super) fn requested_connection(text: &str, mode: Mode) -> Result<String, Wrong> {
    match mode {
        Mode::Compat if !text.is_empty() => Ok(text.to_lowercase()),
        _ => word("connection-name", text, 63, mode),
    }
}

/// The name of a volume.
pub(super) fn volume(text: &str, mode: Mode) -> Result<String, Wrong> {
    let name = word("volume-name", text, 30, mode)?;
    if text.chars().count() > 30 {
        return Err(Wrong::new("volume-name", format!("`{}` has more than 30 characters", shown(text, 80))));
    }
    Ok(name)
}

fn word(code: &'static str, text: &str, chars_max: usize, mode: Mode) -> Result<String, Wrong> {
    if text.is_empty() {
        return Err(Wrong::new(code, "the name is empty"));
    }
    let letters = text.replace(['_', '-'], "");
    let allowed = match mode {
        Mode::Strict => {
            let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
            text.len() <= chars_max && letters.bytes().all(plain) && text.bytes().next().is_some_and(plain)
        }
        Mode::Compat => ALNUM.is_match(&letters),
    };
    if allowed {
        return Ok(text.to_lowercase());
    }
    let why =
        format!("`{}` is not 1 to {chars_max} of a-z, 0-9, `-` and `_`, with a letter or digit first", shown(text, 80));
    Err(lower_hint(Wrong::new(code, why), text))
}

fn lower_hint(wrong: Wrong, text: &str) -> Wrong {
    let lower = text.to_ascii_lowercase();
    let only_case = lower != text && lower.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'));
    if only_case { wrong.hint(format!("write `{}`", shown(&lower, 80))) } else { wrong }
}

/// The path that is asked for health.
pub(super) fn health_path(text: &str, mode: Mode) -> Result<String, Wrong> {
    url_path("health-path", text, mode == Mode::Compat)
}

/// The path of an API description; the original takes any text.
pub(super) fn openapi_path(text: &str, mode: Mode) -> Result<String, Wrong> {
    if mode == Mode::Compat { Ok(text.to_owned()) } else { url_path("openapi-path", text, false) }
}

fn url_path(code: &'static str, text: &str, any: bool) -> Result<String, Wrong> {
    let wrong = |why: &str| Err(Wrong::new(code, format!("`{}` {why}", shown(text, 80))));
    if !text.starts_with('/') {
        return wrong("does not begin with `/`");
    }
    // `//host/path` names another host, and what is no visible ASCII would be sent as something else.
    if !any && (text.starts_with("//") || text.len() > 1024 || !text.bytes().all(|b| b.is_ascii_graphic() && b != b'#'))
    {
        return wrong("is not a path of at most 1024 visible ASCII characters without `#`, beginning with one `/`");
    }
    Ok(text.to_owned())
}

/// Where a volume is mounted.
pub(super) fn mount(text: &str, mode: Mode) -> Result<String, Wrong> {
    let wrong = |why: &str| Wrong::new("volume-path", format!("`{}` {why}", shown(text, 80)));
    if !text.starts_with('/') {
        return Err(wrong("does not begin with `/`"));
    }
    if text == "/" {
        return Err(wrong("is the root of the machine"));
    }
    if mode == Mode::Strict {
        let path = FolderPath::parse(text).map_err(|why| wrong(&format!("is no mount path: {why}")))?;
        if path.as_str() != text {
            return Err(wrong("is not in its simplest form").hint(format!("write `{path}`")));
        }
        let below =
            |folder: &str| text.strip_prefix(folder).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        if let Some(folder) = SYSTEM.into_iter().find(|folder| below(folder)) {
            return Err(
                wrong(&format!("lies in `{folder}`, which belongs to the system")).hint("use a path such as `/data`")
            );
        }
    }
    Ok(text.to_owned())
}

/// A host name, or `*.` and a domain for all names below it.
pub(super) fn egress(text: &str, mode: Mode) -> Result<String, Wrong> {
    match Pattern::parse(text) {
        Err(error) if mode == Mode::Strict => {
            Err(Wrong { code: "egress-host", message: error.message, hint: error.hint })
        }
        _ => Ok(text.to_owned()),
    }
}
