//! `process`: granted local programs, driven through their pipes, that never outlive the call.
//!
//! # Layout
//! - [`place`]: where the programs of a call run: home, temporary files, sandbox
//! - [`group`]: one program in a process group of its own (the `shell` tool starts its programs there too)
//! - [`supervise`]: the helper process above a program, which leaves nothing of it behind; [`order`]: what host and it say
//! - [`fence`]: the sandbox, put up by the thread that starts the program
//! - [`mod@pump`]: from an output pipe to whoever keeps the bytes, cleaned of secrets
//! - [`terminal`]: a terminal of a program's own
//! - [`stdin`]: the queue of a child's standard input
//! - [`ws`]: websockets to a child's own port; [`proc`]: whose a port is
//! - here: gates, environment and working directory of a start; a child's unread output
//!
//! # What it never does
//! No shell, no inherited variable, no program that was not granted. It does not pass over a sandbox that cannot be
//! enforced: a record of the audit says of each start what stands.

pub(crate) mod fence;
pub(crate) mod group;
mod order;
pub(crate) mod place;
#[cfg(target_os = "linux")]
mod proc;
pub(crate) mod pump;
mod stdin;
pub(crate) mod supervise;
pub(crate) mod terminal;
mod ws;
// They look at `/proc` and make FIFOs.
#[cfg(all(test, target_os = "linux"))]
mod tests;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use async_trait::async_trait;
use midplane_core::gate::Request;
use midplane_core::permission::Grant;
use midplane_core::redact::Redactor;
use midplane_core::text::shown;
use midplane_core::{Error, ErrorKind, Result};
use midplane_engine::ports::{Child, Command, Dial, Exit, Output, Process, Socket, StopMode};
use rustix::process::Signal;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinHandle;
use zeroize::Zeroizing;

use self::group::{Group, find_program};
use self::place::{Place, Start};
use self::pump::{Sink, pump};
use self::stdin::Stdin;
use crate::call::{Audit, Call};
use crate::placeholder::Placeholders;
use crate::rights::{Rights, grants_text};
use crate::secret::SecretSource;

/// Arguments of one command, as the contract says.
const ARGV_MAX: usize = 256;
/// Bytes of all of them together.
const ARGV_BYTES_MAX: usize = 128 * 1024;
/// Variables of one command, and their bytes: the same again.
const ENV_MAX: usize = 256;
const ENV_BYTES_MAX: usize = 128 * 1024;

/// The programs of one call.
pub(crate) struct Processes {
    reach: Arc<Reach>,
    place: Arc<Place>,
    /// One permit for each that may run at once.
    slots: Arc<Semaphore>,
}

/// What a start and a running child's standard input both need.
struct Reach {
    call: Arc<Call>,
    rights: Arc<Rights>,
    secrets: Arc<dyn SecretSource>,
    placeholders: Placeholders,
    redactor: Redactor,
    /// One permit for each websocket that may be open at once.
    sockets: Arc<Semaphore>,
}

impl Processes {
    /// The programs of a call. `redactor` hides the live values of the whole run.
    pub(crate) fn new(
        call: Arc<Call>,
        rights: Arc<Rights>,
        place: Arc<Place>,
        secrets: Arc<dyn SecretSource>,
        placeholders: Placeholders,
        redactor: Redactor,
    ) -> Self {
        let permits = |most: u64| {
            let most = usize::try_from(most).unwrap_or(usize::MAX).min(Semaphore::MAX_PERMITS);
            Arc::new(Semaphore::new(most))
        };
        let (slots, sockets) = (permits(call.limits.children_max), permits(call.limits.sockets_max));
        let reach = Arc::new(Reach { call, rights, secrets, placeholders, redactor, sockets });
        Self { reach, place, slots }
    }

    async fn start(&self, command: Command) -> Result<ChildHandle> {
        check(&command)?;
        let argv = &command.argv;
        self.reach.allow(&Request::Command { argv }, argv)?;
        let scripts = self.reach.scripts(argv);
        for (name, _) in &command.env {
            self.reach.allow(&Request::Env { name, argv }, argv)?;
        }
        for name in &command.secret_env {
            self.reach.allow(&Request::SecretInCommand { name, argv }, argv)?;
        }
        let cwd = self.cwd(command.cwd.as_deref())?;
        let program = find_program(&argv[0])?; // `check` has refused an empty list
        let slot = Arc::clone(&self.slots).try_acquire_owned().map_err(|_| {
            let most = self.reach.call.limits.children_max;
            Error::limit("children", format!("{most} programs of this run are running already, which is the most"))
        })?;
        let env = self.reach.environment(&command).await?;
        let args = command.argv[1..].to_vec();
        let (group, pipes) = self.place.start(Start { program, scripts, args, cwd, env, stdin: true }).await?;
        self.reach.call.sink.audit(group.audit(&command.argv[0]));
        Ok(ChildHandle::new(&self.reach, command.argv, group, pipes, slot))
    }

