//! What a plugin requests and what the operator allows, in words that can be compared.
//!
//! - [`Permissions`]: the requests of a manifest with the settings of a profile filled in.
//! - [`Grant`]: one thing that the operator allows; one text form each, for the command line, the registry and messages.
//! - [`Grants`]: the grants of a profile, and where each came from.
//!
//! Nothing is decided here: [`crate::gate`] decides.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

use crate::endpoint::{Prefix, public_part};
use crate::manifest::{Credential, Manifest, Template, Wanted, chosen};
use crate::text::{escape_controls, near};
use crate::{Error, Result};

/// How far a right to files goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Access {
    /// Look only.
    Read,
    /// Look and change.
    ReadWrite,
}

impl Access {
    /// The least access that an action needs.
    #[must_use]
    pub fn needed(write: bool) -> Self {
        if write { Self::ReadWrite } else { Self::Read }
    }

    /// The word in a manifest and in `workspace:` grants.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::ReadWrite => "read-write",
        }
    }
}

impl fmt::Display for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// An absolute path without `.`, `..` or empty parts. It is compared as text; links are the concern of who opens it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct FolderPath(String);

impl FolderPath {
    /// Takes an absolute path; slashes at its end are dropped. The error is the reason.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        if !text.starts_with('/') {
            return Err("it must be an absolute path");
        }
        if text.len() > 4096 || !plain(text) {
            return Err("it must have at most 4096 bytes and no control characters");
        }
        let path = text.trim_end_matches('/');
        if path.split('/').skip(1).any(|part| matches!(part, "" | "." | "..")) {
            return Err("it must not contain `.`, `..` or empty parts");
        }
        Ok(Self(if path.is_empty() { "/".to_owned() } else { path.to_owned() }))
    }

    /// The path.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the other is this folder or lies in it.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        self.0 == "/" || other.0.strip_prefix(&self.0).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }
}

impl fmt::Display for FolderPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One request of a manifest, ready to be compared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Permission {
    /// Call URLs below a prefix, with these methods.
    Http {
        /// Where.
        prefix: Prefix,
        /// Methods in upper case.
        methods: Vec<String>,
        /// The rule by which a secret may be applied here.
        credential: Option<Credential>,
    },
    /// Use the workspace of the run.
    Workspace(Access),
    /// Start a program.
    Command {
        /// The program, and the arguments that must come first.
        argv: Vec<String>,
        /// Variables that may be set for it.
        env: Vec<String>,
        /// Secrets that may be placed in its environment.
        secret_env: Vec<String>,
    },
    /// Use the unconfined `shell` tool.
    Shell,
    /// Keep files in a folder of the host.
    Folder {
        /// Which.
        path: FolderPath,
        /// How.
        access: Access,
    },
}

/// A permission and what the manifest says about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Requested {
    /// The permission.
    pub permission: Permission,
    /// Whether the plugin can work without it.
    pub optional: bool,
    /// Why it is asked for, in the words of the plugin's author.
    pub reason: String,
}

/// All that a plugin may be allowed under one profile, in the order of its manifest.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Permissions {
    requested: Vec<Requested>,
    unset: Vec<String>,
}

impl Permissions {
    /// Fills the settings of a profile into the requests of a manifest. `settings` come from
    /// [`Manifest::settings_with`]. A value that makes no valid URL, path or command is refused (`invalid`, code
    /// `setting`). A request whose setting is unset asks for nothing; see [`Self::unset`].
    pub fn resolve(manifest: &Manifest, settings: &BTreeMap<String, Value>) -> Result<Self> {
        let mut permissions = Self::default();
        for request in &manifest.permissions {
            let unset: Vec<&str> = request.wanted.settings().filter(|name| !settings.contains_key(*name)).collect();
            if unset.is_empty() {
                permissions.requested.push(Requested {
                    permission: resolve(manifest, &request.wanted, settings)?,
                    optional: request.optional,
                    reason: request.reason.clone(),
                });
            } else if !request.optional {
                permissions.unset.extend(unset.into_iter().map(str::to_owned));
            }
        }
        Ok(permissions)
    }

