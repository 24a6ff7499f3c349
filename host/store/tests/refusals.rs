//! Databases that are refused, each with one clear error and its bytes as they were; and those that are not.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use midplane_core::Result;
use midplane_core::deploy::state::{DeploymentState, Transition};
use midplane_store::{Store, suite};
use rusqlite::Connection;

/// A store with a few records, closed.
async fn filled(dir: &Path) {
    let store = Store::open(dir).expect("open");
    for run in 0..3 {
        store.log.append(suite::append(run, 0, 100)).await.expect("append");
    }
}

fn show(dir: &Path, result: Result<Store>) -> String {
    match result {
        Ok(_) => "accepted".to_owned(),
        Err(error) => {
            let text = format!(
                "{} {}: {}\n    hint: {}",
                error.kind,
                error.code,
                error.message,
                error.hint.unwrap_or_default()
            );
            text.replace(&dir.display().to_string(), "DIR")
        }
    }
}

fn overwrite(path: &Path, offset: usize, with: &[u8]) {
    let mut bytes = fs::read(path).expect("read");
    bytes[offset..offset + with.len()].copy_from_slice(with);
    fs::write(path, bytes).expect("write");
}

fn sql(path: &Path, statements: &str) {
    Connection::open(path).and_then(|conn| conn.execute_batch(statements)).expect("statements");
}

#[tokio::test]
async fn refused_databases() {
    type Harm = fn(&Path);
    let cases: [(&str, Harm); 15] = [
        ("untouched", |_| {}),
        ("random bytes", |db| {
            fs::write(db, (0..9_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect::<Vec<_>>())
                .expect("write")
        }),
        ("text", |db| fs::write(db, "hello\n").expect("write")),
        ("empty", |db| fs::write(db, "").expect("write")),
        ("cut in the header", |db| fs::write(db, &fs::read(db).expect("read")[..50]).expect("write")),
        ("cut in the first page", |db| fs::write(db, &fs::read(db).expect("read")[..2_000]).expect("write")),
        ("cut in half", |db| {
            let bytes = fs::read(db).expect("read");
            fs::write(db, &bytes[..bytes.len() / 2]).expect("write");
        }),
        ("a page overwritten", |db| overwrite(db, 3 * 4096, &[0xa5; 4096])),
        ("a folder", |db| {
            fs::remove_file(db).expect("remove");
            fs::create_dir(db).expect("make");
        }),
        ("gone, but not its journal", |db| {
            fs::remove_file(db).expect("remove");
            fs::write(format!("{}-wal", db.display()), "journal").expect("write");
        }),
        ("another program's", |db| {
            fs::remove_file(db).expect("remove");
            sql(db, "CREATE TABLE t (x); PRAGMA application_id = 7; PRAGMA user_version = 1");
        }),
        ("a database of nobody", |db| {
            fs::remove_file(db).expect("remove");
            sql(db, "CREATE TABLE t (x); DROP TABLE t");
        }),
        ("a newer version", |db| sql(db, "PRAGMA user_version = 99")),
        ("a negative version", |db| sql(db, "PRAGMA user_version = -1")),
        ("a table missing", |db| sql(db, "DROP TABLE signals")),
    ];
    let mut shown = Vec::new();
    for (name, harm) in cases {
        let dir = tempfile::tempdir().expect("a directory");
        filled(dir.path()).await;
        let db = dir.path().join("midplane.db");
        harm(&db);
        let before = fs::read(&db).ok();
        let said = show(dir.path(), Store::open(dir.path()));
        if said != "accepted" {
            assert_eq!(fs::read(&db).ok(), before, "{name}: refused, and changed");
            assert_eq!(show(dir.path(), Store::open(dir.path())), said, "{name}: refused again in the same words");
        }
        shown.push(format!("{name}\n    {said}"));
    }
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("file");
    fs::write(&file, "x").expect("write");
    shown.push(format!("the folder is a file\n    {}", show(dir.path(), Store::open(&file))));
    shown.push(format!("below a file\n    {}", show(dir.path(), Store::open(&file.join("store")))));
    insta::assert_snapshot!(shown.join("\n"));
}

/// Wherever a small database is cut, and whichever page is overwritten: it is refused, and left as it is.
#[tokio::test]
async fn any_damage() {
    let dir = tempfile::tempdir().expect("a directory");
    filled(dir.path()).await;
    let db = dir.path().join("midplane.db");
    let whole = fs::read(&db).expect("read");
    let mut damaged: Vec<Vec<u8>> = (0..40).map(|n| whole[..n * whole.len() / 40].to_vec()).collect();
    damaged.extend((0..whole.len() / 4096).map(|page| {
        let mut bytes = whole.clone();
        // Not the file's own header, so that it still looks like a database.
        let start = if page == 0 { 100 } else { page * 4096 };
        bytes[start..(page + 1) * 4096].fill(0xff);
        bytes
    }));
    for (case, bytes) in damaged.iter().enumerate() {
        fs::write(&db, bytes).expect("write");
        let error = Store::open(dir.path()).err().unwrap_or_else(|| panic!("case {case} was accepted"));
        assert_eq!(error.code, "store-damaged", "case {case}: {error:?}");
        assert!(!error.message.contains('\n'), "case {case}: {error:?}");
        assert_eq!(&fs::read(&db).expect("read"), bytes, "case {case}");
        for rest in ["-wal", "-shm"] {
            let _ = fs::remove_file(format!("{}{rest}", db.display()));
        }
    }
}

/// A large database is not read in full when it is opened; damage in it is met by the read, and by a check.
#[tokio::test]
async fn damage_in_a_large_database() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = Store::open(dir.path()).expect("open");
    for n in 0..10 {
        store.log.append(suite::append(1, n * 10_000, 10_000)).await.expect("append");
    }
    drop(store);
    let db = dir.path().join("midplane.db");
    let middle = fs::metadata(&db).expect("size").len() as usize / 2 / 4096 * 4096;
    assert!(middle > 2 * 1024 * 1024, "large enough not to be read in full");
    overwrite(&db, middle, &[0xa5; 8 * 4096]);
    let store = Store::open(dir.path()).expect("its head is sound");
    let code = |error: midplane_core::Error| error.code.into_owned();
    assert_eq!(store.check().await.map_err(code), Err("store-damaged".to_owned()));
    let mut from = 1;
    let met = loop {
        match store.log.read(&suite::run_id(1), from, 0).await {
            Ok(records) => from = records.last().expect("damage comes before the end").seq + 1,
            Err(error) => break error.code,
        }
    };
    assert_eq!(met, "store-damaged");
}

