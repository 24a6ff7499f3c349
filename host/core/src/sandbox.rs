//! What a local program may reach, whoever started it: files, TCP. A pure decision from what the operator configured and
//! what the run is; who enforces it, and how much of it, is the runtime's to say.
//!
//! Everything is a list of what is allowed. What is in no list does not exist for the program: the operator's home, other
//! workspaces, the state of the host, `/etc/shadow`.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// What one program may reach.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sandbox {
    /// Files and folders to read and run, with all below.
    pub read: Vec<PathBuf>,
    /// The same to change, too.
    pub write: Vec<PathBuf>,
    /// To which TCP ports it may connect.
    pub connect: Ports,
    /// On which TCP ports it may listen; 0 is one that the system picks.
    pub listen: Ports,
}

/// Some TCP ports. Addresses are not told apart: the kernel's fence cannot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ports {
    /// Every port.
    All,
    /// These and no others.
    Only(BTreeSet<u16>),
}

/// What the operator configures of it for a profile: `sandbox:` in the configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SandboxSettings {
    /// Whose sandbox is around the programs of the profile.
    pub mode: Mode,
    /// More to read, absolute.
    pub read: Vec<PathBuf>,
    /// More to change, absolute.
    pub write: Vec<PathBuf>,
    /// Whether they may use the network; unset is yes. A task can only take it away.
    pub network: Option<bool>,
    /// Ports to connect to and to listen on where the network is not allowed.
    pub ports: Vec<u16>,
    /// Whether a program must not start where the kernel cannot enforce all of it.
    pub required: bool,
}

/// Whose sandbox is around a program.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// The host's.
    #[default]
    Host,
    /// The program's own, which the host's would keep from working: it mounts file systems, and inside the host's sandbox
    /// the kernel lets nobody mount.
    Own,
}

/// The surroundings that a sandbox is decided for.
#[derive(Debug, Clone, Copy)]
pub struct Surroundings<'a> {
    /// The run's folder, and whether the run may change it.
    pub workspace: Option<(&'a Path, bool)>,
    /// Folders of the program alone: its home, its temporary files.
    pub own: &'a [PathBuf],
    /// Where the program itself and what it is made of lie.
    pub programs: &'a [PathBuf],
    /// Whether the task lets programs use the network.
    pub network: bool,
    /// Loopback ports that the host itself serves for the run.
    pub endpoints: &'a [u16],
}

/// What every program may read: the system and its settings, but nothing of `/etc` that is or may hold a secret.
const SYSTEM: &[&str] = &[
    "/usr",
    "/bin",
    "/sbin",
    "/lib",
    "/lib32",
    "/lib64",
    "/libx32",
    "/opt",
    "/nix",
    "/proc",
    "/sys/devices/system",
    "/sys/fs/cgroup",
    "/sys/kernel/mm",
    "/run/systemd/resolve",
    "/dev/random",
    "/dev/urandom",
    // Settings, by name.
    "/etc/alternatives",
    "/etc/bash.bashrc",
    "/etc/ca-certificates",
    "/etc/crypto-policies",
    "/etc/debian_version",
    "/etc/fonts",
    "/etc/gai.conf",
    "/etc/gitconfig",
    "/etc/group",
    "/etc/host.conf",
    "/etc/hostname",
    "/etc/hosts",
    "/etc/inputrc",
    "/etc/ld.so.cache",
    "/etc/ld.so.conf",
    "/etc/ld.so.conf.d",
    "/etc/ld.so.preload",
    "/etc/locale.alias",
    "/etc/locale.conf",
    "/etc/localtime",
    "/etc/login.defs",
    "/etc/lsb-release",
    "/etc/magic",
    "/etc/mime.types",
    "/etc/nsswitch.conf",
    "/etc/os-release",
    "/etc/passwd",
    "/etc/pki/ca-trust",
    "/etc/pki/tls/certs",
    "/etc/pki/tls/cert.pem",
    "/etc/pki/tls/openssl.cnf",
    "/etc/profile",
    "/etc/profile.d",
    "/etc/protocols",
    "/etc/resolv.conf",
    "/etc/services",
    "/etc/shells",
    "/etc/ssl/certs",
    "/etc/ssl/cert.pem",
    "/etc/ssl/openssl.cnf",
    "/etc/static",
    "/etc/terminfo",
    "/etc/timezone",
    "/etc/xattr.conf",
];

