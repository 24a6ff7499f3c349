//! Forms of option values: what a text on the command line means. Pure but for [`Source::read`].

use std::io::Read;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use clap::ValueEnum;
use midplane::core::permission::Grant;
use midplane::core::task::{Attachment, AttachmentKind, FilesystemAccess, PermissionMode, Workspace, WorkspaceAccess};
use midplane::core::{Error, Result};
use serde_json::{Map, Value};

/// `30s`, `5m`, `1h 30m`; a plain number is seconds.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    if let Ok(seconds) = text.parse::<u64>() {
        return Ok(Duration::from_secs(seconds));
    }
    humantime::parse_duration(text)
        .map_err(|_| "a duration is for example `30s`, `5m`, `1h 30m` or a number of seconds".to_owned())
}

/// Milliseconds of a duration; longer than there are is the longest.
pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// `DIR`, `DIR:ro` or `DIR:rw`.
pub(crate) fn workspace(text: &str) -> Result<Workspace, String> {
    let (path, access) = match text.rsplit_once(':') {
        Some((path, "ro")) => (path, WorkspaceAccess::Read),
        Some((path, "rw")) => (path, WorkspaceAccess::ReadWrite),
        _ => (text, WorkspaceAccess::Read),
    };
    if path.is_empty() {
        return Err("a workspace is `DIR`, `DIR:ro` or `DIR:rw`".to_owned());
    }
    Ok(Workspace { path: path.to_owned(), access })
}

/// `skill:PATH`, `file:PATH` or `instructions:PATH`, each with `=NAME` if it is to have another name.
pub(crate) fn attachment(text: &str) -> Result<Attachment, String> {
    let form =
        || "an attachment is `skill:DIR`, `file:PATH` or `instructions:PATH`, with `=NAME` for another name".to_owned();
    let (kind, rest) = text.split_once(':').ok_or_else(form)?;
    let kind = match kind {
        "skill" => AttachmentKind::Skill,
        "file" => AttachmentKind::File,
        "instructions" => AttachmentKind::Instructions,
        _ => return Err(form()),
    };
    let (path, name) = match rest.rsplit_once('=') {
        // A name is no path, so a `=` in a folder's name is none of ours.
        Some((path, name)) if !name.is_empty() && !name.contains('/') => (path, Some(name.to_owned())),
        _ => (rest, None),
    };
    if path.is_empty() {
        return Err(form());
    }
    Ok(Attachment { kind, name, path: path.to_owned() })
}

/// `KEY=TEXT`, or a JSON object.
pub(crate) fn metadata(text: &str) -> Result<Map<String, Value>, String> {
    if text.trim_start().starts_with('{') {
        return serde_json::from_str(text).map_err(|error| format!("not a JSON object: {error}"));
    }
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok(Map::from_iter([(key.to_owned(), Value::from(value))])),
        _ => Err("metadata is `KEY=TEXT` or a JSON object".to_owned()),
    }
}

/// A grant in its text form.
pub(crate) fn grant(text: &str) -> Result<Grant, String> {
    text.parse().map_err(|error: Error| match error.hint {
        Some(hint) => format!("{}\n\nhint: {hint}", error.message),
        None => error.message,
    })
}

/// On or off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Switch {
    On,
    Off,
}

/// The task's permission modes as words of the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Mode {
    /// The adapter's sensible middle
    Default,
    /// Plan and read
    Strict,
    /// Ask before changing
    Cautious,
    /// Do not ask
    Permissive,
}

impl From<Mode> for PermissionMode {
    fn from(mode: Mode) -> Self {
        match mode {
            Mode::Default => Self::Default,
            Mode::Strict => Self::Strict,
            Mode::Cautious => Self::Cautious,
            Mode::Permissive => Self::Permissive,
        }
    }
}

/// What an agent may write, as words of the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Filesystem {
    /// Nothing
    ReadOnly,
    /// Its workspace
    WorkspaceWrite,
    /// All that its sandbox shows it
    FullAccess,
}

impl From<Filesystem> for FilesystemAccess {
    fn from(access: Filesystem) -> Self {
        match access {
            Filesystem::ReadOnly => Self::ReadOnly,
            Filesystem::WorkspaceWrite => Self::WorkspaceWrite,
            Filesystem::FullAccess => Self::FullAccess,
        }
    }
}

/// Where a text comes from: itself, `@FILE`, or `-` for standard input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Source {
    Text(String),
    File(PathBuf),
    Stdin,
}

impl FromStr for Source {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(match text.strip_prefix('@') {
            Some(path) => Self::File(path.into()),
            None if text == "-" => Self::Stdin,
            None => Self::Text(text.to_owned()),
        })
    }
}

/// What is read of a file or of standard input at most.
pub(crate) const TEXT_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// The outside that values refer to.
pub(crate) struct Inputs<'a> {
    /// The folder that relative paths begin at.
    pub(crate) folder: PathBuf,
    /// Standard input, until something has taken it.
    pub(crate) stdin: Option<Box<dyn Read + 'a>>,
}

impl Inputs<'_> {
    /// Those of this process.
    pub(crate) fn here() -> Result<Self> {
        let folder = std::env::current_dir()
            .map_err(|error| Error::invalid("folder", format!("the current folder cannot be told: {error}")))?;
        Ok(Self { folder, stdin: Some(Box::new(std::io::stdin())) })
    }

    /// The text of a file, relative to the folder; `-` is standard input. `what` names it in messages.
    pub(crate) fn file(&mut self, path: &Path, what: &str) -> Result<String> {
        if path == Path::new("-") {
            return self.stdin(what);
        }
        let failed = |error: std::io::Error| {
            let message = format!("{what} `{}` cannot be read: {error}", path.display());
            match error.kind() {
                std::io::ErrorKind::NotFound => Error::not_found("file", message),
                _ => Error::invalid("file", message),
            }
        };
        let file = std::fs::File::open(self.folder.join(path)).map_err(failed)?;
        text(file, &path.display().to_string(), what)
    }

    fn stdin(&mut self, what: &str) -> Result<String> {
        let stdin = self.stdin.take().ok_or_else(|| {
            Error::invalid(
                "stdin",
                format!("{what} is to come from standard input, which something else has read already"),
            )
        })?;
        text(stdin, "standard input", what)
    }
}

