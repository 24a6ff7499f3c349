#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use midplane_core::sandbox::{Mode, SandboxSettings};
use midplane_engine::ports::Exit;
use tokio::io::AsyncReadExt as _;

use super::*;
use crate::fakes::place_with;
use crate::process::place::{Place, Start};
use crate::workspace::Workspace;

/// The port that the child of [`network`] tries; unset in the test run itself.
const PORT: &str = "MIDPLANE_TEST_PORT";

/// Whether this kernel has what these tests are about; says so where not.
fn fenced(what: &str) -> bool {
    let offered = &offered().text;
    let has = offered.contains(what);
    if !has {
        eprintln!("skipped: this kernel enforces no `{what}` ({offered})");
    }
    has
}

/// What a program wrote, and how it ended.
async fn run(place: &Place, program: &Path, args: &[&str], env: &[(&str, &str)]) -> (String, Exit) {
    let start = Start {
        program: program.to_owned(),
        scripts: Vec::new(),
        args: args.iter().map(|arg| (*arg).to_owned()).collect(),
        cwd: place.workspace().map_or_else(|| place.work().unwrap(), |workspace| workspace.path().to_owned()),
        env: env.iter().map(|(name, value)| (name.into(), value.into())).collect(),
        stdin: false,
    };
    let (group, mut pipes) = place.start(start).await.unwrap();
    let mut text = String::new();
    pipes.stdout.read_to_string(&mut text).await.unwrap();
    pipes.stderr.read_to_string(&mut text).await.unwrap();
    let exit = group.exit().wait_for(Option::is_some).await.unwrap().clone().unwrap();
    (text, exit)
}

async fn sh(place: &Place, script: &str) -> (String, bool) {
    let (text, exit) = run(place, Path::new("/bin/sh"), &["-c", script], &[]).await;
    (text, exit == Exit::Code(0))
}

#[tokio::test]
async fn files_outside_do_not_exist_for_a_program() {
    if !fenced("files") {
        return;
    }
    let outside = tempfile::tempdir().unwrap();
    let at = outside.path().display();
    std::fs::write(outside.path().join("key"), "operator's").unwrap();
    for writes in [false, true] {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("file"), "content").unwrap();
        let workspace = Some((Arc::new(Workspace::open(folder.path()).unwrap()), writes));
        let (place, _home) = place_with(workspace, SandboxSettings::default(), true);
        for (script, want) in [
            (format!("cat {at}/key"), false),
            (format!("ls {at}"), false),
            (format!("echo x > {at}/new"), false),
            (format!("echo x >> {at}/key"), false),
            (format!("rm {at}/key"), false),
            (format!("ln {at}/key here"), false),
            (format!("ln -s {at}/key link && cat link"), false),
            ("echo x > /tmp/midplane-test-outside".to_owned(), false),
            ("cat /etc/shadow".to_owned(), false),
            ("cat file".to_owned(), true),
            ("echo x > made".to_owned(), writes),
            (": > file".to_owned(), writes),
            ("mkdir -p d && echo x > d/a && mv d/a b && rm b".to_owned(), writes),
            ("echo x > \"$HOME/a\" && cat \"$HOME/a\"".to_owned(), true),
            ("t=$(mktemp) && echo x > \"$t\" && test \"${t#$TMPDIR/}\" != \"$t\"".to_owned(), true),
            ("echo x > \"$XDG_CACHE_HOME/a\" && echo x > \"$XDG_STATE_HOME/a\"".to_owned(), true),
            ("echo x > /dev/null && head -c 8 /dev/urandom > /dev/null".to_owned(), true),
            ("cat /proc/self/status /etc/passwd > /dev/null".to_owned(), true),
            ("grep -q 'NoNewPrivs:.1' /proc/self/status".to_owned(), true),
        ] {
            let (text, ok) = sh(&place, &script).await;
            assert_eq!(ok, want, "{script} (writes: {writes}): {text}");
        }
    }
    assert_eq!(std::fs::read_to_string(outside.path().join("key")).unwrap(), "operator's");
    assert_eq!(std::fs::read_dir(outside.path()).unwrap().count(), 1);
}

#[tokio::test]
async fn what_the_profile_adds_is_there() {
    if !fenced("files") {
        return;
    }
    let more = tempfile::tempdir().unwrap();
    let path = more.path().canonicalize().unwrap();
    std::fs::write(path.join("file"), "content").unwrap();
    let (read, write) = (vec![path.clone()], vec![path.clone()]);
    for (settings, writes) in [
        (SandboxSettings { read, ..SandboxSettings::default() }, false),
        (SandboxSettings { write, ..SandboxSettings::default() }, true),
    ] {
        let (place, _home) = place_with(None, settings, true);
        assert!(sh(&place, &format!("cat {}/file", path.display())).await.1);
        assert_eq!(sh(&place, &format!("echo x > {}/file", path.display())).await.1, writes);
    }
}

