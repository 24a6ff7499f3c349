//! The command from its start to its first event, and what happens before that once for each plugin: compiling, loading.

use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use midplane_core::limits::Limits;
use midplane_engine::Engine;

use crate::reach::{first_party, folder};
use crate::table::{Row, Samples, Unit};
use crate::{Effort, bare, interleave};

/// A playbook that says one thing.
const PLAYBOOK: &str = "{playbook: 1, name: bench, steps: [{name: hello, say: hello}]}";

/// From the start of the process to the first line that is an event, with the compiled form in the cache.
pub(crate) async fn first_event(effort: Effort) -> Result<Vec<Row>> {
    let measure = "command start to first event, warm cache";
    // The command is a program of its own, which the build of this one does not make.
    let program = match std::env::var_os("MIDPLANE_BIN") {
        Some(path) => PathBuf::from(path),
        None => std::env::current_exe()?.with_file_name("midplane"),
    };
    let home = folder()?;
    let workspace = home.path().join("workspace");
    std::fs::create_dir(&workspace)?;
    let ours = || {
        let mut command = Command::new(&program);
        command
            .env("MIDPLANE_HOME", home.path())
            .args(["run", "playbook", "--json", "--goal", PLAYBOOK, "--workspace"])
            .arg(&workspace);
        command
    };
    // The first one compiles, and shows whether there is a command at all.
    match ours().output() {
        Ok(output) if output.status.success() && output.stdout.starts_with(b"{") => {}
        Ok(output) => {
            let why = format!("the command gave no event ({})", output.status);
            return Ok(vec![Row::skipped(measure, why)]);
        }
        Err(_) => {
            return Ok(vec![Row::skipped(measure, "no command: `cargo build -p midplane-cli`, or set `MIDPLANE_BIN`")]);
        }
    }
    let this = std::env::current_exe()?;
    let (ours, nothing) = interleave(
        effort.of(60, 3),
        async || first_line(ours()),
        async || {
            let mut command = Command::new(&this);
            command.args(["child", "hello"]);
            first_line(command)
        },
    )
    .await?;
    let row = Row::new(measure, Unit::Time, ours, "child, one line", nothing);
    Ok(vec![row.bar("< 50 ms", |ours, _| ours.median() < 50e-3)])
}

fn first_line(mut command: Command) -> Result<Samples> {
    let begin = Instant::now();
    let mut process = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
    let mut lines = BufReader::new(process.stdout.take().context("no pipe from the command")?).lines();
    let line = lines.next().context("the command said nothing")??;
    let elapsed = begin.elapsed();
    ensure!(line.contains("\"kind\""), "the first line is no event: {line}");
    // To its end, so that it does not take time from what is measured next.
    lines.try_for_each(|line| line.map(|_| ()))?;
    process.wait()?;
    Ok(Samples(vec![elapsed.as_secs_f64()]))
}

/// Each plugin that comes with the program: compiled, and loaded from its compiled form.
pub(crate) async fn compile(effort: Effort) -> Result<Vec<Row>> {
    let engine = Engine::new(&Limits::default())?;
    let folder = folder()?;
    let (compiled, beside) = (folder.path().join("compiled"), folder.path().join("beside"));
    let mut rows = Vec::new();
    for (name, component) in first_party() {
        let (mut cold, mut bare, mut warm) = (Samples::default(), Samples::default(), Samples::default());
        // No round to warm up: what is compiled is compiled once.
        for _ in 0..effort.of(5, 1) {
            let begin = Instant::now();
            std::fs::write(&compiled, engine.compile(component)?)?;
            cold.0.push(begin.elapsed().as_secs_f64());
            let begin = Instant::now();
            std::fs::write(&beside, bare::compile(component)?)?;
            bare.0.push(begin.elapsed().as_secs_f64());
        }
        for _ in 0..effort.of(60, 3) {
            let begin = Instant::now();
            engine.load(&compiled)?;
            warm.0.push(begin.elapsed().as_secs_f64());
        }
        let measure = format!("compile plugin `{name}` ({} KiB)", component.len() / 1024);
        rows.push(Row::new(measure, Unit::Time, cold.clone(), "bare wasmtime", bare));
        rows.push(Row::new(format!("load plugin `{name}` from the cache"), Unit::Time, warm, "compile", cold));
    }
    Ok(rows)
}
