//! Texts that stand for secrets inside a plugin.
//!
//! Where a value has to travel *through* a plugin (a setting that names a secret, the environment of a job), the plugin
//! gets `midplane-secret.NAME.NONCE` instead. The host puts the value in its place at the border: in the body of a
//! request ([`crate::egress`]) or in what a child reads, and only where a grant allows that secret there.
//!
//! The nonce is random for each run, so that a text from elsewhere (a web page, a model) cannot make the host put a secret
//! in. All characters are ones that JSON, XML, forms and URLs leave alone: a placeholder is found in any of them, without
//! knowing by which encoder it passed. Its end is known by the length of the nonce, so text may follow without a gap.
//!
//! It decides nothing and resolves nothing: who may have a value where is the caller's question.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

use memchr::memmem;
use midplane_core::{Error, Result};
use zeroize::Zeroizing;

const PREFIX: &str = "midplane-secret.";
const NONCE_BYTES: usize = 16;
/// The longest name of a secret, as manifests allow it.
const NAME_BYTES_MAX: usize = 128;

/// The placeholders of one run.
#[derive(Debug, Clone)]
pub(crate) struct Placeholders {
    /// `.` and the nonce in hex: what follows a name.
    ending: String,
    /// Names of secrets that are the run's own.
    own: Arc<BTreeSet<String>>,
}

impl Placeholders {
    /// Placeholders that no other run has; `internal` where the system gives no random bytes.
    pub(crate) fn new() -> Result<Self> {
        let mut nonce = [0; NONCE_BYTES];
        getrandom::fill(&mut nonce)
            .map_err(|error| Error::internal("random", format!("the system gives no random bytes: {error}")))?;
        Ok(Self { ending: format!(".{:032x}", u128::from_be_bytes(nonce)), own: Arc::default() })
    }

    /// The same, with secrets that the host made for this run: a child of the run may read them without a grant.
    pub(crate) fn with_own(self, names: impl IntoIterator<Item = String>) -> Self {
        Self { own: Arc::new(names.into_iter().collect()), ..self }
    }

    /// Whether the host made this secret for this run.
    pub(crate) fn is_own(&self, name: &str) -> bool {
        self.own.contains(name)
    }

    /// What the plugin sees instead of the secret's value.
    pub(crate) fn text(&self, name: &str) -> String {
        format!("{PREFIX}{name}{}", self.ending)
    }

    /// The names of the secrets whose placeholders stand in some bytes.
    pub(crate) fn names(&self, bytes: &[u8]) -> BTreeSet<String> {
        self.find(bytes).map(|(_, name)| name.to_owned()).collect()
    }

    /// The bytes with these values in place of their placeholders; other placeholders stay. `limit` code `http-bytes`
    /// where that would be more than `bytes_max`: a short placeholder can stand for a long value.
    pub(crate) fn fill(
        &self,
        bytes: &[u8],
        values: &BTreeMap<String, Zeroizing<Vec<u8>>>,
        bytes_max: usize,
    ) -> Result<Vec<u8>> {
        let found: Vec<_> = self.find(bytes).filter_map(|(at, name)| Some((at, values.get(name)?))).collect();
        let removed: usize = found.iter().map(|(at, _)| at.len()).sum();
        let added: usize = found.iter().map(|(_, value)| value.len()).sum();
        let size = bytes.len() - removed + added;
        if size > bytes_max {
            return Err(Error::limit(
                "http-bytes",
                format!("with its secrets the body has {size} bytes, at most {bytes_max} are allowed"),
            ));
        }
        let mut out = Vec::with_capacity(size);
        let mut done = 0;
        for (at, value) in found {
            out.extend_from_slice(&bytes[done..at.start]);
            out.extend_from_slice(value);
            done = at.end;
        }
        out.extend_from_slice(&bytes[done..]);
        Ok(out)
    }

    /// Each placeholder: where it stands and the name in it.
    fn find<'b>(&self, bytes: &'b [u8]) -> impl Iterator<Item = (Range<usize>, &'b str)> {
        memmem::find_iter(bytes, PREFIX).filter_map(move |start| {
            let rest = &bytes[start + PREFIX.len()..];
            let is_name = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
            let name_bytes = rest.iter().take(NAME_BYTES_MAX + 1).position(|byte| !is_name(byte)).filter(|n| *n > 0)?;
            let name = std::str::from_utf8(&rest[..name_bytes]).ok()?;
            let end = start + PREFIX.len() + name_bytes + self.ending.len();
            rest[name_bytes..].starts_with(self.ending.as_bytes()).then_some((start..end, name))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(pairs: &[(&str, &str)]) -> BTreeMap<String, Zeroizing<Vec<u8>>> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), Zeroizing::new(value.as_bytes().to_vec()))).collect()
    }

    #[test]
    fn known_ones_are_replaced_and_all_else_stays() {
        let ours = Placeholders::new().unwrap();
        let (a, b) = (ours.text("A_KEY"), ours.text("B"));
        let foreign = Placeholders::new().unwrap().text("A_KEY");
        let fill = |text: &str| {
            String::from_utf8(
                ours.fill(text.as_bytes(), &values(&[("A_KEY", "long value"), ("EMPTY", "")]), 4096).unwrap(),
            )
            .unwrap()
        };
        for (text, want) in [
            (String::new(), String::new()),
            (a.clone(), "long value".to_owned()),
            (format!("{a}{a}0{b}"), format!("long valuelong value0{b}")),
            (format!("x{}y", ours.text("EMPTY")), "xy".to_owned()),
            (foreign.clone(), foreign),
            (ours.text(""), ours.text("")),
            (ours.text("A KEY"), ours.text("A KEY")),
            (ours.text(&"A".repeat(129)), ours.text(&"A".repeat(129))),
            (a[..a.len() - 1].to_owned(), a[..a.len() - 1].to_owned()),
            (format!("midplane-secret.{a}"), "midplane-secret.long value".to_owned()),
        ] {
            assert_eq!(fill(&text), want, "{text}");
        }
        assert_eq!(ours.names(format!("{b} {a} {b}").as_bytes()), BTreeSet::from(["A_KEY".to_owned(), "B".to_owned()]));
    }

    #[test]
    fn a_placeholder_passes_encoders_unchanged() {
        let text = Placeholders::new().unwrap().text("A_KEY");
        assert_eq!(serde_json::to_string(&text).unwrap(), format!("\"{text}\""));
        assert_eq!(url::form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>(), text);
    }

    #[test]
    fn growth_is_bounded() {
        let ours = Placeholders::new().unwrap();
        let body = ours.text("A").repeat(10);
        let error = ours.fill(body.as_bytes(), &values(&[("A", &"v".repeat(1000))]), 9_999).unwrap_err();
        assert_eq!((error.kind.as_str(), error.code.as_ref()), ("limit", "http-bytes"));
        assert!(ours.fill(body.as_bytes(), &values(&[("A", &"v".repeat(1000))]), 10_000).is_ok());
    }
}
