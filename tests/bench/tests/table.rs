//! The harness runs, and its table has every row. No test looks at a time.

use std::process::Command;

/// The table of a quick run: its cells.
fn table(words: &[&str]) -> Vec<Vec<String>> {
    let output = Command::new(env!("CARGO_BIN_EXE_midplane-bench"))
        .arg("--quick")
        .args(words)
        .output()
        .expect("the harness starts");
    let text = String::from_utf8(output.stdout).expect("text");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let rows = text.lines().filter(|line| line.starts_with("| "));
    rows.map(|line| line.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect()).collect()
}

#[test]
fn every_row_is_there() {
    let rows = table(&[]);
    for row in &rows[1..] {
        assert_eq!(row.len(), 8, "{row:?}");
        // Rows that may be left out need a program that this package does not build: the command, and node.
        let skipped = row[1] == "skipped";
        let may = row[0].starts_with("command start") || row[0].starts_with("validate batches");
        assert!(!skipped || may, "{row:?}");
        assert!(
            skipped || row[1].starts_with(|first: char| first.is_ascii_digit()) && row[5].contains(" × "),
            "{row:?}"
        );
    }
    let names: Vec<&str> = rows.iter().map(|row| row[0].as_str()).collect();
    // Sizes change with each build of a plugin.
    insta::with_settings!({ filters => [(r"\d+ KiB", "[size]")] }, { insta::assert_snapshot!(names.join("\n")) });
}

#[test]
fn groups_are_chosen_by_name() {
    let rows = table(&["redact"]);
    assert_eq!(rows.len(), 2, "{rows:?}");
    let refused = Command::new(env!("CARGO_BIN_EXE_midplane-bench")).arg("redat").output().expect("the harness starts");
    assert!(
        !refused.status.success() && String::from_utf8_lossy(&refused.stderr).contains("there is no group `redat`")
    );
}
