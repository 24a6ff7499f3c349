#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::collections::BTreeMap;
use std::time::Duration;

use midplane_core::limits::Limits;

use super::*;
use crate::fakes::{Recorder, Values, call, group_is_gone, place, rights};
use crate::workspace::Workspace;

const SECRET: &str = "sk-live-0123456789";

struct Rig {
    processes: Processes,
    recorder: Arc<Recorder>,
    folder: tempfile::TempDir,
    home: tempfile::TempDir,
    placeholders: Placeholders,
}

/// Programs `sh`, `env` and `cat` are asked for, with the variable `PLAIN` and the secret `KEY`.
fn rig(limits: Limits, grants: &[&str]) -> Rig {
    let folder = tempfile::tempdir().unwrap();
    let (call, recorder) = call(limits);
    let both: (&[&str], &[&str]) = (&["PLAIN"], &["KEY"]);
    let rights = rights(&[(&["sh"], both.0, both.1), (&["env"], both.0, both.1), (&["cat"], &[], &[])], grants);
    let values = Values(BTreeMap::from([("KEY", SECRET)]));
    let redactor = values.redactor();
    let placeholders = Placeholders::new().unwrap();
    let workspace = Some((Arc::new(Workspace::open(folder.path()).unwrap()), true));
    let (place, home) = place(workspace);
    let processes = Processes::new(call, rights, place, Arc::new(values), placeholders.clone(), redactor);
    Rig { processes, recorder, folder, home, placeholders }
}

const ALL: &[&str] = &["command:sh", "command:env", "command:cat", "env:PLAIN", "secret:KEY"];

fn command(argv: &[&str]) -> Command {
    Command {
        argv: argv.iter().map(|word| (*word).to_owned()).collect(),
        cwd: None,
        env: Vec::new(),
        secret_env: Vec::new(),
    }
}

fn sh(script: &str) -> Command {
    command(&["sh", "-c", script])
}

/// All that comes until the end: both streams, and how it ended.
async fn all(child: &mut ChildHandle) -> (String, String, Exit) {
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    loop {
        match child.next(1 << 20).await.unwrap() {
            Output::Stdout(bytes) => stdout.extend(bytes),
            Output::Stderr(bytes) => stderr.extend(bytes),
            Output::Exited(exit) => {
                assert_eq!(child.next(1).await.unwrap(), Output::Exited(exit.clone()), "repeated if asked again");
                return (String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap(), exit);
            }
        }
    }
}

/// The next bytes of stdout, until so many have come.
async fn stdout_bytes(child: &mut ChildHandle, count: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    while bytes.len() < count {
        match child.next(count - bytes.len()).await.unwrap() {
            Output::Stdout(more) => bytes.extend(more),
            other => panic!("unexpected: {other:?}"),
        }
    }
    bytes
}

#[tokio::test]
async fn how_programs_end() {
    let rig = rig(Limits::default(), ALL);
    let mut shown = Vec::new();
    for script in [
        "echo out; echo err >&2",
        "exit 7",
        "kill -9 $$",
        "kill -TERM $$",
        "cat; echo done",
        "printf 'no newline'",
        // What stays in the background holds the pipes; it is not waited for, and what was written is there.
        "echo kept; sleep 1000 &",
        "exec >&- 2>&-; exit 3",
    ] {
        let mut child = rig.processes.start(sh(script)).await.unwrap();
        child.close_stdin();
        let (stdout, stderr, exit) = all(&mut child).await;
        shown.push(format!("{script:?}\n  {exit:?} {stdout:?} {stderr:?}"));
        let group = child.group.id();
        drop(child);
        group_is_gone(group).await;
    }
    insta::assert_snapshot!(shown.join("\n"));
}

