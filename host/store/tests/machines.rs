//! Machines and leases, in the database and in memory, against the pure rules of `core`.

use std::path::Path;

use midplane_core::deploy::lease::{Decision, Request, Scope, Slots};
use midplane_core::deploy::session::{SandboxState, SessionState};
use midplane_core::deploy::state::{DeploymentState, Machine, Transition, fold};
use midplane_store::{MACHINES_MAX, Step, Store};
use proptest::prelude::*;
use tokio::task::JoinSet;

/// The same case on a store of each kind.
async fn on_both(case: impl AsyncFn(Store)) {
    let dir = tempfile::tempdir().expect("a directory");
    case(Store::open(dir.path()).expect("open")).await;
    case(Store::memory().expect("memory")).await;
}

fn code<T: std::fmt::Debug>(result: midplane_core::Result<T>) -> String {
    result.expect_err("a refusal").code.into_owned()
}

fn step<S: Machine>(from: Option<S>, to: S, at_ms: u64) -> Transition<S> {
    Transition::new(from, to, "a reason", at_ms).expect("legal")
}

#[tokio::test]
async fn a_deployment() {
    use DeploymentState::{Building, Deploying, Failed, Queued, Ready};
    on_both(async |store| {
        let machines = &store.machines;
        assert_eq!(machines.current::<DeploymentState>("d").await, Ok(None));
        let error = machines.transition("d", step(Some(Queued), Building, 1)).await.expect_err("there is none");
        assert_eq!(error.message, "deployment `d` is absent, and was expected `queued`");
        let walk = [(None, Queued, 10), (Some(Queued), Building, 20), (Some(Building), Deploying, 15)];
        for (seq, (from, to, at_ms)) in (1..).zip(walk) {
            let done = machines.transition("d", step(from, to, at_ms)).await.expect("a step");
            assert_eq!(done.seq, seq);
        }
        // Created twice, or from where it was: refused with where it is, and nothing is written.
        let error = machines.transition("d", step(None, Queued, 30)).await.expect_err("there is one");
        assert_eq!(error.message, "deployment `d` is `deploying`, and was expected absent");
        assert_eq!(code(machines.transition("d", step(Some(Building), Failed, 30)).await), "transition-order");
        let last = machines.transition("d", step(Some(Deploying), Ready, 40)).await.expect("a step");
        assert_eq!(machines.current("d").await, Ok(Some(last.clone())));
        let history = machines.history::<DeploymentState>("d", 1, 0).await.expect("history");
        let times: Vec<_> = history.iter().map(|step| (step.seq, step.transition.at_ms())).collect();
        assert_eq!(times, [(1, 10), (2, 20), (3, 20), (4, 40)], "time does not go back");
        assert_eq!(fold(history.iter().map(|step| &step.transition)), Ok(Some(Ready)));
        assert_eq!(machines.history("d", 4, 9).await, Ok(vec![last]));
        assert_eq!(machines.history::<DeploymentState>("d", 1, 2).await.expect("history").len(), 2);
        for id in ["", "a\nb", &"x".repeat(257)] {
            assert_eq!(code(machines.transition(id, step(None, Queued, 1)).await), "machine-id");
        }
    })
    .await;
}

#[tokio::test]
async fn kinds_and_lists() {
    on_both(async |store| {
        let machines = &store.machines;
        // One id in three machines is three things.
        machines.transition("x", step(None, DeploymentState::Queued, 1)).await.expect("a step");
        machines.transition("x", step(None, SessionState::Running, 2)).await.expect("a step");
        machines.transition("x", step(None, SandboxState::Creating, 3)).await.expect("a step");
        machines.transition("x", step(Some(SessionState::Running), SessionState::Stopped, 4)).await.expect("a step");
        let creating = machines.current::<SandboxState>("x").await.expect("current").expect("it is there");
        assert_eq!(creating.transition.to(), SandboxState::Creating);
        for id in ["b", "a", "ü"] {
            machines.transition(id, step(None, SessionState::Running, 5)).await.expect("a step");
        }
        let list = async |after, limit| -> Vec<String> {
            let found = machines.list::<SessionState>(after, limit).await.expect("list");
            found.iter().map(|one| format!("{} {} {}", one.id, one.last.transition.to(), one.last.seq)).collect()
        };
        assert_eq!(list(None, 0).await, ["a running 1", "b running 1", "x stopped 2", "ü running 1"]);
        assert_eq!(list(Some("a"), 2).await, ["b running 1", "x stopped 2"]);
        assert_eq!(list(Some("ü"), MACHINES_MAX + 1).await, [""; 0]);
    })
    .await;
}