#[tokio::test]
async fn other_processes_are_out_of_reach() {
    if !fenced("signals") {
        return;
    }
    let (place, _home) = place_with(None, SandboxSettings::default(), true);
    // The parent is this test run, of the same user.
    let (text, ok) = sh(&place, "test \"$PPID\" -gt 1 && kill -0 $PPID").await;
    assert!(!ok, "{text}");
    for what in ["environ", "mem", "maps"] {
        let (text, ok) = sh(&place, &format!("head -c 1 /proc/$PPID/{what}")).await;
        assert!(!ok, "{what}: {text}");
    }
    assert!(sh(&place, "sleep 10 & kill -9 $!").await.1, "what it started itself is in reach");
}

/// The body of the child of the next test: what of the network it can use.
#[test]
fn network() {
    let Ok(port) = std::env::var(PORT) else { return };
    let port: u16 = port.parse().unwrap();
    println!("connect={}", TcpStream::connect(("127.0.0.1", port)).is_ok());
    println!("listen={}", TcpListener::bind("127.0.0.1:0").is_ok());
    let taken = TcpListener::bind("127.0.0.1:0").map(|listener| listener.local_addr().unwrap().port()).unwrap_or(1);
    println!("listen-on={}", TcpListener::bind(("127.0.0.1", taken)).is_ok());
}

#[tokio::test]
async fn without_the_network_only_named_ports_are_reached() {
    if !fenced("tcp") {
        return;
    }
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let text = port.to_string();
    let program = std::env::current_exe().unwrap();
    let args = ["process::fence::tests::network", "--exact", "--nocapture"];
    let settings =
        |network, ports: &[u16]| SandboxSettings { network, ports: ports.to_vec(), ..SandboxSettings::default() };
    for (settings, task, endpoints, connect, listen_on) in [
        (settings(None, &[]), true, vec![], true, true),
        (settings(None, &[]), false, vec![], false, false),
        (settings(Some(false), &[]), true, vec![], false, false),
        (settings(Some(false), &[port]), true, vec![], true, false),
        (settings(None, &[]), false, vec![port], true, false),
    ] {
        let (place, _home) = place_with(None, settings.clone(), task);
        place.serve(endpoints.clone());
        let (said, _) = run(&place, &program, &args, &[(PORT, &text)]).await;
        let what = format!("{settings:?} {task} {endpoints:?}\n{said}");
        assert!(said.contains(&format!("connect={connect}\n")), "{what}");
        // A port that the system picks is always there.
        assert!(said.contains("listen=true\n"), "{what}");
        assert!(said.contains(&format!("listen-on={listen_on}\n")), "{what}");
    }
}

#[tokio::test]
async fn a_program_with_a_sandbox_of_its_own_gets_no_privileges() {
    let settings = SandboxSettings { mode: Mode::Own, ..SandboxSettings::default() };
    let (place, _home) = place_with(None, settings, true);
    let outside = tempfile::tempdir().unwrap();
    assert!(sh(&place, &format!("echo x > {}/file", outside.path().display())).await.1);
    assert!(sh(&place, "grep -q 'NoNewPrivs:.1' /proc/self/status").await.1);
}

#[test]
fn what_stands_is_said() {
    let mut said = vec![enter_in_a_thread(Confinement::Operator), enter_in_a_thread(Confinement::Own)];
    said.push(enter_in_a_thread(Confinement::Host { sandbox: empty(), required: false }));
    assert_eq!(said[0], Ok("none: the operator's own program".to_owned()));
    assert_eq!(said[1], Ok("own: the program confines itself".to_owned()));
    let text = said[2].clone().unwrap();
    assert!(text.starts_with("landlock ") || text.starts_with("none: "), "{text}");
    // Where all of it stands, requiring it changes nothing; where not, the start is refused.
    match enter_in_a_thread(Confinement::Host { sandbox: empty(), required: true }) {
        Ok(same) => assert_eq!(same, text),
        Err(error) => assert_eq!(error.code, "sandbox"),
    }
}

fn enter_in_a_thread(confinement: Confinement) -> Result<String> {
    std::thread::spawn(move || enter(&confinement)).join().unwrap()
}

fn empty() -> Sandbox {
    let none = || midplane_core::sandbox::Ports::Only(std::collections::BTreeSet::new());
    Sandbox { read: vec![PathBuf::from("/no/such/folder")], write: Vec::new(), connect: none(), listen: none() }
}
