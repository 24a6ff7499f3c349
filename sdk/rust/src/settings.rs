//! Typed settings of the profile. A value that cannot be read is an error that names the setting, never a default.

use serde::de::DeserializeOwned;

use crate::error::{Error, Result};
use crate::host::Host;

/// A text setting; unset when the operator and the manifest give none.
#[must_use]
pub fn text(host: &dyn Host, name: &str) -> Option<String> {
    host.setting(name)
}

/// A text setting that must be there and not blank.
pub fn text_required(host: &dyn Host, name: &str) -> Result<String> {
    match host.setting(name) {
        Some(value) if !value.trim().is_empty() => Ok(value),
        _ => Err(Error::invalid("setting", format!("setting `{name}` has no value"))),
    }
}

/// A setting that is not text (integer, number, boolean, list, table), which crosses as JSON text.
pub fn parsed<T: DeserializeOwned>(host: &dyn Host, name: &str) -> Result<Option<T>> {
    let Some(value) = host.setting(name) else { return Ok(None) };
    serde_json::from_str(&value)
        .map(Some)
        .map_err(|error| Error::invalid("setting", format!("setting `{name}` has the value `{value}`: {error}")))
}

/// As [`parsed`], with a value for when it is unset.
pub fn parsed_or<T: DeserializeOwned>(host: &dyn Host, name: &str, default: T) -> Result<T> {
    Ok(parsed(host, name)?.unwrap_or(default))
}

/// A text setting that must be one of some words; the first where it is unset.
pub fn choice<T: Copy>(host: &dyn Host, name: &str, words: &[(&str, T)]) -> Result<T> {
    let value = host.setting(name);
    let known = match &value {
        None => words.first(),
        Some(value) => words.iter().find(|(word, _)| word == value),
    };
    known.map(|(_, meaning)| *meaning).ok_or_else(|| {
        let mut can_be = String::new();
        for (index, (word, _)) in words.iter().enumerate() {
            let before = if index == 0 {
                ""
            } else if index + 1 == words.len() {
                " or "
            } else {
                ", "
            };
            can_be.push_str(&format!("{before}`{word}`"));
        }
        let value = value.unwrap_or_default();
        Error::invalid("setting", format!("setting `{name}` is `{value}`; it can be {can_be}"))
    })
}

/// A loopback address that the host serves for the time of a run: what a vendor's program sends there passes the egress
/// gate, which adds the credential that the program never sees.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Stands for the `url` of the manifest's `[[endpoints]]`; no slash at its end. May stand on an argument vector.
    pub url: String,
    /// A placeholder that the host replaces by the run's own token in a child's environment, in what is written to it
    /// and in what is sent over its socket. Never for an argument vector, which other users of the machine can read.
    pub token: String,
}

/// The endpoint of a name of the manifest; unset where the host gives none, as outside of `run`.
pub fn endpoint(host: &dyn Host, name: &str) -> Result<Option<Endpoint>> {
    let Some(url) = host.setting(&format!("endpoint.{name}.url")) else { return Ok(None) };
    let Some(token) = host.setting(&format!("endpoint.{name}.token")) else {
        return Err(Error::internal("endpoint", format!("the host gave endpoint `{name}` a URL and no token")));
    };
    Ok(Some(Endpoint { url: url.trim_end_matches('/').to_owned(), token }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::FakeHost;

    #[test]
    fn settings_are_read_by_their_type_and_a_wrong_one_is_named() {
        let host = FakeHost::new().setting("n", "7").setting("list", r#"["a"]"#).setting("bad", "seven");
        assert_eq!(parsed::<u32>(&host, "n"), Ok(Some(7)));
        assert_eq!(parsed::<Vec<String>>(&host, "list"), Ok(Some(vec!["a".into()])));
        assert_eq!(parsed_or(&host, "none", 3), Ok(3));
        let error = parsed::<u32>(&host, "bad").expect_err("not a number");
        assert!(error.message.starts_with("setting `bad` has the value `seven`"), "{}", error.message);
        let error = text_required(&host, "none").expect_err("unset");
        assert_eq!(error.message, "setting `none` has no value");
    }

    #[test]
    fn a_choice_is_one_of_its_words_and_the_first_when_unset() {
        let words = [("fast", 1), ("slow", 2), ("no", 0)];
        let host = FakeHost::new().setting("pace", "slow").setting("other", "slowly");
        assert_eq!((choice(&host, "pace", &words), choice(&host, "none", &words)), (Ok(2), Ok(1)));
        let error = choice(&host, "other", &words).expect_err("no such word");
        assert_eq!(error.message, "setting `other` is `slowly`; it can be `fast`, `slow` or `no`");
    }

    #[test]
    fn an_endpoint_has_a_url_and_a_token_or_is_unset() {
        let host = FakeHost::new()
            .setting("endpoint.vendor.url", "http://127.0.0.1:1/r")
            .setting("endpoint.vendor.token", "${endpoint:vendor}")
            .setting("endpoint.half.url", "http://127.0.0.1:1/r");
        let found = endpoint(&host, "vendor").expect("whole").expect("there");
        assert_eq!((found.url.as_str(), found.token.as_str()), ("http://127.0.0.1:1/r", "${endpoint:vendor}"));
        assert_eq!(endpoint(&host, "none"), Ok(None));
        assert_eq!(endpoint(&host, "half").expect_err("no token").code, "endpoint");
    }
}