#[tokio::test]
async fn what_the_grant_of_an_interpreter_names_is_part_of_the_program() {
    let folder = tempfile::tempdir().unwrap();
    let script = folder.path().join("script.sh");
    std::fs::write(&script, "echo read").unwrap();
    let (script, other) = (script.to_str().unwrap(), "/etc/hostname");
    let argv = ["sh", script, other].map(str::to_owned);
    let scripts = |grant: &str| rig(Limits::default(), &[grant]).processes.reach.scripts(&argv);
    assert_eq!(scripts(&format!("command:sh {script}")), [PathBuf::from(script)]);
    assert!(scripts("command:sh").is_empty(), "what only the arguments name, the operator has not granted");
    assert!(scripts(&format!("command:sh {script} {other} more")).is_empty(), "it grants another command");

    let rig = rig(Limits::default(), &[&format!("command:sh {script}")]);
    let mut child = rig.processes.start(command(&["sh", script])).await.unwrap();
    assert_eq!(all(&mut child).await, ("read\n".to_owned(), String::new(), Exit::Code(0)));
}

#[tokio::test]
async fn input_reaches_the_program_in_order() {
    let rig = rig(Limits::default(), ALL);
    let mut child = rig.processes.start(command(&["cat"])).await.unwrap();
    for word in ["a", "", "bc", "d\n"] {
        child.write(word.as_bytes().to_vec()).unwrap();
    }
    assert_eq!(stdout_bytes(&mut child, 5).await, b"abcd\n");
    child.write(b"last".to_vec()).unwrap();
    child.close_stdin();
    child.close_stdin();
    assert_eq!(child.write(b"x".to_vec()).unwrap_err().code, "stdin-closed");
    assert_eq!(all(&mut child).await, ("last".to_owned(), String::new(), Exit::Code(0)));
}

#[tokio::test]
async fn a_full_queue_takes_all_or_none() {
    let limits = Limits { child_stdin_bytes_max: 1 << 20, ..Limits::default() };
    let rig = rig(limits, ALL);
    // It reads nothing before it is told to go on, by a signal.
    let mut child =
        rig.processes.start(sh("trap 'exec wc -c' INT; echo ready; while :; do sleep 0.01; done")).await.unwrap();
    assert_eq!(stdout_bytes(&mut child, 6).await, b"ready\n");
    assert_eq!(child.write(vec![b'x'; (1 << 20) + 1]).unwrap_err().code, "stdin-full");
    let mut sent = 0;
    let error = loop {
        match child.write(vec![b'x'; 1000]) {
            Ok(()) => sent += 1000,
            Err(error) => break error,
        }
    };
    assert_eq!((error.kind.as_str(), error.code.as_ref()), ("limit", "stdin-full"));
    // No more than the queue and the pipe hold, since nobody reads.
    assert!((1 << 20) - 1000 < sent && sent <= (1 << 20) + (1 << 16) + 1000, "{sent}");
    // The shell's own `sleep` is in the group and gets the signal too, which ends it.
    child.stop(StopMode::Interrupt).unwrap();
    child.close_stdin();
    let (stdout, ..) = all(&mut child).await;
    assert_eq!(stdout.trim(), sent.to_string());
}

#[tokio::test]
async fn input_after_the_end_is_refused() {
    let rig = rig(Limits::default(), ALL);
    let mut child = rig.processes.start(sh("exit 0")).await.unwrap();
    all(&mut child).await;
    // The writer notices with the first bytes that it cannot send.
    while child.write(b"x".to_vec()).is_ok() {
        tokio::task::yield_now().await;
    }
    assert_eq!(child.write(b"x".to_vec()).unwrap_err().code, "stdin-closed");
    child.stop(StopMode::Kill).unwrap();
}

#[tokio::test]
async fn a_flood_waits_for_its_reader() {
    let limits = Limits { child_output_bytes_max: 100_000, ..Limits::default() };
    let rig = rig(limits, ALL);
    let mut child = rig.processes.start(sh("yes & yes >&2")).await.unwrap();
    let held = |child: &ChildHandle| child.output.state().streams.iter().map(VecDeque::len).collect::<Vec<_>>();
    while held(&child) != [100_000, 100_000] {
        tokio::task::yield_now().await;
    }
    // Neither stream hides the other, and what is taken out is filled up again, never above the bound.
    let mut seen = [0, 0];
    while seen.iter().any(|bytes| *bytes < 1_000_000) {
        match child.next(70_000).await.unwrap() {
            Output::Stdout(bytes) => seen[0] += bytes.len(),
            Output::Stderr(bytes) => seen[1] += bytes.len(),
            Output::Exited(exit) => panic!("{exit:?}"),
        }
        assert!(held(&child).iter().all(|bytes| *bytes <= 100_000));
    }
    child.stop(StopMode::Kill).unwrap();
    let (stdout, stderr, exit) = all(&mut child).await;
    assert_eq!(exit, Exit::Signal("SIGKILL".to_owned()));
    assert!(stdout.len() <= 200_000 && stderr.len() <= 200_000);
}

