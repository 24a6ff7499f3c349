//! What a manifest says when it is right. Broken ones are files: `tests/manifests`.

use super::*;
use crate::permission::Permissions;
use proptest::prelude::*;

const FULL: &str = include_str!("../../tests/manifests/full.toml");

fn values(pairs: &[(&str, Value)]) -> BTreeMap<String, Value> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect()
}

#[test]
fn settings_of_a_profile() {
    let manifest = Manifest::parse(FULL, "plugin.toml").unwrap();
    let defaults = manifest.settings_with(&BTreeMap::new()).unwrap();
    assert_eq!(defaults["base_url"], "https://api.example.com");
    assert!(!defaults.contains_key("program"), "no default and no value is unset");
    let own = manifest.settings_with(&values(&[("base_url", "http://127.0.0.1:4010".into())])).unwrap();
    assert_eq!(own["base_url"], "http://127.0.0.1:4010");
    assert_eq!(own["attempts"], 3);

    let error = manifest.settings_with(&values(&[("base_uri", "x".into())])).unwrap_err();
    assert_eq!(error.message, "`example` has no setting `base_uri`");
    assert_eq!(error.hint.as_deref(), Some("did you mean `base_url`?"));
    let error = manifest.settings_with(&values(&[("attempts", 1.5.into())])).unwrap_err();
    assert_eq!(error.message, "the setting `attempts` of `example` must be a whole number");
}

#[test]
fn permissions_of_a_profile() {
    let manifest = Manifest::parse(FULL, "plugin.toml").unwrap();
    let resolve = |pairs: &[(&str, Value)]| Permissions::resolve(&manifest, &manifest.settings_with(&values(pairs))?);
    insta::assert_debug_snapshot!(resolve(&[("program", "/opt/x/bin/tool".into())]).unwrap());

    // Without its setting a permission asks for nothing; only one that is not optional makes the profile incomplete.
    let without = resolve(&[]).unwrap();
    assert_eq!(without.iter().count(), manifest.permissions.len() - 1);
    assert!(without.unset().is_empty(), "the command is optional");

    let error = resolve(&[("base_url", "ftp://h?key=abc".into())]).unwrap_err();
    assert_eq!(error.message, "`ftp://h` cannot be used as URL: it ends with the path: no `?` and no `#`");
    assert_eq!(error.hint.as_deref(), Some("it comes from the setting `base_url`"));
    let error = resolve(&[("program", "./tool".into())]).unwrap_err();
    assert_eq!(
        error.message,
        "`./tool run` cannot be used as command: its program must be a plain name or an absolute path"
    );
    let error = resolve(&[("folder", "zones".into())]).unwrap_err();
    assert_eq!(error.message, "`zones` cannot be used as folder: it must be an absolute path");
}

/// A server that wants another key, in another header, or none at all is a setting and not another plugin.
#[test]
fn a_setting_chooses_the_credential() {
    let text = FULL
        .replace(
            "[settings.base_url]",
            "[settings.auth]\ntype = \"string\"\ndefault = \"key\"\ndescription = \"how\"\n\n[settings.base_url]",
        )
        // Its endpoint names it as the permission does.
        .replace("credential = \"key\"", "credential = \"{settings.auth}\"");
    assert_ne!(text, FULL);
    let manifest = Manifest::parse(&text, "plugin.toml").unwrap();
    let first = |auth: &str| {
        let settings = manifest.settings_with(&values(&[("auth", auth.into())])).unwrap();
        let permissions = Permissions::resolve(&manifest, &settings)?;
        let mut credentials = permissions.iter().filter_map(|requested| match &requested.permission {
            crate::permission::Permission::Http { credential, .. } => Some(credential.clone()),
            _ => None,
        });
        Ok::<_, crate::Error>(credentials.next().unwrap().map(|credential| credential.name))
    };
    assert_eq!(first("key").unwrap().as_deref(), Some("key"));
    assert_eq!(first("anonymous").unwrap(), None, "then no secret is needed, asked for or granted");
    for wrong in ["", "kye"] {
        let error = first(wrong).unwrap_err();
        assert!(error.message.contains("cannot be used as credential: it must be `key`"), "{}", error.message);
        assert_eq!(error.hint.as_deref(), Some("it comes from the setting `auth`"));
    }
    let broken = text.replace("default = \"key\"", "default = \"kye\"");
    let error = Manifest::parse(&broken, "plugin.toml").unwrap_err();
    assert!(error.message.contains("is wrong: it must be `key`"), "{}", error.message);
}

