//! URLs as the egress gate sees them: one form each, so that a comparison cannot be fooled by spelling.
//!
//! - [`Target`]: the URL of one request. What is checked is what must be sent: a caller sends [`Target::url`], never the
//!   text that it was made from.
//! - [`Prefix`]: scheme, host, port and path prefix, as a manifest asks for it and as a grant allows it.
//!
//! The `url` crate does the parsing, by the rules that browsers use: host names become lower-case A-labels, IPv4
//! addresses in decimal, octal or hex become dotted ones, dot segments are resolved. Refused beside that is everything
//! that another parser might read differently: backslashes, white space, user information, and percent-encoded forms
//! that would become `..` for a server that decodes more than once.

use std::fmt;
use std::net::IpAddr;

use percent_encoding::percent_decode_str;
use url::{Host, Url};

use crate::text::shown;
use crate::{Error, Result};

/// The longest URL of a request, in bytes (`http.request.url`).
pub const URL_BYTES_MAX: usize = 8 * 1024;

/// The URL of one request, in the one form that is both checked and sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    url: Url,
    at: Prefix,
}

impl Target {
    /// Takes an absolute `http` or `https` URL without user information or fragment (`invalid`, code `url`).
    pub fn parse(text: &str) -> Result<Self> {
        parse(text).and_then(Self::from_url).map_err(|why| refused(text, &why))
    }

    /// Where a redirect leads: `location` may be relative to this target, and its fragment is dropped.
    pub fn redirect(&self, location: &str) -> Result<Self> {
        strict(location).map_err(|why| refused(location, &why))?;
        let mut url = self.url.join(location).map_err(|error| refused(location, &error.to_string()))?;
        url.set_fragment(None);
        Self::from_url(url).map_err(|why| refused(location, &why))
    }

    /// The URL to send.
    #[must_use]
    pub fn url(&self) -> &Url {
        &self.url
    }

    /// The host: a lower-case A-label without trailing dot, or an address.
    #[must_use]
    pub fn host(&self) -> &Host<String> {
        &self.at.host
    }

    /// The port, also where the URL leaves it out.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.at.port
    }

    /// The address, where the host is one.
    #[must_use]
    pub fn ip(&self) -> Option<IpAddr> {
        self.at.ip()
    }

    fn from_url(mut url: Url) -> Result<Self, String> {
        if url.fragment().is_some() {
            return Err("it has a fragment".to_owned());
        }
        let at = Prefix::of(&url)?;
        if let Host::Domain(name) = &at.host {
            // Only a trailing dot can differ here: the parser has done the rest.
            url.set_host(Some(name)).map_err(|error| error.to_string())?;
        }
        Ok(Self { url, at })
    }
}

/// Without the query, which may hold what a message must not show.
impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.at, f)
    }
}

/// Scheme, host and port, and a path that a request's path must equal or continue after a `/`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Prefix {
    tls: bool,
    host: Host<String>,
    port: u16,
    /// Empty, or `/` and segments, without a `/` at the end. Unreserved characters are decoded, hex digits upper case.
    path: String,
}

impl Prefix {
    /// Takes `scheme://host[:port][/path]`; the error is the reason, for a message of the caller's.
    pub fn parse(text: &str) -> Result<Self, String> {
        let url = parse(text)?;
        if url.query().is_some() || url.fragment().is_some() {
            return Err("it ends with the path: no `?` and no `#`".to_owned());
        }
        Self::of(&url)
    }