impl Source {
    /// The text itself. `what` names it in messages.
    pub(crate) fn read(&self, inputs: &mut Inputs<'_>, what: &str) -> Result<String> {
        match self {
            Self::Text(text) => Ok(text.clone()),
            Self::File(path) => inputs.file(path, what).map_err(|error| match error.code.as_ref() {
                "file" => error.hint("a text that begins with `@` names a file"),
                _ => error,
            }),
            Self::Stdin => inputs.stdin(what),
        }
    }
}

fn text(from: impl Read, origin: &str, what: &str) -> Result<String> {
    let mut bytes = Vec::new();
    from.take(TEXT_BYTES_MAX + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| Error::invalid("file", format!("{what} `{origin}` cannot be read: {error}")))?;
    if bytes.len() as u64 > TEXT_BYTES_MAX {
        return Err(Error::limit("file-size", format!("{what} `{origin}` has more than {TEXT_BYTES_MAX} bytes")));
    }
    String::from_utf8(bytes).map_err(|_| Error::invalid("file", format!("{what} `{origin}` is not UTF-8")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        for (text, ms) in [
            ("30s", 30_000),
            ("5m", 300_000),
            ("1h", 3_600_000),
            ("1h 30m", 5_400_000),
            ("90", 90_000),
            ("250ms", 250),
            ("0", 0),
        ] {
            assert_eq!(duration(text).map(millis), Ok(ms), "{text}");
        }
        for text in ["", "soon", "-5", "5x", "1.5"] {
            assert!(duration(text).is_err(), "{text}");
        }
        assert_eq!(duration(&u64::MAX.to_string()).map(millis), Ok(u64::MAX));
    }

    #[test]
    fn workspaces() {
        use WorkspaceAccess::{Read, ReadWrite};
        for (text, path, access) in [
            (".", ".", Read),
            (".:ro", ".", Read),
            (".:rw", ".", ReadWrite),
            ("/srv/a:b", "/srv/a:b", Read),
            ("/srv/a:rw:ro", "/srv/a:rw", Read),
            ("a b:rw", "a b", ReadWrite),
            ("dir:RW", "dir:RW", Read),
        ] {
            assert_eq!(workspace(text), Ok(Workspace { path: path.into(), access }), "{text}");
        }
        assert!(workspace("").is_err() && workspace(":rw").is_err());
    }

    #[test]
    fn attachments() {
        let shown = |text: &str| attachment(text).map(|a| format!("{} {} {:?}", a.kind.as_str(), a.path, a.name));
        assert_eq!(shown("file:notes.md").as_deref(), Ok("file notes.md None"));
        assert_eq!(shown("skill:skills/review=check").as_deref(), Ok("skill skills/review Some(\"check\")"));
        assert_eq!(shown("instructions:a=b/AGENTS.md").as_deref(), Ok("instructions a=b/AGENTS.md None"));
        assert_eq!(shown("file:C:x=").as_deref(), Ok("file C:x= None"));
        for text in ["", "notes.md", "file:", "file:=x", "picture:x.png"] {
            assert!(attachment(text).is_err(), "{text}");
        }
    }

    #[test]
    fn metadata_is_text_or_an_object() {
        let shown = |text: &str| metadata(text).map(|map| Value::Object(map).to_string());
        assert_eq!(shown("k=v=w").as_deref(), Ok(r#"{"k":"v=w"}"#));
        assert_eq!(shown("k=").as_deref(), Ok(r#"{"k":""}"#));
        assert_eq!(shown(r#" {"vars":{"dry_run":true}}"#).as_deref(), Ok(r#"{"vars":{"dry_run":true}}"#));
        for text in ["", "=v", "k", "{", "{1}"] {
            assert!(metadata(text).is_err(), "{text}");
        }
    }

    #[test]
    fn sources() {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("goal.txt"), "from a file").expect("a file");
        std::fs::write(folder.path().join("bad.txt"), b"\xff").expect("a file");
        let mut inputs = Inputs { folder: folder.path().into(), stdin: Some(Box::new(&b"from input"[..])) };
        let mut read = |text: &str| {
            let Ok(source) = text.parse::<Source>();
            source.read(&mut inputs, "the goal").map_err(|error| (error.code.into_owned(), error.kind.as_str()))
        };
        assert_eq!(read("plain").as_deref(), Ok("plain"));
        assert_eq!(read("@goal.txt").as_deref(), Ok("from a file"));
        assert_eq!(read("-").as_deref(), Ok("from input"));
        assert_eq!(read("-"), Err(("stdin".into(), "invalid")));
        assert_eq!(read("@none.txt"), Err(("file".into(), "not-found")));
        assert_eq!(read("@bad.txt"), Err(("file".into(), "invalid")));
        assert_eq!(read("@."), Err(("file".into(), "invalid")));
    }

    #[test]
    fn grants_say_what_is_wrong_and_what_would_be_right() {
        assert_eq!(grant("shell").map(|grant| grant.to_string()).as_deref(), Ok("shell"));
        assert!(grant("htp:https://h").is_err_and(|why| why.contains("did you mean `http`")));
    }
}
