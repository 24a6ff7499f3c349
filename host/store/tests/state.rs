//! The tables beside the log and the artifacts, in the database and in memory; and two stores on one folder, which
//! behave as two processes do (each has its own connections and threads).

use std::collections::BTreeMap;
use std::path::Path;

use midplane_core::{Digest, PluginName, ProfileName, RunId};
use midplane_store::{ArtifactRef, Component, Grant, PluginRow, Store, suite};
use proptest::prelude::*;

fn profile(name: &str) -> ProfileName {
    ProfileName::new(name).expect("a name")
}

/// The same case on a store of each kind.
async fn on_both(case: impl AsyncFn(Store)) {
    let dir = tempfile::tempdir().expect("a directory");
    case(Store::open(dir.path()).expect("open")).await;
    case(Store::memory().expect("memory")).await;
}

fn code<T: std::fmt::Debug>(result: midplane_core::Result<T>) -> String {
    result.expect_err("a refusal").code.into_owned()
}

#[tokio::test]
async fn kv_bounds() {
    on_both(async |store| {
        let (kv, p) = (&store.kv, profile("p"));
        for key in ["", "a\nb", "\u{85}", &"x".repeat(513)] {
            assert_eq!(code(kv.get(&p, key).await), "kv-key");
            assert_eq!(code(kv.put(&p, key, vec![], None, 1).await), "kv-key");
            assert_eq!(code(kv.remove(&p, key, None).await), "kv-key");
        }
        assert_eq!(code(kv.put(&p, "k", vec![0; 1024 * 1024 + 1], None, u64::MAX).await), "value-size");
        kv.put(&p, "a", vec![1; 60], None, 100).await.expect("put");
        assert_eq!(code(kv.put(&p, "b", vec![1; 41], None, 100).await), "kv-full");
        assert_eq!(kv.get(&p, "b").await, Ok(None), "a refused put leaves nothing");
        kv.put(&p, "b", vec![1; 40], None, 100).await.expect("put up to the bound");
        kv.put(&p, "a", vec![1; 60], None, 100).await.expect("put again in its place");
        kv.put(&profile("q"), "a", vec![1; 100], None, 100).await.expect("another profile has its own bound");
        assert_eq!(kv.remove(&p, "a", None).await, Ok(true));
        kv.put(&p, "c", vec![1; 60], None, 100).await.expect("room again");
        assert_eq!(kv.remove_profile(&p).await, Ok(2));
        assert_eq!(kv.keys(&p, "", None, 10).await.expect("keys").len(), 0);
        let revision = kv.put(&p, "c", vec![1; 100], Some(0), 100).await.expect("all room again");
        assert!(revision > 4, "revision {revision} may have been used for this key before the profile was removed");
    })
    .await;
}

/// One call of `kv`. `expect`: none, 0, the revision there is, or a wrong one.
#[derive(Debug, Clone)]
enum Call {
    Put(String, Vec<u8>, u8),
    Remove(String, u8),
    Keys(String, Option<String>, u32),
}

