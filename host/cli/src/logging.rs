//! Log lines, on standard error.

use std::io;
use std::str::FromStr as _;

use tracing::{Level, Subscriber};
use tracing_subscriber::Layer as _;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::cli::{Global, LogFormat};
use crate::screen;

/// Which log lines are wanted.
#[derive(Debug, Clone)]
pub(crate) struct Filter(Targets);

impl Filter {
    /// Reads a level, or levels by target.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let wrong = || {
            "it is `off`, `error`, `warn`, `info`, `debug`, `trace`, or a list such as `warn,midplane=debug`".to_owned()
        };
        // A variable that is set to nothing says nothing.
        let text = if text.trim().is_empty() { "warn" } else { text };
        if let Ok(level) = LevelFilter::from_str(text) {
            // The libraries below are chatty and seldom meant; who wants them names them.
            let below = level.min(LevelFilter::WARN);
            // What an MCP server does wrong is told by the run, in words that name it.
            let protocol = if level >= LevelFilter::DEBUG { below } else { LevelFilter::OFF };
            let targets = Targets::new().with_default(below).with_target("rmcp", protocol);
            return Ok(Self(targets.with_target(PREFIX, level)));
        }
        // A word alone would be taken as a target, and the line would be silent.
        if text.split(',').any(|part| !part.contains('=') && LevelFilter::from_str(part.trim()).is_err()) {
            return Err(wrong());
        }
        Targets::from_str(text).map(Self).map_err(|_| wrong())
    }

    /// Whether the person wants to see what is going on inside.
    pub(crate) fn is_verbose(&self) -> bool {
        self.0.would_enable(PREFIX, &Level::DEBUG)
    }
}

/// The targets of all crates of this project begin so.
const PREFIX: &str = "midplane";

/// Begins to log. `colours`: whether lines of text are coloured.
pub(crate) fn init(global: &Global, colours: bool) {
    let Filter(targets) = global.log.clone();
    tracing_subscriber::registry().with(layer(global.log_format, colours).with_filter(targets)).init();
}

fn layer<S>(format: LogFormat, colours: bool) -> Box<dyn tracing_subscriber::Layer<S> + Send + Sync>
where
    S: Subscriber + for<'span> LookupSpan<'span>,
{
    let layer = fmt::layer().with_writer(|| Stderr);
    match format {
        LogFormat::Text => layer.with_ansi(colours).boxed(),
        // Fields stay in an object of their own: some have the names of what stands around them.
        LogFormat::Json => layer.json().with_span_list(true).boxed(),
    }
}

/// Standard error, above the spinner if there is one.
struct Stderr;

impl io::Write for Stderr {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        screen::suspend(|| io::stderr().write_all(bytes)).map(|()| bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters() {
        let enabled =
            |text: &str, target: &str, level: Level| Filter::parse(text).expect(text).0.would_enable(target, &level);
        assert!(enabled("debug", "midplane_engine::host", Level::DEBUG));
        assert!(!enabled("debug", "hyper", Level::DEBUG));
        assert!(enabled("debug", "hyper", Level::WARN));
        assert!(!enabled("off", "hyper", Level::ERROR));
        assert!(!enabled("error", "hyper", Level::WARN));
        assert!(enabled("warn,hyper=trace", "hyper::client", Level::TRACE));
        assert!(Filter::parse("debug").expect("a level").is_verbose());
        assert!(!Filter::parse("warn,hyper=trace").expect("a list").is_verbose());
        assert!(enabled("", "hyper", Level::WARN));
        for text in ["loud", "midplane=loud", "warn,loud"] {
            assert!(Filter::parse(text).is_err(), "{text}");
        }
    }
}