    /// Each permission, in the order of the manifest.
    pub fn iter(&self) -> impl Iterator<Item = &Requested> {
        self.requested.iter()
    }

    /// Settings without a value that a permission needs which is not optional: the profile is not ready without them.
    #[must_use]
    pub fn unset(&self) -> &[String] {
        &self.unset
    }
}

impl FromIterator<Requested> for Permissions {
    fn from_iter<I: IntoIterator<Item = Requested>>(iter: I) -> Self {
        Self { requested: iter.into_iter().collect(), unset: Vec::new() }
    }
}

fn resolve(manifest: &Manifest, wanted: &Wanted, settings: &BTreeMap<String, Value>) -> Result<Permission> {
    Ok(match wanted {
        Wanted::Http { url, methods, credential } => {
            let text = url.fill(settings);
            Permission::Http {
                prefix: Prefix::parse(&text).map_err(|why| bad_setting(url, "URL", &text, &why))?,
                methods: methods.clone(),
                credential: match credential {
                    Some(template) => {
                        let name = template.fill(settings);
                        chosen(&manifest.credentials, &name)
                            .map_err(|why| bad_setting(template, "credential", &name, &why))?
                            .cloned()
                    }
                    None => None,
                },
            }
        }
        Wanted::Workspace { access } => Permission::Workspace(*access),
        Wanted::Command { argv, env, secret_env } => {
            let words: Vec<String> = argv.iter().map(|word| word.fill(settings)).collect();
            // Words without a placeholder were checked when the manifest was read.
            if let (Err(why), Some(word)) =
                (command_words(&words), argv.iter().find(|word| word.settings().count() > 0))
            {
                return Err(bad_setting(word, "command", &words.join(" "), why));
            }
            Permission::Command { argv: words, env: env.clone(), secret_env: secret_env.clone() }
        }
        Wanted::Shell => Permission::Shell,
        Wanted::Folder { path, access } => {
            let text = path.fill(settings);
            let path = FolderPath::parse(&text).map_err(|why| bad_setting(path, "folder", &text, why))?;
            Permission::Folder { path, access: *access }
        }
    })
}

fn bad_setting(template: &Template, what: &str, text: &str, why: &str) -> Error {
    let names: Vec<String> = template.settings().map(|name| format!("`{name}`")).collect();
    Error::invalid("setting", format!("`{}` cannot be used as {what}: {why}", public_part(text)))
        .hint(format!("it comes from the setting {}", names.join(", ")))
}

/// Whether words can name a program with leading arguments: a name to look up, or an absolute path. A relative path is
/// refused, because it would be looked up in a workspace that a model can write.
pub(crate) fn command_words(words: &[String]) -> Result<(), &'static str> {
    let program = words.first().map_or("", String::as_str);
    let plain_name = !program.contains('/') && !matches!(program, "." | "..");
    if program.is_empty() {
        Err("it must name a program")
    } else if !plain_name && !FolderPath::parse(program).is_ok_and(|path| path.as_str() == program) {
        Err("its program must be a plain name or an absolute path")
    } else if words.len() > 64 || words.iter().any(|word| word.len() > 4096 || !plain(word)) {
        Err("it must have at most 64 words of at most 4096 bytes, without control characters")
    } else {
        Ok(())
    }
}

/// Whether a text can stand in a grant: what is shown to the operator must be what it says.
fn plain(text: &str) -> bool {
    escape_controls(text, false) == text
}

/// Whether a text can name a variable or a secret: what can be placed in an environment.
pub(crate) fn variable_name(text: &str) -> bool {
    let head = text.bytes().next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_');
    head && text.len() <= 128 && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

/// One thing that the operator allows. Its text form is the only one: parsing what was printed gives the same grant.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Grant {
    /// `http:https://api.example.com/v1`: call URLs below it, with the methods that the manifest asks for.
    Http(Prefix),
    /// `address:127.0.0.1` or `address:10.0.0.0/8`: connect to addresses there that are not public, where the name of a
    /// granted URL resolves to one. Metadata services of clouds are opened by their very address only, not by a range.
    Address(IpNet),
    /// `secret:NAME`: have the secret applied where the manifest says.
    Secret(String),
    /// `workspace:read` or `workspace:read-write`.
    Workspace(Access),
    /// `command:git -C repo`: start the program, its arguments beginning with these.
    Command(Vec<String>),
    /// `env:NAME`: set the variable for programs.
    Env(String),
    /// `shell`: the unconfined `shell` tool.
    Shell,
    /// `folder:/srv/zones:rw` (or `:ro`, which is the default): files of the host in this folder.
    Folder(FolderPath, Access),
}

