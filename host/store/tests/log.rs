//! Both implementations of the log pass the contract.

use std::sync::{Arc, Mutex};

use midplane_store::{EventLog, MemoryLog, Store, suite};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory_log() {
    suite::event_log(|| Arc::new(MemoryLog::new())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sqlite_log() {
    let dirs = Mutex::new(Vec::new());
    suite::event_log(|| -> Arc<dyn EventLog> {
        let dir = tempfile::tempdir().expect("a directory");
        let store = Store::open(dir.path()).expect("open");
        dirs.lock().expect("no panic").push(dir);
        store.log
    })
    .await;
}
