//! Whether an agent is there, and whether it could start: pure functions of a record of facts.
//!
//! File: `ark-availability-readiness.json`.
//!
//! The facts of a case are a Python process's: installed distributions, variables, what a probe did. They are told here in
//! ours: what it is made of, the ways to sign in (which variables are whose is data of these tests), what its probe gave.
//! Scenarios of other runtimes are sentences, of which the words are looked for. The type of an exception is a code in ours;
//! that there is one is compared, and not its name.

use std::collections::BTreeMap;

use midplane_core::agent::errors;
use midplane_core::agent::readiness::{
    Availability, Facts, Failure, Package, Probe, Readiness, Reason, Source, SourceState, Status, probe_time,
};
use serde_json::{Map, Value, json};

use crate::case::{Case, Check, Ours};

pub(crate) const CHECKS: &[(&str, Check)] = &[("ark-availability-readiness.json", check)];

/// The names of adapters in the cases, their kinds, and what they are made of there.
const ADAPTERS: [(&str, &str, &str); 3] = [
    ("claude", "claude-agent-sdk", "claude-agent-sdk"),
    ("codex", "codex-agent-sdk", "openai-codex"),
    ("antigravity", "antigravity-agent-sdk", "google-antigravity"),
];
/// The kind and package of other runtimes.
const OTHER: (&str, &str) = ("x-third", "p");
/// The code of whatever was raised.
const RAISED: &str = "raised";

/// A way to sign in of a vendor's program, by its variables.
struct Way {
    name: &'static str,
    /// The variable that turns it on; none for what is always looked at.
    switch: &'static str,
    /// The variable that is the credential itself; empty for what only a run can tell.
    held: &'static str,
    /// What is said of it besides, and by which variables.
    said: &'static [(&'static str, Said)],
}

enum Said {
    /// Always this.
    Is(&'static str),
    /// The value of the first of these that is set.
    Value(&'static [&'static str]),
    /// `true` where one of these is set.
    Given(&'static [&'static str]),
    /// Whether one of these is set.
    Whether(&'static [&'static str]),
}

const REGION: (&str, Said) = ("region", Said::Value(&["AWS_REGION", "AWS_DEFAULT_REGION"]));
const AWS_PROFILE: (&str, Said) = ("aws_profile_configured", Said::Given(&["AWS_PROFILE"]));
const AWS_CHAIN: (&str, Said) = ("credential_chain", Said::Is("aws-sdk"));
/// A login that the program keeps for itself.
const OWN: Way = Way { name: "provider-owned-local", switch: "", held: "", said: &[] };

const CLAUDE: [Way; 7] = [
    Way {
        name: "amazon-bedrock",
        switch: "CLAUDE_CODE_USE_BEDROCK",
        held: "AWS_BEARER_TOKEN_BEDROCK",
        said: &[
            AWS_CHAIN,
            REGION,
            AWS_PROFILE,
            ("bedrock_api_key_configured", Said::Given(&["AWS_BEARER_TOKEN_BEDROCK"])),
        ],
    },
    Way {
        name: "google-vertex-ai",
        switch: "CLAUDE_CODE_USE_VERTEX",
        held: "",
        said: &[
            ("credential_chain", Said::Is("google-application-default-credentials")),
            ("project_configured", Said::Given(&["ANTHROPIC_VERTEX_PROJECT_ID", "GOOGLE_CLOUD_PROJECT"])),
        ],
    },
    Way {
        name: "claude-platform-aws",
        switch: "CLAUDE_CODE_USE_ANTHROPIC_AWS",
        held: "",
        said: &[("workspace_configured", Said::Whether(&["ANTHROPIC_AWS_WORKSPACE_ID"]))],
    },
    Way { name: "azure-ai-foundry", switch: "CLAUDE_CODE_USE_FOUNDRY", held: "", said: &[] },
    Way { name: "anthropic-api-key", switch: "ANTHROPIC_API_KEY", held: "ANTHROPIC_API_KEY", said: &[] },
    Way {
        name: "claude-code-oauth-token",
        switch: "CLAUDE_CODE_OAUTH_TOKEN",
        held: "CLAUDE_CODE_OAUTH_TOKEN",
        said: &[],
    },
    OWN,
];
const CODEX: [Way; 3] = [
    Way { name: "chatgpt-access-token", switch: "CODEX_ACCESS_TOKEN", held: "CODEX_ACCESS_TOKEN", said: &[] },
    Way { name: "openai-api-key", switch: "OPENAI_API_KEY", held: "OPENAI_API_KEY", said: &[] },
    OWN,
];
const CODEX_BEDROCK: Way =
    Way { name: "amazon-bedrock", switch: "", held: "", said: &[AWS_CHAIN, REGION, AWS_PROFILE] };

type Variables = BTreeMap<String, String>;