#[tokio::test]
async fn all_that_was_written_is_given_before_the_end() {
    let limits = Limits { child_output_bytes_max: 5_000, ..Limits::default() };
    let rig = rig(limits, ALL);
    // The program has long ended when its output is read, and its background process still holds the pipe.
    let mut child = rig.processes.start(sh("sleep 1000 & head -c 60000 /dev/zero | tr '\\0' x; exit 5")).await.unwrap();
    let mut exit = child.group.exit();
    exit.wait_for(Option::is_some).await.unwrap();
    let (stdout, _, exit) = all(&mut child).await;
    assert_eq!((stdout.len(), exit), (60_000, Exit::Code(5)));
}

#[tokio::test]
async fn waiting_can_be_given_up_at_any_time() {
    let rig = rig(Limits::default(), ALL);
    let mut child =
        rig.processes.start(sh("for i in 1 2 3 4 5 6 7 8 9; do printf 0123456789; sleep 0.005; done")).await.unwrap();
    let mut seen = Vec::new();
    loop {
        tokio::select! {
            biased;
            output = child.next(3) => match output.unwrap() {
                Output::Stdout(bytes) => seen.extend(bytes),
                Output::Stderr(_) => unreachable!(),
                Output::Exited(_) => break,
            },
            () = tokio::task::yield_now() => {}
        }
    }
    assert_eq!(seen, b"0123456789".repeat(9));
}

#[tokio::test]
async fn an_echoed_secret_is_replaced_also_when_it_is_split() {
    let rig = rig(Limits::default(), ALL);
    let script = "printf 'a %s' \"${KEY%56789}\"; read x; echo 56789; echo $KEY | base64 >&2; test \"$KEY\" = sk-live-0123456789 && echo given";
    let mut child = rig.processes.start(Command { secret_env: vec!["KEY".to_owned()], ..sh(script) }).await.unwrap();
    assert_eq!(stdout_bytes(&mut child, 2).await, b"a ");
    child.write(b"\n".to_vec()).unwrap();
    let (stdout, stderr, exit) = all(&mut child).await;
    assert_eq!((stdout.as_str(), exit), ("[redacted:KEY]\ngiven\n", Exit::Code(0)));
    // `echo` adds a newline, which changes the last letters of the base64 form.
    assert!(stderr.starts_with("[redacted:KEY]") && !stderr.contains("c2stbGl2ZS0wMTIz"), "{stderr}");
}

/// A binary protocol has no line's end, and a program that waits for its answer writes nothing more.
#[tokio::test]
async fn a_message_that_ends_like_the_begin_of_a_secret_is_given_out_when_the_pipe_is_quiet() {
    let rig = rig(Limits::default(), ALL);
    let mut child = rig.processes.start(sh("printf 'reads'; cat")).await.unwrap();
    assert_eq!(stdout_bytes(&mut child, 5).await, b"reads");
    // What is a value as a whole is replaced all the same.
    child.write(SECRET.into()).unwrap();
    child.close_stdin();
    assert_eq!(all(&mut child).await.0, "[redacted:KEY]");
    // Most of a value is no chance: it waits for the rest, however long that takes.
    let (first, rest) = SECRET.split_at(12);
    let mut child = rig.processes.start(sh(&format!("printf {first}; sleep 0.4; printf {rest}"))).await.unwrap();
    assert_eq!(all(&mut child).await.0, "[redacted:KEY]");
}

/// With a pause after each byte that is longer than a quiet end is held.
#[tokio::test]
async fn of_a_secret_that_is_written_slowly_only_the_begin_is_seen() {
    let rig = rig(Limits::default(), ALL);
    let script = "printf 'it is '; rest=$KEY; while [ -n \"$rest\" ]; do \
        printf %s \"${rest%\"${rest#?}\"}\"; rest=${rest#?}; sleep 0.15; done; printf ' and more'";
    let mut child = rig.processes.start(Command { secret_env: vec!["KEY".to_owned()], ..sh(script) }).await.unwrap();
    assert_eq!(all(&mut child).await.0, "it is sk-l[redacted:KEY] and more");
}

