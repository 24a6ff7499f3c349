//! From evidence to facts: what the machine is called, and on what the process runs.
//!
//! Each fact has a value, the evidence it comes from, and how far that can be trusted. Of the facts that can be a substrate
//! there may be several (a container of a pod in a CI job); the first is the one that an identity gets, all of them are
//! accepted when it is attested. The first is the original's answer wherever the original has one: `docker-container` where
//! `/.dockerenv` is, and `local-process` where nothing speaks of a container.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

/// Paths whose mere existence says something. Links are followed, and a folder counts.
pub const MARKERS: &[&str] = &[
    "/.dockerenv",
    "/run/.containerenv",
    "/var/run/secrets/kubernetes.io/serviceaccount",
    "/run/systemd/container",
    "/run/systemd/system",
    "/proc/vz",
    "/proc/bc",
    "/dev/.lxc-boot-id",
];

/// Variables that say something, none of which ever holds a secret.
pub const VARIABLES: &[&str] = &[
    "container",
    "KUBERNETES_SERVICE_HOST",
    "INVOCATION_ID",
    "SYSTEMD_EXEC_PID",
    "WSL_DISTRO_NAME",
    "CI",
    "GITHUB_ACTIONS",
    "GITEA_ACTIONS",
    "GITLAB_CI",
    "BUILDKITE",
    "CIRCLECI",
    "JENKINS_URL",
    "TEAMCITY_VERSION",
    "TF_BUILD",
    "TRAVIS",
    "APPVEYOR",
    "DRONE",
    "BITBUCKET_BUILD_NUMBER",
    "CODEBUILD_BUILD_ID",
    "SEMAPHORE",
    "CIRRUS_CI",
];

/// What was read of the system. What could not be read is empty: its absence proves nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Evidence {
    /// The host name as the system gives it.
    pub hostname: String,
    /// Those of [`MARKERS`] that exist.
    pub markers: BTreeSet<String>,
    /// Those of [`VARIABLES`] that are set.
    pub variables: BTreeMap<String, String>,
    /// `/proc/self/cgroup`.
    pub cgroup: String,
    /// `/proc/self/mountinfo`.
    pub mounts: String,
    /// `/proc/sys/kernel/osrelease`.
    pub kernel: String,
    /// Maker and name of the product by its firmware (`/sys/class/dmi/id/{sys_vendor,product_name}`), one a line.
    pub product: String,
    /// Whether the processor says that it runs under a hypervisor (the flag `hypervisor` in `/proc/cpuinfo`).
    pub hypervisor: bool,
    /// The number of this process, to tell whether a service manager started it or one of its parents.
    pub pid: u32,
}

/// How far a fact can be trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Confidence {
    /// Anyone who starts the process could have made it so, or it says little.
    Low,
    /// By a convention that is rarely broken.
    Medium,
    /// By what the kernel or the engine itself puts there.
    High,
}

impl Confidence {
    /// The word in JSON and on screen.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
        }
    }
}

/// One fact.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Fact {
    /// What it is about: `machine`, `substrate`, `container`, `orchestrator`, `service`, `ci`, `vm`, `wsl`.
    pub name: &'static str,
    /// What is the case.
    pub value: String,
    /// The evidence.
    pub source: String,
    /// How far it can be trusted.
    pub confidence: Confidence,
    /// What to beware of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

impl Fact {
    fn new(name: &'static str, value: impl Into<String>, source: impl Into<String>, confidence: Confidence) -> Self {
        Self { name, value: value.into(), source: source.into(), confidence, note: None }
    }
}

/// What follows from the evidence.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Facts {
    /// The machine: the host name up to its first `.`, unchanged.
    pub machine: Fact,
    /// Every word for what the process runs on that evidence supports; never empty, the first is the identity's.
    pub substrates: Vec<Fact>,
    /// Kinds and products behind them: container engine, orchestrator, CI system, hypervisor.
    pub details: Vec<Fact>,
}

impl Facts {
    /// The substrate that an identity gets when none is stated.
    #[must_use]
    pub fn substrate(&self) -> &Fact {
        // `discover` puts at least one of container and `local-process` there.
        self.substrates.first().unwrap_or(&self.machine)
    }