fn check(case: &Case<'_>) -> Ours {
    let (input, expect) = (case.input(), case.expect());
    if let Some(time) = input.get("timeout_s") {
        // What is no number, or none that JSON has, is none that could be given.
        let seconds = time.as_f64().unwrap_or(f64::NAN);
        if let Err(error) = probe_time(seconds) {
            let told = json!(errors::original(&error));
            return Ours::refused(error.code.to_string()).equal("the error", &told, &expect["error_type"]);
        }
    }
    if let Some(raised) = expect.get("error_type") {
        return Ours::accepted().differs(format!("the original raises {raised}"));
    }
    let facts = match input["third_party"].as_str() {
        Some(sentence) => of_other(sentence),
        None => of_adapter(input),
    };
    let facts = match facts {
        Ok(facts) => facts,
        Err(why) => return Ours::refused("unknown-facts").differs(why),
    };
    let mut ours = Ours::accepted();
    if let Some(wanted) = expect.get("availability") {
        let mut told = json!(Availability::of(&facts));
        // Ours has nothing of which a secret could be copied.
        told["metadata"] = json!({});
        ours = ours.equal("the availability", &shown(told), &shown(wanted.clone()));
    }
    let readiness = Readiness::of(&facts);
    let mut told = json!(readiness);
    told["metadata"] = Value::Object(readiness.metadata.clone());
    told["is_ready_to_attempt"] = json!(readiness.is_ready_to_attempt());
    ours.equal("the readiness", &shown(told), &shown(expect["readiness"].clone()))
}

/// Without prose, and with the code or type of an error as one.
fn shown(mut told: Value) -> Value {
    if let Some(told) = told.as_object_mut() {
        told.remove("message");
    }
    if let Some(metadata) = told["metadata"].as_object_mut() {
        let error = metadata.remove("code").or_else(|| metadata.remove("error_type"));
        metadata.extend(error.map(|_| ("error".to_owned(), json!("<which>"))));
    }
    told
}

fn failure(what: &'static str) -> Failure {
    Failure { what, code: Some(RAISED.to_owned()) }
}

// ---- the three adapters ----

fn of_adapter(input: &Value) -> Result<Facts, String> {
    let Some((adapter, kind, package)) = ADAPTERS.into_iter().find(|(name, ..)| input["adapter"] == *name) else {
        return Err(format!("no adapter {}", input["adapter"]));
    };
    let config = &input["adapter_config"];
    // What a caller sets for the program comes over what it has anyway.
    let variables = [&input["env"], &config["env"]].into_iter().filter_map(Value::as_object).flatten();
    let variables: Variables =
        variables.filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned()))).collect();
    let version = input["installed"][package].as_str().map(str::to_owned);
    let name = Some(package.to_owned());
    let package = if version.is_some() || input["sdk_injected"] == true {
        Package::There { name, version }
    } else {
        Package::Missing { name, reason: Reason::MissingPackage, message: "it is not installed".to_owned() }
    };
    let ways = |ways: &[Way]| ways.iter().map(|way| way.source(&variables)).collect::<Vec<_>>();
    let (sources, probe) = match adapter {
        "claude" => (ways(&CLAUDE), Probe::None),
        "codex" => {
            let mut sources = if uses_bedrock(config) { vec![CODEX_BEDROCK.source(&variables)] } else { ways(&CODEX) };
            let probe = account(&input["vendor_account_reply"], &mut sources);
            (sources, probe)
        }
        _ => (google(config, &variables, &input["google_adc"]), Probe::None),
    };
    Ok(Facts { kind: kind.to_owned(), package, lacks: None, sources, probe })
}

impl Way {
    fn source(&self, variables: &Variables) -> Source {
        let set = |names: &[&str]| {
            names.iter().find_map(|name| variables.get(*name).filter(|value| !value.is_empty()).cloned())
        };
        let is_off = |value: &String| ["", "0", "false", "no"].contains(&value.to_lowercase().as_str());
        // A switch is off by such a word; a credential is what it is.
        let on = match (self.switch, self.held) {
            ("", _) => true,
            (switch, held) if switch == held => set(&[switch]).is_some(),
            (switch, _) => variables.get(switch).is_some_and(|value| !is_off(value)),
        };
        let state = match (on, self.held) {
            (false, _) => SourceState::Absent("it is not set".to_owned()),
            (true, held) if !held.is_empty() && set(&[held]).is_some() => SourceState::Held,
            (true, _) => SourceState::Unverified,
        };
        let mut said = Map::from_iter([("auth_source".to_owned(), json!(self.name))]);
        said.extend(self.said.iter().filter_map(|(name, what)| {
            let value = match what {
                Said::Is(text) => json!(text),
                Said::Value(names) => json!(set(names)?),
                Said::Given(names) => set(names).map(|_| json!(true))?,
                Said::Whether(names) => json!(set(names).is_some()),
            };
            Some(((*name).to_owned(), value))
        }));
        Source { said, state }
    }
}

