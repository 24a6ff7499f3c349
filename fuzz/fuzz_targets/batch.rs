//! Any bytes as a batch: refused or printed, the print is the same batch, and taken twice it is a duplicate.

#![no_main]

use libfuzzer_sys::fuzz_target;
use midplane_core::batch::{validate, validate_bytes};
use midplane_core::event::Record;
use midplane_core::limits::Limits;
use midplane_core::redact::Redactor;
use midplane_core::stream::{Input, State, Verdict, arrivals, opened, step};
use midplane_core::{Error, RunId};

fuzz_target!(|bytes: &[u8]| {
    let batch = match validate_bytes(bytes) {
        Ok(batch) => batch,
        Err(error) => return assert!(!Error::from(error).message.is_empty()),
    };
    let printed = batch.to_json_text();
    let again = validate(&printed).expect("what is printed is a batch");
    assert_eq!(again.to_json_text(), printed);
    let limits = Limits::default();
    let read = |batch| arrivals(batch, &Redactor::default(), &limits);
    let (Ok(first), Ok(second)) = (read(&batch), read(&again)) else { return };
    let mut state = State::default();
    apply(&mut state, opened(serde_json::json!({})));
    let Ok(taken) = step(&state, Input::Batch(&first), &limits) else { return };
    apply(&mut state, taken.append);
    let repeated = step(&state, Input::Batch(&second), &limits).expect("a batch is never in its own way");
    assert_eq!((repeated.verdict, repeated.append.len()), (Verdict::Duplicate, 0));
});

fn apply(state: &mut State, events: Vec<midplane_core::event::Event>) {
    for event in events {
        // As a store would: through text and back, which bounds the depth of what is kept.
        let text = serde_json::to_string(&event.data).expect("data is JSON");
        let data = serde_json::from_str(&text).expect("and is read back");
        let seq = state.run.last_seq + 1;
        state.apply(&Record { run_id: RunId::from_parts(1, 2), seq, t_ms: 1, kind: event.kind, data });
    }
}