    /// Whether every target of `other` is one of this.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        (self.tls, &self.host, self.port) == (other.tls, &other.host, other.port)
            && other.path.strip_prefix(&self.path).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }

    /// Whether the target lies below this.
    #[must_use]
    pub fn matches(&self, target: &Target) -> bool {
        self.covers(&target.at)
    }

    /// The host: a lower-case A-label without trailing dot, or an address.
    #[must_use]
    pub fn host(&self) -> &Host<String> {
        &self.host
    }

    /// The address, where the host is one.
    #[must_use]
    pub fn ip(&self) -> Option<IpAddr> {
        match self.host {
            Host::Domain(_) => None,
            Host::Ipv4(v4) => Some(v4.into()),
            Host::Ipv6(v6) => Some(v6.into()),
        }
    }

    /// How narrow it is, to name the nearest of several.
    pub(crate) fn depth(&self) -> usize {
        self.path.len()
    }

    fn of(url: &Url) -> Result<Self, String> {
        let tls = match url.scheme() {
            "https" => true,
            "http" => false,
            other => return Err(format!("its scheme is `{other}`, not `https` or `http`")),
        };
        if !url.username().is_empty() || url.password().is_some() {
            return Err("it has user information".to_owned());
        }
        let host = match url.host() {
            Some(Host::Domain(name)) => Host::Domain(domain(name)?),
            Some(other) => other.to_owned(),
            None => return Err("it has no host".to_owned()),
        };
        // Both schemes have a default port, so that this cannot be unset.
        let port = url.port_or_known_default().unwrap_or(if tls { 443 } else { 80 });
        if port == 0 {
            return Err("its port is 0".to_owned());
        }
        Ok(Self { tls, host, port, path: path(url.path())? })
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (scheme, default) = if self.tls { ("https", 443) } else { ("http", 80) };
        write!(f, "{scheme}://{}", self.host)?;
        if self.port != default {
            write!(f, ":{}", self.port)?;
        }
        f.write_str(&self.path)
    }
}

fn refused(text: &str, why: &str) -> Error {
    Error::invalid("url", format!("`{}` cannot be used: {why}", public_part(text)))
        .hint("write an absolute URL such as `https://host/path`, without user information or fragment")
}

/// A URL that may be wrong, as a message may show it: without query and user information, which can hold secrets.
pub(crate) fn public_part(text: &str) -> String {
    let head = text.split(['?', '#']).next().unwrap_or_default();
    let head = head.rsplit_once('@').map_or_else(|| head.to_owned(), |(_, place)| format!("…@{place}"));
    shown(&head, 200)
}

fn parse(text: &str) -> Result<Url, String> {
    strict(text)?;
    Url::parse(text).map_err(|error| match error {
        url::ParseError::RelativeUrlWithoutBase => "it does not begin with `https://` or `http://`".to_owned(),
        other => other.to_string(),
    })
}

/// What the parser would quietly change, and other parsers differently.
fn strict(text: &str) -> Result<(), String> {
    if text.len() > URL_BYTES_MAX {
        return Err(format!("it is longer than {URL_BYTES_MAX} bytes"));
    }
    match text.chars().find(|c| c.is_control() || c.is_whitespace() || *c == '\\') {
        Some(c) => Err(format!("it contains `{}`", c.escape_default())),
        None => Ok(()),
    }
}

/// A host name without its trailing dot. Refused: empty labels, what no name server can hold, and characters that a URL
/// may have but a host name has not, above all the `*` that its author may have meant as a pattern.
fn domain(name: &str) -> Result<String, String> {
    let name = name.strip_suffix('.').unwrap_or(name);
    let known = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-_".contains(&b);
    let label = |label: &str| (1..=63).contains(&label.len()) && label.bytes().all(known);
    let fits = name.len() <= 253 && name.split('.').all(label);
    if fits { Ok(name.to_owned()) } else { Err("its host is not a valid name".to_owned()) }
}

