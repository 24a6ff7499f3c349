//! Host names by the rules of DNS and IDNA, and patterns over them.
//!
//! # Layout
//! - [`DnsName`]: a name in the one form that is compared and sent: lower-case A-labels, no dot at the end
//! - [`Pattern`]: `example.com`, or `*.example.com` for every name below it
//!
//! A name is taken as a person writes it, in any script and case; UTS 46 (the `idna` crate, the same code that browsers'
//! URL rules use) gives the form that DNS carries. Checked here is what UTS 46 leaves open: lengths (RFC 1035: a label 63
//! bytes, a name 253), the letters of a host name (RFC 952 and 1123), and that no parser of URLs takes the name for an
//! address. runtm-shared checked nothing: it put any text between `https://` and `.fly.dev`.

use std::fmt;
use std::str::FromStr;

use idna::uts46::{AsciiDenyList, DnsLength, Hyphens, Uts46};
use serde::{Deserialize, Serialize};

use crate::text::{cut, shown};
use crate::{Error, Result};

/// Bytes of one label.
pub const LABEL_BYTES_MAX: usize = 63;

/// Bytes of a name, without the dot at its end.
pub const NAME_BYTES_MAX: usize = 253;

/// Bytes of a text that is looked at as a name at all: four bytes a character, and some.
const TEXT_BYTES_MAX: usize = 4 * NAME_BYTES_MAX + 16;

/// A name as DNS carries it: lower-case A-labels joined by dots, without a dot at the end.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct DnsName(String);

/// What a name is for, which decides on the letters in its labels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Use {
    /// A machine, a certificate, a URL: letters, digits and hyphens.
    Host,
    /// The owner of a record: also underscores (`_acme-challenge`), and `*` as the first label.
    Record,
}

impl DnsName {
    /// Takes the name of a host, such as a URL or a certificate can have (`invalid`, code `dns-name`).
    pub fn host(text: &str) -> Result<Self> {
        parse(text, Use::Host).map(Self).map_err(|why| refused("host name", text, &why))
    }

    /// Takes the name that owns a record: an underscore may stand in any label, and `*` may be the first one.
    pub fn record(text: &str) -> Result<Self> {
        parse(text, Use::Record).map(Self).map_err(|why| refused("name of a record", text, &why))
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Its labels, from the left; at least one.
    pub fn labels(&self) -> impl DoubleEndedIterator<Item = &str> {
        self.0.split('.')
    }

    /// The name as people read it, with labels in their own scripts. For showing only: two names can look alike.
    #[must_use]
    pub fn to_unicode(&self) -> String {
        Uts46::new().to_unicode(self.0.as_bytes(), AsciiDenyList::EMPTY, Hyphens::Allow).0.into_owned()
    }

    /// Whether the name is the zone itself or lies below it.
    #[must_use]
    pub fn is_within(&self, zone: &Self) -> bool {
        self.0.strip_suffix(zone.as_str()).is_some_and(|head| head.is_empty() || head.ends_with('.'))
    }
}

impl fmt::Display for DnsName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl AsRef<str> for DnsName {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

/// What was stored is read by the wider of the two rules, so that both kinds come back.
impl TryFrom<String> for DnsName {
    type Error = Error;
    fn try_from(text: String) -> Result<Self> {
        Self::record(&text)
    }
}

impl From<DnsName> for String {
    fn from(name: DnsName) -> Self {
        name.0
    }
}

/// Which hosts are meant: one by its name, or all below one.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Pattern {
    name: DnsName,
    below: bool,
}

impl Pattern {
    /// Takes `example.com` or `*.example.com` (`invalid`, code `dns-pattern`). A `*` stands for whole labels at the front, so
    /// `*`, `a*.b` and `a.*.b` are refused.
    pub fn parse(text: &str) -> Result<Self> {
        let (name, below) = match text.strip_prefix("*.") {
            Some(rest) => (rest, true),
            None => (text, false),
        };
        let name = parse(name, Use::Host).map_err(|why| {
            Error::invalid("dns-pattern", format!("`{}` is not a pattern of host names: {why}", shown(text, 120)))
                .hint("write a name such as `api.example.com`, or `*.example.com` for all names below one")
        })?;
        Ok(Self { name: DnsName(name), below })
    }