impl Grant {
    /// A grant for one address. A mapped IPv4 address is the IPv4 address.
    #[must_use]
    pub fn address(ip: IpAddr) -> Self {
        Self::Address(ip.to_canonical().into())
    }
}

/// The words before the `:`, for "did you mean".
const FORMS: [&str; 8] = ["http", "address", "secret", "workspace", "command", "env", "shell", "folder"];

impl FromStr for Grant {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let bad = |why: &str| {
            Error::invalid("grant-form", format!("`{}` is not a grant: {why}", public_part(text)))
                .hint("write for example `http:https://host`, `secret:NAME`, `workspace:read-write` or `command:git`")
        };
        if text == "shell" {
            return Ok(Self::Shell);
        }
        let (form, rest) = text.split_once(':').unwrap_or((text, ""));
        match form {
            "http" => Prefix::parse(rest).map(Self::Http).map_err(|why| bad(&why)),
            "address" => network(rest).map(Self::Address).map_err(bad),
            "secret" if variable_name(rest) => Ok(Self::Secret(rest.to_owned())),
            "env" if variable_name(rest) => Ok(Self::Env(rest.to_owned())),
            "secret" | "env" => Err(bad("a name has letters, digits and `_`, at most 128, and begins with no digit")),
            "workspace" => match rest {
                "read" => Ok(Self::Workspace(Access::Read)),
                "read-write" => Ok(Self::Workspace(Access::ReadWrite)),
                _ => Err(bad("a workspace grant is `workspace:read` or `workspace:read-write`")),
            },
            "command" => {
                let words = shlex::split(rest).ok_or_else(|| bad("its quotes are not closed"))?;
                command_words(&words).map_err(bad)?;
                Ok(Self::Command(words))
            }
            "folder" => {
                let (path, access) = match rest.rsplit_once(':') {
                    Some((path, "rw")) => (path, Access::ReadWrite),
                    Some((path, "ro")) => (path, Access::Read),
                    _ => (rest, Access::Read),
                };
                Ok(Self::Folder(FolderPath::parse(path).map_err(bad)?, access))
            }
            "shell" => Err(bad("`shell` has nothing after it")),
            other => {
                let near = near(other, FORMS);
                let error = bad("it begins with no known word");
                Err(match near.first() {
                    Some(name) => error.hint(format!("did you mean `{name}`?")),
                    None => error,
                })
            }
        }
    }
}

impl fmt::Display for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Http(prefix) => write!(f, "http:{prefix}"),
            Self::Address(net) if net.prefix_len() == net.max_prefix_len() => {
                write!(f, "address:{}", net.addr())
            }
            Self::Address(net) => write!(f, "address:{net}"),
            Self::Secret(name) => write!(f, "secret:{name}"),
            Self::Workspace(access) => write!(f, "workspace:{access}"),
            Self::Command(words) => {
                // Joining fails on a NUL only, which no command holds.
                let text = shlex::try_join(words.iter().map(String::as_str)).map_err(|_| fmt::Error)?;
                write!(f, "command:{text}")
            }
            Self::Env(name) => write!(f, "env:{name}"),
            Self::Shell => f.write_str("shell"),
            Self::Folder(path, Access::Read) => write!(f, "folder:{path}:ro"),
            Self::Folder(path, Access::ReadWrite) => write!(f, "folder:{path}:rw"),
        }
    }
}

