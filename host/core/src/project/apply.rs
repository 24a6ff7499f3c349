//! A proposal merged into a manifest, once a person approved it.
//!
//! The manifest's text stays as it is, comments and order included: what is new is inserted where it belongs, in the style
//! that is there. Only where that cannot be done (a list that is an alias, for example) is the manifest written anew, without
//! its comments. Either way the result reads strictly as exactly the manifest that was meant, or there is none.
//!
//! Approval adds to a manifest and switches features. It never changes a variable or connection that stands there: a
//! proposal that would is refused.

use serde_json::{Value as Json, json};

use super::manifest::{self, Connection, Egress, EnvVar, Manifest, VolumeMount};
use super::requests::{RequestedEnvVar, Requests};
use super::table::Reader;
use super::value::{Item, read};
use super::{KEY_ORDER, Mode};
use crate::problem::Problem;
use crate::text::shown;
use crate::yaml::edit::{self, Edit};

/// A manifest after a proposal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Merged {
    /// Its text; the same text if nothing changes.
    pub text: String,
    /// Each change as a line; none where the manifest has it all.
    pub changes: Vec<String>,
}

/// Merges a proposal into the text of a manifest. `file` is the manifest's name in problems: its own, contradictions
/// (`request-conflict`), and, under the name `FILE (as proposed)`, what would be wrong with the result.
///
/// A host that is proposed while egress is `public` changes nothing: it can be reached.
pub fn apply(requests: &Requests, manifest_text: &str, file: &str) -> Result<Merged, Vec<Problem>> {
    let before = manifest::parse(manifest_text, file, Mode::Strict)?;
    // What was just parsed is read once more, for its places.
    let source =
        read(manifest_text, &mut Reader::new(file, Mode::Strict)).unwrap_or_else(|| Item::from_json(&Json::Null));
    let mut merge =
        Merge { file, source, after: before.clone(), edits: Vec::new(), changes: Vec::new(), problems: Vec::new() };
    merge.features(requests);
    merge.env_vars(&requests.requested.env_vars);
    merge.connections(requests);
    merge.egress(&requests.requested.egress_allowlist);
    if !merge.problems.is_empty() {
        return Err(merge.problems);
    }
    if merge.changes.is_empty() {
        return Ok(Merged { text: manifest_text.to_owned(), changes: Vec::new() });
    }
    let after = merge.expected();
    let proposed = format!("{file} (as proposed)");
    // What the manifest would be is checked on its own, so that what is wrong with it is told whatever the layout.
    let anew = after.to_yaml();
    manifest::parse(&anew, &proposed, Mode::Strict).map_err(|problems| {
        // Nobody sees the lines of this text: the field says where.
        problems.into_iter().map(|problem| Problem { at: None, ..problem }).collect::<Vec<_>>()
    })?;
    let edited = edit::all(manifest_text, &merge.edits, KEY_ORDER);
    let edited = edited.filter(|text| manifest::parse(text, file, Mode::Strict).as_ref() == Ok(&after));
    Ok(Merged { text: edited.unwrap_or(anew), changes: merge.changes })
}

struct Merge<'a> {
    file: &'a str,
    source: Item,
    after: Manifest,
    edits: Vec<Edit>,
    changes: Vec<String>,
    problems: Vec<Problem>,
}

