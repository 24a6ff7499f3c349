//! What may be reached from a session: one decision, in the terms of those who enforce it.
//!
//! ```text
//! domains ──► grants `http:` (the egress gate)      ──► programs: no TCP but what the host serves and the ports
//! ports ────► where programs listen and connect     network off ──► the same for programs
//! paths ────► what file tools and programs change   time-out ──► the longest time of one command
//! ```
//! A session only takes away: from the profile's grants, from its sandbox. What it adds are `http:` grants for URLs that the
//! plugin asks for anyway, on hosts that the operator listed, and folders that he named.

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use url::Host;

use crate::deploy::dns_name::{DnsName, Pattern};
use crate::permission::{FolderPath, Grant, Grants, Origin, Permission, Permissions};
use crate::sandbox::{Ports, Sandbox};

/// What may be reached.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reach {
    /// The only hosts; unset is what the profile is granted.
    pub domains: Option<BTreeSet<Domain>>,
    /// What may be changed; none is in another.
    pub write: BTreeSet<WritePath>,
    /// Where programs may listen, and connect where the network is not open.
    pub ports: BTreeSet<u16>,
    /// How long one command may be attached, in milliseconds.
    pub timeout_ms: u64,
    /// Whether programs may use the network.
    pub network: bool,
}

impl Reach {
    /// The grants that are left of a profile's: `http:` ones only of the listed hosts, and there for all that the plugin
    /// asks for.
    #[must_use]
    pub fn grants<'a>(&self, grants: &Grants, asked: impl IntoIterator<Item = &'a Permissions>) -> Grants {
        let Some(domains) = &self.domains else { return grants.clone() };
        let listed = |host: &Host<String>| domains.iter().any(|domain| domain.matches(host));
        let mut left = Grants::default();
        for (grant, origin) in grants.iter() {
            if !matches!(grant, Grant::Http(prefix) if !listed(prefix.host())) {
                left.insert(grant.clone(), origin);
            }
        }
        for requested in asked.into_iter().flat_map(Permissions::iter) {
            if let Permission::Http { prefix, .. } = &requested.permission
                && listed(prefix.host())
            {
                left.insert(Grant::Http(prefix.clone()), Origin::Once);
            }
        }
        left
    }

    /// Whether programs reach any TCP port of other machines directly.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.network && self.domains.is_none()
    }

    /// Takes from a program's sandbox what the session does not allow. `served` are ports that the host itself serves for
    /// it, which are left.
    pub fn narrow(&self, sandbox: &mut Sandbox, served: &[u16]) {
        let within = |ports: &Ports, allowed: BTreeSet<u16>| match ports {
            Ports::All => Ports::Only(allowed),
            Ports::Only(already) => Ports::Only(already.intersection(&allowed).copied().collect()),
        };
        // A port that the system picks is one that a program serves to whoever started it.
        let listen = self.ports.iter().copied().chain([0]).collect();
        sandbox.listen = within(&sandbox.listen, listen);
        if !self.is_open() {
            // The session's own ports were asked for by the operator, beside what the profile says.
            let mut connect = match within(&sandbox.connect, self.ports.clone()) {
                Ports::Only(ports) => ports,
                Ports::All => BTreeSet::new(), // `within` never gives it
            };
            connect.extend(served);
            sandbox.connect = Ports::Only(connect);
        }
    }

    /// Whether the whole workspace may be changed.
    #[must_use]
    pub fn writes_all(&self) -> bool {
        self.write.contains(&WritePath::Inside(ROOT.to_owned()))
    }

    /// What of it the kernel does not enforce for programs, in words; never silent.
    #[must_use]
    pub fn not_enforced(&self, kernel: Kernel) -> Vec<String> {
        let mut open = Vec::new();
        if !kernel.files {
            open.push("write paths: this system does not confine the files of a program".to_owned());
        }
        if !kernel.tcp {
            open.push("ports, domains and network: this system does not confine the TCP of a program".to_owned());
        }
        if !self.is_open() && kernel.tcp {
            open.push("network: of programs only TCP is confined, not UDP".to_owned());
        }
        open
    }
}

/// What of a fence the kernel offers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kernel {
    /// Files can be confined.
    pub files: bool,
    /// TCP ports can be confined.
    pub tcp: bool,
}

