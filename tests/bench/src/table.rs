//! The table: what was measured, beside what, how they compare, and whether the bar of the design is met.

use std::fmt;

/// What a figure counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unit {
    /// Seconds, shown in whatever fits.
    Time,
    /// Things in a second.
    Rate,
    /// Bytes.
    Bytes,
}

/// One side of a row: the samples of a measure, in seconds, a second or bytes.
#[derive(Debug, Clone, Default)]
pub(crate) struct Samples(pub(crate) Vec<f64>);

impl Samples {
    /// The value that this part of the samples does not exceed.
    pub(crate) fn percentile(&self, percent: f64) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        // The nearest rank; an index into at most some hundred thousand samples is exact in a float.
        let rank = (percent / 100.0 * sorted.len() as f64).ceil() as usize;
        sorted.get(rank.saturating_sub(1)).or(sorted.last()).copied().unwrap_or(f64::NAN)
    }

    /// The median.
    pub(crate) fn median(&self) -> f64 {
        self.percentile(50.0)
    }
}

/// A bar of DESIGN.md section 10.
#[derive(Debug, Clone)]
pub(crate) struct Bar {
    text: &'static str,
    met: bool,
}

/// One line of the table.
#[derive(Debug)]
pub(crate) struct Row {
    measure: String,
    unit: Unit,
    ours: Samples,
    against: &'static str,
    baseline: Samples,
    bar: Option<Bar>,
    /// Why it was not measured.
    skipped: Option<String>,
}

impl Row {
    /// What was measured on both sides.
    pub(crate) fn new(
        measure: impl Into<String>,
        unit: Unit,
        ours: Samples,
        against: &'static str,
        baseline: Samples,
    ) -> Self {
        Self { measure: measure.into(), unit, ours, against, baseline, bar: None, skipped: None }
    }

    /// What cannot be measured here.
    pub(crate) fn skipped(measure: impl Into<String>, why: impl Into<String>) -> Self {
        let none = Samples::default;
        Self { skipped: Some(why.into()), ..Self::new(measure, Unit::Time, none(), "-", none()) }
    }

    /// With a bar: `met` is given our samples and the ratio.
    #[must_use]
    pub(crate) fn bar(mut self, text: &'static str, met: impl FnOnce(&Samples, f64) -> bool) -> Self {
        self.bar = Some(Bar { text, met: met(&self.ours, self.ratio()) });
        self
    }

    fn ratio(&self) -> f64 {
        self.ours.median() / self.baseline.median()
    }

    fn cells(&self) -> [String; 8] {
        if self.skipped.is_some() {
            let empty = String::new;
            return [self.measure.clone(), "skipped".into(), empty(), empty(), empty(), empty(), empty(), empty()];
        }
        let shown = |value: f64| Shown { unit: self.unit, value }.to_string();
        // A tail needs samples: of a handful it would be the largest, under a name that promises more.
        let tail =
            |samples: &Samples| if samples.0.len() < 50 { "-".to_owned() } else { shown(samples.percentile(99.0)) };
        let (bar, met) = match &self.bar {
            Some(bar) => (bar.text, if bar.met { "yes" } else { "NO" }),
            None => ("", ""),
        };
        [
            self.measure.clone(),
            shown(self.ours.median()),
            tail(&self.ours),
            shown(self.baseline.median()),
            tail(&self.baseline),
            format!("{:.2} × {}", self.ratio(), self.against),
            bar.to_owned(),
            met.to_owned(),
        ]
    }
}

const HEAD: [&str; 8] = ["measure", "ours p50", "p99", "baseline p50", "p99", "ours / baseline", "bar", "met"];

/// The rows as a Markdown table with columns that line up.
pub(crate) fn render(rows: &[Row]) -> String {
    let lines: Vec<[String; 8]> = std::iter::once(HEAD.map(str::to_owned)).chain(rows.iter().map(Row::cells)).collect();
    let width = |column: usize| lines.iter().map(|cells| cells[column].chars().count()).max().unwrap_or(0);
    let widths: [usize; 8] = std::array::from_fn(width);
    let mut out = String::new();
    for (index, cells) in lines.iter().enumerate() {
        for (cell, width) in cells.iter().zip(widths) {
            out.push_str(&format!("| {cell:width$} "));
        }
        out.push_str("|\n");
        if index == 0 {
            out.extend(widths.map(|width| format!("|{}", "-".repeat(width + 2))));
            out.push_str("|\n");
        }
    }
    for row in rows {
        if let Some(why) = &row.skipped {
            out.push_str(&format!("\nskipped: {}: {why}\n", row.measure));
        }
    }
    out
}

/// A value with its unit and three figures.
struct Shown {
    unit: Unit,
    value: f64,
}

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let steps: &[(f64, &str)] = match self.unit {
            Unit::Time => &[(1.0, " s"), (1e-3, " ms"), (1e-6, " µs"), (1e-9, " ns")],
            Unit::Rate => &[(1e6, " M/s"), (1e3, " k/s"), (1.0, "/s")],
            Unit::Bytes => &[(1_048_576.0, " MiB"), (1_024.0, " KiB"), (1.0, " B")],
        };
        let fits = steps.iter().find(|(size, _)| self.value.abs() >= *size).or(steps.last());
        let (size, name) = fits.copied().unwrap_or((1.0, ""));
        let value = self.value / size;
        let digits = if value.abs() >= 99.5 {
            0
        } else if value.abs() >= 9.95 {
            1
        } else {
            2
        };
        write!(f, "{value:.digits$}{name}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table() {
        let samples = |count: u32| Samples((1..=count).map(|n| f64::from(n) * 1e-6).collect());
        let rows = [
            Row::new("many", Unit::Time, samples(100), "bare", samples(10))
                .bar("< 50 µs", |ours, _| ours.median() < 50e-6),
            Row::new("few", Unit::Bytes, Samples(vec![2_097_152.0]), "child", Samples(vec![1_000.0]))
                .bar("< 1 MiB", |ours, _| ours.median() < 1_048_576.0),
            Row::new("rate", Unit::Rate, Samples(vec![123_456.0]), "store", Samples(vec![999.0])),
            Row::skipped("not here", "no binary"),
        ];
        insta::assert_snapshot!(render(&rows));
    }
}
