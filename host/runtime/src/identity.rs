//! Who runs where: the evidence read from the system, and the identity that is stated or follows from it.
//!
//! Stated values win over variables (`MIDPLANE_APP`, ...), those over what is found out and what is usual. What is stated of
//! machine and substrate is attested: it must agree with the evidence.
//!
//! # What it never does
//! It reads no file beyond a bound, starts no program, asks no network, and keeps of the environment only the variables
//! that tell where a process runs.

use std::io::Read as _;
use std::path::Path;

use midplane_core::Result;
use midplane_core::identity::{
    Claims, Confidence, Evidence, FIELDS, Fact, Facts, MARKERS, RuntimeIdentity, VARIABLES, discover,
};
use serde::Serialize;

use crate::config::Selection;

/// The most that is read of one file of the system.
const FILE_BYTES_MAX: u64 = 256 * 1024;

/// What is stated of an identity. What is not stated is looked up.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stated {
    /// The application.
    pub app: Option<String>,
    /// The environment.
    pub environment: Option<String>,
    /// The machine.
    pub machine: Option<String>,
    /// The substrate.
    pub substrate: Option<String>,
    /// The role.
    pub role: Option<String>,
}

/// An identity, where each of its fields comes from, and the facts that it was held against.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Identified {
    /// The identity.
    pub identity: RuntimeIdentity,
    /// Where each field comes from, in the order of [`FIELDS`].
    pub sources: Vec<FieldSource>,
    /// What was found out.
    pub facts: Facts,
}

/// Where a field of an identity comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FieldSource {
    /// The field.
    pub field: &'static str,
    /// Its value.
    pub value: String,
    /// `stated`, a variable, the evidence, or `usual`.
    pub source: String,
}

impl Identified {
    /// An identity that is stated in full, held against this process.
    ///
    /// # Errors
    /// As [`identify`].
    pub fn of(identity: RuntimeIdentity) -> Result<Self> {
        let RuntimeIdentity { app, environment, machine, substrate, role } = identity;
        identify(&Stated {
            app: Some(app),
            environment: Some(environment),
            machine: Some(machine),
            substrate: Some(substrate),
            role: Some(role),
        })
    }
}

impl Identified {
    /// Which blocks of a configuration are meant. What is only usual names none: an operator who has blocks states which.
    #[must_use]
    pub fn selection(&self) -> Selection {
        let of = |field: &str| {
            let source = self.sources.iter().find(|source| source.field == field && source.source != USUAL_SOURCE);
            source.map(|source| source.value.clone()).unwrap_or_default()
        };
        Selection {
            environment: of("environment"),
            machine: of("machine"),
            substrate: of("substrate"),
            role: of("role"),
        }
    }
}

/// How the source of a usual value is called.
const USUAL_SOURCE: &str = "usual";
/// What app, environment and role are where nobody says: one person at a desk.
const USUAL: [(&str, &str); 3] = [("app", "midplane"), ("environment", "local"), ("role", "operator")];

/// The identity of this process.
///
/// # Errors
/// `invalid` codes `identity-empty` and `identity-unsafe`; `conflict` code `identity-mismatch`.
pub fn identify(stated: &Stated) -> Result<Identified> {
    identify_by(stated, discover(&evidence()), |name| std::env::var(name).ok())
}

/// The same from given facts and variables.
///
/// # Errors
/// As [`identify`].
pub fn identify_by(stated: &Stated, facts: Facts, env: impl Fn(&str) -> Option<String>) -> Result<Identified> {
    let chosen = FIELDS.map(|field| {
        let stated = stated.field(field).map(|value| (value.to_owned(), "stated".to_owned()));
        stated.or_else(|| {
            let variable = format!("MIDPLANE_{}", field.to_ascii_uppercase());
            // A variable that is set to nothing says nothing.
            Some((env(&variable).filter(|value| !value.is_empty())?, format!("variable `{variable}`")))
        })
    });
    let [app, environment, machine, substrate, role] = chosen.clone().map(|chosen| chosen.map(|(value, _)| value));
    let usual = |field: &str, value: Option<String>| {
        let of_field = USUAL.iter().find(|(name, _)| *name == field).map_or("", |(_, value)| value);
        value.unwrap_or_else(|| of_field.to_owned())
    };
    let identity = RuntimeIdentity::build(
        Claims {
            app: usual("app", app),
            environment: usual("environment", environment),
            role: usual("role", role),
            machine: machine.clone(),
            substrate: substrate.clone(),
        },
        &facts,
    )?;
    identity.validate_strictly()?;
    attest(&identity, machine.is_some(), &facts)?;
    let sources = identity
        .fields()
        .zip(chosen)
        .map(|((field, value), chosen)| {
            let source = chosen.map(|(_, source)| source).unwrap_or_else(|| match field {
                "machine" => facts.machine.source.clone(),
                "substrate" => facts.substrate().source.clone(),
                _ => USUAL_SOURCE.to_owned(),
            });
            FieldSource { field, value: value.to_owned(), source }
        })
        .collect();
    Ok(Identified { identity, sources, facts })
}

