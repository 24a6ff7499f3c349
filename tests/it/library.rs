//! The library as an embedder uses it: in memory, no command, no helper program.

use std::time::Duration;

use midplane::core::event::{EventKind, Record};
use midplane::core::outcome::FinishReason;
use midplane::core::permission::Grant;
use midplane::core::task::{Task, Workspace, WorkspaceAccess};
use midplane::{CancelReceipt, Config, FIRST_PARTY, Host, Paths, RunQuery, RunRequest};

fn builder() -> midplane::Builder {
    // Compiled once for all tests.
    let builder = Host::builder().cache(concat!(env!("CARGO_TARGET_TMPDIR"), "/cache"));
    FIRST_PARTY.iter().fold(builder, |builder, plugin| builder.plugin(*plugin))
}

fn request(steps: &str, folder: &std::path::Path) -> RunRequest {
    let mut task = Task::new(format!("playbook: 1\nname: test\nsteps:\n{steps}"));
    task.workspace = Some(Workspace { path: folder.display().to_string(), access: WorkspaceAccess::ReadWrite });
    RunRequest { profile: "playbook".into(), task, allow: vec![Grant::Shell] }
}

const SLEEP: &str = "  - name: sleep\n    tool: shell\n    with: {command: 'echo started; sleep 600'}\n";

async fn all(host: &Host, run_id: &midplane::core::RunId, from_seq: u64) -> Vec<Record> {
    let mut events = host.subscribe(run_id, from_seq).await.expect("events");
    let mut records = Vec::new();
    while let Some(more) = events.next().await.expect("records") {
        records.extend(more);
    }
    records
}

/// Waits for a record that satisfies a condition.
async fn until(host: &Host, run_id: &midplane::core::RunId, found: impl Fn(&Record) -> bool) {
    let mut events = host.subscribe(run_id, 1).await.expect("events");
    while let Some(more) = events.next().await.expect("records") {
        if more.iter().any(&found) {
            return;
        }
    }
    panic!("the run ended before");
}

#[tokio::test]
async fn a_run_from_start_to_outcome() {
    let host = builder().open().await.expect("host");
    let folder = tempfile::tempdir().expect("folder");
    let steps = "  - name: write\n    tool: write_file\n    with: {path: a/b.txt, content: hello}\n";
    let mut run = host.run(request(steps, folder.path())).await.expect("run");
    let outcome = run.outcome().await.expect("outcome");
    assert_eq!(outcome.finish_reason, FinishReason::Done, "{outcome:?}");
    assert_eq!(std::fs::read_to_string(folder.path().join("a/b.txt")).expect("file"), "hello");
    let records = all(&host, run.id(), 1).await;
    assert!(records.iter().enumerate().all(|(index, record)| record.seq == index as u64 + 1));
    assert_eq!(records.iter().filter(|record| record.kind == EventKind::RuntimeTerminal).count(), 1);
    // A cursor in the middle gives the rest, and the fold of the log is what `get` says.
    assert_eq!(all(&host, run.id(), 4).await, records[3..]);
    let view = host.get(run.id()).await.expect("view");
    assert_eq!((view.status, view.outcome), ("terminated", Some(outcome)));
    let outputs = host.outputs(run.id()).await.expect("outputs");
    assert_eq!(outputs.len(), 1);
    assert_eq!(host.output(&outputs[0].digest).await.expect("content"), b"hello");
}

#[tokio::test]
async fn cancel_ends_a_run_and_its_children() {
    let host = builder().open().await.expect("host");
    let folder = tempfile::tempdir().expect("folder");
    let mut run = host.run(request(SLEEP, folder.path())).await.expect("run");
    until(&host, run.id(), |record| record.kind == EventKind::ToolRequest).await;
    assert_eq!(host.cancel(run.id()).await.expect("cancel"), CancelReceipt::Requested);
    let outcome = run.outcome().await.expect("outcome");
    assert_eq!(outcome.finish_reason, FinishReason::Interrupted);
    assert_eq!(outcome.reason.as_deref(), Some("user"));
    assert_eq!(host.cancel(run.id()).await.expect("again"), CancelReceipt::NotActive);
    // The answer of the tool that was cut off is in the log all the same.
    let records = all(&host, run.id(), 1).await;
    let response = records.iter().find(|record| record.kind == EventKind::ToolResponse).expect("response");
    assert_eq!(response.data["status"], "cancelled");
}

#[tokio::test]
async fn a_deadline_is_a_cancel_in_every_respect() {
    let host = builder().open().await.expect("host");
    let folder = tempfile::tempdir().expect("folder");
    let mut request = request(SLEEP, folder.path());
    request.task.timeout_ms = Some(300);
    let mut run = host.run(request).await.expect("run");
    let outcome = run.outcome().await.expect("outcome");
    assert_eq!(outcome.finish_reason, FinishReason::TimedOut);
    assert_eq!(outcome.error.expect("error").code, "deadline");
}

#[tokio::test]
async fn a_slow_reader_lags_and_loses_nothing() {
    let host = builder().open().await.expect("host");
    let folder = tempfile::tempdir().expect("folder");
    let steps = "  - name: many\n    for_each: range(300) | list\n    say: 'line {{ item }}'\n";
    let mut run = host.run(request(steps, folder.path())).await.expect("run");
    let mut slow = host.subscribe(run.id(), 1).await.expect("events");
    let first = slow.next().await.expect("records").expect("some");
    // The run ends although its reader does not read.
    assert!(run.outcome().await.expect("outcome").is_done());
    let mut records = first;
    while let Some(more) = slow.next().await.expect("records") {
        records.extend(more);
    }
    assert!(records.iter().enumerate().all(|(index, record)| record.seq == index as u64 + 1));
    assert_eq!(records.last().expect("last").kind, EventKind::RuntimeTerminal);
}

