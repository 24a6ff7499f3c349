use super::*;
use crate::endpoint::Prefix;
use crate::manifest::{Manifest, Scheme};
use crate::permission::{Origin, Requested};
use proptest::prelude::*;
use std::collections::BTreeMap;

fn profile() -> ProfileName {
    ProfileName::new("anthropic").unwrap()
}

fn grants(texts: &[&str]) -> Grants {
    texts.iter().map(|text| (text.parse().unwrap(), Origin::Stored)).collect()
}

fn permissions(text: &str) -> Permissions {
    let head = "[plugin]\nname = \"x\"\nkind = \"agent\"\nversion = \"0.1.0\"\nwit = \"0.1.0\"\ndescription = \"d\"\npublisher = \"p\"\n";
    let manifest = Manifest::parse(&format!("{head}{text}"), "plugin.toml").unwrap();
    Permissions::resolve(&manifest, &manifest.settings_with(&BTreeMap::new()).unwrap()).unwrap()
}

/// The plugin of most tests.
const PLUGIN: &str = r#"
[[credentials]]
name = "key"
scheme = "header"
header = "x-api-key"
secret = "API_KEY"

[[credentials]]
name = "admin"
scheme = "bearer"
secret = "ADMIN_KEY"

[[permissions.http]]
url = "https://api.example.com/v1"
methods = ["GET", "POST"]
credential = "key"
reason = "r"

[[permissions.http]]
url = "https://api.example.com/v1/admin"
methods = ["POST"]
credential = "admin"
optional = true
reason = "r"

[[permissions.http]]
url = "http://127.0.0.1:4010"
methods = ["GET"]
optional = true
reason = "r"

[permissions.workspace]
access = "read"
reason = "r"

[[permissions.command]]
argv = ["git"]
env = ["LANG"]
secret_env = ["GIT_TOKEN"]
reason = "r"

[[permissions.command]]
argv = ["sh", "-c"]
optional = true
reason = "r"

[[permissions.folder]]
path = "/srv/zones"
access = "read-write"
reason = "r"
"#;

/// What a test line says: `http GET URL`, `credential POST URL [NAME]`, `address IP URL`, `token IP URL SECRET`, `secret NAME GET URL`, ...
fn ask(rights: &Rights<'_>, line: &str) -> String {
    let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
    let word = |at: usize| words.get(at).map_or("", String::as_str);
    let target = |at: usize| Target::parse(word(at)).unwrap();
    let (http, folder);
    let request = match word(0) {
        "http" => {
            http = target(2);
            Request::Http { method: word(1), target: &http }
        }
        "credential" => {
            http = target(2);
            Request::Credential { method: word(1), target: &http, named: words.get(3).map(String::as_str) }
        }
        "address" => {
            http = target(2);
            Request::Address { ip: word(1).parse().unwrap(), target: &http }
        }
        "token" => {
            http = target(2);
            Request::TokenAddress { ip: word(1).parse().unwrap(), target: &http, secret: word(3) }
        }
        "secret" => {
            http = target(3);
            Request::SecretInRequest { name: word(1), method: word(2), target: &http }
        }
        "secret-env" => Request::SecretInCommand { name: word(1), argv: &words[2..] },
        "env" => Request::Env { name: word(1), argv: &words[2..] },
        "command" => Request::Command { argv: &words[1..] },
        "workspace" => Request::Workspace { write: word(1) == "write" },
        "folder" => {
            folder = FolderPath::parse(word(1)).unwrap();
            Request::Folder { path: &folder, write: word(2) == "write" }
        }
        "shell" => Request::Shell,
        other => panic!("no such line: {other}"),
    };
    match check(rights, &request) {
        Ok(allowed) => {
            let grants: Vec<String> = allowed.grants.iter().map(ToString::to_string).collect();
            let credential = allowed.credential.map(|rule| format!(" with {}", rule.name)).unwrap_or_default();
            format!("ok by {}{credential}", grants.join(" + "))
        }
        Err(denial) => {
            let error = Error::from(denial);
            format!("{} {}: {}\n    hint: {}", error.kind, error.code, error.message, error.hint.unwrap_or_default())
        }
    }
}

/// Every line with nothing granted, and with the grants.
fn table(permissions: &Permissions, given: &[&str], lines: &[&str]) -> String {
    let (none, some, profile) = (Grants::default(), grants(given), profile());
    let mut out = format!("granted: {}\n", given.join(", "));
    for line in lines {
        let with = |grants| ask(&Rights { profile: &profile, permissions, grants }, line);
        let (before, after) = (with(&none), with(&some));
        out.push_str(&format!("\n{line}\n"));
        if before != after {
            out.push_str(&format!("  bare: {before}\n"));
        }
        out.push_str(&format!("  then: {after}\n"));
    }
    out
}

