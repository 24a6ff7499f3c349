//! What was used. Messages are counted one by one until a result says it for the whole run.

use std::collections::BTreeMap;

use midplane_plugin::Value;
use midplane_plugin::agent::Usage;

use crate::turn::word;

/// Agents (the main one and its subagents) whose open message is counted apart.
const AGENTS_MAX: usize = 256;

/// The counters of a run.
#[derive(Default)]
pub(crate) struct Counted {
    /// The four counters of messages that are over.
    past: [Option<u64>; 4],
    /// Those of the open message of each agent, by the call that it answers: blocks of one message repeat them.
    open: BTreeMap<String, (String, [Option<u64>; 4])>,
    /// Those of the last result.
    whole: [Option<u64>; 4],
    cost_usd: Option<f64>,
}

/// The counters as messages and results name them, and as a result names them by model.
const COUNTERS: [(&str, &str); 4] = [
    ("input_tokens", "inputTokens"),
    ("output_tokens", "outputTokens"),
    ("cache_read_input_tokens", "cacheReadInputTokens"),
    ("cache_creation_input_tokens", "cacheCreationInputTokens"),
];

impl Counted {
    /// Takes the counters of a message. Whether anything changed.
    pub(crate) fn message(&mut self, agent: &str, id: &str, usage: &Value) -> bool {
        let found = COUNTERS.map(|(name, _)| counter(&usage[name]));
        if found.iter().all(Option::is_none) {
            return false;
        }
        let before = self.sums();
        let is_new = !self.open.contains_key(agent);
        if is_new
            && self.open.len() >= AGENTS_MAX
            && let Some((_, (_, over))) = self.open.pop_first()
        {
            self.past = add(self.past, over);
        }
        let (open_id, open) = self.open.entry(word(agent)).or_default();
        if *open_id != word(id) {
            self.past = add(self.past, *open);
            (*open_id, *open) = (word(id), Default::default());
        }
        for (have, found) in open.iter_mut().zip(found) {
            *have = found.or(*have);
        }
        before != self.sums()
    }

    /// Takes what a result says. By model is the whole run with its subagents; else it is the main agent alone.
    pub(crate) fn result(&mut self, frame: &Value) {
        let mut found = COUNTERS.map(|(name, _)| counter(&frame["usage"][name]));
        let mut by_model = [None; 4];
        for usage in frame["modelUsage"].as_object().into_iter().flat_map(serde_json::Map::values) {
            by_model = add(by_model, COUNTERS.map(|(_, name)| counter(&usage[name])));
        }
        for (have, by_model) in found.iter_mut().zip(by_model) {
            *have = by_model.or(*have);
        }
        for (have, found) in self.whole.iter_mut().zip(found) {
            *have = found.or(*have);
        }
        let cost = &frame["total_cost_usd"];
        let cost = cost.as_f64().or_else(|| cost.as_str()?.trim().parse().ok());
        self.cost_usd = cost.filter(|cost: &f64| cost.is_finite() && *cost >= 0.0).or(self.cost_usd);
    }

    /// What messages say so far.
    fn sums(&self) -> [Option<u64>; 4] {
        self.open.values().fold(self.past, |sum, (_, open)| add(sum, *open))
    }

    /// The counters so far: of the run where a result has said them, else of its messages.
    pub(crate) fn total(&self) -> Usage {
        let mut counters = self.sums();
        for (have, whole) in counters.iter_mut().zip(self.whole) {
            *have = whole.or(*have);
        }
        let [input_tokens, output_tokens, cache_read_tokens, cache_creation_tokens] = counters;
        // Of unknown parts there is no sum.
        let total = counters.into_iter().try_fold(0_u64, |sum, counter| sum.checked_add(counter?));
        Usage {
            input_tokens,
            output_tokens,
            cache_read_tokens,
            cache_creation_tokens,
            total_tokens: total,
            cost_usd: self.cost_usd,
        }
    }
}

fn add(one: [Option<u64>; 4], two: [Option<u64>; 4]) -> [Option<u64>; 4] {
    let mut sum = one;
    for (sum, two) in sum.iter_mut().zip(two) {
        *sum = match (*sum, two) {
            (Some(one), Some(two)) => Some(one.saturating_add(two)),
            (one, two) => one.or(two),
        };
    }
    sum
}

/// A counter, also as text or written as `7.0`; what is no whole number that is not negative is unknown.
fn counter(value: &Value) -> Option<u64> {
    let whole = || {
        let number = value.as_f64()?;
        // Below 2^53 every whole number has a float of its own.
        let fits = number.fract() == 0.0 && (0.0..9_007_199_254_740_992.0).contains(&number);
        fits.then_some(number as u64)
    };
    value.as_u64().or_else(|| value.as_str()?.trim().parse().ok()).or_else(whole)
}
