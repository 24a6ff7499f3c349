//! `midplane check`: what is wrong with the files of a project, all of it at once, and nothing is run.

use std::io::Read as _;
use std::path::PathBuf;

use clap::ValueEnum;
use console::style;
use midplane::check::{self, Checked, FileKind};
use midplane::core::Error;
use midplane::core::problem::Problem;
use midplane::core::project::Mode;
use midplane::core::text::escape_controls;
use serde_json::json;

use crate::app::App;
use crate::exit::Exit;

/// Check manifest, requests, discovery and lock files; nothing is run
#[derive(Debug, clap::Args)]
pub(crate) struct CheckArgs {
    /// Files, or folders of projects; `-` reads standard input and needs `--as`
    #[arg(value_name = "FILE|DIR", default_value = ".")]
    paths: Vec<PathBuf>,
    /// What the files are, where their names do not say it
    #[arg(long = "as", value_name = "KIND")]
    kind: Option<Kind>,
    /// Accept what the original of these files accepted, YAML 1.1 and its coercions included
    #[arg(long)]
    compat: bool,
}

/// Kinds of files as words of the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Kind {
    /// `runtm.yaml`
    Manifest,
    /// `runtm.requests.yaml`
    Requests,
    /// `runtm.discovery.yaml`
    Discovery,
    /// `plugin.toml`
    Plugin,
}

impl From<Kind> for FileKind {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Manifest => Self::Manifest,
            Kind::Requests => Self::Requests,
            Kind::Discovery => Self::Discovery,
            Kind::Plugin => Self::Plugin,
        }
    }
}

pub(crate) fn run(app: &App, args: &CheckArgs) -> anyhow::Result<Exit> {
    let mode = if args.compat { Mode::Compat } else { Mode::Strict };
    let mut checked = Vec::new();
    for path in &args.paths {
        if path.as_os_str() == "-" {
            checked.push(standard_input(args.kind, mode)?);
        } else if path.is_dir() {
            checked.extend(check::check_project(path, mode)?);
        } else {
            checked.push(check::check_file(path, args.kind.map(FileKind::from), mode)?);
        }
    }
    let sound = checked.iter().all(Checked::is_sound);
    app.answer(&json!({ "ok": sound, "files": checked }), || text(&checked))?;
    Ok(if sound { Exit::Done } else { Exit::Failed })
}

/// As large as a file may be, and one byte to tell that it is larger.
const INPUT_BYTES_MAX: u64 = 1024 * 1024;

fn standard_input(kind: Option<Kind>, mode: Mode) -> anyhow::Result<Checked> {
    let Some(kind) = kind else {
        return Err(Error::invalid("file-kind", "standard input has no name that says what it is")
            .hint("add `--as manifest`, `--as requests`, `--as discovery` or `--as plugin`")
            .into());
    };
    let mut text = String::new();
    std::io::stdin().lock().take(INPUT_BYTES_MAX + 1).read_to_string(&mut text)?;
    let kind = FileKind::from(kind);
    let file = "<stdin>".to_owned();
    let problems = if text.len() as u64 > INPUT_BYTES_MAX {
        vec![Problem::new(file.clone(), "file-too-large", format!("it has more than {INPUT_BYTES_MAX} bytes"))]
    } else {
        check::check_text(&text, &file, kind, mode)
    };
    Ok(Checked { file, kind, problems, lock: None })
}

/// Each problem with its place, code and hint; then a line for each file.
fn text(checked: &[Checked]) -> String {
    let mut text = String::new();
    for problem in checked.iter().flat_map(|file| &file.problems) {
        // Names and values of a file are someone else's text.
        let line = escape_controls(&problem.to_string(), false);
        text.push_str(&format!("{line} {}\n", style(format!("[{}]", problem.code)).dim()));
        if let Some(hint) = &problem.hint {
            text.push_str(&format!("    {} {}\n", style("hint:").cyan(), escape_controls(hint, false)));
        }
    }
    if !text.is_empty() {
        text.push('\n');
    }
    for file in checked {
        let name = escape_controls(&file.file, false);
        let verdict = match (file.problems.len(), file.is_sound()) {
            (0, _) => style("ok".to_owned()).green(),
            (_, true) => style("cannot be told".to_owned()).yellow(),
            (1, false) => style("1 problem".to_owned()).red(),
            (count, false) => style(format!("{count} problems")).red(),
        };
        text.push_str(&format!("{name}: {verdict}\n"));
    }
    if checked.iter().any(|file| !file.problems.is_empty()) {
        text.push_str("`midplane explain CODE` says what a code in brackets means\n");
    }
    text
}
