//! What a deployment is made of, apart from its manifest: names, states, sizes, rights, leases.
//!
//! # Layout
//! - [`state`], [`session`]: the machines of deployments, and of sessions and sandboxes
//! - [`lease`]: who may run at once, with owner, heartbeat and fencing
//! - [`id`], [`url`], [`dns_name`], [`key`]: how deployments, their addresses and their objects are named
//! - [`env_file`], [`env_value`]: env files, and values against the types a manifest declares
//! - [`tier`], [`scope`]: sizes of machines, rights of callers
//! - [`limits`]: the bounds of deployments, in one table, with the checks that enforce them
//! - [`record`]: what is known of a deployment beside its state: its logs, its custom domain
//! - [`error`]: the errors of deployments, by the class of the original that each replaces

pub mod dns_name;
pub mod env_file;
pub mod env_value;
pub mod error;
pub mod id;
pub mod key;
pub mod lease;
pub mod limits;
pub mod record;
pub mod scope;
pub mod session;
pub mod state;
pub mod tier;
pub mod url;

use crate::ErrorKind;
use crate::codes::Code;

/// The codes of this family, without those of [`error::CODES`].
pub const CODES: &[Code] = &[
    Code {
        code: "deployment-id",
        kind: ErrorKind::Invalid,
        meaning: "A text is not the id of a deployment: `dep_` and 12 digits of `0-9a-f`, nothing before, between or after.",
        recovery: "Copy the id as a command printed it. Ids that other tools took loosely (upper case, spaces) are refused here.",
    },
    Code {
        code: "dns-name",
        kind: ErrorKind::Invalid,
        meaning: "A text cannot be a host name: labels have letters, digits and `-`, at most 63 characters, 253 together.",
        recovery: "Mend the label that the message names. Names in other scripts are taken where a domain is meant, not as the name of an application.",
    },
    Code {
        code: "dns-pattern",
        kind: ErrorKind::Invalid,
        meaning: "A pattern of host names is neither a name nor `*.` and a name.",
        recovery: "Write `api.example.com`, or `*.example.com` for every name below it; list `example.com` itself beside it.",
    },
    Code {
        code: "env-file-size",
        kind: ErrorKind::Limit,
        meaning: "An env file is larger than any list of variables is.",
        recovery: "See whether another file was named by mistake; keep large values in files of their own.",
    },
    Code {
        code: "env-line",
        kind: ErrorKind::Invalid,
        meaning: "A line of an env file is no assignment and was skipped; the lines after it count.",
        recovery: "Write `NAME=value`. Quote a value that has spaces, quotes or `#`, and close the quotes.",
    },
    Code {
        code: "env-missing",
        kind: ErrorKind::Invalid,
        meaning: "A variable that the manifest requires is not set, or set to nothing.",
        recovery: "Set it in the environment, in `.env`, or as a secret if it is one; `.env.example` lists all of them.",
    },
    Code {
        code: "env-file-name",
        kind: ErrorKind::Invalid,
        meaning: "A quoted name in an env file has a `=` or NUL in it, which no environment can hold.",
        recovery: "Rename the variable: letters, digits and `_`.",
    },
    Code {
        code: "env-nul",
        kind: ErrorKind::Invalid,
        meaning: "A value in an env file has a NUL character in it, which no environment can hold.",
        recovery: "Remove it, or encode the value (base64, for instance).",
    },
    Code {
        code: "env-type",
        kind: ErrorKind::Invalid,
        meaning: "The value of a variable is not of the type that the manifest declares: url, number or boolean.",
        recovery: "Mend the value, or the `type` in `env_schema`. The value itself is never shown.",
    },
    Code {
        code: "env-values-size",
        kind: ErrorKind::Limit,
        meaning: "The values of an env file become too large when their references are replaced.",
        recovery: "Look for values that name one another several times.",
    },
    Code {
        code: "idempotency-key",
        kind: ErrorKind::Invalid,
        meaning: "A text is not an idempotency key: 32 digits of `0-9a-f`.",
        recovery: "Make one key of 16 random bytes for each request, and send the same one when trying again.",
    },
    Code {
        code: "scope-missing",
        kind: ErrorKind::Denied,
        meaning: "The caller's key does not have the right that the call needs.",
        recovery: "Use a key with that scope. `admin` includes all; `deploy` and `delete` include `read`.",
    },
    Code {
        code: "scope-unknown",
        kind: ErrorKind::Invalid,
        meaning: "A word is none of the scopes: read, deploy, delete, admin.",
        recovery: "Write it in lower case and without spaces.",
    },
    Code {
        code: "storage-key",
        kind: ErrorKind::Invalid,
        meaning: "A text is not the key of an object: it is empty, absolute, too long, or has a segment that is empty, `.` or `..`.",
        recovery: "Use the keys that the host makes; write others as relative paths without `..`.",
    },
    Code {
        code: "tenant-apps",
        kind: ErrorKind::Limit,
        meaning: "The tenant has as many applications as it may.",
        recovery: "Destroy one that is no longer needed, or have the operator raise `max_apps`.",
    },
    Code {
        code: "tenant-concurrent",
        kind: ErrorKind::Limit,
        meaning: "As many deployments of the tenant are under way as may be at once.",
        recovery: "Wait until one has ended and try again.",
    },
    Code {
        code: "tenant-tier",
        kind: ErrorKind::Denied,
        meaning: "The tenant may not use machines of this size.",
        recovery: "Choose one of the tiers that the hint lists, or have the operator allow it.",
    },
];

/// White space as Python sees it, which the originals trim by: Unicode's, and the four separators from U+001C to U+001F.
pub(crate) fn is_space(c: char) -> bool {
    c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c)
}
