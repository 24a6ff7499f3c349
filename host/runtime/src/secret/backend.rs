//! What reads a store: variables of the environment, files, the keyring; programs are in [`super::command`].
//!
//! Each answers `None` for a secret that is not there, and an error of [`failure`] for anything else.

use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use cap_std::ambient_authority;
use cap_std::fs::{Dir, OpenOptions, OpenOptionsExt as _};
use midplane_core::identity::settings::expand;
use midplane_core::redact::SecretValue;
use midplane_core::vault::{Backend, Location, failure};
use midplane_core::{Error, Result};
use rustix::fs::OFlags;
use zeroize::Zeroizing;

use super::{Environment, SECRET_BYTES_MAX, command};

/// Reads a secret that may be had. Whoever calls it bounds its time.
pub(super) async fn read(location: &Location, env: &Environment) -> Result<Option<SecretValue>> {
    match location.backend {
        Backend::Env => Ok(variable(location, env)),
        Backend::File => file(location, env).await,
        Backend::Command | Backend::Gopass => command::read(location, env).await,
        Backend::Keyring => keyring(location).await,
    }
}

fn variable(location: &Location, env: &Environment) -> Option<SecretValue> {
    let prefix = if location.store.root == "." { "" } else { location.store.root.as_str() };
    let value = env(&format!("{prefix}{}", location.path))?;
    // A variable that is set to nothing is no secret.
    Some(SecretValue::from(value)).filter(|value| !value.expose().trim_ascii().is_empty())
}

/// Does blocking work, and gives nothing if it takes too long. The work itself goes on: nothing can stop a thread that waits for
/// a file system.
pub(super) async fn in_time<T: Send + 'static>(ms: u64, work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    let work = tokio::task::spawn_blocking(work);
    tokio::time::timeout(Duration::from_millis(ms), work).await.ok()?.ok()
}

/// Blocking work whose time is bounded elsewhere.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => Err(Error::internal("secret", format!("reading was lost: {error}"))),
    }
}

async fn file(location: &Location, env: &Environment) -> Result<Option<SecretValue>> {
    let home = env("HOME");
    let root = expand(&location.store.root, home.as_deref())?;
    let location = location.clone();
    blocking(move || {
        let root_name = location.store.root.as_str();
        let missing = |error: io::Error| match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => failure::tool_missing(&location, root_name),
            _ => failure::tool_failed(&location, root_name, &format!("cannot be opened: {error}")),
        };
        let folder = Dir::open_ambient_dir(&root, ambient_authority()).map_err(missing)?;
        // The folder is left by no link: what lies elsewhere is under no policy of this store.
        match open(&folder, Path::new(&location.path)).and_then(bounded) {
            Ok(value) => Ok(Some(value)),
            Err(FileFault::TooLarge) => Err(failure::too_large(&location, SECRET_BYTES_MAX)),
            Err(FileFault::Io(error)) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(FileFault::Io(error)) => {
                Err(failure::tool_failed(&location, root_name, &format!("does not give it: {}", error.kind())))
            }
        }
    })
    .await
}

/// Why a file gave no secret.
pub(super) enum FileFault {
    TooLarge,
    Io(io::Error),
}