    /// Whether the process runs in a container of any kind.
    #[must_use]
    pub fn is_container(&self) -> bool {
        self.details.iter().any(|fact| matches!(fact.name, "container" | "orchestrator"))
    }

    /// Whether evidence supports a word for the substrate, or the word that is meant by it.
    #[must_use]
    pub fn supports(&self, word: &str) -> bool {
        let meant = ALIASES.iter().find(|(alias, _)| *alias == word).map(|(_, meant)| *meant);
        self.substrates.iter().any(|fact| fact.value == word || Some(fact.value.as_str()) == meant)
    }

    /// All facts, for show.
    pub fn iter(&self) -> impl Iterator<Item = &Fact> {
        std::iter::once(&self.machine).chain(&self.substrates).chain(&self.details)
    }
}

/// Words for a substrate that people use: mxm-runtime's own manual says `docker` where its code says `docker-container`.
const ALIASES: &[(&str, &str)] = &[
    ("docker", "docker-container"),
    ("podman", "podman-container"),
    ("containerd", "containerd-container"),
    ("lxc", "lxc-container"),
    ("kubernetes", "kubernetes-pod"),
    ("k8s", "kubernetes-pod"),
    ("systemd", "systemd-service"),
    ("ci", "ci-job"),
    ("local", "local-process"),
];

/// The facts that follow from evidence.
#[must_use]
pub fn discover(evidence: &Evidence) -> Facts {
    use Confidence::{High, Medium};
    let container = container(evidence);
    let pod = pod(evidence);
    let service = service(evidence);
    let ci = ci(evidence);
    let vm = vm(evidence);
    let wsl = wsl(evidence);

    let mut substrates = Vec::new();
    let substrate = |value: String, of: &Fact| Fact::new("substrate", value, of.source.clone(), of.confidence);
    let of_container = container.as_ref().map(|fact| substrate(container_word(&fact.value), fact));
    let of_pod = pod.as_ref().map(|fact| substrate("kubernetes-pod".to_owned(), fact));
    // Docker's marker decides first, as in the original; any other container of a pod is first of all a pod.
    if of_container.as_ref().is_some_and(|fact| fact.value == "docker-container") {
        substrates.extend(of_container.into_iter().chain(of_pod));
    } else {
        substrates.extend(of_pod.into_iter().chain(of_container));
    }
    if substrates.is_empty() {
        // That nothing was found is no proof: a container can hide all of it.
        let confidence = if evidence.cgroup.is_empty() && evidence.mounts.is_empty() { Medium } else { High };
        substrates.push(Fact::new("substrate", "local-process", "no sign of a container", confidence));
    }
    substrates.extend(service.as_ref().map(|fact| substrate("systemd-service".to_owned(), fact)));
    substrates.extend(ci.as_ref().map(|fact| substrate("ci-job".to_owned(), fact)));
    substrates.extend(wsl.as_ref().map(|fact| substrate("wsl".to_owned(), fact)));
    substrates.extend(vm.as_ref().map(|fact| substrate("vm".to_owned(), fact)));

    let details: Vec<Fact> = [container, pod, service, ci, wsl, vm].into_iter().flatten().collect();
    let contained = details.iter().any(|fact| matches!(fact.name, "container" | "orchestrator"));
    Facts { machine: machine(&evidence.hostname, contained), substrates, details }
}

/// The machine by its host name: the original's rule to the letter, with what to beware of.
fn machine(hostname: &str, contained: bool) -> Fact {
    let name = hostname.split('.').next().unwrap_or_default();
    let is_id = matches!(name.len(), 12 | 64) && name.bytes().all(|b| b.is_ascii_hexdigit());
    let note = if name.chars().all(super::is_space) {
        Some("the host has no name: state the machine")
    } else if hostname.trim().parse::<std::net::IpAddr>().is_ok() {
        Some("the host name is an address, of which only the first part is left: state the machine")
    } else if !super::is_path_safe(name) {
        Some("the host name cannot stand in a file name: state the machine")
    } else if contained && is_id {
        Some("it is the id of the container, another one each time: state the machine")
    } else if contained {
        Some("in a container the host name is what its engine was told")
    } else if name.bytes().any(|b| b.is_ascii_uppercase()) {
        Some("selectors are compared as they are written: `Host` is not `host`")
    } else {
        None
    };
    let confidence = match note {
        None => Confidence::High,
        Some(_) if contained && !is_id => Confidence::Medium,
        Some(_) => Confidence::Low,
    };
    Fact { note: note.map(str::to_owned), ..Fact::new("machine", name, "host name", confidence) }
}

