//! A service that runs an agent task with the library: what an embedder writes, and no more.
//!
//! `cargo run -p embed -- DIR` lists the text files of a folder with the embedded `playbook` agent, prints what happens as
//! it happens, and ends with the typed outcome. State is in memory; `Builder::paths` keeps it.

#![forbid(unsafe_code)]

use midplane::core::event::EventKind;
use midplane::core::task::{Task, Workspace, WorkspaceAccess};
use midplane::{FIRST_PARTY, Host, RunRequest};

const PLAYBOOK: &str = "
playbook: 1
name: texts
steps:
  - name: find
    tool: glob
    with: { pattern: '**/*.md' }
    save_as: found
output: '{{ found.paths | length }} Markdown files'
";

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = std::env::args().nth(1).unwrap_or_else(|| ".".to_owned());
    let host = FIRST_PARTY.iter().fold(Host::builder(), |builder, plugin| builder.plugin(*plugin)).open().await?;

    let mut task = Task::new(PLAYBOOK);
    // The workspace is the grant: this folder, for reading.
    task.workspace = Some(Workspace { path: folder, access: WorkspaceAccess::Read });
    // A refusal (a feature that is not declared, a grant that is missing) comes before anything starts.
    let mut run = host.run(RunRequest { profile: "playbook".to_owned(), task, allow: Vec::new() }).await?;

    // Replay from a cursor, then live, until the terminal; a slow reader lags and never blocks the run.
    let mut events = host.subscribe(run.id(), 1).await?;
    while let Some(records) = events.next().await? {
        for record in records.iter().filter(|record| record.kind != EventKind::Notification) {
            println!("{:>3} {}", record.seq, record.kind.as_str());
        }
    }
    let outcome = run.outcome().await?;
    println!("{}: {}", outcome.finish_reason.as_str(), outcome.output.trim());
    host.shutdown().await;
    Ok(())
}