fn calls() -> impl Strategy<Value = Vec<Call>> {
    let key = prop_oneof!["[ab]{1,3}", "[aä\u{1f600}\u{ffff}]{1,2}"];
    let call = prop_oneof![
        4 => (key.clone(), proptest::collection::vec(any::<u8>(), 0..6), 0..4_u8).prop_map(|(key, value, expect)| Call::Put(key, value, expect)),
        2 => (key.clone(), 0..4_u8).prop_map(|(key, expect)| Call::Remove(key, expect)),
        2 => (prop_oneof!["", "[ab]{0,2}", "[ä\u{1f600}]"], proptest::option::of(key), 0..5_u32)
            .prop_map(|(prefix, after, limit)| Call::Keys(prefix, after, limit)),
    ];
    proptest::collection::vec(call, 1..60)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    /// `kv` answers as a map with revisions does.
    #[test]
    fn kv_as_a_map(calls in calls()) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("runtime");
        runtime.block_on(async {
            let (store, p) = (Store::memory().expect("memory"), profile("p"));
            let mut model: BTreeMap<String, (Vec<u8>, u64)> = BTreeMap::new();
            let mut last = 0;
            for call in calls {
                let there = |model: &BTreeMap<String, (Vec<u8>, u64)>, key: &str| model.get(key).map_or(0, |(_, revision)| *revision);
                let expected = |there: u64, expect: u8| match expect {
                    0 => None,
                    1 => Some(0),
                    2 => Some(there),
                    _ => Some(there + 1),
                };
                match call {
                    Call::Put(key, value, expect) => {
                        let now = there(&model, &key);
                        let expect = expected(now, expect);
                        let answer = store.kv.put(&p, &key, value.clone(), expect, u64::MAX).await;
                        if expect.is_some_and(|expect| expect != now) {
                            assert_eq!(code(answer), "revision");
                        } else {
                            let revision = answer.expect("put");
                            assert!(revision > last, "a revision is never used twice");
                            last = revision;
                            model.insert(key, (value, revision));
                        }
                    }
                    Call::Remove(key, expect) => {
                        let now = there(&model, &key);
                        let expect = expected(now, expect);
                        let answer = store.kv.remove(&p, &key, expect).await;
                        if expect.is_some_and(|expect| expect != now) {
                            assert_eq!(code(answer), "revision");
                        } else {
                            assert_eq!(answer, Ok(model.remove(&key).is_some()));
                        }
                    }
                    Call::Keys(prefix, after, limit) => {
                        let wanted: Vec<String> = model
                            .keys()
                            .filter(|key| key.starts_with(&prefix) && after.as_ref().is_none_or(|after| *key > after))
                            .take(limit as usize)
                            .cloned()
                            .collect();
                        assert_eq!(store.kv.keys(&p, &prefix, after.as_deref(), limit).await, Ok(wanted));
                    }
                }
            }
            for (key, entry) in model {
                assert_eq!(store.kv.get(&p, &key).await, Ok(Some(entry)));
            }
        });
    }
}

fn plugin(name: &str, component: Component) -> PluginRow {
    PluginRow {
        name: PluginName::new(name).expect("a name"),
        version: "0.1.0".to_owned(),
        kind: "agent".to_owned(),
        digest: Digest::of(b"component"),
        manifest_toml: "name = 'x'".to_owned(),
        capabilities: "{}".to_owned(),
        installed_ms: 5,
        origin: "a file".to_owned(),
        component,
        verdict: "loads".to_owned(),
    }
}

#[tokio::test]
async fn plugins_and_grants() {
    on_both(async |store| {
        let artifact = plugin("b", Component::Artifact(Digest::of(b"component")));
        let path = plugin("a", Component::Path("/somewhere/x.wasm".into()));
        store.plugins.put(artifact.clone()).await.expect("put");
        store.plugins.put(path.clone()).await.expect("put");
        assert_eq!(store.plugins.list().await, Ok(vec![path.clone(), artifact.clone()]));
        let again = PluginRow { version: "0.2.0".to_owned(), ..path.clone() };
        store.plugins.put(again.clone()).await.expect("put");
        assert_eq!(store.plugins.get(&path.name).await, Ok(Some(again)));
        assert_eq!(store.plugins.remove(&path.name).await, Ok(true));
        assert_eq!(store.plugins.remove(&path.name).await, Ok(false));
        assert_eq!(store.plugins.list().await, Ok(vec![artifact]));

        let grant = |of: &str, what: &str, created_ms| Grant {
            profile: profile(of),
            grant: what.to_owned(),
            created_ms,
            note: "asked on a terminal".to_owned(),
        };
        assert_eq!(store.grants.allow(grant("p", "http:b", 1)).await, Ok(true));
        assert_eq!(store.grants.allow(grant("p", "http:a", 2)).await, Ok(true));
        assert_eq!(store.grants.allow(grant("p", "http:a", 3)).await, Ok(false), "it is allowed already");
        assert_eq!(store.grants.allow(grant("o", "http:a", 4)).await, Ok(true));
        assert_eq!(
            store.grants.list(Some(&profile("p"))).await,
            Ok(vec![grant("p", "http:a", 2), grant("p", "http:b", 1)])
        );
        assert_eq!(store.grants.revoke(&profile("p"), "http:a").await, Ok(true));
        assert_eq!(store.grants.revoke(&profile("p"), "http:a").await, Ok(false));
        assert_eq!(store.grants.list(None).await, Ok(vec![grant("o", "http:a", 4), grant("p", "http:b", 1)]));
        assert_eq!(store.grants.remove_profile(&profile("p")).await, Ok(1));
    })
    .await;
}