impl Serialize for Grant {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Grant {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

fn network(text: &str) -> Result<IpNet, &'static str> {
    const FORM: &str = "an address grant is an IP address or a range such as `10.0.0.0/8`";
    let net = match text.parse::<IpAddr>() {
        Ok(ip) => IpNet::from(ip),
        Err(_) => text.parse::<IpNet>().map_err(|_| FORM)?,
    };
    // One form for one place: the mapped spelling of an IPv4 range is that range.
    let net = match (net, net.addr().to_canonical()) {
        (IpNet::V6(v6), IpAddr::V4(v4)) if v6.prefix_len() >= 96 => {
            IpNet::new(v4.into(), v6.prefix_len() - 96).map_err(|_| FORM)?
        }
        _ => net,
    };
    Ok(net.trunc())
}

/// Where a grant came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Origin {
    /// From the command line or a prompt, for one run.
    Once,
    /// From the operator's configuration.
    Configured,
    /// From the registry, until revoked.
    Stored,
}

/// The grants of one profile. Stored and sent as an object from grant text to origin.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Grants(BTreeMap<Grant, Origin>);

impl Grants {
    /// Adds a grant. One that is stored stays stored.
    pub fn insert(&mut self, grant: Grant, origin: Origin) {
        self.0.entry(grant).and_modify(|known| *known = origin.max(*known)).or_insert(origin);
    }

    /// Takes a grant away; whether it was there.
    pub fn remove(&mut self, grant: &Grant) -> bool {
        self.0.remove(grant).is_some()
    }

    /// Each grant and where it came from, in a fixed order.
    pub fn iter(&self) -> impl Iterator<Item = (&Grant, Origin)> {
        self.0.iter().map(|(grant, origin)| (grant, *origin))
    }

