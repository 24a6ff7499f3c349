//! One file an interface of the contract: each takes a guest's call, asks the port behind it, and turns the answer back.
//!
//! The same three steps everywhere: fetch the handle from the table, call the port (behind [`Control::guard`] where the
//! contract says that a cancel ends it), give the answer. An error of a port is an answer to the guest, and so is a full
//! table ([`owned`]); a trap is asked for by name, where a handle is not the guest's.
//!
//! [`Control::guard`]: crate::Control::guard

pub(crate) mod approval;
pub(crate) mod blob;
pub(crate) mod config;
pub(crate) mod control;
pub(crate) mod events;
pub(crate) mod http;
pub(crate) mod kv;
pub(crate) mod log;
pub(crate) mod process;
pub(crate) mod tools;
pub(crate) mod unsupported;
pub(crate) mod ws;

use midplane_core::ErrorKind;
use wasmtime::component::{Resource, ResourceTable, ResourceTableError};

use crate::bindings::types;

impl types::Host for crate::data::Data {}

/// What every function with a result gives: the outer failure is a trap, the inner one the guest's to handle.
pub(crate) type Answer<T> = wasmtime::Result<Result<T, types::Error>>;

/// An answer from a port's result.
pub(crate) fn answer<T>(result: midplane_core::Result<T>) -> Answer<T> {
    Ok(result.map_err(to_wit))
}

/// A handle of something that the guest gets for its own. One handle too many is an answer like any other bound: the guest
/// can give some back and try again.
pub(crate) fn owned<T: Send + 'static>(table: &mut ResourceTable, value: T) -> Answer<Resource<T>> {
    match table.push(value) {
        Ok(handle) => Ok(Ok(handle)),
        Err(ResourceTableError::Full) => {
            answer(Err(midplane_core::Error::limit("handles", "the plugin holds as many handles as it may")))
        }
        Err(error) => Err(error.into()),
    }
}

/// The host's error as the guest sees it. The hint goes into the message: the guest has no other place for it.
pub(crate) fn to_wit(error: midplane_core::Error) -> types::Error {
    let message = match &error.hint {
        None => error.message,
        Some(hint) => format!("{}; hint: {hint}", error.message),
    };
    types::Error {
        kind: match error.kind {
            ErrorKind::Invalid => types::ErrorKind::Invalid,
            ErrorKind::Denied => types::ErrorKind::Denied,
            ErrorKind::NotFound => types::ErrorKind::NotFound,
            ErrorKind::Conflict => types::ErrorKind::Conflict,
            ErrorKind::Unavailable => types::ErrorKind::Unavailable,
            ErrorKind::Limit => types::ErrorKind::Limit,
            ErrorKind::Cancelled => types::ErrorKind::Cancelled,
            ErrorKind::Unsupported => types::ErrorKind::Unsupported,
            ErrorKind::Internal => types::ErrorKind::Internal,
            ErrorKind::Uncertain => types::ErrorKind::Uncertain,
        },
        code: error.code.into_owned(),
        message: midplane_core::text::cut(&message, ERROR_MESSAGE_BYTES_MAX).to_owned(),
        retry_after_ms: error.retry_after_ms,
    }
}

/// A guest's error as the host keeps it: bounded, whatever it claims.
pub(crate) fn from_wit(error: types::Error) -> midplane_core::Error {
    let kind = match error.kind {
        types::ErrorKind::Invalid => ErrorKind::Invalid,
        types::ErrorKind::Denied => ErrorKind::Denied,
        types::ErrorKind::NotFound => ErrorKind::NotFound,
        types::ErrorKind::Conflict => ErrorKind::Conflict,
        types::ErrorKind::Unavailable => ErrorKind::Unavailable,
        types::ErrorKind::Limit => ErrorKind::Limit,
        types::ErrorKind::Cancelled => ErrorKind::Cancelled,
        types::ErrorKind::Unsupported => ErrorKind::Unsupported,
        types::ErrorKind::Internal => ErrorKind::Internal,
        types::ErrorKind::Uncertain => ErrorKind::Uncertain,
    };
    let code = midplane_core::text::cut(&error.code, ERROR_CODE_BYTES_MAX).to_owned();
    let message = midplane_core::text::cut(&error.message, ERROR_MESSAGE_BYTES_MAX).to_owned();
    let mut host = midplane_core::Error::new(kind, code, message);
    host.retry_after_ms = error.retry_after_ms;
    host
}

/// `types.error.message` is at most 4 KiB.
const ERROR_MESSAGE_BYTES_MAX: usize = 4096;
/// `types.error.code` is at most 64 bytes.
const ERROR_CODE_BYTES_MAX: usize = 64;