/// Of many that make the same step at once, one does, whichever store they go through.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_winner() {
    let dir = tempfile::tempdir().expect("a directory");
    let stores = [Store::open(dir.path()).expect("open"), Store::open(dir.path()).expect("open")];
    let mut from = None;
    for (to, seq) in [(SessionState::Running, 1), (SessionState::Stopped, 2), (SessionState::Destroyed, 3)] {
        let mut racers = JoinSet::new();
        for racer in 0..16 {
            let machines = stores[racer % 2].machines.clone();
            racers.spawn(async move { machines.transition("s", step(from, to, 1)).await });
        }
        let outcomes = racers.join_all().await;
        let won: Vec<&Step<SessionState>> = outcomes.iter().filter_map(|outcome| outcome.as_ref().ok()).collect();
        assert_eq!(won.iter().map(|step| step.seq).collect::<Vec<_>>(), [seq]);
        assert!(
            outcomes.iter().filter_map(|outcome| outcome.as_ref().err()).all(|error| error.code == "transition-order")
        );
        from = Some(to);
    }
}

/// As above, with leases: as many as the limit says, each fence once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn as_many_as_the_limit() {
    let dir = tempfile::tempdir().expect("a directory");
    let stores = [Store::open(dir.path()).expect("open"), Store::open(dir.path()).expect("open")];
    let scope = Scope::new("deploy", "t").expect("a scope");
    let mut racers = JoinSet::new();
    for racer in 0..24 {
        let (leases, scope) = (stores[racer % 2].leases.clone(), scope.clone());
        let request = Request { owner: format!("o{racer}"), limit: Some(5), ttl_ms: 100 };
        racers.spawn(async move { leases.acquire(&scope, request, 1).await.expect("acquire") });
    }
    let mut fences = Vec::new();
    for decision in racers.join_all().await {
        match decision {
            Decision::Granted { lease, .. } => fences.push(lease.fence),
            Decision::Refused { count } => assert_eq!(count, 5),
        }
    }
    fences.sort_unstable();
    assert_eq!(fences, [1, 2, 3, 4, 5]);
    assert_eq!(stores[0].leases.count(&scope, 100).await, Ok(5));
    assert_eq!(stores[1].leases.count(&scope, 101).await, Ok(0));
}

/// What was kept is there again: states, places, and the fences that were given.
#[tokio::test]
async fn after_reopening() {
    let dir = tempfile::tempdir().expect("a directory");
    let open = || Store::open(dir.path()).expect("open");
    let scope = Scope::new("deploy", "t").expect("a scope");
    let request = |owner: &str| Request { owner: owner.to_owned(), limit: Some(1), ttl_ms: 100 };
    let fence = |decision| match decision {
        Ok(Decision::Granted { lease, .. }) => lease.fence,
        other => panic!("not granted: {other:?}"),
    };
    let store = open();
    store.machines.transition("d", step(None, DeploymentState::Queued, 7)).await.expect("a step");
    assert_eq!(fence(store.leases.acquire(&scope, request("a"), 0).await), 1);
    drop(store);
    let store = open();
    let last = store.machines.current::<DeploymentState>("d").await.expect("current").expect("it is there");
    assert_eq!((last.seq, last.transition.reason(), last.transition.at_ms()), (1, "a reason", 7));
    assert_eq!(store.leases.acquire(&scope, request("b"), 50).await, Ok(Decision::Refused { count: 1 }));
    assert!(store.leases.slots(&scope).await.expect("slots").holds("a", 1, 99));
    assert!(store.leases.release(&scope, "a", 1, 50).await.expect("release").released);
    drop(store);
    assert_eq!(fence(open().leases.acquire(&scope, request("b"), 50).await), 2, "no fence is given twice");
}