    fn cwd(&self, relative: Option<&str>) -> Result<PathBuf> {
        match (self.place.workspace(), relative) {
            (Some(workspace), Some(relative)) => workspace.folder_for_child(relative),
            (Some(workspace), None) => Ok(workspace.path().to_owned()),
            (None, None | Some(".")) => self.place.work(),
            (None, Some(_)) => {
                Err(Error::invalid("cwd", "this call has no workspace, so a program cannot work in a folder of it"))
            }
        }
    }
}

#[async_trait]
impl Process for Processes {
    async fn spawn(&self, command: Command) -> Result<Box<dyn Child>> {
        let began = Instant::now();
        // Only the program: arguments may hold what an audit must not show.
        let target = shown(command.argv.first().map_or("", String::as_str), 200);
        let argv = command.argv.clone();
        let result = self.start(command).await;
        let outcome = match &result {
            Ok(_) => "ok".to_owned(),
            Err(error) if error.kind == ErrorKind::Denied => "denied".to_owned(),
            Err(error) => error.code.clone().into_owned(),
        };
        let grant = match self.reach.rights.check(&Request::Command { argv: &argv }) {
            Ok(allowed) => grants_text(&allowed).filter(|_| result.is_ok()),
            Err(denial) => denial.grant().map(ToString::to_string),
        };
        let duration_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.reach.call.sink.audit(Audit { act: "command", target, outcome, grant, duration_ms, size_bytes: 0 });
        Ok(Box::new(result?))
    }
}

impl Reach {
    /// Files that the grant of a program names, such as the script of an interpreter: as much the program as that is. What
    /// only the arguments name, the operator has not.
    fn scripts(&self, argv: &[String]) -> Vec<PathBuf> {
        let Ok(allowed) = self.rights.check(&Request::Command { argv }) else { return Vec::new() };
        let words = allowed.grants.iter().flat_map(|grant| match grant {
            Grant::Command(words) => words.as_slice(),
            _ => &[],
        });
        let paths = words.skip(1).map(PathBuf::from);
        paths.filter(|path| path.is_absolute() && path.is_file()).collect()
    }

    fn allow(&self, request: &Request<'_>, argv: &[String]) -> Result<()> {
        let program = argv.first().map_or("", String::as_str);
        let act = match request {
            Request::Env { .. } => "env",
            Request::SecretInCommand { .. } => "secret",
            _ => "command",
        };
        match self.rights.check(request) {
            // The start itself is audited once, at its end, with what came of it.
            result if act == "command" => result.map(|_| ()).map_err(Error::from),
            result => {
                let name = match request {
                    Request::Env { name, .. } | Request::SecretInCommand { name, .. } => name,
                    _ => "",
                };
                let (outcome, grant) = match &result {
                    Ok(allowed) => ("ok", grants_text(allowed)),
                    Err(denial) => ("denied", denial.grant().map(ToString::to_string)),
                };
                let target = format!("{} {}", shown(program, 200), shown(name, 100)).trim_end().to_owned();
                self.call.sink.audit(Audit {
                    act,
                    target,
                    outcome: outcome.to_owned(),
                    grant,
                    duration_ms: 0,
                    size_bytes: 0,
                });
                result.map(|_| ()).map_err(Error::from)
            }
        }
    }

    /// What a program's environment has besides what its place gives.
    async fn environment(&self, command: &Command) -> Result<Vec<(OsString, OsString)>> {
        let mut env: Vec<(OsString, OsString)> = Vec::new();
        for (name, value) in &command.env {
            let value = self.filled(value.as_bytes(), &command.argv).await?;
            env.push((name.into(), os_string(name, &value)?));
        }
        for name in &command.secret_env {
            let value = self.secrets.resolve(name).await?;
            env.push((name.into(), os_string(name, value.expose())?));
        }
        Ok(env)
    }

    /// Whether there are placeholders in some bytes; refused where this program may not have such a secret. Asked when a
    /// guest writes, so that it hears of a denial; they are replaced while it is sent, since that may have to wait.
    fn allow_placeholders(&self, bytes: &[u8], argv: &[String]) -> Result<bool> {
        let names = self.placeholders.names(bytes);
        for name in names.iter().filter(|name| !self.placeholders.is_own(name)) {
            let request = Request::SecretInCommand { name, argv };
            if self.rights.check(&request).is_err() {
                self.allow(&request, argv)?; // again, for the audit
            }
        }
        Ok(!names.is_empty())
    }