fn uses_bedrock(config: &Value) -> bool {
    let overrides = config["config_overrides"].as_array().into_iter().flatten().filter_map(Value::as_str);
    overrides
        .filter_map(super::codex::override_of)
        .any(|set| set == ("model_provider".to_owned(), json!("amazon-bedrock")))
}

/// What the vendor's program said of its account. Where it could not be asked, that is so of the way that would count.
fn account(reply: &Value, sources: &mut [Source]) -> Probe {
    let Some(reply) = reply.as_object() else {
        let word = reply.as_str().unwrap_or_default();
        if word.contains("timeout") || word.contains("hang") || word.contains("never") {
            return Probe::Failed(Failure { what: "timeout", code: None });
        }
        if let Some(counts) = sources.iter_mut().find(|source| !matches!(source.state, SourceState::Absent(_))) {
            counts.state = SourceState::Failed(failure("account-probe"));
        }
        return Probe::None;
    };
    let account = reply.get("account").unwrap_or(&Value::Null);
    if account.is_null() {
        let message = "it has no account".to_owned();
        return Probe::Said(Status::NotReady, Reason::MissingCredentials, message, Map::new());
    }
    let account = account.get("root").unwrap_or(account);
    let kinds = [("apiKey", "api-key"), ("chatgpt", "chatgpt"), ("amazonBedrock", "amazon-bedrock")];
    let kind = kinds.iter().find(|(theirs, _)| account["type"] == *theirs);
    let said = kind.map(|(_, ours)| ("account_type".to_owned(), json!(ours)));
    Probe::Said(Status::ReadyToAttempt, Reason::Available, "it has an account".to_owned(), said.into_iter().collect())
}

fn google(config: &Value, variables: &Variables, adc: &Value) -> Vec<Source> {
    let named = |name: &str| ("auth_source".to_owned(), json!(name));
    let held = |name| Source { said: Map::from_iter([named(name)]), state: SourceState::Held };
    let set = |names: &[&str]| names.iter().any(|name| variables.get(*name).is_some_and(|value| !value.is_empty()));
    let mut sources = Vec::new();
    if config["api_key"].as_str().is_some_and(|key| !key.is_empty()) {
        sources.push(held(if config["vertex"] == true { "vertex-express-api-key" } else { "api-key" }));
    }
    if config["vertex"] != true && set(&["GEMINI_API_KEY", "GOOGLE_API_KEY"]) {
        sources.push(held("api-key"));
    }
    let absent = || SourceState::Absent("there is no key".to_owned());
    let project = set(&["GOOGLE_CLOUD_PROJECT", "GCLOUD_PROJECT"])
        || config["project"].is_string()
        || adc["project"].as_str().is_some_and(|project| !project.is_empty());
    sources.push(match adc {
        _ if config["vertex"] == false => Source { said: Map::new(), state: absent() },
        Value::String(_) => Source { said: Map::new(), state: SourceState::Failed(failure("adc-probe")) },
        Value::Object(_) if project => {
            let said = Map::from_iter([
                named("application-default-credentials"),
                ("project_configured".to_owned(), json!(true)),
            ]);
            Source { said, state: SourceState::Held }
        }
        _ => Source { said: Map::new(), state: absent() },
    });
    sources
}

// ---- other runtimes ----

/// What a sentence says happened.
fn of_other(sentence: &str) -> Result<Facts, String> {
    let says = |words: &str| sentence.contains(words);
    let (kind, name) = OTHER;
    let mut package = Package::There { name: Some(name.to_owned()), version: Some("1".to_owned()) };
    if says("availability raises") {
        package = Package::Failed(failure("availability"));
    } else if says("availability false") || says("unavailable") {
        let words = sentence.split(|c: char| !c.is_ascii_alphabetic() && c != '-');
        let reason = words
            .map(|word| Reason::of_adapter(&word.to_lowercase()))
            .find(|reason| ![Reason::Unknown, Reason::Available].contains(reason));
        let reason = reason.unwrap_or(Reason::MissingPackage);
        package = Package::Missing { name: Some(name.to_owned()), reason, message: "it is not there".to_owned() };
    }
    let mut probe = Probe::None;
    if says("probe never") || says("time") {
        probe = Probe::Failed(Failure { what: "timeout", code: None });
    } else if says("probe returns ready") {
        // It names no package, and nobody asks for one.
        package = Package::There { name: None, version: None };
        let said = says("token").then(|| ("token".to_owned(), json!("not-scrubbed")));
        let message = "ready to attempt".to_owned();
        probe = Probe::Said(Status::ReadyToAttempt, Reason::Available, message, said.into_iter().collect());
    } else if says("probe raises") || says("probe returns") {
        probe = Probe::Failed(failure("error"));
    } else if !says("no probe") && !says("no readiness probe") {
        return Err(format!("no such scenario: {sentence}"));
    }
    Ok(Facts { kind: kind.to_owned(), package, lacks: None, sources: Vec::new(), probe })
}