impl From<io::Error> for FileFault {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// Reads one file that the operator named by its path.
pub(super) fn read_file(path: &Path) -> Result<SecretValue, FileFault> {
    let (folder, name): (PathBuf, _) = match (path.parent(), path.file_name()) {
        (Some(parent), Some(name)) if parent.as_os_str().is_empty() => (PathBuf::from("."), name),
        (Some(parent), Some(name)) => (parent.to_owned(), name),
        _ => return Err(io::Error::from(io::ErrorKind::IsADirectory).into()),
    };
    // A link at the end of the operator's own path leads where the operator wants.
    let target = std::fs::canonicalize(folder.join(name))?;
    let (Some(folder), Some(name)) = (target.parent(), target.file_name()) else {
        return Err(io::Error::from(io::ErrorKind::IsADirectory).into());
    };
    let folder = Dir::open_ambient_dir(folder, ambient_authority())?;
    bounded(open(&folder, Path::new(name))?)
}

fn open(folder: &Dir, path: &Path) -> Result<cap_std::fs::File, FileFault> {
    let mut options = OpenOptions::new();
    // Opening a pipe that nobody writes would wait for ever.
    options.read(true).custom_flags((OFlags::NONBLOCK | OFlags::NOCTTY).bits().cast_signed());
    let file = folder.open_with(path, &options)?;
    if file.metadata()?.is_file() { Ok(file) } else { Err(io::Error::other("is no regular file").into()) }
}

fn bounded(file: cap_std::fs::File) -> Result<SecretValue, FileFault> {
    // Room for all of it at once: a buffer that grows leaves pieces behind that nobody wipes.
    let room = usize::try_from(SECRET_BYTES_MAX + 1).unwrap_or(usize::MAX);
    let mut bytes = Zeroizing::new(Vec::with_capacity(room));
    file.take(SECRET_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > SECRET_BYTES_MAX {
        return Err(FileFault::TooLarge);
    }
    Ok(SecretValue::new(bytes.as_slice()))
}

/// The keyring: that of the kernel on Linux (the keys of type `user` of the session and of the user, gone with a restart), where
/// root and path joined are the description; the keychain on macOS, where they are service and account.
async fn keyring(location: &Location) -> Result<Option<SecretValue>> {
    let location = location.clone();
    blocking(move || match native::read(&location).map(Zeroizing::new) {
        Err(native::Fault::Absent) => Ok(None),
        Err(native::Fault::NoKeyring) => Err(failure::tool_missing(&location, "keyring")),
        Err(native::Fault::Other(why)) => Err(failure::tool_failed(&location, "keyring", &why)),
        Ok(value) if value.len() as u64 > SECRET_BYTES_MAX => Err(failure::too_large(&location, SECRET_BYTES_MAX)),
        Ok(value) => Ok(Some(SecretValue::new(value.as_slice()))),
    })
    .await
}

/// The keyring of this system.
mod native {
    use midplane_core::vault::Location;

    /// Why it gave nothing.
    #[cfg_attr(not(any(target_os = "linux", target_os = "macos")), expect(dead_code, reason = "there is none to fail"))]
    pub(super) enum Fault {
        Absent,
        NoKeyring,
        Other(String),
    }

    #[cfg(target_os = "linux")]
    pub(super) fn read(location: &Location) -> Result<Vec<u8>, Fault> {
        use linux_keyutils::{KeyError, KeyRing, KeyRingIdentifier};
        let fault = |error| match error {
            KeyError::KeyDoesNotExist | KeyError::KeyRevoked | KeyError::KeyExpired => Fault::Absent,
            // A kernel without keyrings, or a sandbox that has none to give.
            KeyError::OperationNotSupported | KeyError::Unknown(_) => Fault::NoKeyring,
            other => Fault::Other(format!("cannot be read: {other}")),
        };
        // The one that is nearer first. Only looked at: nothing is linked or prolonged.
        for ring in [KeyRingIdentifier::Session, KeyRingIdentifier::User] {
            let found = KeyRing::from_special_id(ring, false).and_then(|ring| ring.search(&location.full_path));
            match found.and_then(|key| key.read_to_vec()).map_err(fault) {
                Err(Fault::Absent) => {}
                other => return other,
            }
        }
        Err(Fault::Absent)
    }

    #[cfg(target_os = "macos")]
    pub(super) fn read(location: &Location) -> Result<Vec<u8>, Fault> {
        /// `errSecItemNotFound`.
        const NOT_FOUND: i32 = -25300;
        let service = location.store.root.trim_end_matches('/');
        security_framework::passwords::get_generic_password(service, &location.path).map_err(|error| {
            match error.code() {
                NOT_FOUND => Fault::Absent,
                code => Fault::Other(format!("cannot be read (code {code})")),
            }
        })
    }

    #[cfg(not(any(target_os = "linux", target_os = "macos")))]
    pub(super) fn read(_location: &Location) -> Result<Vec<u8>, Fault> {
        Err(Fault::NoKeyring)
    }
}