/// Which engine's container this is, strongest evidence first.
fn container(evidence: &Evidence) -> Option<Fact> {
    use Confidence::{High, Low, Medium};
    let marker = |path: &str| evidence.markers.contains(path).then(|| format!("marker `{path}`"));
    let fact = |value: &str, source: String, confidence| Fact::new("container", value, source, confidence);
    if let Some(source) = marker("/.dockerenv") {
        return Some(fact("docker", source, High));
    }
    if let Some(source) = marker("/run/.containerenv") {
        return Some(fact("podman", source, High));
    }
    let paths = evidence.cgroup.lines().filter_map(|line| line.splitn(3, ':').nth(2));
    if let Some(engine) = paths.flat_map(|path| path.split('/')).find_map(engine_of_cgroup) {
        return Some(fact(engine, "`/proc/self/cgroup`".to_owned(), Medium));
    }
    if let Some(engine) = files_of_engine(&evidence.mounts).find_map(engine_of_file) {
        return Some(fact(engine, "`/proc/self/mountinfo`".to_owned(), Medium));
    }
    if let Some(source) = marker("/dev/.lxc-boot-id") {
        return Some(fact("lxc", source, Medium));
    }
    // What engines put into the environment of the first process, which anyone can set.
    if let Some(value) = evidence.variables.get("container").filter(|value| !value.is_empty()) {
        let engine = match value.as_str() {
            "docker" | "podman" | "lxc" | "systemd-nspawn" => value,
            "oci" => "other",
            // `flatpak` and the like confine one program; that is no container to be configured by.
            _ => return marker("/run/systemd/container").map(|source| fact("other", source, Medium)),
        };
        return Some(fact(engine, "variable `container`".to_owned(), Low));
    }
    if let Some(source) = marker("/run/systemd/container") {
        return Some(fact("other", source, Medium));
    }
    // OpenVZ shows the first folder to its hosts, too, and the second to them only.
    marker("/proc/vz").filter(|_| marker("/proc/bc").is_none()).map(|source| fact("openvz", source, Low))
}

/// The engine whose container a part of a cgroup's path belongs to. The services of the engines themselves
/// (`docker.service`) have other names.
fn engine_of_cgroup(part: &str) -> Option<&'static str> {
    let has_id = |rest: &str| {
        let id = rest.strip_suffix(".scope").unwrap_or(rest);
        id.len() >= 8 && id.bytes().all(|b| b.is_ascii_hexdigit())
    };
    let prefixes = [
        ("docker-", "docker"),
        ("libpod-", "podman"),
        ("libpod-payload-", "podman"),
        ("crio-", "cri-o"),
        ("cri-containerd-", "containerd"),
        ("nerdctl-", "containerd"),
    ];
    let scope = prefixes.iter().find(|(prefix, _)| part.strip_prefix(prefix).is_some_and(has_id));
    match part {
        "docker" => Some("docker"),
        "lxc" => Some("lxc"),
        _ if part.starts_with("lxc.payload") => Some("lxc"),
        _ if part.contains(":cri-containerd:") => Some("containerd"),
        _ => scope.map(|(_, engine)| *engine),
    }
}

/// Where the files that an engine puts over those of the image come from. With cgroups of version 2 this is all that a container
/// sees of its engine. The mount points tell them from the engine's own mounts on its host.
fn files_of_engine(mounts: &str) -> impl Iterator<Item = &str> {
    mounts.lines().filter_map(|line| {
        let mut fields = line.split(' ').skip(3);
        let (root, point) = (fields.next()?, fields.next()?);
        matches!(point, "/etc/hosts" | "/etc/hostname" | "/etc/resolv.conf").then_some(root)
    })
}

