//! Every case of the four replaced packages against this project: `cargo test --test conformance`.
//!
//! # Layout
//! - `main.rs`: reads the folder, runs each case, prints the table
//! - `case.rs`: what a case is, and what a check says about it
//! - `deviations.rs`: `deviations.toml`, the only way in which ours may differ
//! - `files/`: one module per family of files, each with one check per file
//!
//! The folder is `tests/conformance`, or the one that `MIDPLANE_CONFORMANCE_DIR` names: files of the same names and shapes with
//! other cases, under the same rules. A word on the command line keeps the files whose name holds it, and prints each
//! failed case in full.
//!
//! # What it never does
//! It skips no case, knows no case by name (only `deviations.toml` does), and compares no prose of the originals but the
//! messages of the batch validator, which are a wire contract.

#![forbid(unsafe_code)]

mod case;
mod deviations;
mod files;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use case::{Case, Check, Ours};
use deviations::{Deviations, Rule};

/// Failed cases that are shown of one file, unless one is asked for by name.
const SHOWN_MAX: usize = 5;

fn main() -> ExitCode {
    let own = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let elsewhere = std::env::var_os("MIDPLANE_CONFORMANCE_DIR").map(PathBuf::from);
    // What cargo's own harness understands (`--nocapture`, `--test-threads=1`) means nothing here and harms nothing.
    let words: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    let folder = elsewhere.as_deref().unwrap_or(&own);
    match run(&own, folder, elsewhere.is_none(), &words) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("conformance: {error}");
            ExitCode::FAILURE
        }
    }
}

/// What came of one file.
#[derive(Default)]
struct Tally {
    cases: usize,
    passed: usize,
    deviating: usize,
    failed: Vec<String>,
}

/// Runs the files of a folder. `default` is the project's own folder, where more must hold: every file is there, every rule
/// matches, and a rule for a case that is not a quirk quotes what demands it.
fn run(own: &Path, folder: &Path, default: bool, words: &[String]) -> Result<bool, String> {
    let deviations = Deviations::read(&own.join("deviations.toml"))?;
    let checks = files::checks();
    let there = json_files(folder)?;
    let mut problems = Vec::new();
    let mut used = BTreeSet::new();
    let mut total = Tally::default();

    println!("{:<42} {:>6} {:>7} {:>9} {:>7}", "file", "cases", "passed", "deviating", "failed");
    for name in &there {
        if !words.is_empty() && !words.iter().any(|word| name.contains(word.as_str())) {
            continue;
        }
        let Some((_, check)) = checks.iter().find(|(file, _)| file == name) else {
            if deviations.pending.contains(name) {
                println!("{name:<42} {:>6} pending", cases_of(&folder.join(name))?.len());
            } else {
                problems.push(format!("{name}: no check reads this file, and it is not pending"));
            }
            continue;
        };
        let tally = run_file(&folder.join(name), name, *check, &deviations, default, &mut used)?;
        println!("{name:<42} {:>6} {:>7} {:>9} {:>7}", tally.cases, tally.passed, tally.deviating, tally.failed.len());
        let shown = if words.is_empty() { SHOWN_MAX } else { usize::MAX };
        tally.failed.iter().take(shown).for_each(|failure| println!("    {failure}"));
        if tally.failed.len() > shown {
            println!("    ... and {} more: name the file to see all", tally.failed.len() - shown);
        }
        total.cases += tally.cases;
        total.passed += tally.passed;
        total.deviating += tally.deviating;
        total.failed.extend(tally.failed);
    }
    println!(
        "{:<42} {:>6} {:>7} {:>9} {:>7}",
        "all but what is pending",
        total.cases,
        total.passed,
        total.deviating,
        total.failed.len()
    );

    if default && words.is_empty() {
        let expected = checks.iter().map(|(file, _)| (*file).to_owned()).chain(deviations.pending.iter().cloned());
        problems
            .extend(expected.filter(|name| !there.contains(name)).map(|name| format!("{name}: the file is missing")));
        let idle = deviations.rules.iter().enumerate().filter(|(at, _)| !used.contains(at));
        problems.extend(idle.map(|(_, rule)| format!("{rule}: the rule matches no case that differs")));
        // Whoever adds a file says where it comes from.
        let notice = std::fs::read_to_string(own.join("NOTICE.md")).unwrap_or_default();
        let unnamed = there.iter().filter(|name| !notice.contains(&format!("`{name}`")));
        problems.extend(unnamed.map(|name| format!("{name}: `NOTICE.md` does not say where it comes from")));
        let twice = deviations.pending.iter().filter(|name| checks.iter().any(|(file, _)| file == name));
        problems.extend(twice.map(|name| format!("{name}: pending, and yet a check reads it")));
    }
    println!("\ndeviations ({}):", if used.is_empty() { "none" } else { "ours, and why it is better" });
    for rule in used.iter().map(|at| &deviations.rules[*at]) {
        println!("  {rule}\n      {}", rule.why);
    }
    problems.iter().for_each(|problem| println!("problem: {problem}"));
    Ok(total.failed.is_empty() && problems.is_empty())
}

/// The JSON files of a folder, by name.
fn json_files(folder: &Path) -> Result<BTreeSet<String>, String> {
    let entries = std::fs::read_dir(folder).map_err(|error| format!("`{}`: {error}", folder.display()))?;
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    Ok(names.filter(|name| name.ends_with(".json")).collect())
}

/// The cases of a file. A case that cannot be read is an error of the file: none is left out.
fn cases_of(path: &Path) -> Result<Vec<serde_json::Value>, String> {
    let shown = path.display();
    let text = std::fs::read(path).map_err(|error| format!("`{shown}`: {error}"))?;
    let mut file: serde_json::Value = serde_json::from_slice(&text).map_err(|error| format!("`{shown}`: {error}"))?;
    match file.get_mut("cases").map(serde_json::Value::take) {
        Some(serde_json::Value::Array(cases)) => Ok(cases),
        _ => Err(format!("`{shown}` has no list `cases`")),
    }
}

fn run_file(
    path: &Path,
    file: &str,
    check: Check,
    deviations: &Deviations,
    default: bool,
    used: &mut BTreeSet<usize>,
) -> Result<Tally, String> {
    let mut tally = Tally::default();
    for raw in &cases_of(path)? {
        let case = Case::new(raw).map_err(|error| format!("`{}`: {error}", path.display()))?;
        tally.cases += 1;
        let ours = ours(check, &case);
        let Err(difference) = &ours.same else {
            tally.passed += 1;
            continue;
        };
        let rule = deviations.rules.iter().position(|rule| rule.covers(file, case.name));
        match rule.map(|at| (at, &deviations.rules[at])) {
            None => tally.failed.push(format!("{}: {difference}", case.name)),
            Some((_, rule)) if default && !case.is_doubtful() && rule.demand.is_none() => {
                tally.failed.push(format!("{}: {rule} covers an untagged case without `demand`", case.name));
            }
            Some((_, rule)) if ours.outcome != rule.outcome => tally
                .failed
                .push(format!("{}: {rule} says {}, ours is {}: {difference}", case.name, rule.outcome, ours.outcome)),
            Some((at, _)) => {
                used.insert(at);
                tally.deviating += 1;
            }
        }
    }
    Ok(tally)
}

/// One case. A panic is a failure of that case, and of no other.
fn ours(check: Check, case: &Case<'_>) -> Ours {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| check(case)))
        .unwrap_or_else(|_| Ours::refused("panicked").differs("it panicked"))
}

impl std::fmt::Display for Rule {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} `{}`: {}", self.file, self.cases, self.outcome)
    }
}
