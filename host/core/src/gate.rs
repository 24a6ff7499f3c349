//! Gate 2: whether a plugin may do what it asks the host for. One pure function, [`check`], for all imports.
//!
//! The effective right is permission ∩ grant. What the manifest never asked for is refused whatever was granted
//! ([`Denial::PermissionMissing`]); what it asked for and nobody granted is refused with the text of the grant that
//! would help ([`Denial::GrantMissing`]). An import asks here first and acts on what it gets: it sends
//! [`Target::url`], applies [`Allowed::credential`], dials an address that was asked about.
//!
//! ```text
//! http      permission url + method   ∩ http:             then, for the address that the name resolves to,
//! address   public, or the host of a granted URL itself, or address:
//! token     of an account: the place that the account names ∩ secret:, its addresses public or address:
//! credential, secret in a request     permission's credential ∩ http: ∩ secret:
//! command   permission argv           ∩ command:          env and secrets of it: listed there ∩ env: / secret:
//! workspace, folder, shell            permission          ∩ workspace: / folder: / shell
//! ```

use std::fmt;
use std::net::IpAddr;

use crate::Error;
use crate::address::{AddressClass, address_class};
use crate::endpoint::Target;
use crate::ids::ProfileName;
use crate::manifest::{ANONYMOUS, Credential, Scheme};
use crate::permission::{Access, FolderPath, Grant, Grants, Permission, Permissions};
use crate::text::shown;

/// What a plugin may do under a profile.
#[derive(Debug, Clone, Copy)]
pub struct Rights<'a> {
    /// The profile, which a denial names.
    pub profile: &'a ProfileName,
    /// What the manifest asks for.
    pub permissions: &'a Permissions,
    /// What the operator allows.
    pub grants: &'a Grants,
}

/// What a plugin wants to do.
#[derive(Debug, Clone, Copy)]
pub enum Request<'a> {
    /// Send a request.
    Http {
        /// The method.
        method: &'a str,
        /// Where.
        target: &'a Target,
    },
    /// Have a credential rule applied to a request: which one is [`Allowed::credential`].
    Credential {
        /// The method.
        method: &'a str,
        /// Where.
        target: &'a Target,
        /// The rule that the plugin names; [`ANONYMOUS`] for none; unset for the only one that matches.
        named: Option<&'a str>,
    },
    /// Connect to an address that the host of a target resolved to.
    Address {
        /// The address.
        ip: IpAddr,
        /// For which request.
        target: &'a Target,
    },
    /// Connect to an address of the place where an account is exchanged for a token. The place itself is the operator's
    /// word: it stands in the secret.
    TokenAddress {
        /// The address.
        ip: IpAddr,
        /// Where the account says that it is exchanged.
        target: &'a Target,
        /// The account.
        secret: &'a str,
    },
    /// Have the placeholder of a secret replaced in the body of a request.
    SecretInRequest {
        /// The secret.
        name: &'a str,
        /// The method.
        method: &'a str,
        /// Where.
        target: &'a Target,
    },
    /// Have a secret placed in the environment of a program.
    SecretInCommand {
        /// The secret.
        name: &'a str,
        /// The program and its arguments.
        argv: &'a [String],
    },
    /// Use the workspace of the run.
    Workspace {
        /// Whether to change it.
        write: bool,
    },
    /// Start a program.
    Command {
        /// The program and its arguments.
        argv: &'a [String],
    },
    /// Set a variable of a program.
    Env {
        /// The variable.
        name: &'a str,
        /// The program and its arguments.
        argv: &'a [String],
    },
    /// Use the `shell` tool.
    Shell,
    /// Use a folder of the host.
    Folder {
        /// Which.
        path: &'a FolderPath,
        /// Whether to change it.
        write: bool,
    },
}

/// A request that is allowed, and by what.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Allowed<'a> {
    /// The grants that it rests on, for the audit record of their first use.
    pub grants: Vec<&'a Grant>,
    /// The rule to apply; set by [`Request::Credential`] only.
    pub credential: Option<&'a Credential>,
}

/// Why a request is not allowed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Denial {
    /// The manifest does not ask for it: no grant can help.
    PermissionMissing {
        /// For whom.
        profile: ProfileName,
        /// The word for the error's code; see [`Denial::code`].
        code: &'static str,
        /// What was wanted, in words.
        action: String,
    },
    /// The manifest asks for it, and the operator did not grant it.
    GrantMissing {
        /// For whom.
        profile: ProfileName,
        /// The word for the error's code; see [`Denial::code`].
        code: &'static str,
        /// What was wanted, in words.
        action: String,
        /// The grant that helps. After it another may be missing.
        grant: Grant,
    },
    /// More than one credential rule matches and the plugin names none. A mistake of the plugin's, not a denial.
    CredentialAmbiguous {
        /// Where it was going.
        action: String,
        /// The rules that match.
        names: Vec<String>,
    },
}