fn engine_of_file(root: &str) -> Option<&'static str> {
    let parts = [
        ("/docker/containers/", "docker"),
        ("/docker/buildkit/", "docker"),
        ("/overlay-containers/", "podman"),
        ("/io.containerd.", "containerd"),
        ("/nerdctl/", "containerd"),
    ];
    parts.iter().find(|(part, _)| root.contains(part)).map(|(_, engine)| *engine)
}

fn container_word(engine: &str) -> String {
    match engine {
        "other" => "container".to_owned(),
        engine => format!("{engine}-container"),
    }
}

fn pod(evidence: &Evidence) -> Option<Fact> {
    let fact = |source: &str, confidence| Some(Fact::new("orchestrator", "kubernetes", source, confidence));
    if evidence.cgroup.contains("kubepods") {
        return fact("`/proc/self/cgroup`", Confidence::High);
    }
    if evidence.markers.contains("/var/run/secrets/kubernetes.io/serviceaccount") {
        return fact("marker `/var/run/secrets/kubernetes.io/serviceaccount`", Confidence::High);
    }
    if files_of_engine(&evidence.mounts).any(|root| root.contains("/kubelet/pods/")) {
        return fact("`/proc/self/mountinfo`", Confidence::High);
    }
    let set = evidence.variables.get("KUBERNETES_SERVICE_HOST").is_some_and(|value| !value.is_empty());
    if set { fact("variable `KUBERNETES_SERVICE_HOST`", Confidence::Medium) } else { None }
}

/// Whether systemd started this process as a service. Its cgroup says so, in a slice of the system or of a user;
/// `INVOCATION_ID` alone is inherited by every shell of a desktop that systemd started.
fn service(evidence: &Evidence) -> Option<Fact> {
    let unit = evidence.cgroup.lines().find_map(|line| {
        let path = line.splitn(3, ':').nth(2)?;
        let unit = path.rsplit('/').find(|part| part.ends_with(".service"))?;
        // The manager of a user is a service itself, and everything of the user's session lies below it.
        let last = path.rsplit('/').next()?;
        (last == unit && !unit.starts_with("user@")).then(|| unit.to_owned())
    });
    let own = evidence.variables.get("SYSTEMD_EXEC_PID").is_some_and(|pid| *pid == evidence.pid.to_string());
    let running = evidence.markers.contains("/run/systemd/system");
    match unit {
        Some(unit) => Some(Fact::new("service", unit, "`/proc/self/cgroup`", Confidence::High)),
        None if own && evidence.pid != 0 => {
            Some(Fact::new("service", "systemd", "variable `SYSTEMD_EXEC_PID`", Confidence::Medium))
        }
        None if running && evidence.cgroup.is_empty() && evidence.variables.contains_key("INVOCATION_ID") => {
            Some(Fact::new("service", "systemd", "variable `INVOCATION_ID`", Confidence::Low))
        }
        None => None,
    }
}

/// Which CI system runs the job. The products come before `CI`, which many of them set, too.
fn ci(evidence: &Evidence) -> Option<Fact> {
    let is_set = |name: &str| {
        let value = evidence.variables.get(name).map(|value| value.trim().to_ascii_lowercase());
        value.filter(|value| !matches!(value.as_str(), "" | "0" | "false" | "no"))
    };
    let product = CI_PRODUCTS.iter().find(|(variable, _)| is_set(variable).is_some());
    if let Some((variable, product)) = product {
        return Some(Fact::new("ci", *product, format!("variable `{variable}`"), Confidence::Medium));
    }
    let value = is_set("CI")?;
    // Woodpecker names itself here.
    let product = if value == "woodpecker" { "woodpecker" } else { "other" };
    Some(Fact::new("ci", product, "variable `CI`", Confidence::Low))
}

const CI_PRODUCTS: &[(&str, &str)] = &[
    // Gitea sets GitHub's variable, too.
    ("GITEA_ACTIONS", "gitea-actions"),
    ("GITHUB_ACTIONS", "github-actions"),
    ("GITLAB_CI", "gitlab-ci"),
    ("BUILDKITE", "buildkite"),
    ("CIRCLECI", "circleci"),
    ("JENKINS_URL", "jenkins"),
    ("TEAMCITY_VERSION", "teamcity"),
    ("TF_BUILD", "azure-pipelines"),
    ("TRAVIS", "travis"),
    ("APPVEYOR", "appveyor"),
    ("DRONE", "drone"),
    ("BITBUCKET_BUILD_NUMBER", "bitbucket-pipelines"),
    ("CODEBUILD_BUILD_ID", "aws-codebuild"),
    ("SEMAPHORE", "semaphore"),
    ("CIRRUS_CI", "cirrus-ci"),
];

