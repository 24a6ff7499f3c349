//! What only several processes can show: a process that is killed loses nothing it acknowledged, and one without the
//! right to write is refused. The test binary starts itself again in a role.

use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

use midplane_core::deploy::lease::{Decision, Request, Scope};
use midplane_core::deploy::state::{DeploymentState, Transition};
use midplane_store::{Append, Store, suite};

const ROLE: &str = "MIDPLANE_STORE_TEST_DIR";
const RUNS: u64 = 3;
const RACE_ROUNDS: u64 = 40;

/// Not a case of its own: what the child processes of the others run. Without its variable there is nothing to do.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn role_append_for_ever() {
    let Some(dir) = std::env::var_os(ROLE) else { return };
    let store = Store::open(Path::new(&dir)).expect("open");
    let mut writers = tokio::task::JoinSet::new();
    for run in 0..RUNS {
        let log = store.log.clone();
        writers.spawn(async move {
            let mut seq = log.run(&suite::run_id(run)).await.expect("run").map_or(0, |row| row.last_seq);
            loop {
                let batch = 1 + seq % 5;
                log.append(Append { index: Some(suite::index("running")), ..suite::append(run, seq, batch) })
                    .await
                    .expect("append");
                seq += batch;
                println!("ack {run} {seq}");
            }
        });
    }
    writers.join_all().await;
}

/// As above: tries to walk one deployment on and to take one of two leases, over and over, against whoever else does the same.
#[tokio::test]
async fn role_race() {
    let Some(dir) = std::env::var_os(ROLE) else { return };
    let store = Store::open(Path::new(&dir)).expect("open");
    let scope = Scope::new("deploy", "t").expect("a scope");
    let me = std::process::id().to_string();
    for round in 0..RACE_ROUNDS {
        // All walk the same way: queued, failed, queued, failed, and exactly one of them makes each step.
        let (from, to) = match round {
            0 => (None, DeploymentState::Queued),
            _ if round % 2 == 1 => (Some(DeploymentState::Queued), DeploymentState::Failed),
            _ => (Some(DeploymentState::Failed), DeploymentState::Queued),
        };
        let step = Transition::new(from, to, format!("process {me}"), round).expect("legal");
        loop {
            let last = store.machines.current::<DeploymentState>("d").await.expect("current");
            if last.as_ref().map_or(0, |last| last.seq) > round {
                break;
            }
            match store.machines.transition("d", step.clone()).await {
                Ok(done) => println!("won {}", done.seq),
                Err(error) => assert_eq!(error.code, "transition-order"),
            }
        }
        let request = Request { owner: format!("{me}-{round}"), limit: Some(2), ttl_ms: 60_000 };
        match store.leases.acquire(&scope, request.clone(), 1_000).await.expect("acquire") {
            Decision::Granted { lease, count } => {
                println!("fence {} {count}", lease.fence);
                let released = store.leases.release(&scope, &request.owner, lease.fence, 1_000).await.expect("release");
                assert!(released.released);
            }
            Decision::Refused { count } => println!("full 0 {count}"),
        }
    }
}

/// As above: opens, and says how that went.
#[test]
fn role_open() {
    let Some(dir) = std::env::var_os(ROLE) else { return };
    match Store::open(Path::new(&dir)) {
        Ok(_) => println!("opened"),
        Err(error) => println!("refused {} {}", error.kind, error.code),
    }
}

fn role(binary: &Path, name: &str, dir: &Path) -> Command {
    let mut command = Command::new(binary);
    command.args(["--exact", name, "--nocapture"]).env(ROLE, dir).stdout(Stdio::piped());
    command
}

