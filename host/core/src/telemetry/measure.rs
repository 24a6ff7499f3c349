//! Counters and histograms with few labels, and the attributes that an event or a span may carry.
//!
//! The names of the measures are the original's, since dashboards know them. What never happens: a label or an attribute that is
//! on no list is kept, or a measure grows without bound.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::{Map, Value};

use super::{DURATION_BUCKETS_MS, EVENT_ATTRIBUTES, LABEL_CHARS_MAX, METRIC_LABELS, SPAN_ATTRIBUTES};

/// Combinations of labels of one measure. More are dropped: labels are few by design, their values may not be.
pub const SERIES_MAX: usize = 1_000;

/// Labels of one series, by name.
pub type Labels = BTreeMap<String, String>;

/// Whether a measure counts, or says how observations are distributed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum SampleType {
    /// A sum that only grows.
    Counter,
    /// A part of a histogram.
    Histogram,
}

/// One number of a measure.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Sample {
    /// The measure, with `_bucket`, `_sum` or `_count` for a part of a histogram.
    pub name: String,
    /// Which series of it.
    pub labels: Labels,
    /// The number.
    pub value: f64,
    /// What it is a number of.
    #[serde(rename = "type")]
    pub of: SampleType,
}

/// The attributes of an event that may be kept. Values are not looked at.
#[must_use]
pub fn event_attributes(attributes: Map<String, Value>) -> Map<String, Value> {
    attributes.into_iter().filter(|(name, _)| EVENT_ATTRIBUTES.binary_search(&name.as_str()).is_ok()).collect()
}

/// The attributes of a span that may be kept. Values are not looked at.
#[must_use]
pub fn span_attributes(attributes: Map<String, Value>) -> Map<String, Value> {
    attributes.into_iter().filter(|(name, _)| SPAN_ATTRIBUTES.binary_search(&name.as_str()).is_ok()).collect()
}

/// The labels that may be kept, each value cut to [`LABEL_CHARS_MAX`] characters and then in lower case.
#[must_use]
pub fn metric_labels<'a>(labels: impl IntoIterator<Item = (&'a str, &'a str)>) -> Labels {
    let known = labels.into_iter().filter(|(name, _)| METRIC_LABELS.binary_search(name).is_ok());
    known
        .map(|(name, value)| (name.to_owned(), value.chars().take(LABEL_CHARS_MAX).collect::<String>().to_lowercase()))
        .collect()
}

/// What is said of a command that was run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Command<'a> {
    /// Its name.
    pub name: &'a str,
    /// How it exited.
    pub exit_code: Option<i64>,
    /// The template of the project that it worked on.
    pub template: Option<&'a str>,
    /// The tier of that project.
    pub tier: Option<&'a str>,
    /// The runtime of that project.
    pub runtime: Option<&'a str>,
}

impl Command<'_> {
    /// The attributes of the command's span. An empty text is unknown.
    #[must_use]
    pub fn attributes(&self) -> Map<String, Value> {
        let mut attributes = Map::from_iter([("runtm.command.name".to_owned(), Value::from(self.name))]);
        if let Some(exit_code) = self.exit_code {
            attributes.insert("runtm.command.exit_code".to_owned(), exit_code.into());
        }
        let words = [("runtm.template", self.template), ("runtm.tier", self.tier), ("runtm.runtime", self.runtime)];
        for (name, word) in words {
            if let Some(word) = word.filter(|word| !word.is_empty()) {
                attributes.insert(name.to_owned(), word.into());
            }
        }
        attributes
    }
}

/// A sum that only grows, one a combination of labels.
#[derive(Debug, Clone, Default)]
pub struct Counter {
    // In the order of the first count, which is the order of the samples; a thousand at most, so a search is cheap.
    series: Vec<(Labels, f64)>,
}

impl Counter {
    /// Counts. Says whether there was room for the combination of labels.
    pub fn add(&mut self, labels: Labels, amount: f64) -> bool {
        match series(&mut self.series, labels, || 0.0) {
            Some(value) => {
                *value += amount;
                true
            }
            None => false,
        }
    }