#[test]
fn http() {
    insta::assert_snapshot!(table(
        &permissions(PLUGIN),
        &["http:https://api.example.com/v1"],
        &[
            "http GET https://api.example.com/v1/models?key=s3cret",
            "http GET https://API.example.com.:443/v1",
            "http POST https://api.example.com/v1/admin/keys",
            "http DELETE https://api.example.com/v1/models",
            "http get https://api.example.com/v1/models",
            "http GET https://api.example.com/v1/../admin",
            "http GET https://api.example.com/v1/%2e%2e/admin",
            "http GET https://api.example.com/v1beta",
            "http GET http://api.example.com/v1/models",
            "http GET https://api.example.com:8443/v1/models",
            "http GET https://api.example.com.evil.org/v1/models",
            "http GET http://2130706433:4010/",
        ],
    ));
}

#[test]
fn credentials() {
    insta::assert_snapshot!(table(
        &permissions(PLUGIN),
        &["http:https://api.example.com", "secret:API_KEY", "http:http://127.0.0.1:4010"],
        &[
            "credential GET https://api.example.com/v1/models",
            "credential GET https://api.example.com/v1/models key",
            "credential GET https://api.example.com/v1/models anonymous",
            "credential GET https://api.example.com/v1/models admin",
            "credential GET https://api.example.com/v1/models nobody",
            "credential POST https://api.example.com/v1/admin/keys",
            "credential POST https://api.example.com/v1/admin/keys key",
            "credential POST https://api.example.com/v1/admin/keys admin",
            "credential GET http://127.0.0.1:4010/x",
            "credential GET http://127.0.0.1:4010/x key",
            "credential GET https://other.example.com/ anonymous",
            "secret API_KEY POST https://api.example.com/v1/messages",
            "secret ADMIN_KEY POST https://api.example.com/v1/messages",
            "secret ADMIN_KEY POST https://api.example.com/v1/admin/keys",
            "secret API_KEY GET http://127.0.0.1:4010/",
        ],
    ));
}

#[test]
fn addresses() {
    let given = [
        "http:https://api.example.com",
        "http:http://127.0.0.1:4010",
        "address:10.1.0.0/16",
        "address:169.254.0.0/16",
        "address:fd00::/8",
        "address:100.100.100.200",
    ];
    let url = "https://api.example.com/v1";
    let lines = [
        "1.1.1.1",
        "127.0.0.1",
        "10.1.2.3",
        "10.2.0.1",
        "::ffff:10.1.2.3",
        "::ffff:10.2.0.1",
        "64:ff9b::a01:203",
        "169.254.1.1",
        "169.254.169.254",
        "::ffff:169.254.169.254",
        "100.100.100.200",
        "fd00:1::1",
        "fd00:ec2::254",
        "0.0.0.0",
        "::1",
        "224.0.0.1",
    ]
    .map(|ip| format!("address {ip} {url}"));
    let mut lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    lines.extend([
        "address 127.0.0.1 http://127.0.0.1:4010/x",
        "address 127.0.0.2 http://127.0.0.1:4010/x",
        "address 127.0.0.1 http://127.0.0.1:22/",
        "address 1.1.1.1 https://other.example.com/",
    ]);
    insta::assert_snapshot!(table(&permissions(PLUGIN), &given, &lines));
}

#[test]
fn files() {
    insta::assert_snapshot!(table(
        &permissions(PLUGIN),
        &["workspace:read-write", "folder:/srv:ro", "folder:/srv/zones/own:rw", "shell"],
        &[
            "workspace read",
            "workspace write",
            "folder /srv/zones read",
            "folder /srv/zones/a write",
            "folder /srv/zones/own/b write",
            "folder /srv read",
            "folder /srv/zones2 read",
            "shell",
        ],
    ));
}

#[test]
fn commands() {
    insta::assert_snapshot!(table(
        &permissions(PLUGIN),
        &["command:git status", "command:git push", "command:sh", "env:LANG", "env:PATH", "secret:GIT_TOKEN"],
        &[
            "command git status --short",
            "command git commit",
            "command sh -c ls",
            "command sh script",
            "command /usr/bin/git status",
            "command gitk",
            "env LANG git status",
            "env LANG git commit",
            "env PATH git status",
            "env LANG sh -c x",
            "secret-env GIT_TOKEN git push",
            "secret-env API_KEY git push",
            "secret-env GIT_TOKEN sh -c x",
        ],
    ));
}