#[tokio::test]
async fn runs_beyond_the_bound_wait_and_can_be_cancelled_there() {
    let config = Config::parse("limits: {runs_max: 1}", "test").expect("config");
    let host = builder().config(config).open().await.expect("host");
    let folder = tempfile::tempdir().expect("folder");
    let mut first = host.run(request(SLEEP, folder.path())).await.expect("run");
    until(&host, first.id(), |record| record.kind == EventKind::ToolRequest).await;
    let mut second = host.run(request(SLEEP, folder.path())).await.expect("run");
    assert_eq!(host.get(second.id()).await.expect("view").status, "queued");
    host.cancel(second.id()).await.expect("cancel");
    assert_eq!(second.outcome().await.expect("outcome").finish_reason, FinishReason::Interrupted);
    assert_eq!(host.get(first.id()).await.expect("view").status, "running");
    host.cancel(first.id()).await.expect("cancel");
    first.outcome().await.expect("outcome");
}

#[tokio::test]
async fn shutdown_drains() {
    let host = builder().open().await.expect("host");
    let folder = tempfile::tempdir().expect("folder");
    let mut run = host.run(request(SLEEP, folder.path())).await.expect("run");
    until(&host, run.id(), |record| record.kind == EventKind::ToolRequest).await;
    host.shutdown().await;
    let outcome = run.outcome().await.expect("outcome");
    assert_eq!((outcome.finish_reason, outcome.reason.as_deref()), (FinishReason::Interrupted, Some("shutdown")));
    let refused = host.run(request(SLEEP, folder.path())).await.err().expect("refused");
    assert_eq!(refused.error.code, "closing");
}

#[tokio::test]
async fn two_hosts_on_one_store_follow_and_cancel_each_other() {
    let home = tempfile::tempdir().expect("home");
    let paths = Paths::under(home.path());
    let one = builder().paths(paths.clone()).open().await.expect("one");
    let folder = tempfile::tempdir().expect("folder");
    let mut run = one.run(request(SLEEP, folder.path())).await.expect("run");
    until(&one, run.id(), |record| record.kind == EventKind::ToolRequest).await;
    // The second opens, recovers and looks, and the run goes on.
    let two = builder().paths(paths).open().await.expect("two");
    assert_eq!(two.get(run.id()).await.expect("view").status, "running");
    assert_eq!(two.runs(RunQuery { unfinished: true, ..RunQuery::default() }).await.expect("runs").len(), 1);
    let follower = {
        let (two, id) = (two.clone(), run.id().clone());
        tokio::spawn(async move { all(&two, &id, 1).await })
    };
    assert_eq!(two.cancel(run.id()).await.expect("cancel"), CancelReceipt::Requested);
    assert_eq!(run.outcome().await.expect("outcome").finish_reason, FinishReason::Interrupted);
    let followed = follower.await.expect("follower");
    assert_eq!(followed, all(&one, run.id(), 1).await);
}

#[tokio::test]
async fn a_run_whose_host_is_gone_is_closed_once() {
    let home = tempfile::tempdir().expect("home");
    let paths = Paths::under(home.path());
    let folder = tempfile::tempdir().expect("folder");
    // A host on a runtime of its own, which is torn down in the middle of a run: nothing is said to anyone.
    let (lost_paths, lost_folder) = (paths.clone(), folder.path().to_owned());
    let id = std::thread::spawn(move || {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("runtime");
        let id = runtime.block_on(async {
            let host = builder().paths(lost_paths).open().await.expect("host");
            let run = host.run(request(SLEEP, &lost_folder)).await.expect("run");
            until(&host, run.id(), |record| record.kind == EventKind::ToolRequest).await;
            run.id().clone()
        });
        runtime.shutdown_timeout(Duration::from_secs(5));
        id
    })
    .join()
    .expect("the lost host");
    // Several look at once; one of them closes it.
    let hosts = futures_util::future::join_all((0..4).map(|_| builder().paths(paths.clone()).open())).await;
    let host = hosts.into_iter().next().expect("one").expect("host");
    let records = all(&host, &id, 1).await;
    assert_eq!(records.iter().filter(|record| record.kind == EventKind::RuntimeTerminal).count(), 1);
    let outcome = host.get(&id).await.expect("view").outcome.expect("outcome");
    assert_eq!((outcome.finish_reason, outcome.reason.as_deref()), (FinishReason::Failed, Some("host_lost")));
}

#[tokio::test]
async fn refusals_leave_no_trace() {
    let host = builder().open().await.expect("host");
    let folder = tempfile::tempdir().expect("folder");
    let mut unsupported = request(SLEEP, folder.path());
    unsupported.task.permissions.network = Some(false);
    unsupported.task.reasoning_effort = Some("high".into());
    let refused = host.run(unsupported).await.err().expect("refused");
    let fields: Vec<&str> = refused.issues.iter().map(|issue| issue.field.as_str()).collect();
    assert_eq!(fields, ["reasoning_effort", "permissions.network"]);
    let ungranted = RunRequest { profile: "anthropic".into(), task: Task::new("hi"), allow: vec![] };
    let refused = host.run(ungranted).await.err().expect("refused");
    let missing: Vec<String> = refused.missing.iter().map(ToString::to_string).collect();
    assert_eq!(missing, ["http:https://api.anthropic.com", "secret:ANTHROPIC_API_KEY"]);
    assert!(host.runs(RunQuery::default()).await.expect("runs").is_empty());
}