#[tokio::test]
async fn signals() {
    on_both(async |store| {
        let (signals, one, two) = (&store.signals, suite::run_id(1), suite::run_id(2));
        let watch = signals.watch();
        assert_eq!(signals.version().await, Ok(0));
        let first = signals.push(&one, "steer", "left").await.expect("push");
        let second = signals.push(&two, "steer", "up").await.expect("push");
        let third = signals.push(&one, "cancel", "").await.expect("push");
        assert!(first < second && second < third);
        assert_eq!(signals.version().await, Ok(third));
        assert!(watch.has_changed().expect("open"));
        let taken = signals.take(&[two.clone(), one.clone()]).await.expect("take");
        let shown: Vec<_> = taken.iter().map(|s| (s.id, &s.run_id, s.kind.as_str(), s.text.as_str())).collect();
        assert_eq!(shown, [(first, &one, "steer", "left"), (second, &two, "steer", "up"), (third, &one, "cancel", "")]);
        assert_eq!(signals.take(&[one.clone(), two.clone()]).await, Ok(vec![]));
        assert_eq!(signals.version().await, Ok(third), "the version outlives the signals");
        for n in 0..64 {
            signals.push(&one, "steer", &n.to_string()).await.expect("push");
        }
        assert_eq!(code(signals.push(&one, "steer", "").await), "signals-full");
        signals.push(&one, "cancel", "").await.expect("a cancel finds room");
        signals.push(&two, "steer", "").await.expect("another run has room");
        assert_eq!(code(signals.push(&two, "steer", &"x".repeat(64 * 1024 + 1)).await), "signal-size");
        store.log.append(suite::append(1, 0, 1)).await.expect("append");
        assert_eq!(store.remove_run(&one).await, Ok(true));
        assert_eq!(signals.take(&[one]).await, Ok(vec![]), "signals go with their run");
    })
    .await;
}

#[tokio::test]
async fn artifacts() {
    on_both(async |store| {
        let artifacts = &store.artifacts;
        let large: Vec<u8> = (0..300_000_u32).flat_map(u32::to_le_bytes).collect();
        let empty = artifacts.put_bytes(b"", 10).await.expect("put");
        let kept = artifacts.put(&mut large.as_slice(), large.len() as u64, 10).await.expect("put");
        assert_eq!((kept.digest.clone(), kept.size_bytes), (Digest::of(&large), large.len() as u64));
        assert_eq!(artifacts.put_bytes(&large, 10).await, Ok(kept.clone()), "once more is the same");
        assert_eq!(artifacts.read(&kept.digest, u64::MAX).await.as_ref(), Ok(&large));
        assert_eq!(artifacts.read(&empty.digest, 0).await, Ok(vec![]));
        assert_eq!(code(artifacts.read(&kept.digest, 1_000).await), "artifact-size");
        assert_eq!(artifacts.size(&kept.digest).await, Ok(Some(large.len() as u64)));
        assert_eq!(code(artifacts.put(&mut &b"four"[..], 3, 10).await), "artifact-size");
        assert_eq!(artifacts.exists(&Digest::of(b"four")).await, Ok(false), "what is refused is not kept");
        assert_eq!(code(artifacts.read(&Digest::of(b"four"), 9).await), "artifact");

        let reference = |run: u64, name: &str, digest: &Digest| ArtifactRef {
            run_id: suite::run_id(run),
            name: name.to_owned(),
            kind: "file".to_owned(),
            digest: digest.clone(),
            size_bytes: 3,
        };
        assert_eq!(code(artifacts.add_ref(reference(1, "x", &Digest::of(b"four"))).await), "artifact");
        artifacts.add_ref(reference(1, "b", &empty.digest)).await.expect("ref");
        artifacts.add_ref(reference(1, "a", &kept.digest)).await.expect("ref");
        artifacts.add_ref(reference(1, "b", &kept.digest)).await.expect("a later one of the same name replaces it");
        assert_eq!(
            artifacts.refs(&suite::run_id(1)).await,
            Ok(vec![reference(1, "a", &kept.digest), reference(1, "b", &kept.digest)])
        );
        assert_eq!(code(artifacts.remove(&kept.digest).await), "artifact-used");

        let component = artifacts.put_bytes(b"component", 10).await.expect("put");
        let young = artifacts.put_bytes(b"young", 99).await.expect("put");
        store.plugins.put(plugin("x", Component::Artifact(component.digest.clone()))).await.expect("put");
        assert_eq!(artifacts.gc(50, true).await, Ok(vec![empty.clone()]), "a dry run says");
        assert_eq!(artifacts.exists(&empty.digest).await, Ok(true), "and only says");
        assert_eq!(artifacts.gc(50, false).await, Ok(vec![empty.clone()]));
        assert_eq!(artifacts.exists(&empty.digest).await, Ok(false));
        assert_eq!(artifacts.gc(50, false).await, Ok(vec![]));
        store.log.append(suite::append(1, 0, 1)).await.expect("append");
        store.remove_run(&suite::run_id(1)).await.expect("remove");
        assert_eq!(artifacts.refs(&suite::run_id(1)).await, Ok(vec![]));
        assert_eq!(artifacts.gc(50, false).await, Ok(vec![kept]), "what a removed run had is free, a plugin's is not");
        assert_eq!(artifacts.exists(&component.digest).await, Ok(true));
        assert_eq!(artifacts.remove(&young.digest).await, Ok(true));
        assert_eq!(artifacts.remove(&young.digest).await, Ok(false));
    })
    .await;
}