#[test]
fn no_program_is_no_command() {
    let (permissions, grants, profile) = (permissions(PLUGIN), grants(&["command:git"]), profile());
    let rights = Rights { profile: &profile, permissions: &permissions, grants: &grants };
    assert_eq!(check(&rights, &Request::Command { argv: &[] }).unwrap_err().code(), "command");
}

#[test]
fn what_is_missing() {
    let permissions = permissions(PLUGIN);
    let missing = |given: &[&str]| {
        let (grants, profile) = (grants(given), profile());
        let found = super::missing(&Rights { profile: &profile, permissions: &permissions, grants: &grants });
        found.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    let all = [
        "http:https://api.example.com/v1",
        "secret:API_KEY",
        "workspace:read",
        "command:git",
        "env:LANG",
        "secret:GIT_TOKEN",
        "folder:/srv/zones:rw",
    ];
    assert_eq!(missing(&[]), all);
    assert_eq!(missing(&all), [""; 0]);
    // Wider or narrower than asked for: decided, not missing.
    assert_eq!(
        missing(&[
            "http:https://api.example.com",
            "workspace:read-write",
            "command:git status",
            "folder:/srv:ro",
            "env:LANG"
        ]),
        ["secret:API_KEY", "secret:GIT_TOKEN"]
    );
    assert_eq!(missing(&["http:https://other.example.com", "folder:/srv/other:rw", "command:sh"]), all);
}

#[test]
fn hints_can_be_pasted() {
    for (grant, want) in [
        ("http:https://api.example.com", "`midplane grant allow anthropic 'http:https://api.example.com'`"),
        ("command:sh -c 'a b'", "`midplane grant allow anthropic \"command:sh -c 'a b'\"`"),
    ] {
        let grant: Grant = grant.parse().unwrap();
        let line = allow_command(&profile(), &grant);
        assert_eq!(line, want);
        let words = shlex::split(line.trim_matches('`')).unwrap();
        assert_eq!(words[4].parse::<Grant>().unwrap(), grant);
    }
}

// Property tests: a small world, so that requests often meet permissions and grants.

const URLS: [&str; 6] =
    ["https://h", "https://h/v1", "https://h/v1/admin", "http://127.0.0.1:4010", "https://g/v1", "http://10.0.0.1"];
const PLACES: [&str; 6] = [
    "https://h/v1/x",
    "https://h/v1/admin/y",
    "https://h/",
    "http://127.0.0.1:4010/z",
    "https://g/v1",
    "http://10.0.0.1/",
];
const IPS: [&str; 7] =
    ["1.1.1.1", "127.0.0.1", "10.0.0.1", "::ffff:10.0.0.1", "169.254.169.254", "fd00::1", "64:ff9b::a00:1"];
const NAMES: [&str; 3] = ["A", "B", "C"];
const COMMANDS: [&str; 5] = ["git", "git push", "git push origin", "sh", "sh -c x"];
const FOLDERS: [&str; 4] = ["/", "/srv", "/srv/a", "/srv2"];
const GRANTS: [&str; 32] = [
    "http:https://h",
    "http:https://h/v1",
    "http:https://h/v1/admin",
    "http:http://127.0.0.1:4010",
    "http:https://g",
    "http:http://10.0.0.1",
    "address:127.0.0.1",
    "address:10.0.0.0/8",
    "address:169.254.169.254",
    "address:0.0.0.0/0",
    "address:::/0",
    "secret:A",
    "secret:B",
    "secret:C",
    "env:A",
    "env:B",
    "env:C",
    "workspace:read",
    "workspace:read-write",
    "command:git",
    "command:git push",
    "command:git push origin",
    "command:sh",
    "command:sh -c",
    "shell",
    "folder:/:ro",
    "folder:/:rw",
    "folder:/srv:ro",
    "folder:/srv:rw",
    "folder:/srv/a:ro",
    "folder:/srv/a:rw",
    "folder:/srv2:rw",
];

fn words(text: &str) -> Vec<String> {
    text.split(' ').map(str::to_owned).collect()
}

fn any_permission() -> impl Strategy<Value = Permission> {
    let names = prop::sample::subsequence(NAMES.to_vec(), 0..3)
        .prop_map(|n| n.into_iter().map(str::to_owned).collect::<Vec<_>>());
    let access = prop::sample::select(vec![Access::Read, Access::ReadWrite]);
    let credential = prop::option::of(prop::sample::select(NAMES.to_vec())).prop_map(|name| {
        name.map(|name| Credential { name: name.to_lowercase(), scheme: Scheme::Bearer, secret: name.to_owned() })
    });
    let methods = prop::sample::subsequence(vec!["GET", "POST"], 1..=2);
    prop_oneof![
        4 => (prop::sample::select(URLS.to_vec()), methods, credential).prop_map(|(url, methods, credential)| Permission::Http {
            prefix: Prefix::parse(url).unwrap(),
            methods: methods.into_iter().map(str::to_owned).collect(),
            credential,
        }),
        1 => access.clone().prop_map(Permission::Workspace),
        2 => (prop::sample::select(COMMANDS.to_vec()), names.clone(), names)
            .prop_map(|(argv, env, secret_env)| Permission::Command { argv: words(argv), env, secret_env }),
        1 => Just(Permission::Shell),
        2 => (prop::sample::select(FOLDERS.to_vec()), access)
            .prop_map(|(path, access)| Permission::Folder { path: FolderPath::parse(path).unwrap(), access }),
    ]
}

fn any_permissions() -> impl Strategy<Value = Permissions> {
    let requested = (any_permission(), any::<bool>());
    prop::collection::vec(requested, 0..6).prop_map(|all| {
        all.into_iter()
            .map(|(permission, optional)| Requested { permission, optional, reason: "r".to_owned() })
            .collect()
    })
}

fn any_grants() -> impl Strategy<Value = Grants> {
    prop::sample::subsequence(GRANTS.to_vec(), 0..GRANTS.len()).prop_map(|texts| grants(&texts))
}

/// A request that owns what it names.
#[derive(Debug, Clone)]
struct Wish {
    verb: usize,
    method: &'static str,
    target: Target,
    named: Option<&'static str>,
    ip: IpAddr,
    name: &'static str,
    argv: Vec<String>,
    path: FolderPath,
    write: bool,
}

impl Wish {
    fn request(&self) -> Request<'_> {
        let Self { method, target, name, argv, path, write, .. } = self;
        match self.verb {
            0 => Request::Http { method, target },
            1 => Request::Credential { method, target, named: self.named },
            2 => Request::Address { ip: self.ip, target },
            3 => Request::SecretInRequest { name, method, target },
            4 => Request::SecretInCommand { name, argv },
            5 => Request::Workspace { write: *write },
            6 => Request::Command { argv },
            7 => Request::Env { name, argv },
            8 => Request::Shell,
            _ => Request::Folder { path, write: *write },
        }
    }
}

