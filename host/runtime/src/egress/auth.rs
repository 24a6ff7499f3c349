//! A secret put into a request: by the credential rule that the gate chose, or for the placeholders in a body.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use midplane_core::gate::{Denial, Request, check};
use midplane_core::manifest::{Credential, Scheme};
use midplane_core::redact::SecretValue;
use midplane_core::{Error, Result};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};
use url::{Url, form_urlencoded};
use zeroize::Zeroizing;

use super::Egress;
use super::request::Checked;
use super::send::Note;

/// All but `unreserved` of RFC 3986.
const QUERY: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
/// From this length on a redactor finds a value wherever it stands ([`midplane_core::redact::Secrets`]).
const HIDDEN_BYTES_MIN: usize = 8;

/// Puts the secret where the rule says, in place of what the guest put there.
pub(super) fn apply(rule: &Credential, value: &SecretValue, url: &mut Url, headers: &mut HeaderMap) -> Result<()> {
    let value = plain(value);
    let mut set = |name: HeaderName, parts: &[&[u8]]| {
        let text = Zeroizing::new(parts.concat());
        let mut header =
            HeaderValue::from_bytes(&text).map_err(|_| unusable(&rule.secret, "no header can carry its characters"))?;
        header.set_sensitive(true);
        headers.insert(name, header);
        Ok(())
    };
    match &rule.scheme {
        // Of an account the value is the token that it was exchanged for.
        Scheme::Bearer | Scheme::GoogleOauth { .. } => set(AUTHORIZATION, &[b"Bearer ", value]),
        Scheme::Header { header } => {
            let name = HeaderName::from_bytes(header.as_bytes())
                .map_err(|_| Error::internal("credential", format!("the rule `{}` names no header", rule.name)))?;
            set(name, &[value])
        }
        Scheme::Basic { username } => {
            let pair = Zeroizing::new([username.as_bytes(), b":", value].concat());
            set(AUTHORIZATION, &[b"Basic ", STANDARD.encode(&*pair).as_bytes()])
        }
        Scheme::Query { parameter } => {
            let is_parameter =
                |pair: &&str| form_urlencoded::parse(pair.as_bytes()).any(|(name, _)| name == parameter.as_str());
            // The guest's own pairs stay as they are written: encoding them again could change them.
            let kept =
                url.query().unwrap_or_default().split('&').filter(|pair| !pair.is_empty() && !is_parameter(pair));
            let own = Zeroizing::new(format!(
                "{}={}",
                percent_encode(parameter.as_bytes(), QUERY),
                percent_encode(value, QUERY)
            ));
            let query: Vec<&str> = kept.chain([own.as_str()]).collect();
            let query = Zeroizing::new(query.join("&"));
            url.set_query(Some(&query));
            Ok(())
        }
    }
}

/// The header that a rule sets; a server that repeats it repeats a credential.
pub(super) fn header_of(rule: &Credential) -> Option<&str> {
    match &rule.scheme {
        Scheme::Header { header } => Some(header),
        _ => None,
    }
}

impl Egress {
    /// The value of a secret that may be sent.
    pub(super) async fn secret(&self, name: &str) -> Result<SecretValue> {
        let value = self.secrets.resolve(name).await.map_err(|error| {
            let mut denied = unusable(name, &error.message);
            denied.hint = error.hint;
            denied
        })?;
        let bytes = plain(&value);
        if bytes.is_empty() {
            return Err(unusable(name, "it is empty"));
        }
        // Values are read when the run begins. One that was changed since would come back in an echo unredacted.
        if bytes.len() >= HIDDEN_BYTES_MIN && matches!(self.redactor().bytes(bytes), std::borrow::Cow::Borrowed(_)) {
            return Err(unusable(name, "it was changed since the call began").hint("run it again"));
        }
        Ok(value)
    }

    /// The body with the secrets that are allowed at this endpoint in place of their placeholders. A placeholder of
    /// another stays text: it says nothing, and a conversation about it may go anywhere.
    pub(super) async fn fill(&self, request: &Checked, body: Vec<u8>, note: &mut Note<'_>) -> Result<Vec<u8>> {
        let mut values = BTreeMap::new();
        for name in self.placeholders.names(&body) {
            let wanted =
                Request::SecretInRequest { name: &name, method: request.method.as_str(), target: &request.target };
            match check(&self.rights(), &wanted) {
                Ok(by) => note.allowed(&by),
                Err(Denial::PermissionMissing { .. }) => continue,
                // Asked for right here and not granted: to send the placeholder would break something later on.
                Err(denial) => return Err(note.denied(denial)),
            }
            let value = self.secret(&name).await?;
            let escaped =
                Escape::of(&request.headers).apply(plain(&value)).ok_or_else(|| unusable(&name, "it is not text"))?;
            values.insert(name, escaped);
        }
        if values.is_empty() {
            return Ok(body);
        }
        let bytes_max = usize::try_from(self.call.limits.http_request_bytes_max).unwrap_or(usize::MAX);
        self.placeholders.fill(&body, &values, bytes_max)
    }
}

/// How a value is written inside a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Escape {
    /// Inside a JSON string.
    Json,
    /// `application/x-www-form-urlencoded`.
    Form,
    /// Text or attribute of XML and HTML.
    Xml,
    /// As it is.
    Verbatim,
}

impl Escape {
    fn of(headers: &HeaderMap) -> Self {
        let text = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let kind = text.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        let subtype = kind.split_once('/').map_or("", |(_, subtype)| subtype);
        match subtype.rsplit('+').next().unwrap_or_default() {
            "json" | "x-ndjson" | "ndjson" | "jsonl" | "x-jsonlines" | "json-seq" => Self::Json,
            "xml" | "html" | "xhtml" => Self::Xml,
            "x-www-form-urlencoded" => Self::Form,
            _ => Self::Verbatim,
        }
    }