/// The log of transitions is only ever appended to, also by those who go past this crate.
#[tokio::test]
async fn nothing_changes_a_transition() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = Store::open(dir.path()).expect("open");
    store.machines.transition("d", step(None, DeploymentState::Queued, 7)).await.expect("a step");
    let conn = rusqlite::Connection::open(Path::join(dir.path(), "midplane.db")).expect("open");
    let error = conn.execute("UPDATE transitions SET to_state = 'ready'", []).expect_err("refused");
    assert!(error.to_string().contains("a transition is never changed"), "{error}");
    // What no version of this program would have written is damage, and not a state.
    conn.execute("INSERT INTO transitions VALUES ('deployment', 'e', 1, NULL, 'ready', 'r', 1)", []).expect("insert");
    assert_eq!(code(store.machines.current::<DeploymentState>("e").await), "store-damaged");
}

#[derive(Debug, Clone)]
enum Call {
    Acquire(u8, Option<i64>),
    Renew(u8, u64),
    Release(u8, u64),
    Wait(u64),
}

fn calls() -> impl Strategy<Value = Vec<Call>> {
    let call = prop_oneof![
        4 => (0..4_u8, proptest::option::weighted(0.8, 0..4_i64)).prop_map(|(owner, limit)| Call::Acquire(owner, limit)),
        2 => (0..4_u8, 0..9_u64).prop_map(|(owner, fence)| Call::Renew(owner, fence)),
        2 => (0..4_u8, 0..9_u64).prop_map(|(owner, fence)| Call::Release(owner, fence)),
        1 => (0..150_u64).prop_map(Call::Wait),
    ];
    proptest::collection::vec(call, 1..60)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    /// What is kept answers as the pure structure does.
    #[test]
    fn leases_as_slots(calls in calls()) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("runtime");
        runtime.block_on(async {
            let store = Store::memory().expect("memory");
            let (leases, scope) = (&store.leases, Scope::new("deploy", "t").expect("a scope"));
            let other = Scope::new("deploy", "u").expect("a scope");
            let (mut model, mut now_ms) = (Slots::default(), 0);
            for call in calls {
                match call {
                    Call::Acquire(owner, limit) => {
                        let request = Request { owner: format!("o{owner}"), limit, ttl_ms: 100 };
                        let wanted = model.acquire(&request, now_ms);
                        assert_eq!(leases.acquire(&scope, request, now_ms).await, wanted);
                    }
                    Call::Renew(owner, fence) => {
                        let owner = format!("o{owner}");
                        let wanted = model.renew(&owner, fence, 100, now_ms);
                        assert_eq!(leases.renew(&scope, &owner, fence, 100, now_ms).await, wanted);
                    }
                    Call::Release(owner, fence) => {
                        let owner = format!("o{owner}");
                        let wanted = model.release(&owner, fence, now_ms);
                        assert_eq!(leases.release(&scope, &owner, fence, now_ms).await, Ok(wanted));
                    }
                    Call::Wait(ms) => now_ms += ms,
                }
                assert_eq!(leases.count(&scope, now_ms).await, Ok(model.count(now_ms)));
                let kept = leases.slots(&scope).await.expect("slots");
                assert_eq!(kept.live(now_ms).collect::<Vec<_>>(), model.live(now_ms).collect::<Vec<_>>());
                assert_eq!(kept.last_fence(), model.last_fence());
            }
            assert_eq!(leases.slots(&other).await, Ok(Slots::default()));
        });
    }
}