/// The path in the form that is compared. The parser has resolved plain and `%2e` dot segments.
fn path(raw: &str) -> Result<String, String> {
    // A server may decode more than once, treat a backslash as a slash, or drop what follows a `;`. A path that turns
    // into one with dot segments by any of these could leave its prefix there, so it is refused here.
    let mut decoded = raw.to_owned();
    for _ in 0..4 {
        let dots = decoded.split(['/', '\\']).any(|segment| {
            let name = segment.split(';').next().unwrap_or_default();
            name == "." || name == ".."
        });
        if dots {
            return Err("its path hides a `.` or `..`".to_owned());
        }
        decoded = percent_decode_str(&decoded).decode_utf8_lossy().into_owned();
    }
    let mut out = String::with_capacity(raw.len());
    let mut rest = raw;
    while let Some(at) = rest.find('%') {
        out.push_str(&rest[..at]);
        // `get`, because a stray `%` may stand at the end or before a character of several bytes.
        let hex = rest.get(at + 1..at + 3).filter(|hex| hex.bytes().all(|b| b.is_ascii_hexdigit()));
        match hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) => out.push(char::from(byte)),
            Some(byte) => out.push_str(&format!("%{byte:02X}")),
            None => return Err("its path has a `%` without two hex digits".to_owned()),
        }
        rest = &rest[at + 3..];
    }
    out.push_str(rest);
    out.truncate(out.trim_end_matches('/').len());
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn reason(text: &str) -> String {
        Target::parse(text).unwrap_err().message
    }

    #[test]
    fn one_form_each() {
        for (text, want) in [
            ("HTTPS://API.Example.COM", "https://api.example.com"),
            ("https://api.example.com:443/", "https://api.example.com"),
            ("http://api.example.com:80/v1/", "http://api.example.com/v1"),
            ("http://api.example.com:443", "http://api.example.com:443"),
            ("https://api.example.com./v1//", "https://api.example.com/v1"),
            ("https://b\u{fc}cher.example/", "https://xn--bcher-kva.example"),
            ("https://B\u{dc}CHER.example\u{3002}com/", "https://xn--bcher-kva.example.com"),
            ("http://2130706433/", "http://127.0.0.1"),
            ("http://0x7f.1/", "http://127.0.0.1"),
            ("http://0177.0.0.01:81/", "http://127.0.0.1:81"),
            ("http://127.0.0.1./", "http://127.0.0.1"),
            ("http://\u{ff11}27.0.0.1/", "http://127.0.0.1"),
            ("http://[0:0::1]/", "http://[::1]"),
            ("http://[::FFFF:10.0.0.1]/", "http://[::ffff:a00:1]"),
            ("https://h/%76%31/%7euser", "https://h/v1/~user"),
            ("https://h/a%2fb", "https://h/a%2Fb"),
            ("https://h/v1/../admin", "https://h/admin"),
            ("https://h/v1/%2e%2E/admin", "https://h/admin"),
            ("https://h/v1/.%2e/./x", "https://h/x"),
            ("https://h/v1?key=secret", "https://h/v1"),
        ] {
            let target = Target::parse(text).unwrap();
            assert_eq!(target.to_string(), want, "{text}");
            assert_eq!(Target::parse(target.url().as_str()).unwrap(), target, "{text} is stable");
        }
    }

    #[test]
    fn refusals() {
        insta::assert_snapshot!(
            [
                "api.example.com/v1",
                "ftp://h/",
                "file:///etc/passwd",
                "https://user@h/",
                "https://user:pw@h/",
                "https://@evil@h/",
                "https://h/#x",
                "https://h\\@evil/",
                "https:\\\\h/",
                "https://h/a b",
                "https://exa\tmple.com/",
                "https://h/v1\n",
                "https://h:0/",
                "https://h:99999/",
                "https://a..b/",
                "https://*.example.com/",
                "https://[fe80::1%25eth0]/",
                "https://[::1/",
                "https://1.2.3.4.5/",
                "https://256.1.1.1/",
                "https://h/v1/%252e%252e/admin",
                "https://h/v1/..%2fadmin",
                "https://h/v1/..%5cadmin",
                "https://h/v1/%2e%2e%2f%2e%2e/admin",
                "https://h/v1/..;x/admin",
                "https://h/v1/%zz",
                "https://h/v1/%",
                "http://",
                "",
                &format!("https://h/{}", "a".repeat(URL_BYTES_MAX)),
            ]
            .map(reason)
            .join("\n")
        );
    }

    #[test]
    fn prefix_ends_at_a_segment() {
        let covers =
            |prefix: &str, target: &str| Prefix::parse(prefix).unwrap().matches(&Target::parse(target).unwrap());
        for (prefix, target, want) in [
            ("https://h", "https://h/anything?x", true),
            ("https://h/v1", "https://h/v1", true),
            ("https://h/v1", "https://h/v1/", true),
            ("https://h/v1/", "https://h/v1/messages", true),
            ("https://h/v1", "https://h/v1?beta", true),
            ("https://h/v1", "https://h/v1beta", false),
            ("https://h/v1", "https://h/V1", false),
            ("https://h/v1", "https://h/v1;a/x", false),
            ("https://h/v1", "https://h/v1%2fx", false),
            ("https://h/v1", "https://h//v1", false),
            ("https://h/v1", "https://h/v1/%2e%2e/admin", false),
            ("https://h/v1", "http://h/v1", false),
            ("https://h/v1", "https://h:8443/v1", false),
            ("https://h/v1", "https://h.evil/v1", false),
            ("https://h/v1", "https://evil.h/v1", false),
            ("http://127.0.0.1", "http://[::ffff:127.0.0.1]/", false),
        ] {
            assert_eq!(covers(prefix, target), want, "{prefix} {target}");
        }
        assert!(Prefix::parse("https://h/v1?x").is_err());
        assert!(Prefix::parse("https://h/#").is_err());
    }

    #[test]
    fn redirects() {
        let from = Target::parse("https://h/v1/a?x=1").unwrap();
        let to = |location: &str| from.redirect(location).map(|target| target.url().to_string());
        assert_eq!(to("b#f").unwrap(), "https://h/v1/b");
        assert_eq!(to("//evil.example./c").unwrap(), "https://evil.example/c");
        assert_eq!(to("http://169.254.169.254/latest").unwrap(), "http://169.254.169.254/latest");
        assert!(to("file:///etc/passwd").is_err());
        assert!(to("javascript:alert(1)").is_err());
        assert!(to("https://u:p@h/").is_err());
    }

    /// Texts that are near a URL below `https://h/v1`, spelled by someone who wants out of it.
    fn tricky() -> impl Strategy<Value = String> {
        let part = prop::sample::select(vec![
            "/", "//", "\\", ".", "..", "%2e", "%2E%2e", "%252e", "%2f", "%5c", ";", "v1", "V1", "admin", "a", "%61",
            "?", "#", "@", ":", "%", "%00", "\u{ff0e}", "\u{3002}", " ", "\t",
        ]);
        let head =
            prop::sample::select(vec!["https://h", "https://h/v1", "https://h:443/v1", "http://h/v1", "https://h./v1"]);
        (head, prop::collection::vec(part, 0..8)).prop_map(|(head, parts)| format!("{head}{}", parts.concat()))
    }

    proptest! {
        /// The oracle is independent of the comparison: it decodes what would be sent, as often as it changes, and walks
        /// the segments.
        #[test]
        fn what_matches_stays_below(text in tricky()) {
            let prefix = Prefix::parse("https://h/v1").unwrap();
            if let Ok(target) = Target::parse(&text) && prefix.matches(&target) {
                let sent = target.url();
                prop_assert_eq!((sent.scheme(), sent.host_str(), sent.port()), ("https", Some("h"), None));
                let mut path = sent.path().to_owned();
                for _ in 0..3 {
                    let mut depth = Vec::new();
                    for segment in path.split(['/', '\\']).filter(|s| !s.is_empty()) {
                        match segment { "." => {} ".." => { depth.pop(); } other => depth.push(other) }
                    }
                    prop_assert_eq!(depth.first().copied(), Some("v1"), "{} sent as {}", text, sent);
                    path = percent_decode_str(&path).decode_utf8_lossy().into_owned();
                }
            }
        }

        #[test]
        fn what_is_sent_is_what_was_checked(text in tricky()) {
            if let Ok(target) = Target::parse(&text) {
                prop_assert_eq!(&Target::parse(target.url().as_str()).unwrap(), &target);
            }
        }

        #[test]
        fn prefix_text_round_trips(text in tricky()) {
            if let Ok(prefix) = Prefix::parse(&text) {
                prop_assert_eq!(Prefix::parse(&prefix.to_string()).unwrap(), prefix);
            }
        }

        #[test]
        fn any_text_is_answered(text in "\\PC{0,60}") {
            let _ = Target::parse(&text);
            let _ = Prefix::parse(&text);
        }
    }
}
