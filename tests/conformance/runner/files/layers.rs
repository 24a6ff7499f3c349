//! Layered configuration: merge, interpolation, views.
//!
//! Files: `mxm_config_merge.json`, `mxm_config_view.json`.
//!
//! An exception of the original is compared by the kind that it stands for. Views cannot be written to by their type, so what
//! the original says about a write needs no comparison.

use std::collections::BTreeMap;

use midplane_core::layers::{Found, Layer, Merged, Refused, Selectors, Source, Variables, load, merge};
use midplane_core::{Error, ErrorKind};
use serde_json::Value;

use crate::case::{Case, Check, Ours};

pub(crate) const CHECKS: &[(&str, Check)] = &[("mxm_config_merge.json", merged), ("mxm_config_view.json", viewed)];

fn merged(case: &Case<'_>) -> Ours {
    let input = case.input();
    let files: BTreeMap<&str, &str> = texts(&input["files"]).collect();
    let identity = |field: &str| input["identity"][field].as_str().unwrap_or_default();
    let selectors = Selectors {
        app: identity("app"),
        environment: identity("environment"),
        machine: identity("machine"),
        substrate: identity("substrate"),
        role: identity("role"),
    };
    let environment = texts(&input["env"]).map(|(name, value)| (name.to_owned(), value.to_owned()));
    let overrides = input["overrides"].to_string();
    let named = files.values().copied().chain([overrides.as_str()]).flat_map(variables_in);
    let allowed = named.chain(texts(&input["env"]).map(|(name, _)| name.to_owned()));
    let variables = Variables::new(allowed.collect::<Vec<_>>(), environment);

    let found = |path: &str| match files.get(path) {
        Some(text) => Found::Text((*text).to_owned()),
        None if files.keys().any(|file| file.starts_with(&format!("{path}/"))) => Found::NoFile,
        None => Found::Nothing,
    };
    let loaded = load(selectors, input["overrides"].as_object(), &variables, |path| Ok(found(path)));
    compare(case, loaded.and_then(|merged| merged.resolve(&variables)).map(|node| node.to_json()))
}

fn viewed(case: &Case<'_>) -> Ours {
    let input = case.input();
    let variables = Variables::new(variables_in(&input["data"].to_string()), []);
    let data = input["data"].as_object().cloned().unwrap_or_default();
    let path = input["path"].as_str().unwrap_or_default();
    let eager = input["resolve"].as_bool() == Some(true);
    let view = |merged: &Merged| {
        let view = merged.view(path, &variables)?;
        Ok(if eager { view.settled()? } else { view.resolve()? }.to_json())
    };
    let merged = Source::from_data(Layer::Default, "data", &data).and_then(|source| merge([source], &variables));
    compare(case, merged.and_then(|merged| view(&merged)))
}

/// The variables of a case are those that it sets and those that it names, set or not.
fn variables_in(text: &str) -> Vec<String> {
    let after = text.split("oc.env").skip(1).map(|rest| rest.trim_start_matches([' ', '\t', ':', '\'', '"']));
    after.map(|rest| rest.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect()).collect()
}

fn texts(object: &Value) -> impl Iterator<Item = (&str, &str)> {
    object.as_object().into_iter().flatten().filter_map(|(name, text)| Some((name.as_str(), text.as_str()?)))
}

fn compare(case: &Case<'_>, ours: Result<Value, Refused>) -> Ours {
    let expect = case.expect();
    let original = expect["ok"].as_bool() == Some(true);
    match ours {
        Ok(value) if original => Ours::accepted().equal("value", &value, &expect["value"]),
        Ok(value) => Ours::accepted().differs(format!("ours gives {value}, the original raises {}", expect["error"])),
        Err(refused) => {
            let error = Error::from(refused);
            let (kind, ours) = (error.kind, Ours::refused(error.code.into_owned()));
            if original {
                return ours.differs(format!("ours refuses ({}), the original accepts", error.message));
            }
            let wanted = kind_of(expect["error"].as_str().unwrap_or_default());
            if kind == wanted {
                ours
            } else {
                ours.differs(format!("ours is {kind} ({}), {} is {wanted}", error.message, expect["error"]))
            }
        }
    }
}

/// What a caller could do about an exception of the original.
fn kind_of(exception: &str) -> ErrorKind {
    match exception {
        "FileNotFoundError" | "KeyError" | "ConfigIndexError" => ErrorKind::NotFound,
        "PermissionError" => ErrorKind::Denied,
        // The original cannot resolve what it made read-only itself: a state, not an input.
        "ReadonlyConfigError" => ErrorKind::Conflict,
        _ => ErrorKind::Invalid,
    }
}