    /// Whether a host is meant. As in a DNS zone (RFC 4592), `*.example.com` is every name below, however deep, and not
    /// `example.com` itself.
    #[must_use]
    pub fn matches(&self, host: &DnsName) -> bool {
        if self.below { host != &self.name && host.is_within(&self.name) } else { host == &self.name }
    }

    /// Whether every host that the other means is meant by this.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        match (self.below, other.below) {
            (_, false) => self.matches(&other.name),
            (false, true) => false,
            (true, true) => other.name.is_within(&self.name),
        }
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", if self.below { "*." } else { "" }, self.name)
    }
}

impl FromStr for Pattern {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        Self::parse(text)
    }
}

impl TryFrom<String> for Pattern {
    type Error = Error;
    fn try_from(text: String) -> Result<Self> {
        Self::parse(&text)
    }
}

impl From<Pattern> for String {
    fn from(pattern: Pattern) -> Self {
        pattern.to_string()
    }
}

fn refused(what: &str, text: &str, why: &str) -> Error {
    Error::invalid("dns-name", format!("`{}` is not a {what}: {why}", shown(text, 120)))
        .hint("a name has labels of letters, digits and `-`, joined by dots, such as `my-app.example.com`")
}

/// The form that DNS carries; the error is the reason.
fn parse(text: &str, purpose: Use) -> Result<String, String> {
    if text.len() > TEXT_BYTES_MAX {
        return Err(format!("it has more than {NAME_BYTES_MAX} characters"));
    }
    // Not left to UTS 46, which drops or maps some of these silently: nobody means them in a name.
    if let Some(c) = text.chars().find(|c| c.is_control() || c.is_whitespace()) {
        return Err(format!("it has the character U+{:04X}", u32::from(c)));
    }
    let text = text.strip_suffix('.').unwrap_or(text);
    let (star, rest) = match text.strip_prefix("*.") {
        Some(rest) if purpose == Use::Record => ("*.", rest),
        _ => ("", text),
    };
    let name = Uts46::new()
        .to_ascii(rest.as_bytes(), AsciiDenyList::EMPTY, Hyphens::Allow, DnsLength::Ignore)
        .map_err(|_| "it has characters that a name cannot have, or a wrong `xn--` label".to_owned())?;
    if star.len() + name.len() > NAME_BYTES_MAX {
        return Err(format!("it has more than {NAME_BYTES_MAX} characters"));
    }
    name.split('.').try_for_each(|label| check_label(label, purpose))?;
    let last = name.rsplit('.').next().unwrap_or_default();
    // The rule by which browsers decide that a host is an IPv4 address, in whatever notation.
    let hex = last.strip_prefix("0x").is_some_and(|digits| digits.bytes().all(|b| b.is_ascii_hexdigit()));
    if purpose == Use::Host && (hex || last.bytes().all(|b| b.is_ascii_digit())) {
        return Err("its last label is a number, as in an address".to_owned());
    }
    Ok(format!("{star}{name}"))
}