fn any_wish() -> impl Strategy<Value = Wish> {
    use prop::sample::select;
    (
        (
            0usize..10,
            select(vec!["GET", "POST", "PUT"]),
            select(PLACES.to_vec()),
            prop::option::of(select(vec!["a", "b", ANONYMOUS])),
        ),
        (
            select(IPS.to_vec()),
            select(NAMES.to_vec()),
            select(COMMANDS.to_vec()),
            select(FOLDERS.to_vec()),
            any::<bool>(),
        ),
    )
        .prop_map(|((verb, method, place, named), (ip, name, argv, path, write))| Wish {
            verb,
            method,
            target: Target::parse(place).unwrap(),
            named,
            ip: ip.parse().unwrap(),
            name,
            argv: words(argv),
            path: FolderPath::parse(path).unwrap(),
            write,
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    /// Taking a grant away never allows more, and what is allowed rests on grants that are there: those alone suffice.
    #[test]
    fn never_more_than_granted(permissions in any_permissions(), grants in any_grants(), wish in any_wish()) {
        let profile = profile();
        let with = |grants: &Grants| check(&Rights { profile: &profile, permissions: &permissions, grants }, &wish.request()).is_ok();
        let rights = Rights { profile: &profile, permissions: &permissions, grants: &grants };
        let allowed = check(&rights, &wish.request());
        for (grant, _) in grants.iter() {
            let mut fewer = grants.clone();
            fewer.remove(grant);
            prop_assert!(allowed.is_ok() || !with(&fewer), "without {} more is allowed", grant);
        }
        if let Ok(allowed) = allowed {
            prop_assert!(!allowed.grants.is_empty());
            prop_assert!(allowed.grants.iter().all(|grant| grants.contains(grant)));
            let enough = allowed.grants.iter().map(|grant| ((*grant).clone(), Origin::Once)).collect();
            prop_assert!(with(&enough), "{:?} suffice", allowed.grants);
            prop_assert!(!with(&Grants::default()));
        }
    }

    /// Taking a permission away never allows more (but for a credential, where it can end an ambiguity).
    #[test]
    fn never_more_than_permitted(permissions in any_permissions(), grants in any_grants(), wish in any_wish()) {
        let profile = profile();
        let with = |permissions: &Permissions| check(&Rights { profile: &profile, permissions, grants: &grants }, &wish.request()).is_ok();
        prop_assert!(!with(&Permissions::default()));
        let ambiguous = matches!(
            check(&Rights { profile: &profile, permissions: &permissions, grants: &grants }, &wish.request()),
            Err(Denial::CredentialAmbiguous { .. })
        );
        for at in 0..permissions.iter().count() {
            let fewer = permissions.iter().enumerate().filter(|(other, _)| *other != at).map(|(_, one)| one.clone()).collect();
            prop_assert!(with(&permissions) || ambiguous || !with(&fewer) || wish.verb == 1);
        }
    }

    /// A denial tells the truth: giving the grant that it names, again and again, ends in a right or in a reason that no
    /// grant can help with; and where it says that none can help, all of them do not.
    #[test]
    fn a_denial_names_what_helps(permissions in any_permissions(), grants in any_grants(), wish in any_wish()) {
        let profile = profile();
        let mut grants = grants;
        let mut steps = 0;
        loop {
            let rights = Rights { profile: &profile, permissions: &permissions, grants: &grants };
            match check(&rights, &wish.request()) {
                Ok(_) | Err(Denial::CredentialAmbiguous { .. }) => break,
                Err(Denial::PermissionMissing { .. }) => {
                    let all = super::tests::grants(&GRANTS);
                    let rights = Rights { grants: &all, ..rights };
                    prop_assert!(check(&rights, &wish.request()).is_err());
                    break;
                }
                Err(Denial::GrantMissing { grant, .. }) => {
                    prop_assert!(!grants.contains(&grant), "{} is there and does not help", grant);
                    grants.insert(grant, Origin::Once);
                    steps += 1;
                    prop_assert!(steps <= 3);
                }
            }
        }
    }

    /// What is missing is enough: given it, nothing is missing.
    #[test]
    fn missing_is_enough(permissions in any_permissions(), grants in any_grants()) {
        let profile = profile();
        let missing = super::missing(&Rights { profile: &profile, permissions: &permissions, grants: &grants });
        let mut more = grants.clone();
        more.extend(missing.iter().map(|grant| (grant.clone(), Origin::Once)));
        let then = super::missing(&Rights { profile: &profile, permissions: &permissions, grants: &more });
        prop_assert_eq!(then, []);
        let distinct: std::collections::BTreeSet<&Grant> = missing.iter().collect();
        prop_assert_eq!(distinct.len(), missing.len(), "none is named twice");
    }

    /// An address that is not public is reached only where the operator wrote an address.
    #[test]
    fn private_addresses_need_an_address(grants in any_grants(), wish in any_wish()) {
        let profile = profile();
        let permissions = URLS.iter().map(|url| Requested {
            permission: Permission::Http { prefix: Prefix::parse(url).unwrap(), methods: vec!["GET".to_owned()], credential: None },
            optional: false,
            reason: "r".to_owned(),
        }).collect();
        let rights = Rights { profile: &profile, permissions: &permissions, grants: &grants };
        let allowed = check(&rights, &Request::Address { ip: wish.ip, target: &wish.target });
        if let Ok(allowed) = allowed && address_class(wish.ip) != AddressClass::Public {
            let by_address = allowed.grants.iter().any(|grant| matches!(grant, Grant::Address(_)));
            let by_literal = wish.target.ip() == Some(wish.ip);
            prop_assert!(by_address || by_literal);
        }
    }
}

/// The place where an account is exchanged is the operator's word, with the grant of the account; its address is not.
#[test]
fn addresses_of_token_endpoints() {
    let permissions = permissions(&PLUGIN.replacen("scheme = \"bearer\"", "scheme = \"google-oauth\"", 1));
    let mut lines = Vec::new();
    for given in [
        &["secret:ADMIN_KEY"][..],
        &["secret:ADMIN_KEY", "address:127.0.0.0/8", "http:https://api.example.com"],
        &["address:127.0.0.1"],
    ] {
        let grants = grants(given);
        let profile = profile();
        let rights = Rights { profile: &profile, permissions: &permissions, grants: &grants };
        lines.push(format!("with {given:?}"));
        for line in [
            "token 1.1.1.1 https://oauth2.example.com/token ADMIN_KEY",
            "token 127.0.0.1 http://127.0.0.1:9/token ADMIN_KEY",
            "token 169.254.169.254 https://oauth2.example.com/token ADMIN_KEY",
            "token 1.1.1.1 https://oauth2.example.com/token API_KEY",
            "secret ADMIN_KEY POST https://api.example.com/v1/admin",
        ] {
            lines.push(format!("  {line}\n    {}", ask(&rights, line)));
        }
    }
    insta::assert_snapshot!(lines.join("\n"));
}
