//! Parts of the documentation that are generated from the code. With `MIDPLANE_BLESS=1` a test writes what it would compare.

use std::fmt::Write as _;
use std::path::Path;

use midplane::core::limits::TABLE;

use crate::command::Home;

/// Replaces what stands between the two markers of a name.
fn section(file: &Path, name: &str, generated: &str) {
    let text = std::fs::read_to_string(file).expect("file");
    let (begin, end) = (format!("<!-- {name}: "), format!("<!-- /{name} -->"));
    let from = text.find(&begin).and_then(|at| text[at..].find("-->\n").map(|to| at + to + 4)).expect("begin marker");
    let to = text.find(&end).expect("end marker");
    if text[from..to] == *generated {
        return;
    }
    assert!(
        std::env::var_os("MIDPLANE_BLESS").is_some(),
        "{}: the section `{name}` is out of date; run the tests once with MIDPLANE_BLESS=1",
        file.display()
    );
    std::fs::write(file, format!("{}{generated}{}", &text[..from], &text[to..])).expect("write");
}

#[test]
fn limits_in_the_readme() {
    let mut table = String::from("| limit | default | | bounds |\n|---|--:|---|---|\n");
    for info in TABLE {
        let plus = if info.raisable { "+" } else { "" };
        writeln!(table, "| `{}` | {} | {plus} | {} |", info.name, info.default, info.doc.trim()).expect("write");
    }
    let readme = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../README.md");
    section(&readme, "limits", &table);
}

#[test]
fn the_worked_example_in_the_readme() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let readme = root.join("README.md");
    // The file that is shown is the one that is checked.
    let example = std::fs::read_to_string(root.join("examples/broken-manifest/runtm.yaml")).expect("example");
    assert!(std::fs::read_to_string(&readme).expect("readme").contains(&example), "the README shows another file");
    let home = Home::new();
    let run = |arguments: &[&str]| {
        let output = home.command(arguments).current_dir(&root).output().expect("the command runs");
        crate::command::printed(output)
    };
    let checked = run(&["check", "examples/broken-manifest"]);
    assert_eq!(checked.code, Some(1), "{}", checked.err);
    let typed = |command: &str, out: &str| format!("```console\n$ midplane {command}\n{out}```\n");
    section(&readme, "check", &typed("check examples/broken-manifest", &checked.out));
    let code = "env-default-secret";
    let explained = run(&["explain", code]);
    assert_eq!(explained.code, Some(0), "{}", explained.err);
    section(&readme, "explain", &typed(&format!("explain {code}"), &explained.out));
}

#[test]
fn the_matrix_of_agents_in_the_readme() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let home = Home::new();
    let output = home.command(&["agents", "--markdown"]).output().expect("the command runs");
    let printed = crate::command::printed(output);
    assert_eq!(printed.code, Some(0), "{}", printed.err);
    section(&root.join("README.md"), "agents", &printed.out);
}
