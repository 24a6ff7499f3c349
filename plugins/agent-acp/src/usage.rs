//! What a turn used. The protocol had no place for it for long, so each agent found its own.
//!
//! | where | what it is |
//! |---|---|
//! | `result.usage` | the turn, as newer drafts of the protocol have it |
//! | `result._meta.quota.token_count` | the turn |
//! | `_meta.usage` of an update | one request to the model: these are added up |
//! | `usage_update` | the filling of the context, which is no usage; and the cost of the session so far |
//!
//! What the result says wins over the sum of requests.

use midplane_plugin::Value;
use midplane_plugin::agent::Usage;

/// Counts what agents say.
#[derive(Debug, Default)]
pub struct Meter {
    requests: Usage,
    turn: Option<Usage>,
    cost_usd: Option<f64>,
    /// What the session had cost before this run.
    cost_before_usd: f64,
}

impl Meter {
    /// The meta data of an update. Whether it had something to count.
    pub fn request(&mut self, meta: &Value) -> bool {
        let Some(usage) = read(&meta["usage"]) else { return false };
        let sum = &mut self.requests;
        for (sum, more) in [
            (&mut sum.input_tokens, usage.input_tokens),
            (&mut sum.output_tokens, usage.output_tokens),
            (&mut sum.cache_read_tokens, usage.cache_read_tokens),
            (&mut sum.cache_creation_tokens, usage.cache_creation_tokens),
            (&mut sum.total_tokens, usage.total_tokens),
        ] {
            if let Some(more) = more {
                *sum = Some(sum.unwrap_or(0).saturating_add(more));
            }
        }
        true
    }

    /// A `usage_update`. `history`: it belongs to a loaded session's past. Whether the cost changed.
    pub fn context(&mut self, update: &Value, history: bool) -> bool {
        let cost = &update["cost"];
        let amount = cost["amount"].as_f64().filter(|amount| amount.is_finite() && *amount >= 0.0);
        let Some(amount) = amount.filter(|_| cost["currency"] == "USD") else { return false };
        if history {
            self.cost_before_usd = amount;
            return false;
        }
        // A session that costs nothing so far is most often one whose price is not known.
        if amount <= 0.0 {
            return false;
        }
        self.cost_usd = Some((amount - self.cost_before_usd).max(0.0));
        true
    }

    /// The result of the turn.
    pub fn result(&mut self, result: &Value) {
        self.turn = read(&result["usage"]).or_else(|| read(&result["_meta"]["quota"]["token_count"]));
    }

    /// All that is known.
    #[must_use]
    pub fn usage(&self) -> Usage {
        let mut usage = self.turn.unwrap_or(self.requests);
        usage.cost_usd = self.cost_usd;
        usage
    }
}

/// One set of counters, in either spelling; unset where there is none.
fn read(value: &Value) -> Option<Usage> {
    let number = |names: &[&str]| names.iter().find_map(|name| value[*name].as_u64());
    let input = number(&["inputTokens", "input_tokens"]);
    let output = number(&["outputTokens", "output_tokens"]);
    let total_tokens = number(&["totalTokens", "total_tokens"]);
    if input.is_none() && output.is_none() && total_tokens.is_none() {
        return None;
    }
    let cache_read_tokens = number(&["cachedReadTokens", "cached_read_tokens"]);
    let cache_creation_tokens = number(&["cachedWriteTokens", "cached_write_tokens"]);
    let cached = cache_read_tokens.unwrap_or(0).saturating_add(cache_creation_tokens.unwrap_or(0));
    // Some count cached tokens into the input, some beside it; the total tells which.
    let beside = match (input, output, total_tokens) {
        (Some(input), Some(output), Some(total)) => total >= input.saturating_add(output).saturating_add(cached),
        _ => input.is_some_and(|input| cached > input),
    };
    let input_tokens = if beside { input } else { input.map(|input| input.saturating_sub(cached)) };
    Some(Usage {
        input_tokens,
        output_tokens: output,
        cache_read_tokens,
        cache_creation_tokens,
        total_tokens,
        cost_usd: None,
    })
}

#[cfg(test)]
mod tests {
    use midplane_plugin::events::usage_fields;
    use midplane_plugin::json;

    use super::*;

    #[test]
    fn each_agent_says_it_elsewhere() {
        let rows = [
            ("none", vec![], json!({"stopReason": "end_turn"}), json!({})),
            (
                "gemini",
                vec![],
                json!({"_meta": {"quota": {"token_count": {"input_tokens": 11, "output_tokens": 7}}}}),
                json!({"input_tokens": 11, "output_tokens": 7}),
            ),
            (
                "qwen",
                vec![
                    json!({"usage": {"inputTokens": 100, "outputTokens": 16, "totalTokens": 116, "thoughtTokens": 0, "cachedReadTokens": 60}}),
                    json!({"usage": {"inputTokens": 120, "outputTokens": 4, "totalTokens": 124, "thoughtTokens": 0, "cachedReadTokens": 0}}),
                ],
                json!({}),
                json!({"input_tokens": 160, "output_tokens": 20, "cache_read_tokens": 60, "total_tokens": 240}),
            ),
            (
                "opencode, cached tokens beside the input",
                vec![],
                json!({"usage": {"inputTokens": 11, "outputTokens": 7, "cachedReadTokens": 5, "totalTokens": 23}}),
                json!({"input_tokens": 11, "output_tokens": 7, "cache_read_tokens": 5, "total_tokens": 23}),
            ),
            ("nonsense", vec![json!({"usage": {"inputTokens": -1}})], json!({"usage": "many"}), json!({})),
        ];
        for (name, metas, result, expected) in rows {
            let mut meter = Meter::default();
            for meta in &metas {
                meter.request(meta);
            }
            meter.result(&result);
            assert_eq!(usage_fields(&meter.usage()), expected, "{name}");
        }
    }

    #[test]
    fn the_cost_is_that_of_this_run_and_the_context_is_no_usage() {
        let update = |amount: f64| json!({"used": 18, "size": 100, "cost": {"amount": amount, "currency": "USD"}});
        let mut meter = Meter::default();
        meter.context(&update(0.25), true);
        assert!(!meter.context(&json!({"used": 18, "size": 100}), false));
        assert_eq!(usage_fields(&meter.usage()), json!({}));
        assert!(meter.context(&update(0.75), false));
        assert_eq!(usage_fields(&meter.usage()), json!({"cost_usd": 0.5}));
        let mut free = Meter::default();
        assert!(!free.context(&update(0.0), false));
        assert!(!free.context(&json!({"cost": {"amount": 2, "currency": "EUR"}}), false));
        assert_eq!(usage_fields(&free.usage()), json!({}));
    }
}