#[tokio::test]
async fn placeholders_become_secrets_where_they_are_granted() {
    let rig = rig(Limits::default(), ALL);
    let placeholder = rig.placeholders.text("KEY");
    let check = format!("read line; test \"$line\" = 'key {SECRET}!' && test \"$PLAIN\" = 'k={SECRET}' && echo same");
    let env = vec![("PLAIN".to_owned(), format!("k={placeholder}"))];
    let mut child = rig.processes.start(Command { env, ..sh(&check) }).await.unwrap();
    child.write(b"key ".to_vec()).unwrap();
    child.write(format!("{placeholder}!\n").into_bytes()).unwrap();
    assert_eq!(all(&mut child).await.0, "same\n");
    // `cat` is a granted program, but no secret is asked for it.
    let mut child = rig.processes.start(command(&["cat"])).await.unwrap();
    let error = child.write(placeholder.into_bytes()).unwrap_err();
    assert_eq!((error.kind.as_str(), error.code.as_ref()), ("denied", "secret"));
    child.close_stdin();
    assert_eq!(all(&mut child).await.0, "");
    insta::assert_snapshot!(rig.recorder.audits().join("\n"));
}

#[tokio::test]
async fn the_environment_is_empty_but_for_what_was_granted() {
    let rig = rig(Limits::default(), ALL);
    let env = vec![("PLAIN".to_owned(), "plain value".to_owned())];
    let secret_env = vec!["KEY".to_owned()];
    let mut child = rig.processes.start(Command { env, secret_env, ..command(&["env"]) }).await.unwrap();
    let (stdout, ..) = all(&mut child).await;
    let mut names: Vec<&str> = stdout.lines().map(|line| line.split('=').next().unwrap()).collect();
    names.sort_unstable();
    let home = ["HOME", "KEY", "PATH", "PLAIN", "TMPDIR"];
    let xdg = ["XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME"];
    assert_eq!(names, [home.as_slice(), &xdg].concat());
    assert!(stdout.contains("PLAIN=plain value\n") && stdout.contains("KEY=[redacted:KEY]\n"), "{stdout}");
}

/// The environment and the arguments of a process, as anybody of the same user can read them.
fn seen_from_outside(pid: i32) -> Vec<u8> {
    let read = |what: &str| std::fs::read(format!("/proc/{pid}/{what}")).unwrap();
    let (environ, cmdline) = (read("environ"), read("cmdline"));
    assert!(environ.windows(5).any(|window| window == b"HOME=") && !cmdline.is_empty());
    [environ, cmdline].concat()
}

#[tokio::test]
async fn no_secret_is_on_an_argument_vector_or_in_an_environment_it_was_not_granted_to() {
    let rig = rig(Limits::default(), ALL);
    let holds = |bytes: &[u8]| memchr::memmem::find(bytes, SECRET.as_bytes()).is_some();
    // It stays what it is while it is looked at: one that becomes another program has no environment for a moment.
    let wait = "echo up; read line; echo \"${#line}\"; read line";
    // Granted to its environment: there and nowhere else.
    let given = Command { secret_env: vec!["KEY".to_owned()], ..sh(wait) };
    let mut child = rig.processes.start(given).await.unwrap();
    assert_eq!(stdout_bytes(&mut child, 3).await, b"up\n");
    assert!(holds(&seen_from_outside(child.group.id())));
    assert!(!holds(&std::fs::read(format!("/proc/{}/cmdline", child.group.id())).unwrap()));
    // Handed over on its pipe: it has the value, and its environment and arguments do not.
    let mut child = rig.processes.start(sh(wait)).await.unwrap();
    assert_eq!(stdout_bytes(&mut child, 3).await, b"up\n");
    child.write(format!("{}\n", rig.placeholders.text("KEY")).into_bytes()).unwrap();
    assert_eq!(stdout_bytes(&mut child, 3).await, format!("{}\n", SECRET.len()).as_bytes());
    assert!(!holds(&seen_from_outside(child.group.id())));
    // A placeholder on an argument vector stays one.
    let argv = format!("echo up; read line # {}", rig.placeholders.text("KEY"));
    let mut child = rig.processes.start(sh(&argv)).await.unwrap();
    assert_eq!(stdout_bytes(&mut child, 3).await, b"up\n");
    assert!(!holds(&seen_from_outside(child.group.id())));
}