/// A host that may be reached: a name, `*.` with a name, or an address.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Domain {
    /// By name.
    Name(Pattern),
    /// By address; the operator's word opens it also where it is not public.
    Address(IpAddr),
}

impl Domain {
    /// Takes `example.com`, `*.example.com` or `192.0.2.1`. The error is a message.
    pub fn parse(text: &str) -> Result<Self, String> {
        match text.parse::<IpAddr>() {
            Ok(ip) => Ok(Self::Address(ip.to_canonical())),
            Err(_) => Pattern::parse(text).map(Self::Name).map_err(|error| error.message),
        }
    }

    /// Whether it means the host of a URL.
    #[must_use]
    pub fn matches(&self, host: &Host<String>) -> bool {
        match (self, host) {
            (Self::Name(pattern), Host::Domain(name)) => DnsName::host(name).is_ok_and(|name| pattern.matches(&name)),
            (Self::Address(ip), Host::Ipv4(v4)) => *ip == IpAddr::from(*v4),
            (Self::Address(ip), Host::Ipv6(v6)) => *ip == IpAddr::from(*v6).to_canonical(),
            _ => false,
        }
    }
}

impl fmt::Display for Domain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(pattern) => pattern.fmt(f),
            Self::Address(ip) => ip.fmt(f),
        }
    }
}

impl TryFrom<String> for Domain {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        Self::parse(&text)
    }
}

impl From<Domain> for String {
    fn from(domain: Domain) -> Self {
        domain.to_string()
    }
}

/// The workspace itself, as a path in it.
pub const ROOT: &str = ".";

/// A folder that may be changed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum WritePath {
    /// In the workspace, relative and plain; [`ROOT`] is all of it.
    Inside(String),
    /// Anywhere else.
    Outside(FolderPath),
}

impl WritePath {
    /// Takes a path relative to the workspace, or an absolute one. The error is the reason.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        if text.starts_with('/') {
            let path = FolderPath::parse(text)?;
            return if path.as_str() == "/" { Err("it is the whole machine") } else { Ok(Self::Outside(path)) };
        }
        if text.is_empty() || text.len() > 4096 || crate::text::escape_controls(text, false) != text {
            return Err("a path has 1 to 4096 bytes and no control characters");
        }
        let parts: Vec<&str> = text.split('/').filter(|part| !matches!(*part, "" | ".")).collect();
        if parts.contains(&"..") {
            return Err("it leads out of the workspace");
        }
        Ok(Self::Inside(if parts.is_empty() { ROOT.to_owned() } else { parts.join("/") }))
    }

    /// Whether the other is this folder or lies in it.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Outside(path), Self::Outside(other)) => path.covers(other),
            (Self::Inside(path), Self::Inside(other)) => {
                path == ROOT
                    || other.strip_prefix(path.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
            }
            _ => false,
        }
    }
}

impl fmt::Display for WritePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Inside(path) => f.write_str(path),
            Self::Outside(path) => path.fmt(f),
        }
    }
}

impl TryFrom<String> for WritePath {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        Self::parse(&text).map_err(str::to_owned)
    }
}