    /// Some bytes with secrets in place of their placeholders, each allowed for this program.
    async fn filled(&self, bytes: &[u8], argv: &[String]) -> Result<Zeroizing<Vec<u8>>> {
        let mut values = BTreeMap::new();
        for name in self.placeholders.names(bytes) {
            // What the host made for this run is no right of the operator's.
            if !self.placeholders.is_own(&name) {
                self.allow(&Request::SecretInCommand { name: &name, argv }, argv)?;
            }
            let value = Zeroizing::new(self.secrets.resolve(&name).await?.expose().to_vec());
            values.insert(name, value);
        }
        // The secrets are the operator's: their length needs no bound of the guest.
        self.placeholders.fill(bytes, &values, usize::MAX).map(Zeroizing::new)
    }
}

/// Refuses what no program could be started with.
fn check(command: &Command) -> Result<()> {
    let bad = |why: String| Err(Error::invalid("command", why));
    let argv = &command.argv;
    if argv.first().is_none_or(String::is_empty) {
        return bad("`argv` must begin with a program".to_owned());
    }
    if argv.len() > ARGV_MAX || argv.iter().map(String::len).sum::<usize>() > ARGV_BYTES_MAX {
        return bad(format!("`argv` has at most {ARGV_MAX} entries and {ARGV_BYTES_MAX} bytes"));
    }
    let variables = command.env.len() + command.secret_env.len();
    let env_bytes: usize = command.env.iter().map(|(name, value)| name.len() + value.len()).sum();
    if variables > ENV_MAX || env_bytes > ENV_BYTES_MAX {
        return bad(format!("`env` has at most {ENV_MAX} variables and {ENV_BYTES_MAX} bytes"));
    }
    let texts = argv.iter().chain(command.env.iter().map(|(_, value)| value));
    if texts.into_iter().any(|text| text.contains('\0')) {
        return bad("a NUL character cannot be given to a program".to_owned());
    }
    let mut names = BTreeSet::new();
    for name in command.env.iter().map(|(name, _)| name).chain(&command.secret_env) {
        if !names.insert(name) {
            return bad(format!("the variable `{}` is given twice", shown(name, 100)));
        }
    }
    Ok(())
}

fn os_string(name: &str, value: &[u8]) -> Result<OsString> {
    use std::os::unix::ffi::OsStringExt;
    if value.contains(&0) {
        return Err(Error::invalid("command", format!("the value of `{}` has a NUL character", shown(name, 100))));
    }
    Ok(OsString::from_vec(value.to_vec()))
}

/// A child of a guest.
struct ChildHandle {
    /// First, because fields are dropped in order: the group ends before those who serve its pipes.
    group: Group,
    stdin: Arc<Stdin>,
    output: Arc<Unread>,
    tasks: [JoinHandle<()>; 2],
    reach: Arc<Reach>,
    argv: Vec<String>,
    /// Gone with this handle, which closes the websockets to the child.
    alive: watch::Sender<()>,
    _slot: OwnedSemaphorePermit,
}

impl ChildHandle {
    fn new(
        reach: &Arc<Reach>,
        argv: Vec<String>,
        group: Group,
        pipes: group::Pipes,
        slot: OwnedSemaphorePermit,
    ) -> Self {
        let limits = &reach.call.limits;
        let stdin = Arc::new(Stdin::new(limits.child_stdin_bytes_max));
        let output = Arc::new(Unread::new(limits.child_output_bytes_max));
        let reading = {
            let (output, reach, mut exit) = (Arc::clone(&output), Arc::clone(reach), group.exit());
            async move {
                let (stdout, stderr) = (Side { of: &output, index: 0 }, Side { of: &output, index: 1 });
                tokio::join!(
                    pump(pipes.stdout, &reach.redactor, exit.clone(), &stdout),
                    pump(pipes.stderr, &reach.redactor, exit.clone(), &stderr),
                );
                let ended = exit.wait_for(Option::is_some).await.ok().and_then(|exit| exit.clone());
                output.finished(ended.unwrap_or_else(|| Exit::Signal("unknown".to_owned())));
            }
        };
        let writing = {
            let (stdin, reach, argv) = (Arc::clone(&stdin), Arc::clone(reach), argv.clone());
            async move {
                if let Some(pipe) = pipes.stdin {
                    stdin.feed(pipe, &reach, &argv).await;
                }
            }
        };
        let tasks = [tokio::spawn(reading), tokio::spawn(writing)];
        Self { group, stdin, output, tasks, reach: Arc::clone(reach), argv, alive: watch::Sender::new(()), _slot: slot }
    }
}