#[test]
fn kill_loses_nothing_acknowledged() {
    let dir = tempfile::tempdir().expect("a directory");
    let binary = std::env::current_exe().expect("this test");
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().expect("runtime");
    for round in 0..10_u64 {
        let mut child = role(&binary, "role_append_for_ever", dir.path()).spawn().expect("child");
        let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines().map(|line| line.expect("text"));
        let mut acknowledged = [0; RUNS as usize];
        let mut note = |line: String| {
            // The harness may print on the same line before it.
            let words: Vec<&str> = line.split(' ').collect();
            if let [.., "ack", run, seq] = words.as_slice() {
                let run: usize = run.parse().expect("a run");
                acknowledged[run] = seq.parse::<u64>().expect("a seq");
                return true;
            }
            false
        };
        // Killed after a different number of commits each round, at whatever the child is doing by then.
        let mut seen = 0;
        while seen < 1 + round * 37 {
            seen += u64::from(note(lines.next().expect("the child goes on")));
        }
        child.kill().expect("kill");
        child.wait().expect("wait");
        // What it had said before it died and we had not read yet; the last line may be cut.
        let rest: Vec<String> = lines.collect();
        rest.into_iter().rev().skip(1).rev().for_each(|line| {
            note(line);
        });
        let store = Store::open(dir.path()).expect("open after a kill");
        runtime.block_on(async {
            store.check().await.expect("sound");
            for (run, acknowledged) in (0..RUNS).zip(acknowledged) {
                let records = suite::read_all(store.log.as_ref(), &suite::run_id(run)).await;
                let last = records.last().map_or(0, |record| record.seq);
                assert!(last >= acknowledged, "round {round}: run {run} acknowledged {acknowledged} and has {last}");
                for (seq, record) in (1..).zip(&records) {
                    assert_eq!(
                        (record.seq, &record.data["n"]),
                        (seq, &serde_json::json!(seq)),
                        "none is missing, none twice"
                    );
                }
                let row = store.log.run(&suite::run_id(run)).await.expect("run");
                assert_eq!(row.map_or(0, |row| row.last_seq), last);
            }
        });
    }
}

/// Three processes that want the same: each step of a deployment has one winner, no more leases are out than the limit
/// says, and no fence is given twice.
#[test]
fn races_have_one_winner() {
    let dir = tempfile::tempdir().expect("a directory");
    let binary = std::env::current_exe().expect("this test");
    let racers: Vec<_> = (0..3).map(|_| role(&binary, "role_race", dir.path()).spawn().expect("child")).collect();
    let (mut won, mut fences) = (Vec::new(), Vec::new());
    for racer in racers {
        let output = racer.wait_with_output().expect("racer");
        assert!(output.status.success());
        for line in String::from_utf8_lossy(&output.stdout).lines() {
            // The harness may print on the same line before it.
            let words: Vec<&str> = line.split(' ').collect();
            let number = |word: &str| word.parse::<u64>().expect("a number");
            match words.as_slice() {
                [.., "won", seq] => won.push(number(seq)),
                [.., "fence", fence, count] => {
                    fences.push(number(fence));
                    assert!(number(count) <= 2);
                }
                [.., "full", _, count] => assert_eq!(number(count), 2),
                _ => {}
            }
        }
    }
    won.sort_unstable();
    assert_eq!(won, (1..=RACE_ROUNDS).collect::<Vec<_>>(), "each step once");
    fences.sort_unstable();
    assert_eq!(fences, (1..=fences.len() as u64).collect::<Vec<_>>(), "each fence once, without a gap");
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("runtime");
    let store = Store::open(dir.path()).expect("open");
    let history = runtime.block_on(store.machines.history::<DeploymentState>("d", 1, 0)).expect("history");
    let transitions = history.iter().map(|step| &step.transition);
    assert_eq!(midplane_core::deploy::state::fold(transitions), Ok(Some(DeploymentState::Failed)));
    let left = runtime.block_on(store.leases.count(&Scope::new("deploy", "t").expect("a scope"), 1_000));
    assert_eq!(left, Ok(0));
}

/// Someone who may not write is told so, in words that do not speak of damage. Root may always write, so as root the
/// child is another user, with a copy of this test where that user can read it.
#[test]
fn no_right_to_write() {
    let dir = tempfile::tempdir().expect("a directory");
    let binary = dir.path().join("role");
    std::fs::copy(std::env::current_exe().expect("this test"), &binary).expect("copy");
    let mode = |path: &Path, mode| std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("mode");
    mode(dir.path(), 0o755);
    mode(&binary, 0o755);
    let existing = dir.path().join("existing");
    drop(Store::open(&existing).expect("open"));
    let bytes = std::fs::read(existing.join("midplane.db")).expect("read");
    for file in ["midplane.db", "midplane.lock"] {
        mode(&existing.join(file), 0o444);
    }
    mode(&existing, 0o555);
    mode(dir.path(), 0o555);
    for target in [existing.clone(), dir.path().join("none/yet")] {
        let mut child = role(&binary, "role_open", &target);
        if std::fs::metadata("/proc/self").is_ok_and(|me| std::os::unix::fs::MetadataExt::uid(&me) == 0) {
            std::os::unix::process::CommandExt::uid(&mut child, 65_534);
        }
        let output = child.current_dir("/").output().expect("child");
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(said.contains("refused denied store-permission"), "{}: {said}", target.display());
    }
    assert_eq!(std::fs::read(existing.join("midplane.db")).expect("read"), bytes);
    mode(&existing, 0o755);
    mode(dir.path(), 0o755);
}