impl Merge<'_> {
    fn features(&mut self, requests: &Requests) {
        let wanted = requests.requested.features.clone().unwrap_or_default();
        let features = &mut self.after.features;
        let each = [("database", wanted.database, &mut features.database), ("auth", wanted.auth, &mut features.auth)];
        for (name, wanted, now) in each {
            let Some(wanted) = wanted.filter(|wanted| wanted != now) else { continue };
            *now = wanted;
            let why = reason(wanted_reason(requests));
            self.changes
                .push(format!("feature `{name}`: {}{why}", if wanted { "switched on" } else { "switched off" }));
            self.edits.push(Edit::Set { path: vec!["features".to_owned(), name.to_owned()], value: json!(wanted) });
        }
    }

    fn env_vars(&mut self, wanted: &[RequestedEnvVar]) {
        for var in wanted {
            let name = shown(&var.name, 80);
            match self.after.env_schema.iter().position(|known| known.name == var.name) {
                Some(at) => {
                    let known = &self.after.env_schema[at];
                    let differs = [
                        (known.kind != var.kind).then(|| format!("its type is `{}`, not `{}`", known.kind, var.kind)),
                        (known.secret != var.secret).then(|| format!("it is {}secret", no(known.secret))),
                        (known.required != var.required).then(|| format!("it is {}required", no(known.required))),
                    ];
                    let differs: Vec<String> = differs.into_iter().flatten().collect();
                    if !differs.is_empty() {
                        let why = format!("the variable `{name}` is declared already: {}", differs.join(", "));
                        self.conflict(&format!("env_schema.{at}"), why);
                    }
                }
                None => {
                    let mut is = vec![var.kind.as_str()];
                    is.extend(var.required.then_some("required"));
                    is.extend(var.secret.then_some("secret"));
                    self.changes.push(format!("variable `{name}`: {}{}", is.join(", "), reason(var.reason.as_deref())));
                    let var = var.to_env_var();
                    self.edits.push(Edit::Append { path: vec!["env_schema".to_owned()], item: short(&var) });
                    self.after.env_schema.push(var);
                }
            }
        }
    }

    fn connections(&mut self, requests: &Requests) {
        for wanted in &requests.requested.connections {
            let name = shown(&wanted.name, 80);
            match self.after.connections.iter().position(|known| known.name == wanted.name) {
                Some(at) => {
                    let (mut known, mut vars) = (self.after.connections[at].env_vars.clone(), wanted.env_vars.clone());
                    known.sort_unstable();
                    vars.sort_unstable();
                    if known != vars {
                        let why = format!("the connection `{name}` is there already, with other variables");
                        self.conflict(&format!("connections.{at}"), why);
                    }
                }
                None => {
                    let vars = shown(&wanted.env_vars.join(", "), 200);
                    self.changes.push(format!("connection `{name}`: {vars}{}", reason(wanted.reason.as_deref())));
                    let connection = Connection { name: wanted.name.clone(), env_vars: wanted.env_vars.clone() };
                    self.edits.push(Edit::Append { path: vec!["connections".to_owned()], item: json!(connection) });
                    self.after.connections.push(connection);
                }
            }
        }
    }

    fn egress(&mut self, hosts: &[String]) {
        let Some(policy) = self.after.policy.as_mut().filter(|policy| policy.egress == Egress::Allowlist) else {
            return;
        };
        for host in hosts {
            if policy.egress_allowlist.contains(host) {
                continue;
            }
            self.changes.push(format!("egress to `{}`", shown(host, 200)));
            let path = vec!["policy".to_owned(), "egress_allowlist".to_owned()];
            self.edits.push(Edit::Append { path, item: json!(host) });
            policy.egress_allowlist.push(host.clone());
        }
    }

    fn conflict(&mut self, path: &str, why: String) {
        let mut problem = Problem::new(self.file, "request-conflict", why).field(path);
        problem.at = self.source.locate(path);
        self.problems.push(problem.hint("change the proposal or the manifest: approval only adds"));
    }

    /// The manifest that is meant. The volume that a database gets by itself is not written.
    fn expected(&self) -> Manifest {
        let mut after = self.after.clone();
        let written = match &self.source.to_json()["volumes"] {
            Json::Array(volumes) => !volumes.is_empty(),
            _ => false,
        };
        if !written {
            after.volumes.clear();
            if after.features.database {
                after.volumes.push(VolumeMount { name: "data".to_owned(), path: "/data".to_owned(), size_gb: 1 });
            }
        }
        after
    }
}

fn wanted_reason(requests: &Requests) -> Option<&str> {
    requests.requested.features.as_ref().and_then(|features| features.reason.as_deref())
}

fn reason(text: Option<&str>) -> String {
    text.filter(|text| !text.is_empty()).map_or_else(String::new, |text| format!(" ({})", shown(text, 200)))
}

fn no(is: bool) -> &'static str {
    if is { "" } else { "not " }
}

/// A variable without what is the default anyway.
fn short(var: &EnvVar) -> Json {
    let mut value = manifest::compact(json!(var));
    if let Some(entries) = value.as_object_mut() {
        entries.retain(|key, value| !(key == "type" && *value == "string") && *value != Json::Bool(false));
    }
    value
}
