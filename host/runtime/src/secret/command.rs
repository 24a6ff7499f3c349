//! Secrets from a program: gopass, or any that prints one.
//!
//! The program is started without a shell, in a process group of its own, with `PATH`, `HOME` and the variables that the store
//! names, and nothing on its standard input. What it prints is bounded; what it says on its standard error is read to tell an
//! absent secret from a failure, and never shown, since it may hold anything.

use std::ffi::OsString;

use midplane_core::redact::SecretValue;
use midplane_core::vault::{Backend, Location, failure};
use midplane_core::{Error, Result};
use midplane_engine::ports::Exit;
use tokio::io::{AsyncRead, AsyncReadExt as _};
use zeroize::Zeroizing;

use super::{Environment, SECRET_BYTES_MAX};
use crate::process::fence::Confinement;
use crate::process::group::{Group, Launch, find_program_in};

/// What is read of a program's standard error.
const STDERR_BYTES_MAX: u64 = 4 * 1024;
/// How long pipes are read that outlive their program: what it left running may hold them open.
const LINGER: std::time::Duration = std::time::Duration::from_millis(200);

/// How a program is asked.
struct Asked {
    argv: Vec<String>,
    env: Vec<String>,
    absent_exit: Vec<i32>,
    /// What it says of an absent secret, where its exit code does not.
    absent_text: Option<&'static str>,
}

pub(super) async fn read(location: &Location, env: &Environment) -> Result<Option<SecretValue>> {
    let asked = asked(location)?;
    let tool = asked.argv.first().cloned().unwrap_or_default();
    let path = env("PATH").filter(|path| !path.is_empty());
    let program = find_program_in(&tool, path.as_deref()).map_err(|_| failure::tool_missing(location, &tool))?;
    let launch = Launch {
        program,
        args: asked.argv.iter().skip(1).cloned().collect(),
        cwd: "/".into(),
        env: environment(&asked, env),
        stdin: false,
        terminal: None,
        // It has to reach the operator's own keys; and an agent that it starts for them may stay.
        confinement: Confinement::Operator,
        helper: None,
    };
    let (group, pipes) = Group::start(launch).await.map_err(|error| match error.code.as_ref() {
        "program" => failure::tool_missing(location, &tool),
        _ => failure::tool_failed(location, &tool, "cannot be started"),
    })?;
    let mut value = Zeroizing::new(Vec::with_capacity(usize::try_from(SECRET_BYTES_MAX + 1).unwrap_or_default()));
    let mut complaint = Zeroizing::new(Vec::new());
    let mut stdout = pipes.stdout.take(SECRET_BYTES_MAX + 1);
    let mut exit = group.exit();
    let mut ended = group.exit();
    tokio::select! {
        _ = async { tokio::join!(
            stdout.read_to_end(&mut value),
            drained(pipes.stderr, &mut complaint),
        ) } => {}
        () = async {
            let _ = ended.wait_for(Option::is_some).await;
            tokio::time::sleep(LINGER).await;
        } => {}
    }
    if value.len() as u64 > SECRET_BYTES_MAX {
        return Err(failure::too_large(location, SECRET_BYTES_MAX));
    }
    let how = exit.wait_for(Option::is_some).await.ok().and_then(|how| how.clone());
    // All that the program started ends with it.
    drop(group);
    match how {
        Some(Exit::Code(0)) => Ok(Some(SecretValue::new(value.as_slice()))),
        Some(Exit::Code(code)) if is_absent(&asked, code, &complaint) => Ok(None),
        Some(Exit::Code(code)) => Err(failure::tool_failed(location, &tool, &format!("ended with code {code}"))),
        Some(Exit::Signal(signal)) => Err(failure::tool_failed(location, &tool, &format!("was ended by {signal}"))),
        None => Err(failure::tool_failed(location, &tool, "was lost")),
    }
}

/// Reads the beginning, and lets the rest go by, so that a talkative program does not wait for ever.
async fn drained(pipe: impl AsyncRead + Unpin, head: &mut Vec<u8>) {
    let mut head_of = pipe.take(STDERR_BYTES_MAX);
    if head_of.read_to_end(head).await.is_ok() {
        let _ = tokio::io::copy(&mut head_of.into_inner(), &mut tokio::io::sink()).await;
    }
}

fn is_absent(asked: &Asked, code: u32, complaint: &[u8]) -> bool {
    let said = |text: &str| memchr::memmem::find(&complaint.to_ascii_lowercase(), text.as_bytes()).is_some();
    asked.absent_exit.iter().any(|absent| u32::try_from(*absent) == Ok(code)) || asked.absent_text.is_some_and(said)
}

fn asked(location: &Location) -> Result<Asked> {
    let options = &location.store.options;
    if location.backend == Backend::Gopass {
        // It says `Entry is not in the password store` and ends with 1, 10 or 11, by its version; 10 is also a secret that is
        // empty. Without a terminal it does not search for something similar.
        let argv = ["gopass", "show", "-o", "--", &location.full_path];
        let own = ["GNUPGHOME", "GOPASS_HOMEDIR", "PASSWORD_STORE_DIR", "XDG_CONFIG_HOME", "XDG_DATA_HOME"];
        let session = ["XDG_RUNTIME_DIR", "DBUS_SESSION_BUS_ADDRESS", "SSH_AUTH_SOCK", "GPG_TTY"];
        let named = own.into_iter().chain(session).map(str::to_owned).chain(options.env.iter().cloned());
        return Ok(Asked {
            argv: argv.map(str::to_owned).to_vec(),
            env: named.collect(),
            absent_exit: vec![10],
            absent_text: Some("not in the password store"),
        });
    }
    if options.command.is_empty() {
        return Err(Error::invalid("vault-option", format!("store `{}` names no command", location.store.name))
            .hint("give the store `command: [program, argument, \"{path}\"]`"));
    }
    let mut argv = Vec::with_capacity(options.command.len());
    let mut options_ended = false;
    for (index, word) in options.command.iter().enumerate() {
        let filled = if index == 0 { word.clone() } else { word.replace("{path}", &location.full_path) };
        // What the operator wrote may be an option; what a path makes of it may not.
        if filled.starts_with('-') && !word.starts_with('-') && !options_ended {
            return Err(Error::invalid(
                "secret-path",
                format!("secret `{location}`: its path would be read as an option"),
            )
            .hint("put `--` before `{path}` in the store's `command`, if the program knows it"));
        }
        options_ended |= word == "--";
        argv.push(filled);
    }
    Ok(Asked { argv, env: options.env.clone(), absent_exit: options.absent_exit.clone(), absent_text: None })
}

fn environment(asked: &Asked, env: &Environment) -> Vec<(OsString, OsString)> {
    let names = ["PATH", "HOME"].into_iter().chain(asked.env.iter().map(String::as_str));
    names.filter_map(|name| Some((name.into(), env(name)?.into()))).collect()
}