/// Which hypervisor is below, by what the firmware calls the machine.
fn vm(evidence: &Evidence) -> Option<Fact> {
    let product = evidence.product.to_lowercase();
    let known = PRODUCTS.iter().find(|(part, _)| product.contains(part));
    match known {
        Some((_, name)) => Some(Fact::new("vm", *name, "firmware", Confidence::High)),
        None if evidence.hypervisor => Some(Fact::new("vm", "other", "processor flag `hypervisor`", Confidence::High)),
        None => None,
    }
}

/// In lower case, what only virtual machines of a maker are called. The most special first.
const PRODUCTS: &[(&str, &str)] = &[
    ("google compute engine", "google-compute-engine"),
    ("amazon ec2", "amazon-ec2"),
    ("droplet", "digitalocean"),
    ("hetzner\nvserver", "hetzner"),
    ("openstack", "openstack"),
    ("vmware", "vmware"),
    ("virtualbox", "virtualbox"),
    ("microsoft corporation\nvirtual machine", "hyper-v"),
    ("parallels", "parallels"),
    ("xen", "xen"),
    ("bhyve", "bhyve"),
    ("apple virtualization", "apple-virtualization"),
    ("qemu", "qemu"),
    ("bochs", "bochs"),
    ("kvm", "kvm"),
];

