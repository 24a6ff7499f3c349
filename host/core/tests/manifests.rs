//! Each `tests/manifests/*.toml` is a test: its `.snap` has the whole message, or what was read. To add a case add a file.

use std::collections::BTreeMap;
use std::path::Path;

use midplane_core::manifest::Manifest;

#[test]
fn manifests() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/manifests");
    let mut cases = BTreeMap::new();
    for entry in std::fs::read_dir(&folder).expect("the folder of cases") {
        let path = entry.expect("an entry").path();
        if path.extension().is_some_and(|extension| extension == "toml") {
            let name = path.file_stem().expect("a name").to_string_lossy().into_owned();
            cases.insert(name, std::fs::read_to_string(&path).expect("a text"));
        }
    }
    assert!(cases.len() > 50, "the cases are there");

    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path("manifests");
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| {
        for (name, text) in &cases {
            let shown = match Manifest::parse(text, "plugin.toml") {
                Ok(manifest) => serde_json::to_string_pretty(&manifest).expect("JSON"),
                Err(error) => {
                    let hint = error.hint.as_ref().map(|hint| format!("\nhint: {hint}")).unwrap_or_default();
                    format!("{} {}: {}{hint}", error.kind, error.code, error.message)
                }
            };
            // A case that is broken by its name must be refused, so that a snapshot cannot be accepted by mistake.
            assert_eq!(name.starts_with("ok-") || name == "full", shown.starts_with('{'), "{name}: {shown}");
            insta::assert_snapshot!(name.as_str(), shown);
        }
    });
}