#[test]
fn a_needed_setting_that_is_unset() {
    let text = FULL.replace(
        "[settings.base_url]\ntype = \"string\"\ndefault = \"https://api.example.com\"",
        "[settings.base_url]\ntype = \"string\"",
    );
    let manifest = Manifest::parse(&text, "plugin.toml").unwrap();
    let permissions = Permissions::resolve(&manifest, &manifest.settings_with(&BTreeMap::new()).unwrap()).unwrap();
    assert_eq!(permissions.unset(), ["base_url"]);
}

#[test]
fn kinds() {
    for (kind, world) in [
        ("agent", "agent-adapter"),
        ("dns", "dns-provider"),
        ("storage", "storage-backend"),
        ("executor", "job-executor"),
    ] {
        let text = format!(
            "[plugin]\nname = \"x\"\nkind = \"{kind}\"\nversion = \"1.0.0-rc.1\"\nwit = \"0.1.2\"\ndescription = \"d\"\npublisher = \"p\"\n"
        );
        let manifest = Manifest::parse(&text, "plugin.toml").unwrap();
        assert_eq!((manifest.kind.as_str(), manifest.kind.world()), (kind, world));
        assert_eq!(manifest.wit_line(), "0.1");
    }
}

#[test]
fn lines_and_releases() {
    for (release, want) in
        [("0.1.0", "0.1"), ("0.12.3", "0.12"), ("0.0.3", "0.0.3"), ("1.2.3", "1"), ("0.0.0", "0.0.0")]
    {
        assert_eq!(line(&release.parse().unwrap()), want);
    }
    let check = |plugin: &str, host: &str| check_release(&plugin.parse().unwrap(), &host.parse().unwrap());
    for (plugin, host) in [("0.1.0", "0.1.0"), ("0.1.0", "0.1.9"), ("1.0.0", "1.4.0"), ("0.0.2", "0.0.2")] {
        assert_eq!(check(plugin, host), Ok(()), "{plugin} on {host}");
    }
    let refused = [
        ("0.1.2", "0.1.1"),
        ("0.2.0", "0.1.9"),
        ("0.1.9", "0.2.0"),
        ("1.0.0", "2.0.0"),
        ("1.0.0", "0.9.0"),
        ("0.0.1", "0.0.2"),
    ]
    .map(|(plugin, host)| {
        let error = check(plugin, host).unwrap_err();
        format!("{}: {} | {}", error.code, error.message, error.hint.unwrap_or_default())
    });
    insta::assert_snapshot!(refused.join("\n"));
}

#[test]
fn templates() {
    let settings = values(&[("a", "x".into()), ("b", "{settings.a}".into())]);
    for (text, want) in
        [("", ""), ("plain", "plain"), ("{settings.a}/y", "x/y"), ("{settings.a}{settings.b}", "x{settings.a}")]
    {
        let template = Template::parse(text).unwrap();
        assert_eq!(template.fill(&settings), want, "a value is not replaced again");
        assert_eq!(template.to_string(), text);
    }
    for text in ["{", "}", "{settings.a", "{a}", "{{settings.a}}", "a}b"] {
        assert!(Template::parse(text).is_err(), "{text}");
    }
}

proptest! {
    /// Whatever a manifest is cut to or spoilt by, it is read or refused with a place, and never panics.
    #[test]
    fn spoilt_manifests_are_answered(at in 0..FULL.len(), cut: bool, junk in "[\\[\\]{}=\"'.,0-9a-z \\n\\PC]{0,6}") {
        let at = (0..=at).rev().find(|at| FULL.is_char_boundary(*at)).unwrap_or(0);
        let text = if cut { FULL[..at].to_owned() } else { format!("{}{junk}{}", &FULL[..at], &FULL[at..]) };
        if let Err(error) = Manifest::parse(&text, "plugin.toml") {
            prop_assert_eq!(error.code.as_ref(), "manifest");
            let place = error.message.strip_prefix("plugin.toml:").and_then(|rest| {
                let mut parts = rest.splitn(3, ':');
                Some((parts.next()?.parse::<usize>().ok()?, parts.next()?.parse::<usize>().ok()?))
            });
            prop_assert!(place.is_some_and(|(line, column)| line >= 1 && column >= 1), "{}", error.message);
        }
    }
}
