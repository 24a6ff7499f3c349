use std::collections::BTreeMap;
use std::sync::Mutex;

use midplane_core::limits::Limits;
use tokio::sync::oneshot;

use super::*;
use crate::fakes::{Recorder, Values, call};

const SECRET: &str = "sk-live-0123456789";

/// Gives this answer, and keeps what it was asked.
struct Says(Option<Reply>, Mutex<Vec<Asked>>);

#[async_trait]
impl Asker for Says {
    async fn ask(&self, asked: Asked) -> Option<Reply> {
        self.1.lock().unwrap().push(asked);
        self.0.clone()
    }
}

/// Tells that it was asked, and never answers.
struct Silent(Mutex<Option<oneshot::Sender<()>>>);

#[async_trait]
impl Asker for Silent {
    async fn ask(&self, _: Asked) -> Option<Reply> {
        if let Some(tell) = self.0.lock().unwrap().take() {
            tell.send(()).unwrap();
        }
        std::future::pending().await
    }
}

fn approvals(answering: Answering, limits: Limits) -> (Approvals, Arc<Recorder>) {
    let (call, recorder) = call(limits);
    let redactor = Values(BTreeMap::from([("KEY", SECRET)])).redactor();
    (Approvals::new(call, answering, redactor), recorder)
}

/// Nothing but somebody to ask.
fn asking(asker: Arc<dyn Asker>) -> Answering {
    Answering { asker: Some(asker), ..Answering::default() }
}

/// These rules, in the form of the configuration, and nobody to ask.
fn ruled(policy: Value) -> Answering {
    Answering { policy: serde_json::from_value(policy).unwrap(), ..Answering::default() }
}

fn question(kind: &str, title: &str, detail: &str) -> Question {
    Question {
        kind: kind.to_owned(),
        title: title.to_owned(),
        detail: detail.to_owned(),
        call_id: Some("c1".to_owned()),
    }
}

fn shown(result: &Result<Decision>, recorder: &Recorder) -> String {
    let result = match result {
        Ok(decision) => format!("{decision:?}"),
        Err(error) => format!("{} {}: {error}", error.kind, error.code),
    };
    format!("{result}\n{}\n{}", recorder.events().join("\n"), recorder.audits().join("\n"))
}

#[tokio::test]
async fn answers_and_what_is_written_down() {
    let says = |allowed, message: &str| {
        asking(Arc::new(Says(Some(Reply { allowed, message: message.to_owned() }), Mutex::default())))
    };
    let plain = || question("command", "rm -rf build", "{}");
    let cases = [
        (Answering::default(), plain()),
        (says(true, "fine"), plain()),
        (says(false, &format!("not with {SECRET}")), plain()),
        (asking(Arc::new(Says(None, Mutex::default()))), plain()),
        (ruled(json!({ "rules": [{ "kind": "command", "title": "rm *", "allow": true }] })), plain()),
        (ruled(json!({ "rules": [{ "allow": false }] })), plain()),
        (ruled(json!({ "otherwise": "decline" })), plain()),
        (says(true, "fine"), question("teleport", &format!("two\nlines \u{1b}[2J {SECRET}"), "{}")),
        (says(true, "fine"), question("command", " ", "{}")),
        (says(true, "fine"), question("command", &"x".repeat(4097), "{}")),
        (says(true, "fine"), question("command", "x", "[1]")),
        (says(true, "fine"), question("command", "x", "{")),
        (says(true, "fine"), question("command", "x", &format!("{{}}{}", " ".repeat(300_000)))),
    ];
    let mut lines = Vec::new();
    for (policy, question) in cases {
        let (approvals, recorder) = approvals(policy, Limits::default());
        let result = approvals.ask(question).await;
        lines.push(shown(&result, &recorder));
    }
    insta::assert_snapshot!(lines.join("\n---\n"));
}

#[tokio::test]
async fn a_person_sees_no_secret_and_no_control_character() {
    let says = Arc::new(Says(Some(Reply { allowed: true, message: String::new() }), Mutex::default()));
    let (approvals, _) = approvals(asking(says.clone()), Limits::default());
    let detail = format!(r#"{{"command":"curl -H {SECRET}","password":"x","cwd":"/"}}"#);
    approvals.ask(question("network", "curl\u{7}", &detail)).await.unwrap();
    insta::assert_debug_snapshot!(says.1.lock().unwrap());
}

#[tokio::test]
async fn nobody_answers_in_time() {
    let (tell, _asked) = oneshot::channel();
    let silent = asking(Arc::new(Silent(Mutex::new(Some(tell)))));
    let (approvals, recorder) = approvals(silent, Limits { approval_ms_max: 20, ..Limits::default() });
    let result = approvals.ask(question("tool", "x", "{}")).await;
    insta::assert_snapshot!(shown(&result, &recorder));
}

#[tokio::test]
async fn a_cancel_ends_the_waiting() {
    let (tell, asked) = oneshot::channel();
    let silent = asking(Arc::new(Silent(Mutex::new(Some(tell)))));
    let (approvals, recorder) = approvals(silent, Limits::default());
    let approvals = Arc::new(approvals);
    let waiting = tokio::spawn({
        let approvals = Arc::clone(&approvals);
        async move { approvals.ask(question("tool", "x", "{}")).await }
    });
    asked.await.unwrap();
    approvals.call.control.cancel(Duration::from_secs(1));
    let result = waiting.await.unwrap();
    insta::assert_snapshot!(shown(&result, &recorder));
    // And a later question is not even asked.
    assert_eq!(approvals.ask(question("tool", "x", "{}")).await.unwrap_err().code, "cancelled");
}

/// Where nobody is at the terminal, an answer from elsewhere is waited for if the operator says so; the first counts.
#[tokio::test]
async fn an_answer_from_elsewhere() {
    let answering = ruled(json!({ "otherwise": "ask" }));
    let questions = answering.questions.clone();
    let (approvals, recorder) = approvals(answering, Limits::default());
    let waiting = tokio::spawn(async move { approvals.ask(question("tool", "x", "{}")).await });
    // It is written down before it can be answered.
    while recorder.events().is_empty() {
        tokio::task::yield_now().await;
    }
    let reply = |allowed| Reply { allowed, message: "so be it".to_owned() };
    assert!(!questions.answer("q2", reply(true)), "there is no such question");
    assert!(questions.answer("q1", reply(true)));
    assert!(!questions.answer("q1", reply(false)), "it was answered");
    let result = waiting.await.unwrap();
    insta::assert_snapshot!(shown(&result, &recorder));
}