impl Denial {
    /// The code of the error. `permission-missing` or `grant-missing`, except where the contract has a word of its own:
    /// `address-refused` and `credential` (`http.send`), `command`, `env` and `secret` (`process.spawn`).
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::PermissionMissing { code, .. } | Self::GrantMissing { code, .. } => code,
            Self::CredentialAmbiguous { .. } => "credential-ambiguous",
        }
    }

    /// The grant that is missing, if one can help.
    #[must_use]
    pub fn grant(&self) -> Option<&Grant> {
        match self {
            Self::GrantMissing { grant, .. } => Some(grant),
            _ => None,
        }
    }
}

impl fmt::Display for Denial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PermissionMissing { profile, action, .. } => {
                write!(f, "`{profile}` may not {action}: its manifest does not ask for it")
            }
            Self::GrantMissing { profile, action, grant, .. } => {
                write!(f, "`{profile}` may not {action}: the grant `{grant}` is missing")
            }
            Self::CredentialAmbiguous { action, names } => {
                write!(f, "more than one credential matches to {action}: `{}`", names.join("`, `"))
            }
        }
    }
}

impl From<Denial> for Error {
    fn from(denial: Denial) -> Self {
        let (code, message) = (denial.code(), denial.to_string());
        match denial {
            Denial::PermissionMissing { .. } => {
                Self::denied(code, message).hint("no grant can help: the plugin's manifest must ask for it")
            }
            Denial::GrantMissing { profile, grant, .. } => {
                Self::denied(code, message).hint(allow_command(&profile, &grant))
            }
            Denial::CredentialAmbiguous { .. } => {
                Self::invalid(code, message).hint(format!("name one of them, or `{ANONYMOUS}`"))
            }
        }
    }
}

/// The command line that gives a grant, ready to be pasted into a shell.
#[must_use]
pub fn allow_command(profile: &ProfileName, grant: &Grant) -> String {
    let text = grant.to_string();
    // Always in quotes, so that every hint looks alike. Quoting fails on a NUL only, which no grant holds.
    let quoted = match shlex::try_quote(&text) {
        Ok(quoted) if text.contains('\'') => quoted.into_owned(),
        _ => format!("'{text}'"),
    };
    format!("`midplane grant allow {profile} {quoted}`")
}

/// Whether the request is within permission ∩ grant.
pub fn check<'a>(rights: &Rights<'a>, request: &Request<'_>) -> Result<Allowed<'a>, Denial> {
    let gate = Gate { rights: *rights };
    match *request {
        Request::Http { method, target } => gate.http(method, target),
        Request::Credential { method, target, named } => gate.credential(method, target, named),
        Request::Address { ip, target } => gate.address(ip, target),
        Request::TokenAddress { ip, target, secret } => gate.token_address(ip, target, secret),
        Request::SecretInRequest { name, method, target } => gate.secret_in_request(name, method, target),
        Request::SecretInCommand { name, argv } => gate.in_command(Variable::Secret, name, argv),
        Request::Workspace { write } => gate.workspace(write),
        Request::Command { argv } => gate.command(argv),
        Request::Env { name, argv } => gate.in_command(Variable::Env, name, argv),
        Request::Shell => gate.shell(),
        Request::Folder { path, write } => gate.folder(path, write),
    }
}

/// The grants that a run needs and has not, in the order of the manifest: those of each permission that is not optional
/// and that nothing granted touches. One that the operator granted in part is his decision and not missing; what is
/// outside of it is denied when it is tried.
#[must_use]
pub fn missing(rights: &Rights<'_>) -> Vec<Grant> {
    let mut missing = Vec::new();
    let mut need = |grant: Grant| {
        let touched = rights.grants.iter().any(|(given, _)| overlap(given, &grant));
        if !touched && !missing.contains(&grant) {
            missing.push(grant);
        }
    };
    for requested in rights.permissions.iter().filter(|requested| !requested.optional) {
        need(whole(&requested.permission));
        match &requested.permission {
            Permission::Http { credential: Some(credential), .. } => need(Grant::Secret(credential.secret.clone())),
            Permission::Command { env, secret_env, .. } => {
                env.iter().cloned().map(Grant::Env).for_each(&mut need);
                secret_env.iter().cloned().map(Grant::Secret).for_each(&mut need);
            }
            _ => {}
        }
    }
    missing
}