#[tokio::test]
async fn a_damaged_artifact() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = Store::open(dir.path()).expect("open");
    let kept = store.artifacts.put_bytes(b"content", 1).await.expect("put");
    let hex = kept.digest.as_str();
    let file = dir.path().join("artifacts").join(&hex[..2]).join(hex);
    std::fs::write(&file, "Content").expect("write");
    assert_eq!(code(store.artifacts.read(&kept.digest, 99).await), "artifact-damaged");
    store.artifacts.put_bytes(b"content", 1).await.expect("put");
    assert_eq!(
        store.artifacts.read(&kept.digest, 99).await.as_deref(),
        Ok(&b"content"[..]),
        "kept again, it is mended"
    );
    assert_eq!(
        std::fs::read_dir(dir.path().join("artifacts/tmp")).expect("list").count(),
        0,
        "nothing is left lying about"
    );
}

/// While one store collects without a pause, what another keeps is there as soon as it says so.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn collection_takes_nothing_from_under_a_put() {
    let dir = tempfile::tempdir().expect("a directory");
    let (keeper, collector) = (Store::open(dir.path()).expect("open"), Store::open(dir.path()).expect("open"));
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let collecting = tokio::spawn(async move {
        while !*stopped.borrow() {
            // Everything that was kept at time 1 is old; what is kept at time 2 is young.
            collector.artifacts.gc(2, false).await.expect("gc");
        }
    });
    // On a task of its own, which also shows that a runtime with several threads can carry it.
    let keeping = tokio::spawn(async move {
        for n in 0..60_u32 {
            let bytes = n.to_le_bytes();
            keeper.artifacts.put_bytes(&bytes, 1).await.expect("put");
            let kept = keeper.artifacts.put_bytes(&bytes, 2).await.expect("put");
            let read = keeper.artifacts.read(&kept.digest, 99).await;
            assert_eq!(read.as_deref(), Ok(&bytes[..]), "round {n}");
        }
    });
    keeping.await.expect("keeper");
    stop.send(true).expect("the collector waits for it");
    collecting.await.expect("collector");
}

