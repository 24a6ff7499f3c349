//! What came of a run: the claim of an adapter, what the host observed, and the one outcome made of both.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::Error;

/// Why a run ended. `done` and `interrupted` end a run *terminated*, all others *failed*.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FinishReason {
    /// The agent finished by itself.
    Done,
    /// It did not; the error says why.
    Failed,
    /// The turns that the task allows are used up.
    MaxTurns,
    /// The vendor cut the answer at its token limit.
    MaxTokens,
    /// A caller cancelled it.
    Interrupted,
    /// The deadline passed.
    TimedOut,
}

impl FinishReason {
    /// The word of the contract.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Failed => "failed",
            Self::MaxTurns => "max_turns",
            Self::MaxTokens => "max_tokens",
            Self::Interrupted => "interrupted",
            Self::TimedOut => "timed_out",
        }
    }

    /// The reason of a word; an adapter may say any, and the host takes an unknown one as `failed`.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        [Self::Done, Self::Failed, Self::MaxTurns, Self::MaxTokens, Self::Interrupted, Self::TimedOut]
            .into_iter()
            .find(|reason| reason.as_str() == word)
    }
}

/// What a run used. Unset is unknown, and differs from zero.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Usage {
    /// Tokens read, without those from a cache.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub input_tokens: Option<u64>,
    /// Tokens written, thinking included.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output_tokens: Option<u64>,
    /// Tokens read from a cache.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache_read_tokens: Option<u64>,
    /// Tokens put into a cache.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache_creation_tokens: Option<u64>,
    /// All of them, where the vendor says so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub total_tokens: Option<u64>,
    /// Cost in US dollars, only where the vendor says it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cost_usd: Option<f64>,
}

impl Usage {
    /// This usage with the fields that `other` knows put over it: counters are cumulative, the later word holds.
    #[must_use]
    pub fn or_later(self, other: Self) -> Self {
        // A cost that is no amount (NaN, negative) is a vendor's defect and stays unknown.
        let cost = |cost: Option<f64>| cost.filter(|c| c.is_finite() && *c >= 0.0);
        Self {
            input_tokens: other.input_tokens.or(self.input_tokens),
            output_tokens: other.output_tokens.or(self.output_tokens),
            cache_read_tokens: other.cache_read_tokens.or(self.cache_read_tokens),
            cache_creation_tokens: other.cache_creation_tokens.or(self.cache_creation_tokens),
            total_tokens: other.total_tokens.or(self.total_tokens),
            cost_usd: cost(other.cost_usd).or(cost(self.cost_usd)),
        }
    }
}

/// One tool call of a run, whoever ran it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ToolAudit {
    /// Name of the tool.
    pub name: String,
    /// Its arguments, a JSON object.
    pub arguments: Value,
    /// The first 256 characters of what came back.
    pub result_preview: String,
    /// `ok`, `error`, `declined`, `cancelled` or `requested` (no end was seen).
    pub status: String,
    /// How long it took in milliseconds, if known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration_ms: Option<u64>,
    /// `host` or `vendor`.
    pub by: String,
}

/// Something that a run made.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Artifact {
    /// A path relative to the workspace, or a URL.
    pub uri: String,
    /// What it is: `file` unless known better.
    pub kind: String,
    /// A JSON object with more about it.
    #[serde(default)]
    pub metadata: Value,
}

/// What an adapter says of its run. A claim: the host merges it with what it saw ([`crate::run`]).
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Claim {
    /// A finish reason, in the adapter's word.
    pub finish_reason: String,
    /// The agent's final text.
    pub output: String,
    /// Why it was not done.
    pub error: Option<Error>,
    /// The structured answer, if there is one; JSON `null` is one.
    pub parsed_output: Option<Value>,
    /// What it used.
    pub usage: Usage,
    /// What the vendor ran.
    pub tool_calls: Vec<ToolAudit>,
    /// What it made.
    pub artifacts: Vec<Artifact>,
    /// The id by which a later task can go on.
    pub session_id: Option<String>,
    /// Model turns.
    pub rounds: u32,
    /// What the vendor said besides, a JSON object.
    pub metadata: Value,
}

/// The typed result of a run: the data of its terminal event.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// Why it ended.
    pub finish_reason: FinishReason,
    /// The agent's final text.
    #[serde(default)]
    pub output: String,
    /// Why it was not done. Set with `failed`, never with `done`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<Error>,
    /// The structured answer. Inside an `Option` so that JSON `null` can be told from none.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "present")]
    pub parsed_output: Option<Value>,
    /// What it used.
    #[serde(default)]
    pub usage: Usage,
    /// What that cost in US dollars by the host's table of prices, where the vendor does not say; a lower bound.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost_estimate_usd: Option<f64>,
    /// The tool calls that the vendor ran; those of the host are events.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tool_calls: Vec<ToolAudit>,
    /// What it made.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub artifacts: Vec<Artifact>,
    /// The conversation to go on with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_id: Option<String>,
    /// Model turns.
    #[serde(default)]
    pub rounds: u32,
    /// How the vendor's program ended, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i64>,
    /// What the host adds to the finish reason, such as `host_lost` or `user`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What the vendor said besides.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub metadata: Value,
}

impl Outcome {
    /// An outcome with nothing but a reason and an error.
    #[must_use]
    pub fn ended(finish_reason: FinishReason, error: Option<Error>) -> Self {
        Self {
            finish_reason,
            output: String::new(),
            error,
            parsed_output: None,
            usage: Usage::default(),
            cost_estimate_usd: None,
            tool_calls: Vec::new(),
            artifacts: Vec::new(),
            session_id: None,
            rounds: 0,
            exit_code: None,
            reason: None,
            metadata: Value::Null,
        }
    }

    /// Whether the agent finished by itself.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.finish_reason == FinishReason::Done
    }
}

/// A present JSON `null` stays present: serde alone reads it as an absent option.
mod present {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};
    use serde_json::Value;

    pub(super) fn serialize<S: Serializer>(value: &Option<Value>, serializer: S) -> Result<S::Ok, S::Error> {
        value.serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Value>, D::Error> {
        Value::deserialize(deserializer).map(Some)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn null_is_an_answer() {
        let mut outcome = Outcome::ended(FinishReason::Done, None);
        outcome.parsed_output = Some(Value::Null);
        let text = serde_json::to_string(&outcome).expect("json");
        assert_eq!(serde_json::from_str::<Outcome>(&text).expect("outcome"), outcome);
        outcome.parsed_output = None;
        let text = serde_json::to_string(&outcome).expect("json");
        assert_eq!(serde_json::from_str::<Outcome>(&text).expect("outcome"), outcome);
    }

    #[test]
    fn a_cost_that_is_no_amount_stays_unknown() {
        let nan = Usage { cost_usd: Some(f64::NAN), ..Usage::default() };
        let one = Usage { cost_usd: Some(1.0), ..Usage::default() };
        assert_eq!(one.or_later(nan).cost_usd, Some(1.0));
    }
}
