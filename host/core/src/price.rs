//! What a run costs, where its vendor does not say: a dated table of prices, and the product of usage and price.
//!
//! - [`Prices`]: the table, `prices.toml` beside this file, with the operator's own lines laid over it
//! - [`Prices::cost`]: what some usage of a model costs
//! - [`Price`]: one line
//!
//! # What it never does
//! It guesses no price: a model without a line has none, and a budget for it cannot be kept, which is said rather than
//! ignored. It asks no vendor: the table is as old as its date.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use serde::{Deserialize, Serialize};

use crate::outcome::Usage;
use crate::{Error, Result};

/// Tokens that a price is for.
const TOKENS: f64 = 1_000_000.0;

/// What a model costs, in US dollars for a million tokens. None is negative.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Price {
    /// Tokens read, without those from a cache.
    pub input: f64,
    /// Tokens written, thinking included.
    pub output: f64,
    /// Tokens read from a cache. Unset: as `input`, which is never too little.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache_read: Option<f64>,
    /// Tokens put into a cache. Unset: as `input` where they are counted by themselves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache_creation: Option<f64>,
}

impl Price {
    fn check(&self, model: &str) -> Result<()> {
        let amounts = [Some(self.input), Some(self.output), self.cache_read, self.cache_creation];
        if amounts.into_iter().flatten().all(|amount| amount.is_finite() && amount >= 0.0) {
            return Ok(());
        }
        let model = crate::text::shown(model, 80);
        Err(Error::invalid("price", format!("a price of `{model}` is no amount in US dollars for a million tokens")))
    }

    /// What some usage costs. **What is not known counts as nothing**, so this is a lower bound; none where nothing is
    /// known at all.
    #[must_use]
    pub fn of(&self, usage: &Usage) -> Option<f64> {
        let parts = [
            (usage.input_tokens, self.input),
            (usage.output_tokens, self.output),
            (usage.cache_read_tokens, self.cache_read.unwrap_or(self.input)),
            (usage.cache_creation_tokens, self.cache_creation.unwrap_or(self.input)),
        ];
        let known = parts.into_iter().filter_map(|(tokens, price)| Some(tokens? as f64 * price / TOKENS));
        known.reduce(|sum, part| sum + part)
    }
}

/// Prices by model.
#[derive(Debug, Clone, PartialEq)]
pub struct Prices {
    as_of: String,
    models: BTreeMap<String, Price>,
    own: BTreeMap<String, Price>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    as_of: String,
    models: BTreeMap<String, Price>,
}

static TABLE: LazyLock<Table> =
    LazyLock::new(|| toml::from_str(include_str!("prices.toml")).expect("a test reads the table"));

impl Default for Prices {
    fn default() -> Self {
        Self { as_of: TABLE.as_of.clone(), models: TABLE.models.clone(), own: BTreeMap::new() }
    }
}

impl Prices {
    /// The table with an operator's lines over it; a name may end with `*`. Errors: `invalid` code `price`.
    pub fn with(own: BTreeMap<String, Price>) -> Result<Self> {
        own.iter().try_for_each(|(model, price)| price.check(model))?;
        Ok(Self { own, ..Self::default() })
    }

    /// The day of the table that comes with the program, as `2026-05-05`. An operator's own lines have no date.
    #[must_use]
    pub fn as_of(&self) -> &str {
        &self.as_of
    }

    /// The price of a model: the operator's before the table's, and of several patterns the longest. What stands before the
    /// last `/` of a model is a router's word for its vendor and does not count.
    #[must_use]
    pub fn of(&self, model: &str) -> Option<Price> {
        let bare = model.rsplit_once('/').map_or(model, |(_, bare)| bare);
        let find = |lines: &BTreeMap<String, Price>, model: &str| {
            let fits = |pattern: &str| match pattern.strip_suffix('*') {
                Some(start) => model.starts_with(start),
                None => model == pattern,
            };
            let fitting = lines.iter().filter(|(pattern, _)| fits(pattern));
            fitting.max_by_key(|(pattern, _)| pattern.len()).map(|(_, price)| *price)
        };
        find(&self.own, model).or_else(|| find(&self.own, bare)).or_else(|| find(&self.models, bare))
    }

    /// What some usage of a model costs: the vendor's word where there is one, else by price. None where it is unknown.
    #[must_use]
    pub fn cost(&self, model: Option<&str>, usage: &Usage) -> Option<f64> {
        usage.cost_usd.or_else(|| self.of(model?)?.of(usage))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usage(input: Option<u64>, output: Option<u64>, read: Option<u64>) -> Usage {
        Usage { input_tokens: input, output_tokens: output, cache_read_tokens: read, ..Usage::default() }
    }

    #[test]
    fn the_table_is_sound() {
        let prices = Prices::default();
        assert_eq!(prices.as_of.len(), "2026-05-05".len());
        for (model, price) in &prices.models {
            price.check(model).expect("a price");
            // Vendors differ in much, but nowhere is writing cheaper than reading, or a cache dearer than the text.
            assert!(price.output >= price.input && price.cache_read.is_none_or(|read| read <= price.input), "{model}");
        }
    }

    #[test]
    fn the_longest_pattern_counts_and_the_operators_line_before_it() {
        let own = Price { input: 0.0, output: 0.0, cache_read: None, cache_creation: None };
        let prices =
            Prices::with(BTreeMap::from([("llama*".to_owned(), own), ("gpt-5".to_owned(), own)])).expect("prices");
        let input = |model: &str| prices.of(model).map(|price| price.input);
        for (model, want) in [
            ("claude-sonnet-4-5-20250929", Some(3.0)),
            ("claude-opus-4-1-20250805", Some(15.0)),
            ("claude-opus-4-5", Some(5.0)),
            ("anthropic/claude-haiku-4-5", Some(1.0)),
            ("gpt-5.1-codex-mini", Some(0.25)),
            ("gemini-2.5-flash-lite-preview", Some(0.1)),
            ("gpt-5", Some(0.0)),
            ("meta/llama-4", Some(0.0)),
            ("gpt-5-turbo-of-tomorrow", None),
            ("", None),
        ] {
            assert_eq!(input(model), want, "{model}");
        }
    }

    #[test]
    fn what_is_not_known_counts_as_nothing() {
        let prices = Prices::default();
        let cost = |model, usage: Usage| prices.cost(model, &usage);
        let million = Some(1_000_000);
        assert_eq!(cost(Some("claude-sonnet-4-5"), usage(million, million, million)), Some(18.3));
        assert_eq!(cost(Some("claude-sonnet-4-5"), usage(million, None, None)), Some(3.0));
        assert_eq!(cost(Some("claude-sonnet-4-5"), usage(None, None, None)), None);
        assert_eq!(cost(Some("unheard-of"), usage(million, million, None)), None);
        assert_eq!(cost(None, usage(million, million, None)), None);
        // The vendor's word counts before any price.
        let said = Usage { cost_usd: Some(0.5), ..usage(million, million, None) };
        assert_eq!(cost(None, said), Some(0.5));
    }

    #[test]
    fn a_price_is_an_amount() {
        for amount in [-1.0, f64::NAN, f64::INFINITY] {
            let price = Price { input: 1.0, output: amount, cache_read: None, cache_creation: None };
            let error = Prices::with(BTreeMap::from([("m".to_owned(), price)])).expect_err("no amount");
            assert_eq!(error.code, "price");
        }
    }
}