#[tokio::test]
async fn a_home_lasts_and_is_the_profiles_alone() {
    use std::os::unix::fs::PermissionsExt as _;

    let rig = rig(Limits::default(), ALL);
    let mut child = rig
        .processes
        .start(sh("pwd -P; echo kept > ~/file; echo gone > $TMPDIR/file; echo $HOME $TMPDIR $XDG_CONFIG_HOME"))
        .await
        .unwrap();
    let (stdout, stderr, _) = all(&mut child).await;
    let home = rig.home.path().canonicalize().unwrap().join("test");
    let said: Vec<&str> = stdout.split_whitespace().collect();
    assert_eq!(said[1], home.to_str().unwrap(), "{stderr}");
    assert!(said[2].starts_with(&format!("{}/tmp/midplane-", home.display())), "{stdout}");
    assert_eq!(said[3], home.join(".config").to_str().unwrap());
    assert_eq!(home.metadata().unwrap().permissions().mode() & 0o777, 0o700);
    drop(child);
    drop(rig.processes);
    assert_eq!(std::fs::read_to_string(home.join("file")).unwrap(), "kept\n");
    assert_eq!(std::fs::read_dir(home.join("tmp")).unwrap().count(), 0, "temporary files go with the call");
}

#[tokio::test]
async fn starts_that_are_refused() {
    let rig = rig(Limits::default(), &["command:sh", "command:cat", "secret:KEY"]);
    let folder = rig.folder.path();
    std::fs::create_dir(folder.join("sub")).unwrap();
    std::fs::write(folder.join("file"), "").unwrap();
    std::os::unix::fs::symlink("/", folder.join("out")).unwrap();
    let env = |name: &str| Command { env: vec![(name.to_owned(), "x".to_owned())], ..sh("") };
    let cwd = |cwd: &str| Command { cwd: Some(cwd.to_owned()), ..sh("pwd -P") };
    let cases = [
        command(&[]),
        command(&[""]),
        command(&["sh", "a\0b"]),
        command(&vec!["sh"; 257]),
        command(&["sh", "-c", &"x".repeat(131_072)]),
        command(&["env"]),
        command(&["rm", "-rf", "/"]),
        command(&["/bin/sh"]),
        env("PLAIN"),
        env("LD_PRELOAD"),
        Command { env: vec![("KEY".to_owned(), String::new())], secret_env: vec!["KEY".to_owned()], ..sh("") },
        Command { secret_env: vec!["OTHER".to_owned()], ..sh("") },
        Command { secret_env: vec!["KEY".to_owned()], ..command(&["cat"]) },
        cwd(".."),
        cwd("/tmp"),
        cwd("out"),
        cwd("out/tmp"),
        cwd("file"),
        cwd("missing"),
    ];
    let mut shown = Vec::new();
    for command in cases {
        let what = format!(
            "{:?}",
            Command {
                argv: command.argv.iter().map(|word| word.chars().take(20).collect()).take(4).collect(),
                ..command.clone()
            }
        );
        let error = rig.processes.spawn(command).await.err().unwrap();
        let hint = error.hint.as_deref().unwrap_or("-");
        shown.push(format!("{what}\n  {} {}: {}\n  hint: {hint}", error.kind, error.code, error.message));
    }
    shown.push(rig.recorder.audits().join("\n"));
    insta::assert_snapshot!(shown.join("\n"));
    let mut child = rig.processes.start(cwd("sub")).await.unwrap();
    assert_eq!(all(&mut child).await.0.trim(), folder.canonicalize().unwrap().join("sub").to_str().unwrap());
}

#[tokio::test]
async fn a_missing_program_is_named() {
    let (call, _) = call(Limits::default());
    let rights = rights(&[(&["no-such-program-here"], &[], &[])], &["command:no-such-program-here"]);
    let values = Arc::new(Values(BTreeMap::new()));
    let (place, _home) = place(None);
    let processes = Processes::new(call, rights, place, values, Placeholders::new().unwrap(), Redactor::default());
    let error = processes.start(command(&["no-such-program-here"])).await.err().unwrap();
    assert_eq!((error.kind.as_str(), error.code.as_ref()), ("not-found", "program"));
    assert_eq!(error.message, "the program `no-such-program-here` is not installed");
}

