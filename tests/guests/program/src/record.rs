//! What was seen, one JSON object a line: `{"argv": [..], "env": {..}, "cwd": .., "pid": ..}` first, then `{"read": ..}` (a
//! line or message as JSON where it is JSON, else as text), `{"eof": true}`, `{"signal": ".."}`, `{"spawned": pid}`,
//! `{"http": ..}`, `{"connected": true}`, `{"refused": ..}`, `{"disconnected": true}`, `{"unexpected": ..}` and `{"exit": code}`.
//!
//! Each line is in the file before the program goes on. That also holds for a program that is killed at its next step.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::{Map, Value, json};

/// The file, shared by all threads of the program; nothing is kept when a script asks for no record.
#[derive(Clone, Default)]
pub(crate) struct Record(Option<Arc<Mutex<File>>>);

impl Record {
    /// Opens it: `~/` is the home, another relative path is below the working directory. Several programs may append to
    /// one file, so each line is written at once.
    pub(crate) fn open(path: Option<&str>) -> Result<Self, String> {
        let Some(path) = path else { return Ok(Self::default()) };
        let place = expanded(path)?;
        let file = OpenOptions::new().create(true).append(true).open(&place);
        let file = file.map_err(|error| format!("record `{}`: {error}", place.display()))?;
        Ok(Self(Some(Arc::new(Mutex::new(file)))))
    }

    /// The first line: how the program was started.
    pub(crate) fn start(&self) {
        let env: Map<String, Value> = std::env::vars_os()
            .map(|(name, value)| (name.to_string_lossy().into_owned(), json!(value.to_string_lossy())))
            .collect();
        let argv: Vec<String> = std::env::args_os().map(|argument| argument.to_string_lossy().into_owned()).collect();
        let cwd = std::env::current_dir().ok();
        self.add(&json!({ "argv": argv, "env": env, "cwd": cwd, "pid": std::process::id() }));
    }

    /// One more line. A record that cannot be written must not change what the program does.
    pub(crate) fn add(&self, line: &Value) {
        if let Some(file) = &self.0 {
            let mut file = file.lock().unwrap_or_else(PoisonError::into_inner);
            let _ = file.write_all(format!("{line}\n").as_bytes()).and_then(|()| file.flush());
        }
    }
}

/// A path of a script. `~/` is the home of the program.
pub(crate) fn expanded(path: &str) -> Result<PathBuf, String> {
    match path.strip_prefix("~/") {
        None => Ok(path.into()),
        Some(rest) => {
            let home = std::env::var_os("HOME").ok_or_else(|| format!("`{path}`: the program has no `HOME`"))?;
            Ok(PathBuf::from(home).join(rest))
        }
    }
}