    /// The sums.
    #[must_use]
    pub fn samples(&self, name: &str) -> Vec<Sample> {
        let sample = |(labels, value): &(Labels, f64)| Sample {
            name: name.to_owned(),
            labels: labels.clone(),
            value: *value,
            of: SampleType::Counter,
        };
        self.series.iter().map(sample).collect()
    }
}

/// How often observations were at most as large as each of some bounds.
#[derive(Debug, Clone)]
pub struct Histogram {
    bounds: Vec<Bound>,
    series: Vec<(Labels, Observed)>,
}

/// An upper bound, with the text that its bucket is labelled with.
#[derive(Debug, Clone, PartialEq)]
pub struct Bound {
    value: f64,
    text: String,
}

impl From<u64> for Bound {
    fn from(bound: u64) -> Self {
        Self { value: bound as f64, text: bound.to_string() }
    }
}

impl From<i64> for Bound {
    fn from(bound: i64) -> Self {
        Self { value: bound as f64, text: bound.to_string() }
    }
}

impl From<f64> for Bound {
    fn from(bound: f64) -> Self {
        // `{:?}` keeps the point of a whole number, as the original's text of a float does.
        Self { value: bound, text: format!("{bound:?}") }
    }
}

#[derive(Debug, Clone, PartialEq)]
struct Observed {
    /// Cumulative, in the order of the bounds.
    buckets: Vec<u64>,
    sum: f64,
    count: u64,
}

impl Default for Histogram {
    /// Of durations in milliseconds, with a last bucket that takes all.
    fn default() -> Self {
        Self::new(DURATION_BUCKETS_MS.map(Bound::from).into_iter().chain([f64::INFINITY.into()]))
    }
}

impl Histogram {
    /// With these bounds, in this order.
    #[must_use]
    pub fn new(bounds: impl IntoIterator<Item = Bound>) -> Self {
        Self { bounds: bounds.into_iter().collect(), series: Vec::new() }
    }

    /// Observes. Says whether there was room for the combination of labels.
    pub fn observe(&mut self, labels: Labels, value: f64) -> bool {
        let new = || Observed { buckets: vec![0; self.bounds.len()], sum: 0.0, count: 0 };
        let Some(observed) = series(&mut self.series, labels, new) else { return false };
        observed.sum += value;
        observed.count += 1;
        for (bound, bucket) in self.bounds.iter().zip(&mut observed.buckets) {
            *bucket += u64::from(value <= bound.value);
        }
        true
    }

    /// All parts: of each series its buckets (with the bound as the label `le`), its sum and its count.
    #[must_use]
    pub fn samples(&self, name: &str) -> Vec<Sample> {
        let sample = |part: &str, labels: &Labels, value| Sample {
            name: format!("{name}_{part}"),
            labels: labels.clone(),
            value,
            of: SampleType::Histogram,
        };
        let mut samples = Vec::new();
        for (labels, observed) in &self.series {
            for (bound, count) in self.bounds.iter().zip(&observed.buckets) {
                let mut labels = labels.clone();
                labels.insert("le".to_owned(), bound.text.clone());
                samples.push(sample("bucket", &labels, *count as f64));
            }
            samples.push(sample("sum", labels, observed.sum));
            samples.push(sample("count", labels, observed.count as f64));
        }
        samples
    }
}

/// The value of a combination of labels, made if there is room for one more.
fn series<T>(all: &mut Vec<(Labels, T)>, labels: Labels, new: impl FnOnce() -> T) -> Option<&mut T> {
    let at = match all.iter().position(|(known, _)| *known == labels) {
        Some(at) => at,
        None if all.len() < SERIES_MAX => {
            all.push((labels, new()));
            all.len() - 1
        }
        None => return None,
    };
    all.get_mut(at).map(|(_, value)| value)
}

