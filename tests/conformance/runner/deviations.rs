//! `deviations.toml`: where ours differs from an original on purpose. See the head of that file.

use std::collections::BTreeSet;
use std::path::Path;

use serde::Deserialize;

use crate::case::Outcome;

/// The whole file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Deviations {
    /// Files whose owner has not come yet.
    pub(crate) pending: BTreeSet<String>,
    /// The rules; the first that covers a case counts.
    #[serde(default, rename = "rule")]
    pub(crate) rules: Vec<Rule>,
}

/// One way in which ours differs.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, try_from = "RuleText")]
pub(crate) struct Rule {
    pub(crate) file: String,
    /// A pattern over names of cases: `*` is any text, also none.
    pub(crate) cases: String,
    /// What ours does, which is asserted.
    pub(crate) outcome: Outcome,
    /// Why that is better.
    pub(crate) why: String,
    /// The line of an issue or of the design that demands it. A rule for cases that are not marked as doubtful needs one.
    pub(crate) demand: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RuleText {
    file: String,
    cases: String,
    ours: String,
    why: String,
    demand: Option<String>,
}

impl TryFrom<RuleText> for Rule {
    type Error = String;

    fn try_from(text: RuleText) -> Result<Self, String> {
        let outcome = match text.ours.split_once(' ') {
            None if text.ours == "accepted" => Outcome::Accepted,
            Some(("refused", code)) if !code.trim().is_empty() => Outcome::Refused(code.trim().to_owned()),
            _ => return Err(format!("`ours` is `accepted` or `refused CODE`, not `{}`", text.ours)),
        };
        if text.why.trim().is_empty() || text.demand.as_ref().is_some_and(|demand| demand.trim().is_empty()) {
            return Err(format!("`{}` of {}: `why` and `demand` must say something", text.cases, text.file));
        }
        Ok(Self { file: text.file, cases: text.cases, outcome, why: text.why, demand: text.demand })
    }
}

impl Deviations {
    pub(crate) fn read(path: &Path) -> Result<Self, String> {
        let text = std::fs::read_to_string(path).map_err(|error| format!("`{}`: {error}", path.display()))?;
        toml::from_str(&text).map_err(|error| format!("`{}`: {error}", path.display()))
    }
}

impl Rule {
    /// Whether a case of a file is this rule's.
    pub(crate) fn covers(&self, file: &str, case: &str) -> bool {
        self.file == file && glob(&self.cases, case)
    }
}

/// Whether a name fits a pattern in which `*` stands for any text.
fn glob(pattern: &str, name: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == name,
        Some((head, rest)) => name.strip_prefix(head).is_some_and(|name| {
            name.char_indices().map(|(at, _)| at).chain([name.len()]).any(|at| glob(rest, &name[at..]))
        }),
    }
}