/// Devices that every program may use: nothing is kept in them.
const DEVICES: &[&str] = &["/dev/null", "/dev/zero", "/dev/full", "/dev/tty", "/dev/ptmx", "/dev/pts", "/dev/shm"];

impl Sandbox {
    /// The sandbox of a program; none where it brings its own.
    #[must_use]
    pub fn decide(settings: &SandboxSettings, around: &Surroundings<'_>) -> Option<Self> {
        if settings.mode == Mode::Own {
            return None;
        }
        let system = |paths: &[&str]| paths.iter().map(PathBuf::from).collect::<Vec<_>>();
        let mut read = system(SYSTEM);
        read.extend(around.programs.iter().chain(&settings.read).cloned());
        let mut write = system(DEVICES);
        write.extend(around.own.iter().chain(&settings.write).cloned());
        if let Some((workspace, writes)) = around.workspace {
            if writes { &mut write } else { &mut read }.push(workspace.to_owned());
        }
        let network = around.network && settings.network != Some(false);
        let (connect, listen) = if network {
            (Ports::All, Ports::All)
        } else {
            let ports: BTreeSet<u16> = settings.ports.iter().copied().collect();
            let connect = ports.iter().chain(around.endpoints).copied().collect();
            // A port that the system picks is one that a program serves to whoever started it.
            (Ports::Only(connect), Ports::Only(ports.into_iter().chain([0]).collect()))
        };
        Some(Self { read, write, connect, listen })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn around(own: &[PathBuf]) -> Surroundings<'_> {
        Surroundings { workspace: None, own, programs: &[], network: true, endpoints: &[] }
    }

    #[test]
    fn a_workspace_is_changed_only_where_the_run_may() {
        let workspace = Path::new("/work");
        for writes in [false, true] {
            let around = Surroundings { workspace: Some((workspace, writes)), ..around(&[]) };
            let sandbox = Sandbox::decide(&SandboxSettings::default(), &around).expect("one");
            assert_eq!(sandbox.write.contains(&workspace.to_owned()), writes);
            assert_eq!(sandbox.read.contains(&workspace.to_owned()), !writes);
        }
    }

    #[test]
    fn the_network_is_allowed_by_both_or_not_at_all() {
        for (configured, task, want) in [
            (None, true, true),
            (Some(true), true, true),
            (Some(true), false, false),
            (Some(false), true, false),
            (None, false, false),
        ] {
            let settings = SandboxSettings { network: configured, ports: vec![5432], ..SandboxSettings::default() };
            let around = Surroundings { network: task, endpoints: &[4000], ..around(&[]) };
            let sandbox = Sandbox::decide(&settings, &around).expect("one");
            assert_eq!(sandbox.connect == Ports::All, want);
            if !want {
                assert_eq!(sandbox.connect, Ports::Only(BTreeSet::from([4000, 5432])));
                assert_eq!(sandbox.listen, Ports::Only(BTreeSet::from([0, 5432])));
            }
        }
    }

    #[test]
    fn nothing_of_a_home_or_of_passwords_is_shared() {
        let own = [PathBuf::from("/state/homes/x")];
        let sandbox = Sandbox::decide(&SandboxSettings::default(), &around(&own)).expect("one");
        let reached =
            |path: &str| sandbox.read.iter().chain(&sandbox.write).any(|allowed| Path::new(path).starts_with(allowed));
        for path in [
            "/root",
            "/home/a/x",
            "/etc/shadow",
            "/etc/ssl/private/key",
            "/etc/npmrc",
            "/tmp/x",
            "/var/lib/x",
            "/state/store",
            "/dev/mem",
            "/run/docker.sock",
        ] {
            assert!(!reached(path), "{path}");
        }
        assert!(reached("/state/homes/x/.cache") && reached("/usr/bin/env") && reached("/dev/null"));
        let own_mode = SandboxSettings { mode: Mode::Own, ..SandboxSettings::default() };
        assert_eq!(Sandbox::decide(&own_mode, &around(&own)), None);
    }
}
