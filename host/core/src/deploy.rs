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

use crate::codes::codes;

codes! {
    /// The codes of this family, without those of [`error::CODES`].
    Invalid "deployment-id":
        "A text is not the id of a deployment: `dep_` and 12 digits of `0-9a-f`, nothing before, between or after."
        => "Copy the id as a command printed it. Ids that other tools took loosely (upper case, spaces) are refused here.";
    Invalid "dns-name":
        "A text cannot be a host name: labels have letters, digits and `-`, at most 63 characters, 253 together."
        => "Mend the label that the message names. Names in other scripts are taken where a domain is meant, not as the name of an application.";
    Invalid "dns-pattern":
        "A pattern of host names is neither a name nor `*.` and a name."
        => "Write `api.example.com`, or `*.example.com` for every name below it; list `example.com` itself beside it.";
    Limit "env-file-size":
        "An env file is larger than any list of variables is."
        => "See whether another file was named by mistake; keep large values in files of their own.";
    Invalid "env-line":
        "A line of an env file is no assignment and was skipped; the lines after it count."
        => "Write `NAME=value`. Quote a value that has spaces, quotes or `#`, and close the quotes.";
    Invalid "env-missing":
        "A variable that the manifest requires is not set, or set to nothing."
        => "Set it in the environment, in `.env`, or as a secret if it is one; `.env.example` lists all of them.";
    Invalid "env-file-name":
        "A quoted name in an env file has a `=` or NUL in it, which no environment can hold."
        => "Rename the variable: letters, digits and `_`.";
    Invalid "env-nul":
        "A value in an env file has a NUL character in it, which no environment can hold."
        => "Remove it, or encode the value (base64, for instance).";
    Invalid "env-type":
        "The value of a variable is not of the type that the manifest declares: url, number or boolean."
        => "Mend the value, or the `type` in `env_schema`. The value itself is never shown.";
    Limit "env-values-size":
        "The values of an env file become too large when their references are replaced."
        => "Look for values that name one another several times.";
    Invalid "idempotency-key":
        "A text is not an idempotency key: 32 digits of `0-9a-f`."
        => "Make one key of 16 random bytes for each request, and send the same one when trying again.";
    Denied "scope-missing":
        "The caller's key does not have the right that the call needs."
        => "Use a key with that scope. `admin` includes all; `deploy` and `delete` include `read`.";
    Invalid "scope-unknown":
        "A word is none of the scopes: read, deploy, delete, admin."
        => "Write it in lower case and without spaces.";
    Invalid "storage-key":
        "A text is not the key of an object: it is empty, absolute, too long, or has a segment that is empty, `.` or `..`."
        => "Use the keys that the host makes; write others as relative paths without `..`.";
    Limit "tenant-apps":
        "The tenant has as many applications as it may."
        => "Destroy one that is no longer needed, or have the operator raise `max_apps`.";
    Limit "tenant-concurrent":
        "As many deployments of the tenant are under way as may be at once."
        => "Wait until one has ended and try again.";
    Denied "tenant-tier":
        "The tenant may not use machines of this size."
        => "Choose one of the tiers that the hint lists, or have the operator allow it.";
}

/// White space as Python sees it, which the originals trim by: Unicode's, and the four separators from U+001C to U+001F.
pub(crate) fn is_space(c: char) -> bool {
    c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c)
}