fn wsl(evidence: &Evidence) -> Option<Fact> {
    let kernel = evidence.kernel.to_lowercase();
    if kernel.contains("microsoft") {
        let version = if kernel.contains("wsl2") || kernel.contains("microsoft-standard") { "2" } else { "1" };
        return Some(Fact::new("wsl", version, "`/proc/sys/kernel/osrelease`", Confidence::High));
    }
    let set = evidence.variables.get("WSL_DISTRO_NAME").is_some_and(|value| !value.is_empty());
    set.then(|| Fact::new("wsl", "other", "variable `WSL_DISTRO_NAME`", Confidence::Low))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One place that a process could find itself in.
    fn place(lines: &[(&str, &str)]) -> Evidence {
        let mut evidence = Evidence { hostname: "bridge.lan".to_owned(), pid: 42, ..Evidence::default() };
        for (what, value) in lines {
            match *what {
                "host" => (*value).clone_into(&mut evidence.hostname),
                "marker" => assert!(MARKERS.contains(value) && evidence.markers.insert((*value).to_owned())),
                "cgroup" => (*value).clone_into(&mut evidence.cgroup),
                "mounts" => (*value).clone_into(&mut evidence.mounts),
                "kernel" => (*value).clone_into(&mut evidence.kernel),
                "product" => (*value).clone_into(&mut evidence.product),
                "hypervisor" => evidence.hypervisor = true,
                variable => {
                    assert!(VARIABLES.contains(&variable), "{variable}");
                    evidence.variables.insert(variable.to_owned(), (*value).to_owned());
                }
            }
        }
        evidence
    }

    #[test]
    fn places() {
        let places: &[(&str, &[(&str, &str)])] = &[
            ("a desk", &[("cgroup", "0::/user.slice/user-1000.slice/session-2.scope"), ("INVOCATION_ID", "0f")]),
            (
                "a desk of GNOME",
                &[
                    ("cgroup", "0::/user.slice/user-1000.slice/user@1000.service/app.slice/app-x.scope"),
                    ("SYSTEMD_EXEC_PID", "7"),
                ],
            ),
            ("nothing can be read", &[]),
            ("docker", &[("marker", "/.dockerenv"), ("cgroup", "0::/"), ("host", "0123456789ab")]),
            (
                "the host of an engine",
                &[
                    ("cgroup", "0::/system.slice/docker-prune.service"),
                    (
                        "mounts",
                        "1 2 0:1 / /var/lib/docker/containers/4f/mounts/shm rw\n1 2 0:1 / /var/lib/kubelet/pods/9/v rw",
                    ),
                ],
            ),
            ("docker without its marker", &[("cgroup", "12:pids:/docker/4f3a5b6c7d8e")]),
            ("a build of docker", &[("mounts", "1 2 0:1 /docker/buildkit/executor/resolv.conf /etc/resolv.conf rw")]),
            (
                "docker, cgroups of version 2",
                &[("cgroup", "0::/"), ("mounts", "1 2 0:1 /var/lib/docker/containers/4f/hostname /etc/hostname rw")],
            ),
            ("podman", &[("marker", "/run/.containerenv"), ("container", "podman")]),
            ("podman by its cgroup", &[("cgroup", "0::/user.slice/libpod-4f3a5b6c7d8e.scope")]),
            (
                "a pod of containerd",
                &[
                    ("cgroup", "0::/kubepods.slice/kubepods-burstable.slice/cri-containerd-4f3a5b6c7d8e.scope"),
                    ("KUBERNETES_SERVICE_HOST", "10.0.0.1"),
                ],
            ),
            (
                "a pod, cgroups of version 2",
                &[("cgroup", "0::/"), ("mounts", "1 2 0:1 /var/lib/kubelet/pods/9/etc-hosts /etc/hosts rw")],
            ),
            ("a pod of docker", &[("marker", "/.dockerenv"), ("KUBERNETES_SERVICE_HOST", "10.0.0.1")]),
            ("a job in a container", &[("marker", "/.dockerenv"), ("GITHUB_ACTIONS", "true"), ("CI", "true")]),
            ("a job", &[("CI", "1"), ("kernel", "6.8.0-azure")]),
            ("no job", &[("CI", "false"), ("GITLAB_CI", "")]),
            (
                "a service",
                &[
                    ("cgroup", "0::/system.slice/midplane.service"),
                    ("marker", "/run/systemd/system"),
                    ("INVOCATION_ID", "0f"),
                ],
            ),
            ("a service by its number", &[("SYSTEMD_EXEC_PID", "42"), ("cgroup", "0::/x")]),
            ("a virtual machine", &[("product", "QEMU\nStandard PC (Q35 + ICH9, 2009)"), ("hypervisor", "")]),
            ("a virtual machine without firmware", &[("hypervisor", "")]),
            ("a laptop of Microsoft", &[("product", "Microsoft Corporation\nSurface Laptop")]),
            ("WSL 2", &[("kernel", "5.15.90.1-microsoft-standard-WSL2"), ("hypervisor", "")]),
            ("WSL 1", &[("kernel", "4.4.0-19041-Microsoft")]),
            ("lxc", &[("container", "lxc")]),
            ("flatpak", &[("container", "flatpak")]),
            ("openvz", &[("marker", "/proc/vz")]),
            ("the host of openvz", &[("marker", "/proc/vz"), ("marker", "/proc/bc")]),
            ("nspawn", &[("marker", "/run/systemd/container")]),
            ("no name", &[("host", ".local")]),
            ("an address", &[("host", "10.0.0.5")]),
            ("blanks", &[("host", "bridge\n")]),
            ("capitals", &[("host", "BRIDGE")]),
        ];
        let mut shown = String::new();
        for (name, lines) in places {
            let facts = discover(&place(lines));
            shown.push_str(&format!("{name}{}\n", if facts.is_container() { " (contained)" } else { "" }));
            for fact in facts.iter() {
                let note = fact.note.as_ref().map(|note| format!(" -- {note}")).unwrap_or_default();
                let value = fact.value.escape_debug();
                shown.push_str(&format!(
                    "    {} = {value} ({}, {}){note}\n",
                    fact.name,
                    fact.source,
                    fact.confidence.as_str()
                ));
            }
        }
        insta::assert_snapshot!(shown);
    }

    #[test]
    fn every_alias_means_a_word_that_can_be_found() {
        let words = [
            "docker-container",
            "podman-container",
            "containerd-container",
            "lxc-container",
            "kubernetes-pod",
            "systemd-service",
            "ci-job",
            "local-process",
        ];
        assert!(ALIASES.iter().all(|(_, meant)| words.contains(meant)));
    }
}