/// The measures of a command line, under the original's names.
#[derive(Debug, Clone, Default)]
pub struct Measures {
    commands: Counter,
    errors: Counter,
    dropped: Counter,
    failures: Counter,
    durations: Histogram,
}

impl Measures {
    /// A command has ended.
    pub fn command(&mut self, command: &str, outcome: &str, duration_ms: f64) {
        let counted = self.commands.add(metric_labels([("command", command), ("outcome", outcome)]), 1.0);
        let observed = self.durations.observe(metric_labels([("command", command)]), duration_ms);
        self.lost(counted && observed);
    }

    /// A command met an error of a type such as `validation` or `network`.
    pub fn error(&mut self, command: &str, error_type: &str) {
        let counted = self.errors.add(metric_labels([("command", command), ("error_type", error_type)]), 1.0);
        self.lost(counted);
    }

    /// Telemetry was dropped because there was no room to keep it.
    pub fn dropped(&mut self, count: u64) {
        self.dropped.add(Labels::new(), count as f64);
    }

    /// Telemetry could not be sent.
    pub fn failure(&mut self) {
        self.failures.add(Labels::new(), 1.0);
    }

    /// All numbers: the counters, then the histogram.
    #[must_use]
    pub fn samples(&self) -> Vec<Sample> {
        let mut samples = self.commands.samples("runtm_cli_commands_total");
        samples.extend(self.errors.samples("runtm_cli_errors_total"));
        samples.extend(self.dropped.samples("runtm_telemetry_dropped_events"));
        samples.extend(self.failures.samples("runtm_telemetry_flush_failures"));
        samples.extend(self.durations.samples("runtm_cli_command_duration_ms"));
        samples
    }

    /// The sum of a counter without labels, for those who show it.
    #[must_use]
    pub fn failures(&self) -> u64 {
        self.failures.series.first().map_or(0, |(_, count)| *count as u64)
    }

    fn lost(&mut self, kept: bool) {
        if !kept {
            self.dropped(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_what_is_listed() {
        let object = |value: Value| value.as_object().expect("an object").clone();
        let kept = event_attributes(object(json!({ "tier": 1, "path": "/home", "Tier": 2, "duration_ms": null })));
        assert_eq!(Value::Object(kept), json!({ "tier": 1, "duration_ms": null }));
        let kept = span_attributes(object(json!({ "runtm.tier": [1], "tier": 1 })));
        assert_eq!(Value::Object(kept), json!({ "runtm.tier": [1] }));
        let long = "Ä".repeat(60);
        let kept = metric_labels([("command", "RUN"), ("le", "5"), ("tier", &long)]);
        assert_eq!(kept, Labels::from([("command".into(), "run".into()), ("tier".into(), "ä".repeat(50))]));
    }

    #[test]
    fn a_measure_is_bounded() {
        let mut measures = Measures::default();
        for command in 0..SERIES_MAX + 5 {
            measures.command(&format!("c{command}"), "success", 1.0);
        }
        measures.command("c0", "success", 60_001.0);
        let samples = measures.samples();
        let named = |name: &str| samples.iter().filter(|sample| sample.name == name).collect::<Vec<_>>();
        assert_eq!(named("runtm_cli_commands_total").len(), SERIES_MAX);
        assert_eq!(named("runtm_telemetry_dropped_events")[0].value, 5.0);
        let buckets: Vec<_> = named("runtm_cli_command_duration_ms_bucket");
        let shown: Vec<_> = buckets[..13].iter().map(|one| format!("{}:{}", one.labels["le"], one.value)).collect();
        assert_eq!(
            shown.join(" "),
            "10:1 25:1 50:1 100:1 250:1 500:1 1000:1 2500:1 5000:1 10000:1 30000:1 60000:1 inf:2"
        );
    }

    #[test]
    fn failures_are_counted() {
        let mut measures = Measures::default();
        assert_eq!((measures.failures(), measures.samples().len()), (0, 0));
        measures.failure();
        measures.failure();
        assert_eq!(measures.failures(), 2);
    }
}
