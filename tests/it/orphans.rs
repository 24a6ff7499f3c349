//! Nothing that a run started outlives it: whatever left its group, its session or its parent, and whatever becomes of the
//! host.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::command::Home;

/// Processes of one test, told from all others by how long they sleep.
struct Sleepers {
    home: Home,
    folder: tempfile::TempDir,
    seconds: String,
}

impl Sleepers {
    fn new(number: u32) -> Self {
        let seconds = format!("{}.{}", 5_000 + number, std::process::id());
        Self { home: Home::new(), folder: tempfile::tempdir().expect("folder"), seconds }
    }

    /// The processes that sleep now. One that has ended and waits for its parent does not.
    fn alive(&self) -> Vec<i32> {
        let of = |folder: PathBuf| {
            let line = std::fs::read(folder.join("cmdline")).ok()?;
            let sleeps = line.split(|byte| *byte == 0).any(|word| word == self.seconds.as_bytes());
            sleeps.then(|| folder.file_name()?.to_str()?.parse().ok()).flatten()
        };
        std::fs::read_dir("/proc").expect("processes").flatten().filter_map(|entry| of(entry.path())).collect()
    }

    fn until(&self, count: usize) {
        for _ in 0..1_000 {
            if self.alive().len() == count {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("there should be {count}, and there are {:?}", self.alive());
    }

    /// A run of one shell command, in which `SLEEP` is a program that sleeps for long.
    fn arguments(&self, command: &str) -> Vec<String> {
        let command = command.replace("SLEEP", &format!("sleep {}", self.seconds));
        let playbook = format!(
            "playbook: 1\nname: leaves\nsteps:\n  - name: leave\n    tool: shell\n    with: {{command: '{}'}}\n",
            command.replace('\'', "''")
        );
        let workspace = format!("{}:rw", self.folder.path().display());
        ["run", "playbook", "--json", "--goal", &playbook, "--workspace", &workspace, "--allow", "shell"]
            .map(str::to_owned)
            .to_vec()
    }
}

fn words(arguments: &[String]) -> Vec<&str> {
    arguments.iter().map(String::as_str).collect()
}

fn signal(pid: u32, signal: rustix::process::Signal) {
    let pid = rustix::process::Pid::from_raw(i32::try_from(pid).expect("a number")).expect("a number");
    rustix::process::kill_process(pid, signal).expect("signal");
}

/// What a run can leave: the command, and how many processes it starts that only look for a way to stay.
const LEAVERS: [(&str, usize); 5] = [
    ("SLEEP & SLEEP & wait", 2),
    ("setsid SLEEP & wait", 1),
    ("(setsid sh -c \"SLEEP & SLEEP & wait\" &) ; exec SLEEP", 3),
    // A launcher that is killed, which leaves its child to whoever is init.
    ("sh -c \"setsid SLEEP & kill -9 \\$\\$\"; exec SLEEP", 2),
    ("trap \"\" INT TERM HUP; setsid nohup SLEEP & SLEEP", 2),
];

#[test]
fn nothing_is_left_of_a_command_that_ends() {
    for (number, command) in
        ["SLEEP & true", "setsid SLEEP & true", "sh -c \"setsid SLEEP & kill -9 \\$\\$\"; true"].into_iter().enumerate()
    {
        let sleepers = Sleepers::new(u32::try_from(number).expect("few"));
        let printed = sleepers.home.run(&words(&sleepers.arguments(command)));
        assert_eq!(printed.code, Some(0), "{command}: {printed:?}");
        sleepers.until(0);
    }
}

#[test]
fn nothing_is_left_of_a_host_that_is_killed() {
    for (number, (command, count)) in LEAVERS.into_iter().enumerate() {
        let sleepers = Sleepers::new(100 + u32::try_from(number).expect("few"));
        let mut host = sleepers.home.start(&words(&sleepers.arguments(command)));
        sleepers.until(count);
        signal(host.id(), rustix::process::Signal::KILL);
        host.wait().expect("reaped");
        sleepers.until(0);
    }
}

#[test]
fn nothing_is_left_of_a_run_that_is_cancelled() {
    for (number, (command, count)) in LEAVERS.into_iter().enumerate() {
        let sleepers = Sleepers::new(200 + u32::try_from(number).expect("few"));
        let mut host = sleepers.home.start(&words(&sleepers.arguments(command)));
        sleepers.until(count);
        signal(host.id(), rustix::process::Signal::INT);
        assert_eq!(host.wait().expect("reaped").code(), Some(130), "{command}");
        sleepers.until(0);
    }
}

/// The supervisors of a host: its children that run `helper child`.
fn supervisors(host: u32) -> Vec<u32> {
    let of = |folder: &Path| {
        let stat = std::fs::read_to_string(folder.join("stat")).ok()?;
        let parent: u32 = stat.rsplit(')').next()?.split_whitespace().nth(1)?.parse().ok()?;
        let line = std::fs::read(folder.join("cmdline")).ok()?;
        let is = parent == host && line.ends_with(b"\0helper\0child\0");
        is.then(|| folder.file_name()?.to_str()?.parse().ok()).flatten()
    };
    std::fs::read_dir("/proc").expect("processes").flatten().filter_map(|entry| of(&entry.path())).collect()
}

#[test]
fn a_supervisor_that_is_ended_takes_its_program_with_it() {
    // As `killall midplane` does.
    let sleepers = Sleepers::new(300);
    let mut host = sleepers.home.start(&words(&sleepers.arguments("setsid SLEEP & SLEEP")));
    sleepers.until(2);
    let supervisors = supervisors(host.id());
    assert_eq!(supervisors.len(), 1);
    signal(supervisors[0], rustix::process::Signal::TERM);
    sleepers.until(0);
    // The command has failed, and the host lives to say so.
    assert!(host.wait().expect("ended").code().is_some());
}

#[test]
fn a_supervisor_that_is_killed_is_noticed() {
    let sleepers = Sleepers::new(301);
    let mut host = sleepers.home.start(&words(&sleepers.arguments("(setsid sh -c \"SLEEP & wait\" &); SLEEP & SLEEP")));
    sleepers.until(3);
    signal(supervisors(host.id())[0], rustix::process::Signal::KILL);
    sleepers.until(0);
    assert!(host.wait().expect("ended").code().is_some());
}

#[test]
fn a_supervisor_has_nothing_secret_to_show() {
    let sleepers = Sleepers::new(302);
    let home = Sleepers { home: Home::new().env("MARKED", "marked-value"), ..sleepers };
    let mut arguments = home.arguments("SLEEP");
    arguments.extend(["--allow".to_owned(), "env:MARKED".to_owned()]);
    let mut host = home.home.start(&words(&arguments));
    home.until(1);
    let read = |pid: &str, what: &str| std::fs::read(format!("/proc/{pid}/{what}")).expect("readable");
    let holds = |bytes: &[u8]| memchr::memmem::find(bytes, b"marked-value").is_some();
    let supervisor = supervisors(host.id())[0].to_string();
    assert_eq!(read(&supervisor, "environ"), b"", "it inherits nothing");
    assert!(!holds(&read(&supervisor, "cmdline")));
    // What was granted is where it was granted to.
    assert!(holds(&read(&home.alive()[0].to_string(), "environ")));
    signal(host.id(), rustix::process::Signal::KILL);
    host.wait().expect("reaped");
    home.until(0);
}