#[tokio::test]
async fn an_older_version_is_migrated() {
    // Version 0 is ours, and still without tables; version 1 has its own, and something in them.
    let v1 = concat!(
        include_str!("../src/sqlite/v1.sql"),
        "INSERT INTO signals (run_id, kind, text) VALUES ('r', 'cancel', '');"
    );
    for (version, tables) in [(0, ""), (1, v1)] {
        let dir = tempfile::tempdir().expect("a directory");
        let db = dir.path().join("midplane.db");
        sql(&db, &format!("PRAGMA application_id = {}; {tables}; PRAGMA user_version = {version}", 0x4d50_4c4e));
        filled(dir.path()).await;
        let conn = Connection::open(&db).expect("open");
        let number = |query: &str| conn.query_row(query, [], |row| row.get::<_, i64>(0)).expect("a number");
        assert_eq!(number("PRAGMA user_version"), 2);
        assert_eq!(number("SELECT count(*) FROM signals"), version, "what was there is still there");
        let store = Store::open(dir.path()).expect("open");
        assert_eq!(suite::read_all(store.log.as_ref(), &suite::run_id(1)).await.len(), 100);
        let queued = Transition::new(None, DeploymentState::Queued, "deploy", 1).expect("legal");
        assert_eq!(store.machines.transition("d", queued).await.expect("the new tables").seq, 1);
    }
}

/// A newer program may migrate a database while an older one has it open: the older one stops writing.
#[tokio::test]
async fn migrated_while_open() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = Store::open(dir.path()).expect("open");
    store.log.append(suite::append(1, 0, 1)).await.expect("append");
    sql(&dir.path().join("midplane.db"), "PRAGMA user_version = 99");
    let error = store.log.append(suite::append(1, 1, 1)).await.expect_err("refused");
    assert_eq!(error.code, "store-newer");
}

/// What a process left that died while it made the database does not matter.
#[tokio::test]
async fn an_interrupted_creation() {
    let dir = tempfile::tempdir().expect("a directory");
    fs::write(dir.path().join("midplane.db.new"), "half a database").expect("write");
    fs::write(dir.path().join("midplane.db.new-wal"), "and its journal").expect("write");
    filled(dir.path()).await;
    let names = fs::read_dir(dir.path())
        .expect("list")
        .map(|entry| entry.expect("entry").file_name().into_string().expect("text"));
    let mut names: Vec<String> = names.collect();
    names.sort();
    assert_eq!(names, ["artifacts", "midplane.db", "midplane.lock"], "one tidy file after the last close");
}

/// Many openers of a folder that does not exist yet: one makes the database, all use it.
#[test]
fn opened_by_many_at_once() {
    let dir = tempfile::tempdir().expect("a directory");
    let target = Arc::new(dir.path().join("a/b"));
    let openers: Vec<_> = (0..12)
        .map(|run| {
            let target = Arc::clone(&target);
            std::thread::spawn(move || {
                let store = Store::open(&target).expect("open");
                let runtime = tokio::runtime::Builder::new_current_thread().build().expect("runtime");
                runtime.block_on(store.log.append(suite::append(run, 0, 5))).expect("append");
            })
        })
        .collect();
    openers.into_iter().for_each(|opener| opener.join().expect("opener"));
    let store = Store::open(&target).expect("open");
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("runtime");
    let rows = runtime.block_on(store.log.runs(midplane_store::RunQuery::default())).expect("runs");
    assert_eq!(rows.len(), 12);
    let mode =
        std::os::unix::fs::PermissionsExt::mode(&fs::metadata(target.join("midplane.db")).expect("file").permissions());
    assert_eq!(mode & 0o777, 0o600, "nobody else reads it");
}