/// Holds an identity against the facts. A host name that says little (the id of a container, an address, nothing) refutes no
/// stated machine: to state it is what is asked for then.
fn attest(identity: &RuntimeIdentity, is_machine_stated: bool, facts: &Facts) -> Result<()> {
    if is_machine_stated && facts.machine.confidence == Confidence::Low {
        let machine = Fact { value: identity.machine.clone(), ..facts.machine.clone() };
        return identity.attest(&Facts { machine, ..facts.clone() });
    }
    identity.attest(facts)
}

impl Stated {
    fn field(&self, field: &str) -> Option<&str> {
        match field {
            "app" => self.app.as_deref(),
            "environment" => self.environment.as_deref(),
            "machine" => self.machine.as_deref(),
            "substrate" => self.substrate.as_deref(),
            "role" => self.role.as_deref(),
            _ => None,
        }
    }
}

/// Reads the evidence. What cannot be read is left empty.
#[must_use]
pub fn evidence() -> Evidence {
    evidence_below(Path::new("/"), |name| std::env::var(name).ok())
}

/// The same with another root of the file system.
fn evidence_below(root: &Path, env: impl Fn(&str) -> Option<String>) -> Evidence {
    let at = |path: &str| root.join(path.trim_start_matches('/'));
    let text = |path: &str| head(&at(path));
    let trimmed = |path: &str| text(path).trim_end().to_owned();
    let product = [trimmed("/sys/class/dmi/id/sys_vendor"), trimmed("/sys/class/dmi/id/product_name")];
    let flags = text("/proc/cpuinfo");
    let flags =
        flags.lines().find(|line| line.starts_with("flags") || line.starts_with("Features")).unwrap_or_default();
    Evidence {
        hostname: hostname(&at("/proc/sys/kernel/hostname")),
        // `exists` follows links; what may not be looked at is not there, as far as this process goes.
        markers: MARKERS.iter().filter(|path| at(path).exists()).map(|path| (*path).to_owned()).collect(),
        variables: VARIABLES.iter().filter_map(|name| Some(((*name).to_owned(), env(name)?))).collect(),
        cgroup: text("/proc/self/cgroup"),
        mounts: text("/proc/self/mountinfo"),
        kernel: trimmed("/proc/sys/kernel/osrelease"),
        product: product.join("\n").trim().to_owned(),
        hypervisor: flags.split_whitespace().any(|flag| flag == "hypervisor"),
        pid: std::process::id(),
    }
}

