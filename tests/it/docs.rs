//! Parts of the documentation that are generated from the code. With `MIDPLANE_BLESS=1` a test writes what it would compare.

use std::fmt::Write as _;
use std::path::Path;

use midplane::core::limits::TABLE;

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
