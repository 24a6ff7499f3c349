//! The guest that `tests/bench` measures. Its goal is one verb with numbers:
//!
//! | goal | what it does |
//! |---|---|
//! | `noop` | returns |
//! | `calls N` | asks `control.cancelled` N times |
//! | `gets N` | asks `config.get` N times for a setting that is not set |
//! | `emit N BATCH` | N events of about 200 bytes, BATCH at a time |
//! | `idle` | waits in `control.next` until it is cancelled, and returns |
//! | `spin` | computes for ever |
//! | `sleep` | sleeps in the clock of WASI for an hour |
//! | `wait` | waits in `control.next` and takes no notice of a cancel |
//! | `trap` | waits until it is cancelled, and traps |
//!
//! What it never does: anything that a measure has not asked for. So it emits `runtime_started` only in the verbs that
//! last, as the sign that it is there.

#![forbid(unsafe_code)]

use std::hint::black_box;
use std::time::Duration;

use midplane_plugin::agent::{AvailabilityReport, CapabilitySet, Issue, Outcome, Readiness, Task};
use midplane_plugin::host::Event;
use midplane_plugin::{Agent, Error, Host, Result};

/// The adapter of the goals above.
pub struct Bench;

midplane_plugin::export_agent!(Bench);

/// How long one wait in `control.next` is; longer than any measure.
const WAIT_MS: u32 = 3_600_000;

impl Agent for Bench {
    fn capabilities(_host: &dyn Host) -> CapabilitySet {
        CapabilitySet { features: vec!["cancellation".to_owned()], limits: Vec::new() }
    }

    fn availability(_host: &dyn Host, _probe_timeout_ms: u32) -> AvailabilityReport {
        AvailabilityReport {
            status: Readiness::Ready,
            reason: "available".to_owned(),
            message: String::new(),
            version: None,
        }
    }

    fn validate(_host: &dyn Host, _task: &Task) -> Vec<Issue> {
        Vec::new()
    }

    fn run(host: &dyn Host, task: Task) -> Result<Outcome> {
        let words: Vec<&str> = task.goal.split_whitespace().collect();
        match words[..] {
            ["noop"] => {}
            ["calls", count] => {
                for _ in 0..number(count)? {
                    black_box(host.cancelled());
                }
            }
            ["gets", count] => {
                for _ in 0..number(count)? {
                    black_box(host.setting(black_box("unset")));
                }
            }
            ["emit", count, batch] => emit(host, number(count)?, number(batch)?)?,
            ["idle"] => {
                started(host)?;
                while host.signal(WAIT_MS).is_ok() {}
            }
            ["spin"] => {
                started(host)?;
                spin();
            }
            ["sleep"] => {
                started(host)?;
                std::thread::sleep(Duration::from_secs(3_600));
            }
            ["wait"] => {
                started(host)?;
                loop {
                    // The first answer after a cancel is an error, the following ones are waits again.
                    let _ = host.signal(WAIT_MS);
                }
            }
            ["trap"] => {
                started(host)?;
                while host.signal(WAIT_MS).is_ok() {}
                std::process::abort();
            }
            _ => return Err(Error::invalid("goal", format!("`{}` is no verb of this guest", task.goal))),
        }
        Ok(Outcome::new("done"))
    }
}

fn number(word: &str) -> Result<usize> {
    word.parse().map_err(|_| Error::invalid("goal", format!("`{word}` is not a number")))
}

fn started(host: &dyn Host) -> Result<()> {
    host.emit(&[Event { kind: "runtime_started".to_owned(), data: "{}".to_owned() }])
}

fn emit(host: &dyn Host, count: usize, batch: usize) -> Result<()> {
    started(host)?;
    let text = "The quick brown fox jumps over the lazy dog, and then it does so once more. ".repeat(3);
    // 185 bytes of text and 11 around it.
    let data = format!("{{\"text\":\"{}\"}}", &text[..185]);
    let events = vec![Event { kind: "assistant_text".to_owned(), data }; batch.min(count)];
    let mut left = count;
    while left > 0 {
        let now = left.min(batch);
        host.emit(&events[..now])?;
        left -= now;
    }
    Ok(())
}

fn spin() -> ! {
    let mut x = 1_u64;
    loop {
        x = black_box(x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1));
    }
}
