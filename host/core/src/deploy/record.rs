//! What is known of a deployment beside its state: its logs and its custom domain. Data alone; the shapes are runtm-shared's.

use serde::{Deserialize, Serialize};

/// Which of a deployment's logs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogType {
    /// Of the build.
    Build,
    /// Of bringing it up.
    Deploy,
    /// Of the application itself.
    Runtime,
}

impl LogType {
    /// All of them, in their order in time.
    pub const ALL: [Self; 3] = [Self::Build, Self::Deploy, Self::Runtime];

    /// The word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Build => "build",
            Self::Deploy => "deploy",
            Self::Runtime => "runtime",
        }
    }
}

/// How far the certificate of a custom domain is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CertificateStatus {
    /// Asked for.
    #[default]
    Pending,
    /// There.
    Issued,
    /// Refused; [`CustomDomain::error`] says why.
    Error,
}

/// A record that the owner of a domain has to set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DnsRecord {
    /// `A`, `AAAA`, `CNAME` or `TXT`.
    pub record_type: String,
    /// Its owner.
    pub name: String,
    /// What it says.
    pub value: String,
}

/// A domain of someone's own that leads to an application.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CustomDomain {
    /// The name.
    pub hostname: String,
    /// Whether its records are as they have to be.
    pub configured: bool,
    /// How far its certificate is.
    pub certificate_status: CertificateStatus,
    /// What has to be set.
    pub dns_records: Vec<DnsRecord>,
    /// What is wrong, if anything.
    pub error: Option<String>,
    /// Where the provider shows how far it is.
    pub check_url: Option<String>,
}

impl CustomDomain {
    /// A domain of which nothing is known yet.
    pub fn new(hostname: impl Into<String>) -> Self {
        Self {
            hostname: hostname.into(),
            configured: false,
            certificate_status: CertificateStatus::default(),
            dns_records: Vec::new(),
            error: None,
            check_url: None,
        }
    }
}
