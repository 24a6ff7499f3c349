//! What happens after a cancel: in the call that is cancelled, and in the `cancel` of the fresh instance beside it, which
//! behaves as the session that the run has named says.

use std::time::Duration;

use midplane_plugin::agent::Outcome;
use midplane_plugin::bindings::midplane::plugin::{approval, http};
use midplane_plugin::host::Call as ToolCall;
use midplane_plugin::{Host, Result, json};

use crate::event::{event, start};
use crate::net::get;
use crate::workspace::spawn;
use crate::{Behaviour, Call, survived};

pub(crate) const BEHAVIOURS: &[(&str, Behaviour)] = &[
    ("cancel_heard", heard),
    ("cancel_spin", spin),
    ("cancel_spin_deaf", spin_deaf),
    ("cancel_sleep", sleep),
    ("cancel_next", next),
    ("cancel_http_head", http_head),
    ("cancel_http_body", http_body),
    ("cancel_blob", blob),
    ("cancel_tool", tool),
    ("cancel_child", child),
    ("cancel_approval", ask),
    ("cancel_trap", trap),
    ("cancel_claims_done", claims_done),
];

/// Behaviours of the export `cancel`: names of the session.
pub(crate) const NAMES: &[&str] = &["tell_trap", "tell_spin", "tell_sleep", "tell_emits", "tell_imports", "tell_ok"];

pub(crate) fn tell(host: &dyn Host, _run_id: &str, session: &str) -> Result<()> {
    match session {
        "tell_trap" => panic!("trap in `cancel`"),
        "tell_spin" => loop {
            std::hint::black_box(());
        },
        "tell_sleep" => loop {
            std::thread::sleep(Duration::from_secs(3_600));
        },
        // Into the log of a run that is ending: nothing of it may arrive there.
        "tell_emits" => {
            for kind in ["assistant_text", "runtime_terminal", "notification"] {
                // One of them is refused and one is not; neither matters.
                let _ = host.emit(&[event(kind, &json!({ "type": "from_cancel", "text": "from_cancel" }))]);
            }
            Ok(())
        }
        // Tools are not for it.
        "tell_imports" => {
            let call = ToolCall {
                id: "1".into(),
                name: "write_file".into(),
                arguments: json!({ "path": "from_cancel", "content": "x" }).to_string(),
            };
            host.call_all(&[call]).map(|_| ())
        }
        _ => Ok(()),
    }
}

/// The well-behaved one: waits, hears, and says so.
fn heard(call: &Call<'_>) -> Result<Outcome> {
    start(call.host, call.word(1))?;
    loop {
        if let Err(error) = call.host.signal(60_000) {
            return Ok(Outcome::failed(error));
        }
    }
}

fn spin(call: &Call<'_>) -> Result<Outcome> {
    start(call.host, call.word(1))?;
    loop {
        std::hint::black_box(call.host.cancelled());
    }
}

fn spin_deaf(call: &Call<'_>) -> Result<Outcome> {
    start(call.host, call.word(1))?;
    loop {
        std::hint::black_box(());
    }
}

fn sleep(call: &Call<'_>) -> Result<Outcome> {
    start(call.host, call.word(1))?;
    loop {
        std::thread::sleep(Duration::from_secs(3_600));
    }
}

fn next(call: &Call<'_>) -> Result<Outcome> {
    start(call.host, call.word(1))?;
    loop {
        // Told once, and asked again.
        let _ = call.host.signal(u32::MAX);
    }
}

/// A server that accepts and says nothing. The answer to the cancel is ignored and the request repeated.
fn http_head(call: &Call<'_>) -> Result<Outcome> {
    start(call.host, call.word(1))?;
    loop {
        let _ = get(call.host, "/silent");
    }
}

/// A server that sends a byte now and then.
fn http_body(call: &Call<'_>) -> Result<Outcome> {
    start(call.host, call.word(1))?;
    let mut response = get(call.host, "/drip")?;
    loop {
        let _ = response.read(1024);
    }
}

fn blob(call: &Call<'_>) -> Result<Outcome> {
    start(call.host, call.word(1))?;
    let request = crate::net::request(call.host, "/drip");
    let body = http::Response::into_blob(http::send(&request, &http::Body::Empty)?)?;
    loop {
        let _ = body.size();
    }
}

fn tool(call: &Call<'_>) -> Result<Outcome> {
    start(call.host, call.word(1))?;
    loop {
        let calls = [ToolCall {
            id: "1".into(),
            name: "shell".into(),
            arguments: json!({ "command": "sleep 600 & sleep 600" }).to_string(),
        }];
        let _ = call.host.call_all(&calls);
    }
}

fn child(call: &Call<'_>) -> Result<Outcome> {
    start(call.host, call.word(1))?;
    // Ignores what a polite stop sends.
    let child = spawn(&["sh", "-c", "trap '' INT TERM HUP; sleep 600; sleep 600"])?;
    loop {
        let _ = child.next(1024, u32::MAX);
    }
}

fn ask(call: &Call<'_>) -> Result<Outcome> {
    start(call.host, call.word(1))?;
    loop {
        let question =
            approval::Question { kind: "command".into(), title: "rm -rf /".into(), detail: "{}".into(), call_id: None };
        if approval::ask(&question).is_ok_and(|decision| decision.allowed) {
            return survived("an approval that nobody gave");
        }
    }
}

fn trap(call: &Call<'_>) -> Result<Outcome> {
    start(call.host, call.word(1))?;
    loop {
        assert!(call.host.signal(60_000).is_ok(), "trap on a cancel");
    }
}

/// Says that it is done although it was stopped.
fn claims_done(call: &Call<'_>) -> Result<Outcome> {
    start(call.host, call.word(1))?;
    while call.host.signal(60_000).is_ok() {}
    Ok(Outcome::done("as if nothing had happened"))
}