#[tokio::test]
async fn without_a_workspace_programs_work_in_a_folder_of_their_own() {
    let (call, _) = call(Limits::default());
    let values = Arc::new(Values(BTreeMap::new()));
    let rights = rights(&[(&["sh"], &[], &[])], &["command:sh"]);
    let (place, _home) = place(None);
    let processes = Processes::new(call, rights, place, values, Placeholders::new().unwrap(), Redactor::default());
    let mut child = processes.start(sh("ls -A; pwd -P")).await.unwrap();
    let (stdout, ..) = all(&mut child).await;
    assert!(stdout.contains("/tmp/midplane-") && stdout.lines().count() == 1, "{stdout}");
    drop(processes);
    assert!(!std::path::Path::new(stdout.trim()).exists());
}

#[tokio::test]
async fn only_so_many_at_once() {
    let rig = rig(Limits { children_max: 2, ..Limits::default() }, ALL);
    let first = rig.processes.start(command(&["cat"])).await.unwrap();
    let _second = rig.processes.start(command(&["cat"])).await.unwrap();
    let error = rig.processes.start(command(&["cat"])).await.err().unwrap();
    assert_eq!((error.kind.as_str(), error.code.as_ref()), ("limit", "children"));
    drop(first);
    assert!(rig.processes.start(command(&["cat"])).await.is_ok());
}

#[tokio::test]
async fn dropping_the_handle_ends_the_whole_group() {
    let rig = rig(Limits::default(), ALL);
    // One that ignores what can be ignored, with children of its own.
    let mut child = rig
        .processes
        .start(sh("trap '' INT TERM HUP; sleep 1000 & (sleep 1000 & sleep 1000) & echo up; wait; sleep 1000"))
        .await
        .unwrap();
    assert_eq!(stdout_bytes(&mut child, 3).await, b"up\n");
    child.stop(StopMode::Terminate).unwrap();
    let group = child.group.id();
    drop(child);
    group_is_gone(group).await;
    // Also when the leader has ended before, and only its children are left.
    let mut child = rig.processes.start(sh("sleep 1000 & exit 0")).await.unwrap();
    assert_eq!(all(&mut child).await.2, Exit::Code(0));
    let group = child.group.id();
    drop(child);
    group_is_gone(group).await;
}

#[tokio::test]
async fn a_start_that_is_given_up_leaves_nothing() {
    let rig = rig(Limits::default(), ALL);
    let seconds = format!("4321.{}", std::process::id());
    let alive = || {
        let lines = std::fs::read_dir("/proc").unwrap().flatten();
        let lines = lines.filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok());
        lines.filter(|line| memchr::memmem::find(line, seconds.as_bytes()).is_some()).count()
    };
    // At every stage of it.
    for micros in (0..40).map(|step| step * 250) {
        let start = rig.processes.start(sh(&format!("exec sleep {seconds}")));
        let _ = tokio::time::timeout(Duration::from_micros(micros), start).await;
    }
    for _ in 0..1000 {
        if alive() == 0 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(alive(), 0);
    assert!(rig.processes.start(sh("exit 0")).await.is_ok(), "no place is lost");
}

#[tokio::test]
async fn stop_reaches_the_program() {
    let rig = rig(Limits::default(), ALL);
    for (how, want) in [(StopMode::Interrupt, "int"), (StopMode::Terminate, "term")] {
        let script =
            "trap 'echo int; exit 3' INT; trap 'echo term; exit 3' TERM; echo up; while :; do sleep 0.01; done";
        let mut child = rig.processes.start(sh(script)).await.unwrap();
        assert_eq!(stdout_bytes(&mut child, 3).await, b"up\n");
        child.stop(how).unwrap();
        let (stdout, _, exit) = all(&mut child).await;
        assert_eq!((stdout.trim(), exit), (want, Exit::Code(3)));
        child.stop(how).unwrap();
        tokio::time::timeout(Duration::from_secs(60), all(&mut child)).await.unwrap();
    }
}