async fn pair(dir: &Path) -> (Store, Store) {
    (Store::open(dir).expect("open"), Store::open(dir).expect("open"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_stores_on_one_folder() {
    let dir = tempfile::tempdir().expect("a directory");
    let (a, b) = pair(dir.path()).await;
    // A tail sees what the other appends, from before the run exists.
    let mut tail = b.log.tail(&suite::run_id(1), 1);
    let follower = tokio::spawn(async move { suite::take(&mut tail, 100).await });
    for n in 0..20 {
        a.log.append(suite::append(1, n * 5, 5)).await.expect("append");
    }
    assert_eq!(follower.await.expect("follower").len(), 100);
    // Neither writes past what the other wrote.
    assert_eq!(code(b.log.append(suite::append(1, 95, 1)).await), "log-seq");
    b.log.append(suite::append(1, 100, 1)).await.expect("append");
    assert_eq!(code(a.log.append(suite::append(1, 100, 1)).await), "log-seq");
    // Signals arrive, once, at one of them.
    let mut news = a.signals.watch();
    b.signals.push(&suite::run_id(1), "cancel", "").await.expect("push");
    news.wait_for(|version| *version > 0).await.expect("open");
    let run = [suite::run_id(1)];
    let (of_a, of_b) = tokio::join!(a.signals.take(&run), b.signals.take(&run));
    assert_eq!(of_a.expect("take").len() + of_b.expect("take").len(), 1);
    // One claim holds.
    let (by_a, by_b) = tokio::join!(a.log.claim(&run[0], None, "a"), b.log.claim(&run[0], None, "b"));
    assert!(by_a.expect("claim") != by_b.expect("claim"));
    // One of two writes under the same precondition holds, and both see it.
    let p = profile("p");
    let (by_a, by_b) = tokio::join!(a.kv.put(&p, "k", vec![1], Some(0), 9), b.kv.put(&p, "k", vec![2], Some(0), 9));
    assert!(by_a.is_ok() != by_b.is_ok(), "{by_a:?} {by_b:?}");
    assert_eq!(a.kv.get(&p, "k").await, b.kv.get(&p, "k").await);
    // A removal ends the other's tail.
    let mut tail = b.log.tail(&run[0], 1);
    suite::take(&mut tail, 101).await;
    assert_eq!(a.remove_run(&run[0]).await, Ok(true));
    assert_eq!(code(tail.next().await), "run-removed");
}

/// Two stores that both write without a pause: neither starves, nothing is lost.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_busy_stores() {
    let dir = tempfile::tempdir().expect("a directory");
    let (a, b) = pair(dir.path()).await;
    let mut writers = tokio::task::JoinSet::new();
    for run in 0..8_u64 {
        let store = if run.is_multiple_of(2) { a.clone() } else { b.clone() };
        writers.spawn(async move {
            for n in 0..100 {
                store.log.append(suite::append(run, n * 4, 4)).await.expect("append");
            }
        });
    }
    writers.join_all().await;
    for run in 0..8 {
        assert_eq!(suite::read_all(a.log.as_ref(), &suite::run_id(run)).await.len(), 400);
    }
}

#[tokio::test]
async fn all_is_there_after_reopening() {
    let dir = tempfile::tempdir().expect("a directory");
    let run: RunId = suite::run_id(1);
    let store = Store::open(dir.path()).expect("open");
    let records = store.log.append(suite::append(1, 0, 10)).await.expect("append");
    let row = store.log.run(&run).await.expect("run");
    let revision = store.kv.put(&profile("p"), "k", b"value".to_vec(), None, 99).await.expect("put");
    let signal = store.signals.push(&run, "steer", "left").await.expect("push");
    let kept = store.artifacts.put_bytes(b"content", 1).await.expect("put");
    // A change whose caller does not wait for it is carried out before the store is closed.
    let unheard = store.log.clone();
    let mut append = unheard.append(suite::append(2, 0, 1));
    tokio::select! {
        biased;
        _ = &mut append => {}
        () = std::future::ready(()) => {}
    }
    drop(append);
    drop((unheard, store));
    let store = Store::open(dir.path()).expect("open");
    assert_eq!(suite::read_all(store.log.as_ref(), &run).await, records.as_ref());
    assert_eq!(store.log.run(&run).await, Ok(row));
    assert_eq!(store.kv.get(&profile("p"), "k").await, Ok(Some((b"value".to_vec(), revision))));
    assert_eq!(store.signals.take(&[run]).await.expect("take").first().map(|s| s.id), Some(signal));
    assert_eq!(store.artifacts.read(&kept.digest, 99).await.as_deref(), Ok(&b"content"[..]));
    assert_eq!(suite::read_all(store.log.as_ref(), &suite::run_id(2)).await.len(), 1);
}