/// The beginning of a file as text; empty where it cannot be read.
fn head(path: &Path) -> String {
    let mut bytes = Vec::new();
    let read = std::fs::File::open(path).and_then(|file| file.take(FILE_BYTES_MAX).read_to_end(&mut bytes));
    read.map(|_| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
}

#[cfg(target_os = "linux")]
fn hostname(path: &Path) -> String {
    let name = head(path);
    // The kernel ends the file with a line break that is not part of the name.
    name.strip_suffix('\n').unwrap_or(&name).to_owned()
}

#[cfg(not(target_os = "linux"))]
fn hostname(_path: &Path) -> String {
    gethostname::gethostname().to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

    use super::*;

    fn facts(hostname: &str, markers: &[&str]) -> Facts {
        let markers = markers.iter().map(|path| (*path).to_owned()).collect();
        discover(&Evidence { hostname: hostname.to_owned(), markers, ..Evidence::default() })
    }

    fn shown(found: &Result<Identified>) -> String {
        match found {
            Ok(found) => {
                let fields = found.sources.iter().map(|it| format!("{}={} ({})", it.field, it.value, it.source));
                fields.collect::<Vec<_>>().join(", ")
            }
            Err(error) => format!("{} {error}", error.code),
        }
    }

    #[test]
    fn stated_before_variables_before_what_is_found_out() {
        let stated = |field: &str, value: &str| {
            let mut stated = Stated::default();
            let value = Some(value.to_owned());
            match field {
                "app" => stated.app = value,
                "machine" => stated.machine = value,
                "substrate" => stated.substrate = value,
                _ => stated.role = value,
            }
            stated
        };
        let role = |name: &str| (name == "MIDPLANE_ROLE").then(|| "research".to_owned());
        let none = |_: &str| None;
        let desk = || facts("bridge.lan", &[]);
        let docker = || facts("0123456789ab", &["/.dockerenv"]);
        let seen = [
            identify_by(&Stated::default(), desk(), none),
            identify_by(&stated("role", "execution"), desk(), role),
            identify_by(&Stated::default(), desk(), role),
            identify_by(&Stated::default(), desk(), |name| (name == "MIDPLANE_APP").then(String::new)),
            identify_by(&stated("machine", "other"), desk(), none),
            identify_by(&stated("machine", "other"), docker(), none),
            identify_by(&stated("substrate", "docker"), docker(), none),
            identify_by(&stated("substrate", "docker"), desk(), none),
            identify_by(&stated("app", "../x"), desk(), none),
            identify_by(&stated("app", " "), desk(), none),
            identify_by(&Stated::default(), facts("", &[]), none),
        ];
        insta::assert_snapshot!(seen.iter().map(shown).collect::<Vec<_>>().join("\n"));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn evidence_is_what_the_files_say() {
        let root = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        write("proc/sys/kernel/hostname", "bridge\n");
        write("proc/sys/kernel/osrelease", "6.1.0\n");
        write("proc/self/cgroup", "0::/system.slice/x.service\n");
        write("proc/cpuinfo", "processor : 0\nflags : fpu hypervisor sse\n");
        write("sys/class/dmi/id/sys_vendor", "QEMU\n");
        write("sys/class/dmi/id/product_name", "Standard PC\n");
        write("proc/self/mountinfo", &"x".repeat(300 * 1024));
        write("elsewhere", "");
        std::os::unix::fs::symlink("elsewhere", root.path().join(".dockerenv")).unwrap();
        std::fs::create_dir_all(root.path().join("run")).unwrap();
        std::os::unix::fs::symlink("nowhere", root.path().join("run/.containerenv")).unwrap();
        let env = |name: &str| matches!(name, "CI" | "SECRET").then(|| "true".to_owned());
        let evidence = evidence_below(root.path(), env);
        assert_eq!(evidence.mounts.len() as u64, FILE_BYTES_MAX);
        assert_eq!(
            Evidence { mounts: String::new(), pid: 0, ..evidence },
            Evidence {
                hostname: "bridge".to_owned(),
                markers: ["/.dockerenv".to_owned()].into(),
                variables: [("CI".to_owned(), "true".to_owned())].into(),
                cgroup: "0::/system.slice/x.service\n".to_owned(),
                kernel: "6.1.0".to_owned(),
                product: "QEMU\nStandard PC".to_owned(),
                hypervisor: true,
                ..Evidence::default()
            }
        );
        assert_eq!(
            evidence_below(&root.path().join("none"), |_| None),
            Evidence { pid: std::process::id(), ..Evidence::default() }
        );
    }

    #[test]
    fn this_process_has_an_identity() {
        let evidence = evidence();
        let label = evidence.hostname.split('.').next().unwrap_or_default().to_owned();
        match identify_by(&Stated::default(), discover(&evidence), |_| None) {
            Ok(found) => assert_eq!(found.identity.machine, label),
            // A host without a name, or with one that no file could have.
            Err(error) => assert!(matches!(error.code.as_ref(), "identity-empty" | "identity-unsafe"), "{error}"),
        }
    }
}