impl From<WritePath> for String {
    fn from(path: WritePath) -> Self {
        path.to_string()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::permission::Requested;

    const HOSTS: [&str; 6] = ["a.example", "b.example", "x.a.example", "y.x.a.example", "127.0.0.1", "[::1]"];
    const DOMAINS: [&str; 6] = ["a.example", "*.a.example", "*.example", "127.0.0.1", "::1", "B.Example."];

    fn reach(domains: Option<&[&str]>) -> Reach {
        let domains = domains.map(|texts| texts.iter().map(|text| Domain::parse(text).expect("one")).collect());
        Reach { domains, write: BTreeSet::new(), ports: BTreeSet::from([3000]), timeout_ms: 1, network: true }
    }

    fn http(host: &str) -> Grant {
        format!("http:https://{host}/v1").parse().expect("a grant")
    }

    #[test]
    fn which_domain_means_which_host() {
        let row = |domain: &str| {
            let domain = Domain::parse(domain).expect("one");
            let mark = |host: &&str| match http(host) {
                Grant::Http(prefix) if domain.matches(prefix.host()) => 'x',
                _ => '.',
            };
            HOSTS.iter().map(mark).collect::<String>()
        };
        assert_eq!(DOMAINS.map(row), ["x.....", "..xx..", "xxxx..", "....x.", ".....x", ".x...."]);
        for text in ["", "*", "https://a.example", "a.example/x", "a.example:443", "a b", "10.0.0.0/8"] {
            assert!(Domain::parse(text).is_err(), "{text}");
        }
    }

    proptest! {
        /// With a list of domains no other host is left, nothing but `http:` is touched, and what is added was asked for.
        #[test]
        fn grants_only_of_the_listed_hosts(
            listed in proptest::sample::subsequence(DOMAINS.to_vec(), 0..6),
            given in proptest::sample::subsequence(HOSTS.to_vec(), 0..6),
            asked in proptest::sample::subsequence(HOSTS.to_vec(), 0..6),
        ) {
            let reach = reach(Some(&listed));
            let mut grants = Grants::default();
            grants.insert(Grant::Shell, Origin::Stored);
            grants.insert("secret:KEY".parse().expect("a grant"), Origin::Stored);
            given.iter().for_each(|host| grants.insert(http(host), Origin::Stored));
            let permissions: Permissions = asked.iter().map(|host| Requested {
                permission: match http(host) {
                    Grant::Http(prefix) => Permission::Http { prefix, methods: vec!["GET".into()], credential: None },
                    _ => Permission::Shell,
                },
                optional: false,
                reason: String::new(),
            }).collect();
            let left = reach.grants(&grants, [&permissions]);
            prop_assert!(left.contains(&Grant::Shell) && left.contains(&"secret:KEY".parse().expect("a grant")));
            for host in HOSTS {
                let grant = http(host);
                let Grant::Http(prefix) = &grant else { unreachable!() };
                let is_listed = reach.domains.iter().flatten().any(|domain| domain.matches(prefix.host()));
                let wanted = is_listed && (given.contains(&host) || asked.contains(&host));
                prop_assert_eq!(left.contains(&grant), wanted, "{}", host);
            }
            prop_assert_eq!(super::tests::reach(None).grants(&grants, [&permissions]), grants);
        }

        /// A session never opens a port that the profile's sandbox closes, but for those that the host serves.
        #[test]
        fn a_sandbox_only_becomes_narrower(
            network in any::<bool>(), listed in any::<bool>(),
            before in proptest::option::of(proptest::collection::btree_set(0_u16..6, 0..5)),
            ports in proptest::collection::btree_set(1_u16..6, 0..5),
            served in proptest::collection::vec(0_u16..6, 0..2),
        ) {
            let all = before.clone().map_or(Ports::All, Ports::Only);
            let mut sandbox = Sandbox { read: vec![], write: vec![], connect: all.clone(), listen: all.clone() };
            let reach = Reach { ports: ports.clone(), network, ..reach(listed.then_some(&["a.example"])) };
            reach.narrow(&mut sandbox, &served);
            let has = |ports: &Ports, port: u16| match ports { Ports::All => true, Ports::Only(only) => only.contains(&port) };
            for port in 0..8 {
                let asked = ports.contains(&port);
                prop_assert_eq!(has(&sandbox.listen, port), has(&all, port) && (asked || port == 0));
                let open = if reach.is_open() { has(&all, port) } else { has(&all, port) && asked || served.contains(&port) };
                prop_assert_eq!(has(&sandbox.connect, port), open);
            }
        }

        /// What is taken as a path of the workspace has no part that leads out, and stays the same when it is read again.
        #[test]
        fn write_paths_stay_inside(text in "[a-c./]{0,16}") {
            if let Ok(path) = WritePath::parse(&text) {
                let plain = path.to_string();
                prop_assert!(plain.split('/').all(|part| part != ".."));
                prop_assert_eq!(matches!(path, WritePath::Outside(_)), text.starts_with('/'));
                prop_assert_eq!(WritePath::parse(&plain).expect("again"), path);
            }
        }
    }

    #[test]
    fn what_a_kernel_lacks_is_named() {
        let (whole, none) = (Kernel { files: true, tcp: true }, Kernel { files: false, tcp: false });
        assert_eq!(reach(None).not_enforced(whole), Vec::<String>::new());
        assert_eq!(reach(None).not_enforced(none).len(), 2);
        assert_eq!(reach(Some(&[])).not_enforced(whole), ["network: of programs only TCP is confined, not UDP"]);
    }
}
