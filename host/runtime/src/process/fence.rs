//! The fence around a program: a thread puts it up around itself, and what it then starts is inside, with all that
//! that starts. The rest of this process is not.
//!
//! Linux has Landlock for it, in more or less of what is asked, by its release; what could not be enforced is said, never
//! passed over. Nothing on other systems.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use midplane_core::sandbox::{Ports, Sandbox};
use midplane_core::session::reach::Kernel;
use midplane_core::{Error, Result};
use serde::{Deserialize, Serialize};

/// How a program is confined.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Confinement {
    /// Not at all: a program that the operator configured for the host's own use.
    Operator,
    /// It confines itself. It gets no more privileges than the host has.
    Own,
    /// The host's sandbox. `required` refuses the start where not all of it can be enforced.
    Host { sandbox: Sandbox, required: bool },
}

/// Puts the fence up around the calling thread, for good, and says what of it stands, for the audit.
pub(crate) fn enter(confinement: &Confinement) -> Result<String> {
    match confinement {
        Confinement::Operator => Ok("none: the operator's own program".to_owned()),
        Confinement::Own => {
            system::no_new_privileges()?;
            Ok("own: the program confines itself".to_owned())
        }
        Confinement::Host { sandbox, required } => {
            system::no_new_privileges()?;
            system::drop_capabilities()?;
            let stands = system::restrict(sandbox)?;
            if *required && !stands.whole {
                let message = format!("the sandbox of the program cannot be enforced here: {}", stands.text);
                return Err(Error::unsupported("sandbox", message)
                    .hint("a newer kernel enforces more; `sandbox: {required: false}` of the profile does without"));
            }
            Ok(stands.text)
        }
    }
}

/// What this system enforces, and whether that is all that is asked for. Tried out once, in a thread that ends with it.
pub(crate) fn offered() -> &'static Stands {
    static OFFERED: LazyLock<Stands> = LazyLock::new(|| {
        let no_port = || Ports::Only(BTreeSet::new());
        let nothing = Sandbox { read: Vec::new(), write: Vec::new(), connect: no_port(), listen: no_port() };
        match std::thread::spawn(move || system::restrict(&nothing)).join() {
            Ok(Ok(stands)) => stands,
            Ok(Err(error)) => Stands::nothing(format!("none: {}", error.message)),
            Err(_) => Stands::nothing("none: it cannot be tried".to_owned()),
        }
    });
    &OFFERED
}

/// What of a fence stands.
#[derive(Debug)]
pub(crate) struct Stands {
    /// In words.
    pub(crate) text: String,
    /// Whether that is all that was asked for.
    pub(crate) whole: bool,
    /// In parts.
    pub(crate) kernel: Kernel,
}

impl Stands {
    fn nothing(text: String) -> Self {
        Self { text, whole: false, kernel: Kernel { files: false, tcp: false } }
    }
}

#[cfg(target_os = "linux")]
mod system {
    use landlock::{
        ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, LandlockStatus, NetPort, PathBeneath, PathFd,
        RestrictionStatus, Ruleset, RulesetAttr, RulesetCreatedAttr, RulesetError, Scope,
    };
    use midplane_core::sandbox::{Ports, Sandbox};
    use midplane_core::{Error, Result};

    use rustix::thread::{CapabilitySet, CapabilitySets};

    use super::{Kernel, Stands};

    /// The newest rules that are asked for. A newer kernel adds none that a program was not tested under.
    const NEWEST: ABI = ABI::V6;

    pub(super) fn no_new_privileges() -> Result<()> {
        rustix::thread::set_no_new_privs(true).map_err(|error| failed(&error))
    }

    /// What a program of root keeps: what it needs for the files that it may reach and for users of its own. With the others it
    /// could look into processes outside, whatever fence there is.
    const KEPT: CapabilitySet = CapabilitySet::CHOWN
        .union(CapabilitySet::DAC_OVERRIDE)
        .union(CapabilitySet::FOWNER)
        .union(CapabilitySet::FSETID)
        .union(CapabilitySet::KILL)
        .union(CapabilitySet::SETGID)
        .union(CapabilitySet::SETUID)
        .union(CapabilitySet::NET_BIND_SERVICE);

