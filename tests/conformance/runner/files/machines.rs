//! The state machines, and leases against the original's counters.
//!
//! Files: `runtm_deployment_state.json`, `runtm_session_state.json`, `runtm_deploy_tracking.json`.
//!
//! The original counts in Redis, by tenant; a caller proves nothing when it releases. Ours grants leases, so a case is
//! translated: a reservation with an id has that id as its owner, one without has an owner of its own, and a release
//! gives back what its caller was granted last. `expire` is time that passes while only the other tenants send heartbeats.

use std::collections::{BTreeMap, BTreeSet};

use midplane_core::Error;
use midplane_core::deploy::lease::{Decision, Request, Scope, Slots, TTL_MS_WITHOUT_HEARTBEAT};
use midplane_core::deploy::session::{SandboxState, SessionState};
use midplane_core::deploy::state::{DeploymentState, Machine};
use serde_json::{Value, json};

use crate::case::{Case, Check, Ours, Outcome};

pub(crate) const CHECKS: &[(&str, Check)] = &[
    ("runtm_deployment_state.json", deployment_state),
    ("runtm_session_state.json", session_state),
    ("runtm_deploy_tracking.json", deploy_tracking),
];

fn word(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn deployment_state(case: &Case<'_>) -> Ours {
    let input = case.input();
    let answer = match word(&input["op"]) {
        "can_transition" => DeploymentState::parse(word(&input["from"])).and_then(|from| {
            let to = DeploymentState::parse(word(&input["to"]))?;
            Ok(json!({ "allowed": from.can_go(to) }))
        }),
        "is_terminal" => {
            DeploymentState::parse(word(&input["state"])).map(|it| json!({ "terminal": it.is_terminal() }))
        }
        op => return Ours::accepted().differs(format!("no such operation: `{op}`")),
    };
    match answer {
        Ok(answer) => Ours::accepted().equal("the answer", &answer, case.expect()),
        Err(error) => Ours::refused(error.code).differs(error.message),
    }
}

fn session_state(case: &Case<'_>) -> Ours {
    let input = case.input();
    let (from, to) = (word(&input["from"]), word(&input["to"]));
    match word(&input["machine"]) {
        "SessionState" => edge::<SessionState>(from, to, case.expect()),
        "SandboxState" => edge::<SandboxState>(from, to, case.expect()),
        machine => Ours::accepted().differs(format!("no such machine: `{machine}`")),
    }
}

fn edge<S: Machine>(from: &str, to: &str, expect: &Value) -> Ours {
    let find = || {
        let from = if from == "[*]" { None } else { Some(S::parse(from)?) };
        Ok::<_, Error>(S::edge(from, S::parse(to)?))
    };
    match find() {
        Ok(edge) => {
            let ours = json!({ "documented": edge.is_some(), "trigger": edge.map(|edge| edge.trigger) });
            Ours::accepted().equal("the edge", &ours, expect)
        }
        Err(error) => Ours::refused(error.code).differs(error.message),
    }
}

/// What a caller was granted and has not given back.
struct Held {
    owner: String,
    fence: u64,
    named: bool,
}

#[derive(Default)]
struct Tenant {
    slots: Slots,
    held: Vec<Held>,
    /// Fences that named owners were told, released or not: a second release has nothing better.
    told: BTreeMap<String, u64>,
    /// Ids whose slot keys the original may still have, though what they stood for is gone: nothing reads them.
    stale: BTreeSet<String>,
}

impl Tenant {
    fn acquire(&mut self, id: Option<&str>, limit: Option<i64>, unique: usize, now_ms: u64) -> Result<Step, Error> {
        let owner = id.map_or_else(|| format!("caller {unique}"), str::to_owned);
        let request = Request { owner: owner.clone(), limit, ttl_ms: TTL_MS_WITHOUT_HEARTBEAT };
        let decision = self.slots.acquire(&request, now_ms)?;
        if let Decision::Refused { count } = decision {
            let code = decision.granted().err().map_or_else(String::new, |error| error.code.into_owned());
            return Ok(Step { answer: json!([false, count]), outcome: Outcome::Refused(code) });
        }
        let (lease, count) = decision.granted()?;
        self.held.retain(|held| held.owner != owner);
        self.told.insert(owner.clone(), lease.fence);
        self.held.push(Held { owner, fence: lease.fence, named: id.is_some() });
        Ok(Step::taken(json!([true, count])))
    }

    fn release(&mut self, id: Option<&str>, now_ms: u64) -> Step {
        let nameless = self.held.iter().rposition(|held| !held.named);
        let at = match id {
            Some(id) if self.told.contains_key(id) => self.held.iter().rposition(|held| held.owner == id),
            // The original's ids are notes: one may be given on release only, or on reservation only.
            Some(_) => nameless,
            None => nameless.or_else(|| self.held.len().checked_sub(1)),
        };
        let (owner, fence) = match at.map(|at| self.held.remove(at)) {
            Some(held) => {
                if id.is_none() && held.named {
                    self.stale.insert(held.owner.clone());
                }
                (held.owner, held.fence)
            }
            None => {
                let owner = id.unwrap_or("nobody");
                (owner.to_owned(), self.told.get(owner).copied().unwrap_or_default())
            }
        };
        Step::taken(json!(self.slots.release(&owner, fence, now_ms).count))
    }
}

struct Step {
    answer: Value,
    outcome: Outcome,
}

impl Step {
    fn taken(answer: Value) -> Self {
        Self { answer, outcome: Outcome::Accepted }
    }
}

/// An empty id is none, in Python.
fn id(value: &Value) -> Option<&str> {
    value.as_str().filter(|id| !id.is_empty())
}

/// No more than 1.5 is no more than 1.
fn limit(value: &Value) -> Option<i64> {
    value.as_i64().or_else(|| value.as_f64().map(|limit| limit.floor() as i64))
}

fn deploy_tracking(case: &Case<'_>) -> Ours {
    let mut tenants: BTreeMap<&str, Tenant> = BTreeMap::new();
    let mut now_ms = 0;
    let steps = case.input()["steps"].as_array().map_or(&[][..], Vec::as_slice);
    let expected = case.expect()["steps"].as_array().map_or(&[][..], Vec::as_slice);
    if steps.len() != expected.len() {
        return Ours::accepted().differs("the case has not an answer for each step");
    }
    for (at, (step, original)) in steps.iter().zip(expected).enumerate() {
        let tenant = word(&step[1]);
        if let Err(error) = Scope::new("deploy", tenant) {
            return Ours::refused(error.code).differs(error.message);
        }
        let one = tenants.entry(tenant).or_default();
        let ours = match word(&step[0]) {
            "reserve" => match one.acquire(id(&step[3]), limit(&step[2]), at, now_ms) {
                Ok(ours) => ours,
                Err(error) => return Ours::refused(error.code).differs(error.message),
            },
            "release" => one.release(id(&step[2]), now_ms),
            "count" => Step::taken(json!(one.slots.count(now_ms))),
            "expire" => {
                if let Err(error) = expire(&mut tenants, tenant, &mut now_ms) {
                    return Ours::refused(error.code).differs(error.message);
                }
                Step::taken(Value::Null)
            }
            op => return Ours::accepted().differs(format!("no such step: `{op}`")),
        };
        if ours.answer != *original {
            let difference = format!("step {at} {step}: ours {}, the original's {original}", ours.answer);
            return Ours { outcome: ours.outcome, same: Err(difference) };
        }
    }
    keys(&tenants, now_ms, &case.expect()["keys"])
}

/// The leases of one tenant expire; all others send a heartbeat in time.
fn expire(tenants: &mut BTreeMap<&str, Tenant>, tenant: &str, now_ms: &mut u64) -> Result<(), Error> {
    for _ in 0..2 {
        *now_ms += TTL_MS_WITHOUT_HEARTBEAT / 2;
        for (_, one) in tenants.iter_mut().filter(|(name, _)| **name != tenant) {
            let live: Vec<_> = one.slots.live(*now_ms).cloned().collect();
            for lease in live {
                one.slots.renew(&lease.owner, lease.fence, TTL_MS_WITHOUT_HEARTBEAT, *now_ms)?;
            }
        }
    }
    if let Some(one) = tenants.get_mut(tenant) {
        let named = one.held.iter().filter(|held| held.named).map(|held| held.owner.clone());
        one.stale.extend(named.collect::<Vec<_>>());
    }
    Ok(())
}

/// The original's keys against what ours holds: the counter of a tenant is its places, a slot key is a lease with a
/// name. Whatever has a value expires in the end; that a counter of 0 has no end is Redis's concern, and not a rule.
fn keys(tenants: &BTreeMap<&str, Tenant>, now_ms: u64, expected: &Value) -> Ours {
    let mut ours = BTreeMap::new();
    let mut stale = BTreeSet::new();
    for (tenant, one) in tenants {
        ours.insert(format!("concurrent_deploys:{tenant}"), one.slots.count(now_ms).to_string());
        let slot = |owner: &str| format!("concurrent_deploy_slot:{tenant}:{owner}");
        let named = one.held.iter().filter(|held| held.named);
        let live = named.filter(|held| one.slots.holds(&held.owner, held.fence, now_ms));
        // The original writes a slot only where it counts.
        let counted = |owner: &str| one.slots.live(now_ms).any(|lease| lease.counted && lease.owner == owner);
        ours.extend(live.filter(|held| counted(&held.owner)).map(|held| (slot(&held.owner), "1".to_owned())));
        stale.extend(one.stale.iter().map(|owner| slot(owner)));
    }
    ours.retain(|_, value| value != "0");
    let theirs: BTreeMap<String, String> = expected
        .as_object()
        .into_iter()
        .flatten()
        .map(|(key, entry)| (key.clone(), word(&entry["value"]).to_owned()))
        .filter(|(key, value)| value != "0" && (ours.contains_key(key) || !stale.contains(key)))
        .collect();
    let for_ever = |key: &&String| expected[key.as_str()]["has_ttl"] != true;
    if let Some(key) = theirs.keys().find(for_ever) {
        return Ours::accepted().differs(format!("`{key}`: ours expires, the original's does not"));
    }
    Ours::accepted().equal("what is held", &json!(ours), &json!(theirs))
}