    /// Nothing where the value is not text and has to be.
    fn apply(self, value: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        let text = || std::str::from_utf8(value).ok();
        Some(Zeroizing::new(match self {
            Self::Verbatim => value.to_vec(),
            Self::Form => form_urlencoded::byte_serialize(value).collect::<String>().into_bytes(),
            Self::Json => {
                let quoted = Zeroizing::new(serde_json::to_string(text()?).ok()?);
                quoted.get(1..quoted.len() - 1)?.as_bytes().to_vec()
            }
            Self::Xml => {
                let mut out = String::with_capacity(value.len());
                for c in text()?.chars() {
                    match c {
                        '&' => out.push_str("&amp;"),
                        '<' => out.push_str("&lt;"),
                        '>' => out.push_str("&gt;"),
                        '"' => out.push_str("&quot;"),
                        '\'' => out.push_str("&apos;"),
                        c => out.push(c),
                    }
                }
                out.into_bytes()
            }
        }))
    }
}

/// The value without white space around it, which is what the redactor looks for: a file ends with a newline.
fn plain(value: &SecretValue) -> &[u8] {
    value.expose().trim_ascii()
}

fn unusable(name: &str, why: &str) -> Error {
    Error::denied("credential", format!("the secret `{name}` cannot be used: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn applied(scheme: Scheme, secret: &str, url: &str) -> Result<(String, Vec<String>)> {
        let rule = Credential { name: "rule".to_owned(), scheme, secret: "KEY".to_owned() };
        let mut url = Url::parse(url).unwrap();
        let mut headers =
            HeaderMap::from_iter([(HeaderName::from_static("x-own-key"), HeaderValue::from_static("guest"))]);
        apply(&rule, &SecretValue::new(secret), &mut url, &mut headers)?;
        assert!(headers.iter().all(|(_, value)| value.is_sensitive() || value == "guest"));
        let headers =
            headers.iter().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap_or("?"))).collect();
        Ok((url.to_string(), headers))
    }

    #[test]
    fn schemes() {
        let url = "https://h/p?a=1";
        let own = "x-own-key: guest";
        let of = |scheme, secret| applied(scheme, secret, url).unwrap();
        assert_eq!(
            of(Scheme::Bearer, "s3cret\n"),
            (url.to_owned(), vec![own.to_owned(), "authorization: Bearer s3cret".to_owned()])
        );
        let header = Scheme::Header { header: "x-own-key".to_owned() };
        assert_eq!(of(header, "s3cret"), (url.to_owned(), vec!["x-own-key: s3cret".to_owned()]));
        let basic = Scheme::Basic { username: "u".to_owned() };
        assert_eq!(of(basic, "p").1[1], "authorization: Basic dTpw");
        let error = applied(Scheme::Bearer, "two\nlines", url).unwrap_err();
        assert_eq!((error.kind.as_str(), error.code.as_ref()), ("denied", "credential"));
        assert!(!error.message.contains("lines"));
    }

    #[test]
    fn a_query_keeps_the_guests_pairs_as_written() {
        for (url, want) in [
            ("https://h/", "https://h/?key=a%26b%2F%2B"),
            ("https://h/?", "https://h/?key=a%26b%2F%2B"),
            ("https://h/?a=1+2&b=%20&&c", "https://h/?a=1+2&b=%20&c&key=a%26b%2F%2B"),
            ("https://h/?key=mine&a=1&%6bey=mine&key", "https://h/?a=1&key=a%26b%2F%2B"),
        ] {
            let scheme = Scheme::Query { parameter: "key".to_owned() };
            assert_eq!(applied(scheme, "a&b/+", url).unwrap().0, want, "{url}");
        }
    }

    #[test]
    fn escapes() {
        let value = "a\"b\\c&d<e>'f g\n\u{e9}".as_bytes();
        for (content_type, escape, want) in [
            ("application/json; charset=utf-8", Escape::Json, "a\\\"b\\\\c&d<e>'f g\\n\u{e9}"),
            ("application/vnd.api+JSON", Escape::Json, "a\\\"b\\\\c&d<e>'f g\\n\u{e9}"),
            ("application/x-www-form-urlencoded", Escape::Form, "a%22b%5Cc%26d%3Ce%3E%27f+g%0A%C3%A9"),
            ("text/xml", Escape::Xml, "a&quot;b\\c&amp;d&lt;e&gt;&apos;f g\n\u{e9}"),
            ("image/svg+xml", Escape::Xml, "a&quot;b\\c&amp;d&lt;e&gt;&apos;f g\n\u{e9}"),
            ("text/plain", Escape::Verbatim, "a\"b\\c&d<e>'f g\n\u{e9}"),
            ("", Escape::Verbatim, "a\"b\\c&d<e>'f g\n\u{e9}"),
        ] {
            let headers = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_str(content_type).unwrap())]);
            assert_eq!(Escape::of(&headers), escape, "{content_type}");
            assert_eq!(String::from_utf8(escape.apply(value).unwrap().to_vec()).unwrap(), want, "{content_type}");
        }
        assert_eq!(Escape::of(&HeaderMap::new()), Escape::Verbatim);
        assert!(Escape::Json.apply(&[0xff]).is_none() && Escape::Xml.apply(&[0xff]).is_none());
        assert_eq!(Escape::Form.apply(&[0xff]).unwrap().as_slice(), b"%FF");
    }
}