fn check_label(label: &str, purpose: Use) -> Result<(), String> {
    let shown = cut(label, LABEL_BYTES_MAX);
    if label.is_empty() {
        return Err("a label is empty".to_owned());
    }
    if label.len() > LABEL_BYTES_MAX {
        return Err(format!("the label `{shown}…` has more than {LABEL_BYTES_MAX} characters"));
    }
    let fits =
        |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || (c == '_' && purpose == Use::Record);
    if let Some(c) = label.chars().find(|c| !fits(*c)) {
        return Err(format!("the label `{shown}` has `{c}`"));
    }
    if label.starts_with('-') || label.ends_with('-') {
        return Err(format!("the label `{shown}` begins or ends with `-`"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_as_people_write_them() {
        let table = [
            ("Example.COM", "example.com"),
            ("example.com.", "example.com"),
            ("café.example", "xn--caf-dma.example"),
            ("faß.de", "xn--fa-hia.de"),
            ("XN--CAF-DMA.example", "xn--caf-dma.example"),
            ("日本。example", "xn--wgv71a.example"),
            ("r3---sn-x.example", "r3---sn-x.example"),
            ("localhost", "localhost"),
            ("1a.2b", "1a.2b"),
        ];
        for (text, name) in table {
            assert_eq!(DnsName::host(text).expect(text).as_str(), name);
        }
        assert_eq!(DnsName::host("XN--CAF-DMA.example").expect("a name").to_unicode(), "café.example");
    }

    #[test]
    fn what_is_no_name() {
        let (label, name) = ("x".repeat(64), vec!["abcdefg"; 32].join("."));
        assert_eq!(name.len(), 255);
        let cases =
            ["", ".", "..", "a..b", ".a", "a b", "a/b", "../x", "-a.b", "a-.b", "my_app.b", "*.b", "a\0b", "a\tb"];
        let cases =
            cases.into_iter().chain(["a:80", "a@b", "127.0.0.1", "0x7f.1", "a.0x", "xn--a.b", "a.１", &label, &name]);
        let refusals: Vec<String> = cases
            .map(|text| {
                let error = DnsName::host(text).expect_err(text);
                assert_eq!(error.code, "dns-name");
                error.message
            })
            .collect();
        insta::assert_snapshot!(refusals.join("\n"));
    }

    #[test]
    fn owners_of_records() {
        for good in ["_acme-challenge.example.com", "*.example.com", "a_b.example", "_dmarc.0"] {
            assert_eq!(DnsName::record(good).expect(good).as_str(), good);
        }
        for bad in ["a.*.b", "*", "*a.b", "**.b"] {
            assert!(DnsName::record(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn lengths_are_those_of_dns() {
        let fits = format!("{}.{}.{}.{}", "a".repeat(63), "b".repeat(63), "c".repeat(63), "d".repeat(61));
        assert_eq!(fits.len(), NAME_BYTES_MAX);
        assert!(DnsName::host(&fits).is_ok());
        assert!(DnsName::host(&format!("{fits}d")).is_err());
        // 63 characters that need more than 63 as an A-label.
        assert!(DnsName::host(&"é".repeat(63)).is_err());
    }

    #[test]
    fn patterns() {
        let table = [
            ("example.com", "example.com", true),
            ("example.com", "a.example.com", false),
            ("*.example.com", "example.com", false),
            ("*.example.com", "a.example.com", true),
            ("*.example.com", "b.a.example.com", true),
            ("*.example.com", "evilexample.com", false),
            ("*.example.com", "example.com.evil.org", false),
            ("*.Café.example", "a.xn--caf-dma.example", true),
        ];
        for (pattern, host, expected) in table {
            let (pattern, host) = (Pattern::parse(pattern).expect(pattern), DnsName::host(host).expect(host));
            assert_eq!(pattern.matches(&host), expected, "{pattern} {host}");
        }
        for bad in ["*", "*.", "a*.b", "a.*.b", "*.*.b", "", "*.1.2.3.4"] {
            assert_eq!(Pattern::parse(bad).expect_err(bad).code, "dns-pattern");
        }
        let of = |text: &str| Pattern::parse(text).expect(text);
        assert!(of("*.b").covers(&of("*.a.b")) && of("*.b").covers(&of("*.b")) && of("*.b").covers(&of("a.b")));
        assert!(!of("*.a.b").covers(&of("*.b")) && !of("a.b").covers(&of("*.a.b")) && !of("*.b").covers(&of("b")));
    }

    proptest! {
        #[test]
        fn a_name_is_a_fixed_point(text in "\\PC{0,40}|[a-zA-Zéßıİ。.-]{0,70}") {
            if let Ok(name) = DnsName::host(&text) {
                prop_assert_eq!(&DnsName::host(name.as_str()).expect("what was given is a name"), &name);
                prop_assert!(name.as_str().len() <= NAME_BYTES_MAX && name.labels().all(|label| label.len() <= LABEL_BYTES_MAX));
                // What is taken as a host is the same host to a parser of URLs.
                let url = url::Url::parse(&format!("https://{name}/")).expect("a host is fit for a URL");
                prop_assert_eq!(url.host_str(), Some(name.as_str()));
            }
            let _ = (DnsName::record(&text), Pattern::parse(&text));
        }

        #[test]
        fn names_below_a_pattern_match(labels in proptest::collection::vec("[a-z0-9]([a-z0-9-]{0,8}[a-z0-9])?", 1..5)) {
            let base = DnsName::host("example.com").expect("a name");
            let host = DnsName::host(&format!("{}.{base}", labels.join(".")));
            // A label such as `ab--c` is fine, `xn--...` need not be.
            if let Ok(host) = host {
                prop_assert!(Pattern::parse("*.example.com").expect("a pattern").matches(&host));
                prop_assert!(host.is_within(&base));
            }
        }
    }
}
