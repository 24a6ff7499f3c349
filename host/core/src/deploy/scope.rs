//! Rights of callers: which there are, which include which, and who a caller is. The rules are runtm-shared's (`types.py`).

use std::collections::BTreeSet;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::redact::SecretValue;
use crate::text::{near, shown};
use crate::{Error, Result};

/// One right.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// Look.
    Read,
    /// Deploy, and look.
    Deploy,
    /// Destroy, and look.
    Delete,
    /// Everything.
    Admin,
}

impl Scope {
    /// All of them, in the order of declaration.
    pub const ALL: [Self; 4] = [Self::Read, Self::Deploy, Self::Delete, Self::Admin];

    /// The word. Words are case-sensitive.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Deploy => "deploy",
            Self::Delete => "delete",
            Self::Admin => "admin",
        }
    }

    /// Takes a word (`invalid`, code `scope-unknown`).
    pub fn parse(word: &str) -> Result<Self> {
        Self::ALL.into_iter().find(|scope| scope.as_str() == word).ok_or_else(|| {
            let all = Self::ALL.map(Self::as_str);
            let error = Error::invalid("scope-unknown", format!("there is no scope `{}`", shown(word, 40)));
            error.hint(match near(&word.to_lowercase(), all).first() {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("there are: {}", all.join(", ")),
            })
        })
    }

    /// Whether who has this also has the other.
    #[must_use]
    pub fn includes(self, other: Self) -> bool {
        self == other || self == Self::Admin || other == Self::Read
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Takes a list that someone writes down: all words must be known. Gives each once, in the order of the words.
pub fn validate_scopes<'a>(words: impl IntoIterator<Item = &'a str>) -> Result<Vec<Scope>> {
    let mut scopes = words.into_iter().map(Scope::parse).collect::<Result<Vec<_>>>()?;
    scopes.sort_by_key(|scope| scope.as_str());
    scopes.dedup();
    Ok(scopes)
}

/// Whether one of the words that a caller was granted includes the right. A word that is not known grants nothing: an older
/// host may read what a newer one wrote.
#[must_use]
pub fn has_scope<'a>(granted: impl IntoIterator<Item = &'a str>, required: Scope) -> bool {
    granted.into_iter().filter_map(|word| Scope::parse(word).ok()).any(|scope| scope.includes(required))
}

/// Whether a host serves one tenant or several.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AuthMode {
    /// One: everything belongs to `default`.
    SingleTenant,
    /// Several, told apart by their keys.
    MultiTenant,
}

impl AuthMode {
    /// Both.
    pub const ALL: [Self; 2] = [Self::SingleTenant, Self::MultiTenant];

    /// The word in a configuration.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::SingleTenant => "single_tenant",
            Self::MultiTenant => "multi_tenant",
        }
    }
}

/// Who a caller is, and what it may.
#[derive(Debug, Clone)]
pub struct AuthContext {
    /// What it showed.
    pub token: SecretValue,
    /// Whose resources it sees.
    pub tenant_id: String,
    /// On whose behalf it acts.
    pub principal_id: String,
    /// The key that the token belongs to, where keys are kept.
    pub api_key_id: Option<String>,
    /// What it may.
    pub scopes: BTreeSet<Scope>,
}

impl AuthContext {
    /// A caller of a host with one tenant: everything but administration.
    #[must_use]
    pub fn new(token: SecretValue) -> Self {
        Self {
            token,
            tenant_id: "default".to_owned(),
            principal_id: "default".to_owned(),
            api_key_id: None,
            scopes: [Scope::Read, Scope::Deploy, Scope::Delete].into(),
        }
    }

    /// Refuses a caller without the right (`denied`, code `scope-missing`).
    pub fn require(&self, required: Scope) -> Result<()> {
        if self.scopes.iter().any(|scope| scope.includes(required)) {
            return Ok(());
        }
        Err(Error::denied("scope-missing", format!("this needs the scope `{required}`"))
            .hint("use a key that has it, or ask an administrator for one"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_includes_what() {
        let table: Vec<String> = Scope::ALL
            .iter()
            .map(|has| {
                let of: Vec<_> = Scope::ALL.iter().filter(|of| has.includes(**of)).map(|of| of.as_str()).collect();
                format!("{has}: {}", of.join(" "))
            })
            .collect();
        assert_eq!(
            table,
            ["read: read", "deploy: read deploy", "delete: read delete", "admin: read deploy delete admin"]
        );
    }

    #[test]
    fn a_list_is_sorted_and_known() {
        let list = validate_scopes(["read", "admin", "read", "deploy"]).expect("known words");
        assert_eq!(list, [Scope::Admin, Scope::Deploy, Scope::Read]);
        assert_eq!(validate_scopes(["read", "READ"]).expect_err("case matters").code, "scope-unknown");
        assert!(has_scope(["bogus", "delete"], Scope::Read));
        assert!(!has_scope(["Admin", ""], Scope::Read));
    }

    #[test]
    fn a_caller_without_the_right_is_refused() {
        let caller = AuthContext::new(SecretValue::from("hunter2".to_owned()));
        assert!(caller.require(Scope::Delete).is_ok());
        assert_eq!(caller.require(Scope::Admin).expect_err("no administrator").code, "scope-missing");
        assert!(!format!("{caller:?}").contains("hunter2"));
    }
}
