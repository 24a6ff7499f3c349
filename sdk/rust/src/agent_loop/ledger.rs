//! What a run used, over all its streams. A counter that no stream named stays unknown; unknown is not zero.

use crate::agent::Usage;

/// The counters of finished streams and of the one that is arriving.
#[derive(Debug, Default)]
pub struct Ledger {
    closed: Usage,
    open: Usage,
}

impl Ledger {
    /// Takes the counters of the arriving stream, cumulative in it: each that is set replaces the one before. Says
    /// whether something changed.
    pub fn note(&mut self, seen: Usage) -> bool {
        let before = self.open;
        let open = &mut self.open;
        open.input_tokens = seen.input_tokens.or(open.input_tokens);
        open.output_tokens = seen.output_tokens.or(open.output_tokens);
        open.cache_read_tokens = seen.cache_read_tokens.or(open.cache_read_tokens);
        open.cache_creation_tokens = seen.cache_creation_tokens.or(open.cache_creation_tokens);
        open.total_tokens = seen.total_tokens.or(open.total_tokens);
        open.cost_usd = seen.cost_usd.filter(|cost| cost.is_finite() && *cost >= 0.0).or(open.cost_usd);
        *open != before
    }

    /// The stream has ended, well or not: what it said was used.
    pub fn close(&mut self) {
        self.closed = self.total();
        self.open = Usage::default();
    }

    /// All so far.
    #[must_use]
    pub fn total(&self) -> Usage {
        let (a, b) = (&self.closed, &self.open);
        Usage {
            input_tokens: sum(a.input_tokens, b.input_tokens),
            output_tokens: sum(a.output_tokens, b.output_tokens),
            cache_read_tokens: sum(a.cache_read_tokens, b.cache_read_tokens),
            cache_creation_tokens: sum(a.cache_creation_tokens, b.cache_creation_tokens),
            total_tokens: sum(a.total_tokens, b.total_tokens),
            cost_usd: match (a.cost_usd, b.cost_usd) {
                (Some(a), Some(b)) => Some(a + b),
                (a, b) => a.or(b),
            },
        }
    }
}

fn sum(a: Option<u64>, b: Option<u64>) -> Option<u64> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.saturating_add(b)),
        (a, b) => a.or(b),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_replace_within_a_stream_and_add_over_streams_and_unknown_stays_unknown() {
        let mut ledger = Ledger::default();
        assert!(ledger.note(Usage { input_tokens: Some(10), output_tokens: Some(1), ..Usage::default() }));
        assert!(ledger.note(Usage { output_tokens: Some(7), ..Usage::default() }));
        assert!(!ledger.note(Usage { output_tokens: Some(7), ..Usage::default() }), "nothing new");
        ledger.close();
        ledger.note(Usage { input_tokens: Some(5), cost_usd: Some(f64::NAN), ..Usage::default() });
        let expected = Usage { input_tokens: Some(15), output_tokens: Some(7), ..Usage::default() };
        assert_eq!(ledger.total(), expected);
        ledger.close();
        ledger.close();
        assert_eq!(ledger.total(), expected, "closing twice counts nothing twice");
    }
}