impl Drop for ChildHandle {
    fn drop(&mut self) {
        // A process that left the group could hold a pipe open; nobody reads it any more.
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

#[async_trait]
impl Child for ChildHandle {
    fn write(&self, data: Vec<u8>) -> Result<()> {
        let secrets = self.reach.allow_placeholders(&data, &self.argv)?;
        self.stdin.write(data, secrets)
    }

    fn close_stdin(&self) {
        self.stdin.close();
    }

    async fn next(&mut self, max_bytes: usize) -> Result<Output> {
        Ok(self.output.next(max_bytes.max(1)).await)
    }

    fn stop(&self, how: StopMode) -> Result<()> {
        self.group.signal(match how {
            StopMode::Interrupt => Signal::INT,
            StopMode::Terminate => Signal::TERM,
            StopMode::Kill => Signal::KILL,
        })
    }

    async fn connect(&self, dial: Dial) -> Result<Box<dyn Socket>> {
        let began = Instant::now();
        let target = format!("{} 127.0.0.1:{}", shown(&self.argv[0], 200), dial.port); // started, so it has a name
        let result = self.websocket(dial).await;
        let outcome = match &result {
            Ok(_) => "ok".to_owned(),
            Err(error) if error.kind == ErrorKind::Denied => "denied".to_owned(),
            Err(error) => error.code.clone().into_owned(),
        };
        let duration_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.reach.call.sink.audit(Audit {
            act: "websocket",
            target,
            outcome,
            grant: None,
            duration_ms,
            size_bytes: 0,
        });
        Ok(Box::new(result?))
    }
}

impl ChildHandle {
    async fn websocket(&self, dial: Dial) -> Result<ws::Socket> {
        let slot = Arc::clone(&self.reach.sockets).try_acquire_owned().map_err(|_| {
            let most = self.reach.call.limits.sockets_max;
            Error::limit("sockets", format!("{most} websockets of this run are open already, which is the most"))
        })?;
        let opening = ws::Opening { dial, argv: self.argv.clone(), slot, alive: self.alive.subscribe() };
        ws::Socket::open(&self.reach, &self.group, opening).await
    }
}

/// What a child wrote and its guest has not read yet.
struct Unread {
    bytes_max: usize,
    state: Mutex<UnreadState>,
    /// Something to read, or the end.
    news: Notify,
    /// Something was read, of each stream.
    room: [Notify; 2],
}

#[derive(Default)]
struct UnreadState {
    streams: [VecDeque<u8>; 2],
    exit: Option<Exit>,
    /// The stream that is looked at first: the one that was not given last, so that neither hides the other.
    turn: usize,
}

impl Unread {
    fn new(bytes_max: u64) -> Self {
        let bytes_max = usize::try_from(bytes_max).unwrap_or(usize::MAX).max(1);
        Self { bytes_max, state: Mutex::default(), news: Notify::new(), room: [Notify::new(), Notify::new()] }
    }

    /// Safe to drop: nothing is taken before it is given.
    async fn next(&self, max_bytes: usize) -> Output {
        loop {
            if let Some(output) = self.take(max_bytes) {
                return output;
            }
            // There is one reader, and `notify_one` is kept for a later wait: nothing is missed in between.
            self.news.notified().await;
        }
    }

    fn take(&self, max_bytes: usize) -> Option<Output> {
        let mut state = self.state();
        for index in [state.turn, 1 - state.turn] {
            let stream = &mut state.streams[index];
            if !stream.is_empty() {
                let bytes: Vec<u8> = stream.drain(..stream.len().min(max_bytes)).collect();
                state.turn = 1 - index;
                self.room[index].notify_one();
                return Some(if index == 0 { Output::Stdout(bytes) } else { Output::Stderr(bytes) });
            }
        }
        state.exit.clone().map(Output::Exited)
    }

    fn finished(&self, exit: Exit) {
        self.state().exit = Some(exit);
        self.news.notify_one();
    }

    fn state(&self) -> MutexGuard<'_, UnreadState> {
        // Nothing panics while it is held.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One stream of the unread output.
struct Side<'a> {
    of: &'a Unread,
    index: usize,
}

impl Sink for Side<'_> {
    async fn room(&self) -> usize {
        loop {
            let held = self.of.state().streams[self.index].len();
            if held < self.of.bytes_max {
                return self.of.bytes_max - held;
            }
            self.of.room[self.index].notified().await;
        }
    }

    fn push(&self, bytes: &[u8]) {
        if !bytes.is_empty() {
            self.of.state().streams[self.index].extend(bytes);
            self.of.news.notify_one();
        }
    }
}