    /// Gives up what [`KEPT`] does not name. A program that is started afterwards gets no more, since it gets no new privileges.
    pub(super) fn drop_capabilities() -> Result<()> {
        let has = rustix::thread::capabilities(None).map_err(|error| failed(&error))?;
        let keeps = CapabilitySets {
            effective: has.effective & KEPT,
            permitted: has.permitted & KEPT,
            inheritable: has.inheritable & KEPT,
        };
        if keeps != has {
            rustix::thread::set_capabilities(None, keeps).map_err(|error| failed(&error))?;
        }
        Ok(())
    }

    pub(super) fn restrict(sandbox: &Sandbox) -> Result<Stands> {
        let status = enforce(sandbox).map_err(|error| failed(&error))?;
        let LandlockStatus::Available { effective_abi, .. } = status.landlock else {
            return Ok(Stands::nothing("none: this kernel has no Landlock, or it is not enabled".to_owned()));
        };
        let mut stands = vec!["files"];
        let since = |abi| effective_abi >= abi;
        if since(ABI::V4) {
            stands.push("tcp");
        }
        if since(ABI::V6) {
            stands.push("signals");
        }
        let open = |ports: &Ports| *ports == Ports::All;
        let wanted_tcp = !(open(&sandbox.connect) && open(&sandbox.listen));
        let abi = effective_abi as i32;
        Ok(Stands {
            text: format!("landlock {abi}: {}", stands.join(", ")),
            // The first two releases of it cannot keep a program from cutting a file short.
            whole: since(ABI::V3) && (since(ABI::V4) || !wanted_tcp),
            kernel: Kernel { files: since(ABI::V3), tcp: since(ABI::V4) },
        })
    }

    fn enforce(sandbox: &Sandbox) -> Result<RestrictionStatus, RulesetError> {
        let mut ruleset = Ruleset::default()
            .set_compatibility(CompatLevel::BestEffort)
            .handle_access(AccessFs::from_all(NEWEST))?
            // No signal to, and no abstract socket of, a process outside.
            .scope(Scope::from_all(NEWEST))?;
        // What is not named is not restricted at all.
        if sandbox.connect != Ports::All {
            ruleset = ruleset.handle_access(AccessNet::ConnectTcp)?;
        }
        if sandbox.listen != Ports::All {
            ruleset = ruleset.handle_access(AccessNet::BindTcp)?;
        }
        let mut created = ruleset.create()?;
        for (paths, rights) in
            [(&sandbox.read, AccessFs::from_read(NEWEST)), (&sandbox.write, AccessFs::from_all(NEWEST))]
        {
            for path in paths {
                // What is not there needs no rule.
                let Ok(fd) = PathFd::new(path) else { continue };
                let is_folder =
                    rustix::fs::fstat(&fd).is_ok_and(|stat| rustix::fs::FileType::from_raw_mode(stat.st_mode).is_dir());
                // Rights of folders mean nothing for a file, and are refused there.
                let rights = if is_folder { rights } else { rights & AccessFs::from_file(NEWEST) };
                created = created.add_rule(PathBeneath::new(fd, rights))?;
            }
        }
        for (ports, right) in [(&sandbox.connect, AccessNet::ConnectTcp), (&sandbox.listen, AccessNet::BindTcp)] {
            if let Ports::Only(ports) = ports {
                for port in ports {
                    created = created.add_rule(NetPort::new(*port, right))?;
                }
            }
        }
        created.restrict_self()
    }

    fn failed(error: &dyn std::fmt::Display) -> Error {
        Error::unavailable("sandbox", format!("the sandbox of the program cannot be put up: {error}"))
    }
}

#[cfg(not(target_os = "linux"))]
mod system {
    use midplane_core::Result;
    use midplane_core::sandbox::Sandbox;

    use super::Stands;

    pub(super) fn no_new_privileges() -> Result<()> {
        Ok(())
    }

    pub(super) fn drop_capabilities() -> Result<()> {
        Ok(())
    }

    pub(super) fn restrict(_sandbox: &Sandbox) -> Result<Stands> {
        Ok(Stands::nothing("none: this system has no Landlock".to_owned()))
    }
}

// What they try is Linux's.
#[cfg(all(test, target_os = "linux"))]
mod tests;
