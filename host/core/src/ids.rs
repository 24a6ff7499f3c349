//! Names of things. A newtype each, so that a run id cannot be passed where a profile is meant.

/// The newtype of a name or an id: what, the code of its refusal, and the check of its form, which says what that is.
macro_rules! text_id {
    ($(#[$meta:meta])* $name:ident, $what:literal, $code:literal, $check:path) => {
        $(#[$meta])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize)]
        #[serde(transparent)]
        pub struct $name(String);

        impl $name {
            /// Takes a text that has the form of this id, and refuses any other (`invalid`).
            pub fn new(text: impl Into<String>) -> $crate::Result<Self> {
                let text = text.into();
                $check(&text).map_err(|why| {
                    $crate::Error::invalid($code, format!(concat!("`{}` is not a ", $what, ": {}"), $crate::text::shown(&text, 80), why))
                })?;
                Ok(Self(text))
            }

            /// The text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
                Self::new(<String as serde::Deserialize>::deserialize(deserializer)?).map_err(serde::de::Error::custom)
            }
        }

        impl std::str::FromStr for $name {
            type Err = $crate::Error;
            fn from_str(text: &str) -> $crate::Result<Self> {
                Self::new(text)
            }
        }
    };
}
pub(crate) use text_id;

text_id!(
    /// One execution. Made by the host ([`RunId::from_parts`]); 26 letters and digits that sort by time.
    RunId, "run id", "run-id-form", run_id
);
text_id!(
    /// A plugin, as its manifest names it: lower case letters, digits and `-`, at most 63.
    PluginName, "plugin name", "plugin-name-form", name
);
text_id!(
    /// A plugin under a name with its own settings, grants, secrets and `kv`. The form is that of a plugin name.
    ProfileName, "profile name", "profile-name-form", name
);
text_id!(
    /// SHA-256 over content, 64 lower case hex digits.
    Digest, "digest", "digest-form", digest
);

impl RunId {
    /// A run id from a time and randomness, both the caller's: this crate reads no clock and rolls no dice.
    #[must_use]
    pub fn from_parts(now_ms: u64, random: u128) -> Self {
        Self(ulid::Ulid::from_parts(now_ms, random).to_string().to_lowercase())
    }
}

impl Digest {
    /// The digest of some bytes.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        use sha2::Digest as _;
        Self::from_bytes(sha2::Sha256::digest(bytes).as_ref())
    }

    /// A digest from its 32 raw bytes.
    #[must_use]
    pub fn from_bytes(raw: &[u8]) -> Self {
        use std::fmt::Write as _;
        let mut hex = String::with_capacity(64);
        for byte in raw {
            // Writing to a string cannot fail.
            let _ = write!(hex, "{byte:02x}");
        }
        Self(hex)
    }

    /// The first twelve digits, for people.
    #[must_use]
    pub fn short(&self) -> &str {
        self.0.get(..12).unwrap_or(&self.0)
    }
}

fn run_id(text: &str) -> Result<(), &'static str> {
    let ok = text.len() == 26 && text.bytes().all(|b| b.is_ascii_digit() || b.is_ascii_lowercase());
    if ok { Ok(()) } else { Err("it has 26 lower case letters and digits") }
}

fn name(text: &str) -> Result<(), &'static str> {
    let mut bytes = text.bytes();
    let head = bytes.next().is_some_and(|b| b.is_ascii_lowercase());
    let tail = bytes.all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    if head && tail && text.len() <= 63 {
        Ok(())
    } else {
        Err("it begins with a lower case letter and has lower case letters, digits and `-`, at most 63")
    }
}

fn digest(text: &str) -> Result<(), &'static str> {
    let ok = text.len() == 64 && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    if ok { Ok(()) } else { Err("it has 64 lower case hex digits") }
}