/// The grant that allows all of a permission, its secrets and variables aside, and nothing more.
#[must_use]
pub fn whole(permission: &Permission) -> Grant {
    match permission {
        Permission::Http { prefix, .. } => Grant::Http(prefix.clone()),
        Permission::Workspace(access) => Grant::Workspace(*access),
        Permission::Command { argv, .. } => Grant::Command(argv.clone()),
        Permission::Shell => Grant::Shell,
        Permission::Folder { path, access } => Grant::Folder(path.clone(), *access),
    }
}

/// Whether there is something that both allow.
#[must_use]
pub fn overlap(a: &Grant, b: &Grant) -> bool {
    match (a, b) {
        (Grant::Http(a), Grant::Http(b)) => a.covers(b) || b.covers(a),
        (Grant::Command(a), Grant::Command(b)) => a.starts_with(b) || b.starts_with(a),
        (Grant::Folder(a, _), Grant::Folder(b, _)) => a.covers(b) || b.covers(a),
        (Grant::Workspace(_), Grant::Workspace(_)) => true,
        _ => a == b,
    }
}

/// The two things that a program's environment can be given.
#[derive(Clone, Copy)]
enum Variable {
    Env,
    Secret,
}

struct Gate<'a> {
    rights: Rights<'a>,
}

impl<'a> Gate<'a> {
    fn http(&self, method: &str, target: &Target) -> Result<Allowed<'a>, Denial> {
        let action = || call(method, target);
        let nearest = self
            .http_permissions(target)
            .filter(|(_, methods, _)| methods.iter().any(|known| known == method))
            .map(|(permission, ..)| permission)
            .max_by_key(|permission| depth(permission))
            .ok_or_else(|| self.permission_missing("permission-missing", action()))?;
        self.url_granted(target, nearest, action)
    }

    fn credential(&self, method: &str, target: &Target, named: Option<&str>) -> Result<Allowed<'a>, Denial> {
        let mut allowed = self.http(method, target)?;
        // Chosen by permission alone: were grants looked at, taking one away could end an ambiguity and allow more.
        let mut rules: Vec<&'a Credential> = Vec::new();
        for rule in self.rules(method, target) {
            if !rules.iter().any(|known| known.name == rule.name) {
                rules.push(rule);
            }
        }
        let rule = match (named, rules.as_slice()) {
            (Some(ANONYMOUS), _) | (None, []) => return Ok(allowed),
            (None, [rule]) => rule,
            (None, _) => {
                let names = rules.iter().map(|rule| rule.name.clone()).collect();
                return Err(Denial::CredentialAmbiguous { action: call(method, target), names });
            }
            (Some(name), _) => rules.iter().find(|rule| rule.name == name).ok_or_else(|| {
                let action = format!("use the credential `{}` to {}", shown(name, 80), call(method, target));
                self.permission_missing("credential", action)
            })?,
        };
        let action = || format!("use the credential `{}` to {}", rule.name, call(method, target));
        allowed.grants.push(self.granted(Grant::Secret(rule.secret.clone()), "grant-missing", action)?);
        allowed.credential = Some(rule);
        Ok(allowed)
    }

    fn secret_in_request(&self, name: &str, method: &str, target: &Target) -> Result<Allowed<'a>, Denial> {
        let mut allowed = self.http(method, target)?;
        let action = || format!("send the secret `{}` to {}", shown(name, 80), call(method, target));
        let rule = self
            .rules(method, target)
            // An account is there to be exchanged, not to be sent.
            .find(|rule| rule.secret == name && !matches!(rule.scheme, Scheme::GoogleOauth { .. }))
            .ok_or_else(|| self.permission_missing("credential", action()))?;
        allowed.grants.push(self.granted(Grant::Secret(rule.secret.clone()), "grant-missing", action)?);
        Ok(allowed)
    }

    fn address(&self, ip: IpAddr, target: &Target) -> Result<Allowed<'a>, Denial> {
        let class = address_class(ip);
        let action = || format!("connect to the {class} address `{ip}` for `{}`", shown(&target.to_string(), 200));
        let nearest = self
            .http_permissions(target)
            .map(|(permission, ..)| permission)
            .max_by_key(|permission| depth(permission))
            .ok_or_else(|| self.permission_missing("permission-missing", action()))?;
        let mut allowed = self.url_granted(target, nearest, action)?;
        // The operator wrote this very address into the grant of the URL.
        if target.ip() != Some(ip) {
            allowed.grants.extend(self.address_opened(ip, class, action)?);
        }
        Ok(allowed)
    }

    fn token_address(&self, ip: IpAddr, target: &Target, secret: &str) -> Result<Allowed<'a>, Denial> {
        let class = address_class(ip);
        let action = || format!("connect to the {class} address `{ip}` for `{}`", shown(&target.to_string(), 200));
        let is_account = |rule: &Credential| rule.secret == secret && matches!(rule.scheme, Scheme::GoogleOauth { .. });
        let asked = self.permissions().any(|permission| match permission {
            Permission::Http { credential: Some(rule), .. } => is_account(rule),
            _ => false,
        });
        if !asked {
            return Err(self.permission_missing("permission-missing", action()));
        }
        let mut grants = vec![self.granted(Grant::Secret(secret.to_owned()), "grant-missing", action)?];
        grants.extend(self.address_opened(ip, class, action)?);
        Ok(Allowed { grants, credential: None })
    }

    /// The grant that an address needs; none for a public one.
    fn address_opened(
        &self,
        ip: IpAddr,
        class: AddressClass,
        action: impl Fn() -> String,
    ) -> Result<Option<&'a Grant>, Denial> {
        if class == AddressClass::Public {
            return Ok(None);
        }
        // A mapped address is dialled as the IPv4 address that it holds.
        let plain = ip.to_canonical();
        let opens = |grant: &Grant| match grant {
            Grant::Address(net) if class == AddressClass::Metadata => {
                net.prefix_len() == net.max_prefix_len() && net.addr() == plain
            }
            Grant::Address(net) => net.contains(&plain),
            _ => false,
        };
        let denied = || self.grant_missing("address-refused", action(), Grant::address(ip));
        self.find(opens).map(Some).ok_or_else(denied)
    }

    fn command(&self, argv: &[String]) -> Result<Allowed<'a>, Denial> {
        self.command_with(argv, |_| true, "command", || start(argv))
    }

    fn in_command(&self, what: Variable, name: &str, argv: &[String]) -> Result<Allowed<'a>, Denial> {
        let (code, grant, noun) = match what {
            Variable::Env => ("env", Grant::Env(name.to_owned()), "variable"),
            Variable::Secret => ("secret", Grant::Secret(name.to_owned()), "secret"),
        };
        let lists = |permission: &Permission| match (permission, what) {
            (Permission::Command { env, .. }, Variable::Env) => env.iter().any(|known| known == name),
            (Permission::Command { secret_env, .. }, Variable::Secret) => secret_env.iter().any(|known| known == name),
            _ => false,
        };
        let action = || format!("give the {noun} `{}` to {}", shown(name, 80), program(argv));
        let mut allowed = self.command_with(argv, lists, code, action)?;
        allowed.grants.push(self.granted(grant, code, action)?);
        Ok(allowed)
    }

    fn command_with(
        &self,
        argv: &[String],
        further: impl Fn(&Permission) -> bool,
        code: &'static str,
        action: impl Fn() -> String,
    ) -> Result<Allowed<'a>, Denial> {
        let fixed = |permission: &'a Permission| match permission {
            Permission::Command { argv: fixed, .. } if argv.starts_with(fixed) && further(permission) => Some(fixed),
            _ => None,
        };
        let nearest = self
            .permissions()
            .filter_map(fixed)
            .max_by_key(|fixed| fixed.len())
            .ok_or_else(|| self.permission_missing(code, action()))?;
        let opens = |grant: &Grant| matches!(grant, Grant::Command(fixed) if argv.starts_with(fixed));
        let grant =
            self.find(opens).ok_or_else(|| self.grant_missing(code, action(), Grant::Command(nearest.clone())))?;
        Ok(Allowed { grants: vec![grant], credential: None })
    }

    fn workspace(&self, write: bool) -> Result<Allowed<'a>, Denial> {
        let needed = Access::needed(write);
        let action = || format!("{} the workspace", if write { "change" } else { "read" });
        self.permissions()
            .find(|permission| matches!(permission, Permission::Workspace(access) if *access >= needed))
            .ok_or_else(|| self.permission_missing("permission-missing", action()))?;
        let opens = |grant: &Grant| matches!(grant, Grant::Workspace(access) if *access >= needed);
        let grant =
            self.find(opens).ok_or_else(|| self.grant_missing("grant-missing", action(), Grant::Workspace(needed)))?;
        Ok(Allowed { grants: vec![grant], credential: None })
    }

    fn shell(&self) -> Result<Allowed<'a>, Denial> {
        let action = || "use the `shell` tool".to_owned();
        self.permissions()
            .find(|permission| matches!(permission, Permission::Shell))
            .ok_or_else(|| self.permission_missing("permission-missing", action()))?;
        Ok(Allowed { grants: vec![self.granted(Grant::Shell, "grant-missing", action)?], credential: None })
    }

    fn folder(&self, path: &FolderPath, write: bool) -> Result<Allowed<'a>, Denial> {
        let needed = Access::needed(write);
        let action = || format!("{} the folder `{}`", if write { "change" } else { "read" }, shown(path.as_str(), 200));
        let asked = |permission: &'a Permission| match permission {
            Permission::Folder { path: asked, access } if asked.covers(path) && *access >= needed => Some(asked),
            _ => None,
        };
        let nearest = self
            .permissions()
            .filter_map(asked)
            .max_by_key(|asked| asked.as_str().len())
            .ok_or_else(|| self.permission_missing("permission-missing", action()))?;
        let opens =
            |grant: &Grant| matches!(grant, Grant::Folder(given, access) if given.covers(path) && *access >= needed);
        let grant = self
            .find(opens)
            .ok_or_else(|| self.grant_missing("grant-missing", action(), Grant::Folder(nearest.clone(), needed)))?;
        Ok(Allowed { grants: vec![grant], credential: None })
    }

    fn url_granted(
        &self,
        target: &Target,
        nearest: &Permission,
        action: impl Fn() -> String,
    ) -> Result<Allowed<'a>, Denial> {
        let opens = |grant: &Grant| matches!(grant, Grant::Http(prefix) if prefix.matches(target));
        let grant = self.find(opens).ok_or_else(|| self.grant_missing("grant-missing", action(), whole(nearest)))?;
        Ok(Allowed { grants: vec![grant], credential: None })
    }

    fn permissions(&self) -> impl Iterator<Item = &'a Permission> {
        self.rights.permissions.iter().map(|requested| &requested.permission)
    }

    /// The permissions that hold the target, with their methods and credentials.
    fn http_permissions(
        &self,
        target: &Target,
    ) -> impl Iterator<Item = (&'a Permission, &'a [String], Option<&'a Credential>)> {
        self.permissions().filter_map(move |permission| match permission {
            Permission::Http { prefix, methods, credential } if prefix.matches(target) => {
                Some((permission, methods.as_slice(), credential.as_ref()))
            }
            _ => None,
        })
    }

    /// The credential rules that may be applied to the request.
    fn rules(&self, method: &str, target: &Target) -> impl Iterator<Item = &'a Credential> {
        self.http_permissions(target)
            .filter(move |(_, methods, _)| methods.iter().any(|known| known == method))
            .filter_map(|(.., credential)| credential)
    }

    fn find(&self, opens: impl Fn(&Grant) -> bool) -> Option<&'a Grant> {
        self.rights.grants.iter().map(|(grant, _)| grant).find(|grant| opens(grant))
    }

    /// This very grant, as the operator gave it.
    fn granted(&self, grant: Grant, code: &'static str, action: impl Fn() -> String) -> Result<&'a Grant, Denial> {
        self.find(|given| *given == grant).ok_or_else(|| self.grant_missing(code, action(), grant))
    }

    fn permission_missing(&self, code: &'static str, action: String) -> Denial {
        Denial::PermissionMissing { profile: self.rights.profile.clone(), code, action }
    }

    fn grant_missing(&self, code: &'static str, action: String, grant: Grant) -> Denial {
        Denial::GrantMissing { profile: self.rights.profile.clone(), code, action, grant }
    }
}

fn depth(permission: &Permission) -> usize {
    match permission {
        Permission::Http { prefix, .. } => prefix.depth(),
        _ => 0,
    }
}

fn call(method: &str, target: &Target) -> String {
    format!("call `{} {}`", shown(method, 32), shown(&target.to_string(), 200))
}

fn start(argv: &[String]) -> String {
    format!("start {}", program(argv))
}

/// The program only: arguments may hold what a message must not show.
fn program(argv: &[String]) -> String {
    match argv.first() {
        Some(program) => format!("the program `{}`", shown(program, 80)),
        None => "no program".to_owned(),
    }
}

#[cfg(test)]
mod tests;