    /// Whether this very grant is there. For what it allows ask [`crate::gate`].
    #[must_use]
    pub fn contains(&self, grant: &Grant) -> bool {
        self.0.contains_key(grant)
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Extend<(Grant, Origin)> for Grants {
    fn extend<I: IntoIterator<Item = (Grant, Origin)>>(&mut self, iter: I) {
        for (grant, origin) in iter {
            self.insert(grant, origin);
        }
    }
}

impl FromIterator<(Grant, Origin)> for Grants {
    fn from_iter<I: IntoIterator<Item = (Grant, Origin)>>(iter: I) -> Self {
        let mut grants = Self::default();
        grants.extend(iter);
        grants
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn one_text_form() {
        for (text, want) in [
            ("http:https://API.anthropic.com:443/", "http:https://api.anthropic.com"),
            ("http:http://127.1:4010/v1/", "http:http://127.0.0.1:4010/v1"),
            ("address:127.0.0.1", "address:127.0.0.1"),
            ("address:127.0.0.1/32", "address:127.0.0.1"),
            ("address:10.9.8.7/8", "address:10.0.0.0/8"),
            ("address:0:0::1", "address:::1"),
            ("address:fd12::/7", "address:fc00::/7"),
            ("address:::ffff:10.0.0.1", "address:10.0.0.1"),
            ("address:::ffff:10.0.0.1/104", "address:10.0.0.0/8"),
            ("address:::/0", "address:::/0"),
            ("secret:ANTHROPIC_API_KEY", "secret:ANTHROPIC_API_KEY"),
            ("workspace:read", "workspace:read"),
            ("workspace:read-write", "workspace:read-write"),
            ("command:git", "command:git"),
            ("command:  sh   -c 'a  b'", "command:sh -c 'a  b'"),
            ("command:/usr/bin/env \"it's\"", "command:/usr/bin/env \"it's\""),
            ("command:x ''", "command:x ''"),
            ("env:_HOME2", "env:_HOME2"),
            ("shell", "shell"),
            ("folder:/srv/zones/", "folder:/srv/zones:ro"),
            ("folder:/srv/zones:rw", "folder:/srv/zones:rw"),
            ("folder:/srv/odd:rw:ro", "folder:/srv/odd:rw:ro"),
            ("folder:/", "folder:/:ro"),
        ] {
            let grant: Grant = text.parse().unwrap();
            assert_eq!(grant.to_string(), want, "{text}");
            assert_eq!(want.parse::<Grant>().unwrap(), grant, "{text} round trip");
        }
    }

    #[test]
    fn refusals() {
        let lines = [
            "",
            "htp:https://h",
            "http",
            "http:h/x",
            "http:https://h/?q=1",
            "http:https://u:p@h",
            "address:",
            "address:localhost",
            "address:10.0.0.0/33",
            "secret:",
            "secret:A B",
            "secret:1A",
            "env:A=B",
            "workspace",
            "workspace:write",
            "command:",
            "command:''",
            "command:sh 'x",
            "command:./tool",
            "command:../sh",
            "command:bin/sh",
            "command:/usr/../bin/sh",
            "command:/bin/",
            "command:..",
            "shell:yes",
            "Shell",
            "folder:",
            "folder:zones",
            "folder:/a/../b",
            "folder:/a//b:rw",
            "folder:~/x",
            "\u{1b}[31m:x",
        ]
        .map(|text| {
            let error = text.parse::<Grant>().unwrap_err();
            format!("{}\n  hint: {}", error.message, error.hint.unwrap_or_default())
        });
        insta::assert_snapshot!(lines.join("\n"));
    }

    #[test]
    fn grants_are_stored_as_text() {
        let mut grants = Grants::default();
        for (text, origin) in [("shell", Origin::Stored), ("command:sh -c", Origin::Once), ("shell", Origin::Once)] {
            grants.insert(text.parse().unwrap(), origin);
        }
        let json = serde_json::to_string(&grants).unwrap();
        assert_eq!(json, r#"{"command:sh -c":"once","shell":"stored"}"#);
        assert_eq!(serde_json::from_str::<Grants>(&json).unwrap(), grants);
        assert!(serde_json::from_str::<Grants>(r#"{"sudo":"stored"}"#).is_err());
    }

    #[test]
    fn folders() {
        let covers = |a: &str, b: &str| FolderPath::parse(a).unwrap().covers(&FolderPath::parse(b).unwrap());
        assert!(covers("/srv", "/srv") && covers("/srv/", "/srv/a") && covers("/", "/srv"));
        assert!(!covers("/srv", "/srv2") && !covers("/srv/a", "/srv") && !covers("/srv", "/"));
    }

    /// Any grant, the odd ones included.
    fn any_grant() -> impl Strategy<Value = Grant> {
        let word = "[^\\p{Cc}]{0,8}";
        let access = prop::sample::select(vec![Access::Read, Access::ReadWrite]);
        prop_oneof![
            ("https?://[a-z0-9]{1,5}(\\.[a-z]{1,3}){0,2}(:[1-9][0-9]{0,3})?(/[a-zA-Z0-9%~._ü-]{1,6}){0,3}")
                .prop_filter_map("not a url", |url| Prefix::parse(&url).ok().map(Grant::Http)),
            (any::<IpAddr>(), 0u8..=128).prop_filter_map("not a range", |(ip, len)| {
                network(&format!("{ip}/{len}")).ok().map(Grant::Address)
            }),
            any::<IpAddr>().prop_map(Grant::address),
            "[A-Za-z_][A-Za-z0-9_]{0,12}".prop_map(Grant::Secret),
            "[A-Za-z_][A-Za-z0-9_]{0,12}".prop_map(Grant::Env),
            access.clone().prop_map(Grant::Workspace),
            Just(Grant::Shell),
            prop::collection::vec(word, 1..4)
                .prop_filter("not a command", |words| command_words(words).is_ok())
                .prop_map(Grant::Command),
            ("/([^\\p{Cc}/]{1,6}/){0,3}", access).prop_filter_map("not a folder", |(path, access)| Some(
                Grant::Folder(FolderPath::parse(&path).ok()?, access)
            )),
        ]
    }

    proptest! {
        #[test]
        fn text_round_trips(grant in any_grant()) {
            let text = grant.to_string();
            prop_assert_eq!(text.parse::<Grant>().unwrap(), grant.clone(), "{}", text);
            let grants = Grants::from_iter([(grant, Origin::Once)]);
            let json = serde_json::to_string(&grants).unwrap();
            prop_assert_eq!(serde_json::from_str::<Grants>(&json).unwrap(), grants);
        }

        #[test]
        fn any_text_is_answered(text in "(http|address|secret|command|folder|env|workspace|shell)?:?\\PC{0,30}") {
            if let Ok(grant) = text.parse::<Grant>() {
                prop_assert_eq!(grant.to_string().parse::<Grant>().unwrap(), grant);
            }
        }
    }
}
