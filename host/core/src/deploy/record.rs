//! What is known of a deployment or a session beside its state: logs, a custom domain, the agent and what it may. Data alone;
//! the shapes and defaults are runtm-shared's (`types.py`).

use serde::{Deserialize, Serialize};

use super::session::SessionState;
use crate::project::manifest::PolicyMode;

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

/// Which agent works in a session.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AgentType {
    /// Claude Code.
    #[default]
    ClaudeCode,
    /// Codex.
    Codex,
    /// Gemini.
    Gemini,
    /// Any other.
    Custom,
}

impl AgentType {
    /// All of them, in the order of declaration.
    pub const ALL: [Self; 4] = [Self::ClaudeCode, Self::Codex, Self::Gemini, Self::Custom];

    /// The word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ClaudeCode => "claude-code",
            Self::Codex => "codex",
            Self::Gemini => "gemini",
            Self::Custom => "custom",
        }
    }
}

/// Who decides in a session.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SessionMode {
    /// The agent goes on by itself.
    #[default]
    Autopilot,
    /// A person takes part.
    Interactive,
}

impl SessionMode {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Autopilot, Self::Interactive];

    /// The word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Autopilot => "autopilot",
            Self::Interactive => "interactive",
        }
    }
}

/// What the agent of a session may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionConstraints {
    /// Deploy what it made.
    pub allow_deploy: bool,
    /// Reach the network.
    pub allow_network: bool,
    /// Install packages.
    pub allow_install: bool,
}

impl Default for SessionConstraints {
    fn default() -> Self {
        Self { allow_deploy: true, allow_network: true, allow_install: true }
    }
}

/// A lasting workspace with an agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SessionRecord {
    /// Its id.
    pub id: String,
    /// What a person calls it.
    pub name: Option<String>,
    /// Who decides in it.
    pub mode: SessionMode,
    /// Where it stands.
    pub state: SessionState,
    /// Which agent works in it.
    pub agent: AgentType,
    /// The sandbox that it has; empty before it has one.
    pub sandbox_id: String,
    /// The folder that is worked in; empty before there is one.
    pub workspace_path: String,
    /// What the agent was asked first.
    pub initial_prompt: Option<String>,
    /// The vendor's own conversation, to go on with.
    pub claude_session_id: Option<String>,
    /// What the agent may.
    pub constraints: SessionConstraints,
}

impl SessionRecord {
    /// A session that begins: it runs, and nothing else is known.
    pub fn new(id: impl Into<String>) -> Self {
        Self {
            id: id.into(),
            name: None,
            mode: SessionMode::default(),
            state: SessionState::Running,
            agent: AgentType::default(),
            sandbox_id: String::new(),
            workspace_path: String::new(),
            initial_prompt: None,
            claude_session_id: None,
            constraints: SessionConstraints::default(),
        }
    }
}

impl PolicyMode {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Sandbox, Self::Prod];

    /// The word in a manifest.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Sandbox => "sandbox",
            Self::Prod => "prod",
        }
    }
}
