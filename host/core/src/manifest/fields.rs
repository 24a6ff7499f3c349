//! The fields of a manifest and the rule of each, in the order of the text.

use std::collections::BTreeMap;

use semver::Version;
use toml::de::DeTable;

use super::reader::{Field, Section, Source, suggestion};
use super::{
    ANONYMOUS, Credential, Endpoint, GOOGLE_SCOPE, MANIFEST_BYTES_MAX, Manifest, PermissionRequest, PluginKind, Scheme,
    Setting, SettingType, Template, Wanted,
};
use crate::Result;
use crate::endpoint::{Prefix, public_part};
use crate::ids::PluginName;
use crate::limits;
use crate::permission::{Access, FolderPath, command_words, variable_name};
use crate::text::shown;

/// A whole manifest.
pub(super) fn manifest(text: &str, origin: &str) -> Result<Manifest> {
    let source = Source { text, origin };
    if text.len() > MANIFEST_BYTES_MAX {
        return Err(source.fail(&(0..0), format!("it is larger than {MANIFEST_BYTES_MAX} bytes")));
    }
    let table = DeTable::parse(text).map_err(|error| {
        let what = format!("it is not TOML: {}", shown(error.message(), 200));
        source.fail(&error.span().unwrap_or_default(), what)
    })?;
    let known = ["plugin", "settings", "credentials", "permissions", "endpoints", "limits"];
    let root = Section::root(source, &table, &known)?;
    let plugin = root.need("plugin")?.section(&["name", "kind", "version", "wit", "description", "publisher"])?;
    let name = plugin.need("name")?;
    let kind = plugin.need("kind")?.choice(&[
        ("agent", PluginKind::Agent),
        ("dns", PluginKind::Dns),
        ("storage", PluginKind::Storage),
        ("executor", PluginKind::Executor),
    ])?;
    let settings = settings(&root)?;
    let credentials = credentials(&root)?;
    let permissions = permissions(&root, kind, &settings, &credentials)?;
    Ok(Manifest {
        name: PluginName::new(name.string()?).map_err(|error| name.fail(format!("is wrong: {error}")))?,
        kind,
        version: version(&plugin.need("version")?)?,
        wit: release(&plugin.need("wit")?)?,
        description: plugin.need("description")?.line(300)?.to_owned(),
        publisher: plugin.need("publisher")?.line(100)?.to_owned(),
        endpoints: endpoints(&root, kind, &settings, &permissions)?,
        permissions,
        limits: limits(&root)?,
        settings,
        credentials,
    })
}

fn version(field: &Field<'_>) -> Result<Version> {
    let text = field.string()?;
    Version::parse(text).map_err(|error| {
        field.fail(format!("is not a semantic version: {error}")).hint("write three numbers such as `0.1.0`")
    })
}

fn release(field: &Field<'_>) -> Result<Version> {
    let version = version(field)?;
    if version.pre.is_empty() && version.build.is_empty() {
        Ok(version)
    } else {
        Err(field.fail("must be a plain release").hint("the contract has no pre-releases: write `0.1.0`"))
    }
}

fn settings(root: &Section<'_>) -> Result<BTreeMap<String, Setting>> {
    let Some(table) = root.get("settings") else {
        return Ok(BTreeMap::new());
    };
    let mut settings = BTreeMap::new();
    for (name, field) in table.open()?.entries() {
        if !identifier(name, b"_") {
            return Err(field.fail("has a wrong name").hint(IDENTIFIER));
        }
        let section = field.section(&["type", "default", "description"])?;
        let kind = section.need("type")?.choice(SETTING_TYPES)?;
        let default = match section.get("default") {
            None => None,
            Some(field) => {
                let value = field.json()?;
                if !kind.admits(&value) {
                    return Err(field.wrong_type(kind.article()).hint("the default has the type of its setting"));
                }
                Some(value)
            }
        };
        let description = section.need("description")?.line(300)?.to_owned();
        settings.insert(name.to_owned(), Setting { kind, default, description });
    }
    Ok(settings)
}

const SETTING_TYPES: &[(&str, SettingType)] = &[
    ("string", SettingType::String),
    ("integer", SettingType::Integer),
    ("number", SettingType::Number),
    ("boolean", SettingType::Boolean),
    ("list", SettingType::List),
    ("table", SettingType::Table),
];

const IDENTIFIER: &str =
    "a name begins with a lower case letter and has lower case letters, digits and `_`, at most 63";

fn identifier(text: &str, also: &[u8]) -> bool {
    let head = text.bytes().next().is_some_and(|b| b.is_ascii_lowercase());
    head && text.len() <= 63 && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || also.contains(&b))
}

fn credentials(root: &Section<'_>) -> Result<Vec<Credential>> {
    let mut credentials: Vec<Credential> = Vec::new();
    for field in root.get("credentials").map_or_else(|| Ok(Vec::new()), |field| field.list())? {
        let section = field.section(&["name", "scheme", "header", "parameter", "username", "scope", "secret"])?;
        let name = section.need("name")?;
        let text = name.string()?;
        if !identifier(text, b"_-") {
            return Err(name.fail("is not a name").hint(format!("{IDENTIFIER}; a credential's also `-`")));
        }
        if text == ANONYMOUS {
            return Err(name
                .fail("cannot be `anonymous`")
                .hint("a request names `anonymous` to be sent without credential"));
        }
        if credentials.iter().any(|known| known.name == text) {
            return Err(name.fail(format!("is `{text}` a second time")));
        }
        let secret = section.need("secret")?;
        credentials.push(Credential { name: text.to_owned(), scheme: scheme(&section)?, secret: variable(&secret)? });
    }
    Ok(credentials)
}

fn scheme(section: &Section<'_>) -> Result<Scheme> {
    // The one further field that each scheme has.
    let own = section.need("scheme")?.choice(&[
        ("bearer", None),
        ("header", Some("header")),
        ("basic", Some("username")),
        ("query", Some("parameter")),
        ("google-oauth", Some("scope")),
    ])?;
    for (field, scheme) in
        [("header", "header"), ("username", "basic"), ("parameter", "query"), ("scope", "google-oauth")]
    {
        if own != Some(field) {
            section.without(field, &format!("belongs to `scheme = \"{scheme}\"` only"))?;
        }
    }
    let Some(own) = own else {
        return Ok(Scheme::Bearer);
    };
    if own == "scope" {
        return google_scope(section).map(|scope| Scheme::GoogleOauth { scope });
    }
    let field = section.need(own)?;
    let text = field.string()?;
    Ok(match own {
        "header" => Scheme::Header { header: credential_header(text).map_err(|why| field.fail(why))? },
        "username" => {
            if text.len() > 256 || text.contains(':') || text.chars().any(char::is_control) {
                return Err(field.fail("must have at most 256 bytes, no `:` and no control characters"));
            }
            Scheme::Basic { username: text.to_owned() }
        }
        _ => {
            let unreserved = |b: u8| b.is_ascii_alphanumeric() || b"-._~".contains(&b);
            if !(1..=64).contains(&text.len()) || !text.bytes().all(unreserved) {
                return Err(field.fail("is not the name of a query parameter"));
            }
            Scheme::Query { parameter: text.to_owned() }
        }
    })
}

/// The header in which a secret can be sent, in lower case; the error is the reason.
pub(crate) fn credential_header(text: &str) -> Result<String, &'static str> {
    let header = text.to_ascii_lowercase();
    let token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    if !(1..=64).contains(&header.len()) || !header.bytes().all(token) {
        return Err("is not the name of a header");
    }
    let of_host = HEADERS_OF_HOST.contains(&header.as_str())
        || HEADER_FAMILIES_OF_HOST.iter().any(|head| header.starts_with(head));
    if of_host {
        return Err("names a header that the host sets itself, or that belongs to the connection");
    }
    Ok(header)
}

/// Scopes of RFC 6749: printable, with one space between.
fn google_scope(section: &Section<'_>) -> Result<String> {
    let Some(field) = section.get("scope") else {
        return Ok(GOOGLE_SCOPE.to_owned());
    };
    let text = field.string()?;
    let word = |word: &str| !word.is_empty() && word.bytes().all(|b| b.is_ascii_graphic() && b != b'"' && b != b'\\');
    if text.len() > 1024 || !text.split(' ').all(word) {
        return Err(field.fail("is not a list of scopes").hint(format!("write for example `{GOOGLE_SCOPE}`")));
    }
    Ok(text.to_owned())
}

/// Headers that frame a message, steer the connection, or that the host sets: a secret in one of them would be lost or
/// would change what the request means.
const HEADERS_OF_HOST: &[&str] = &[
    "accept-encoding",
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "expect",
    "forwarded",
    "host",
    "http2-settings",
    "keep-alive",
    "origin",
    "range",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "via",
];
const HEADER_FAMILIES_OF_HOST: &[&str] = &["proxy-", "sec-", "x-forwarded-"];

fn permissions(
    root: &Section<'_>,
    kind: PluginKind,
    settings: &BTreeMap<String, Setting>,
    credentials: &[Credential],
) -> Result<Vec<PermissionRequest>> {
    let mut found: Vec<(usize, PermissionRequest)> = Vec::new();
    if let Some(table) = root.get("permissions") {
        let table = table.section(&["http", "workspace", "command", "shell", "folder"])?;
        for (name, field) in table.entries() {
            if !kind.permissions().contains(&name) {
                let error = field.fail(format!("cannot be used by a plugin of kind `{kind}`"));
                return Err(error.hint(format!("such a plugin can ask for `{}`", kind.permissions().join("`, `"))));
            }
            let entries = if matches!(name, "workspace" | "shell") { vec![field] } else { field.list()? };
            for entry in entries {
                found.push(permission(name, &entry, settings, credentials)?);
            }
        }
    }
    found.sort_by_key(|(start, _)| *start);
    let permissions: Vec<PermissionRequest> = found.into_iter().map(|(_, request)| request).collect();
    // One that nothing uses would never be applied, and the vendor's refusal would not say why.
    let used = |name: &str| {
        permissions.iter().any(|p| match &p.wanted {
            // A setting can choose any of them.
            Wanted::Http { credential: Some(template), .. } => {
                template.settings().next().is_some() || template.to_string() == name
            }
            _ => false,
        })
    };
    match (credentials.iter().position(|credential| !used(&credential.name)), root.get("credentials")) {
        (Some(index), Some(field)) => {
            let fields = field.list()?;
            let unused = fields.get(index).unwrap_or(&field);
            Err(unused.fail("is used by no `permissions.http`").hint("name it there as `credential`, or remove it"))
        }
        _ => Ok(permissions),
    }
}

fn permission(
    name: &str,
    field: &Field<'_>,
    settings: &BTreeMap<String, Setting>,
    credentials: &[Credential],
) -> Result<(usize, PermissionRequest)> {
    let own: &[&str] = match name {
        "http" => &["url", "methods", "credential"],
        "workspace" => &["access"],
        "command" => &["argv", "env", "secret_env"],
        "folder" => &["path", "access"],
        _ => &[],
    };
    let section = field.section(&[own, &["optional", "reason"]].concat())?;
    let access = || section.need("access")?.choice(&[("read", Access::Read), ("read-write", Access::ReadWrite)]);
    let wanted = match name {
        "http" => {
            let url = section.need("url")?;
            let template = template(&url, settings)?;
            check_filled(&url, &[&template], settings, |words| Prefix::parse(&words.concat()).map(drop))?;
            let credential = match section.get("credential") {
                None => None,
                Some(field) => Some(credential(&field, settings, credentials)?),
            };
            Wanted::Http { url: template, methods: methods(&section.need("methods")?)?, credential }
        }
        "workspace" => Wanted::Workspace { access: access()? },
        "command" => {
            let field = section.need("argv")?;
            let argv = field.list()?.iter().map(|word| template(word, settings)).collect::<Result<Vec<_>>>()?;
            let words: Vec<&Template> = argv.iter().collect();
            check_filled(&field, &words, settings, |words| command_words(words).map_err(str::to_owned))?;
            let names = |name| section.get(name).map_or_else(|| Ok(Vec::new()), |field| distinct(&field, variable));
            Wanted::Command { argv, env: names("env")?, secret_env: names("secret_env")? }
        }
        "folder" => {
            let path = section.need("path")?;
            let template = template(&path, settings)?;
            let check = |words: &[String]| FolderPath::parse(&words.concat()).map(drop).map_err(str::to_owned);
            check_filled(&path, &[&template], settings, check)?;
            Wanted::Folder { path: template, access: access()? }
        }
        _ => Wanted::Shell,
    };
    let optional = section.get("optional").map_or(Ok(false), |field| field.boolean())?;
    let reason = section.need("reason")?.line(300)?.to_owned();
    Ok((section.start(), PermissionRequest { wanted, optional, reason }))
}

fn endpoints(
    root: &Section<'_>,
    kind: PluginKind,
    settings: &BTreeMap<String, Setting>,
    permissions: &[PermissionRequest],
) -> Result<Vec<Endpoint>> {
    let mut endpoints: Vec<Endpoint> = Vec::new();
    let Some(field) = root.get("endpoints") else { return Ok(endpoints) };
    if kind != PluginKind::Agent {
        let error = field.fail(format!("cannot be used by a plugin of kind `{kind}`"));
        return Err(error.hint("an endpoint lives as long as a run, which only an agent has"));
    }
    for field in field.list()? {
        let section = field.section(&["name", "url", "credential"])?;
        let name = section.need("name")?;
        let text = name.string()?;
        if !identifier(text, b"_") {
            return Err(name.fail("is not a name").hint(IDENTIFIER));
        }
        if endpoints.iter().any(|known| known.name == text) {
            return Err(name.fail(format!("is `{text}` a second time")));
        }
        let url = section.need("url")?;
        let template = template(&url, settings)?;
        check_filled(&url, &[&template], settings, |words| Prefix::parse(&words.concat()).map(drop))?;
        // Compared as they are written, so that it holds whatever the settings are.
        let inside: Vec<Option<(String, &Template)>> = permissions
            .iter()
            .filter_map(|request| match &request.wanted {
                Wanted::Http { url, credential, .. } => continues(&template, url)
                    .then(|| credential.as_ref().map(|credential| (credential.to_string(), credential))),
                _ => None,
            })
            .collect();
        if inside.is_empty() {
            let error = url.fail(format!("lies in no `permissions.http`: `{template}`"));
            return Err(error.hint("write the `url` of a permission as it stands there, or continue it after a `/`"));
        }
        let known: Vec<(&str, &Template)> = inside.iter().flatten().map(|(text, of)| (text.as_str(), *of)).collect();
        let credential = section.need("credential")?.choice(&known)?.clone();
        endpoints.push(Endpoint { name: text.to_owned(), url: template, credential });
    }
    Ok(endpoints)
}

/// Whether a URL is another one or goes on after a `/` where that ends.
fn continues(url: &Template, of: &Template) -> bool {
    let (url, of) = (url.to_string(), of.to_string());
    url.strip_prefix(of.trim_end_matches('/')).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// The name of a credential, or a placeholder of the setting that chooses it.
fn credential(field: &Field<'_>, settings: &BTreeMap<String, Setting>, credentials: &[Credential]) -> Result<Template> {
    let template = template(field, settings)?;
    if template.settings().next().is_none() {
        let known: Vec<(&str, &str)> = credentials.iter().map(|c| (c.name.as_str(), c.name.as_str())).collect();
        field.choice(&known)?;
        return Ok(template);
    }
    check_filled(field, &[&template], settings, |words| super::chosen(credentials, &words.concat()).map(drop))?;
    Ok(template)
}

/// A text whose placeholders name settings that are there and are strings.
fn template(field: &Field<'_>, settings: &BTreeMap<String, Setting>) -> Result<Template> {
    let template =
        Template::parse(field.string()?).map_err(|why| field.fail(why).hint("a setting is named as `{settings.x}`"))?;
    for name in template.settings() {
        match settings.get(name) {
            Some(setting) if setting.kind == SettingType::String => {}
            Some(setting) => {
                let what = setting.kind.article();
                return Err(field
                    .fail(format!("names the setting `{name}`, which is {what}"))
                    .hint("only a string can stand there"));
            }
            None => {
                let known: Vec<&str> = settings.keys().map(String::as_str).collect();
                let error = field.fail(format!("names the setting `{}`, which there is not", shown(name, 80)));
                return Err(error.hint(suggestion(name, &known)));
            }
        }
    }
    Ok(template)
}

/// Checks what the templates give with the defaults of the settings. Where one has none, the value of the profile is
/// checked when it is known.
fn check_filled(
    field: &Field<'_>,
    templates: &[&Template],
    settings: &BTreeMap<String, Setting>,
    check: impl Fn(&[String]) -> Result<(), String>,
) -> Result<()> {
    let default = |name: &str| Some((name.to_owned(), settings.get(name)?.default.clone()?));
    let names = templates.iter().flat_map(|template| template.settings());
    let Some(values) = names.map(default).collect::<Option<BTreeMap<_, _>>>() else {
        return Ok(());
    };
    let words: Vec<String> = templates.iter().map(|template| template.fill(&values)).collect();
    check(&words).map_err(|why| {
        let error = field.fail(format!("is wrong: {why}"));
        if values.is_empty() {
            error
        } else {
            error.hint(format!("it is `{}` with the defaults", public_part(&words.join(" "))))
        }
    })
}

fn methods(field: &Field<'_>) -> Result<Vec<String>> {
    let methods = distinct(field, |field| {
        let text = field.string()?;
        let error = |why: &str| Err(field.fail(why));
        if !(1..=32).contains(&text.len()) || !text.bytes().all(|b| b.is_ascii_uppercase() || b == b'-') {
            error("is not a method in upper case")
        } else if matches!(text, "CONNECT" | "TRACE") {
            error("is a method that no plugin can use")
        } else {
            Ok(text.to_owned())
        }
    })?;
    if methods.is_empty() { Err(field.fail("is empty").hint("write for example `[\"GET\"]`")) } else { Ok(methods) }
}

fn variable(field: &Field<'_>) -> Result<String> {
    let text = field.string()?;
    if variable_name(text) {
        Ok(text.to_owned())
    } else {
        Err(field.fail("is not a name").hint("it has letters, digits and `_`, at most 128, and begins with no digit"))
    }
}

fn distinct(field: &Field<'_>, read: impl Fn(&Field<'_>) -> Result<String>) -> Result<Vec<String>> {
    let mut texts: Vec<String> = Vec::new();
    for element in field.list()? {
        let text = read(&element)?;
        if texts.contains(&text) {
            return Err(element.fail(format!("is `{text}` a second time")));
        }
        texts.push(text);
    }
    Ok(texts)
}

fn limits(root: &Section<'_>) -> Result<BTreeMap<String, u64>> {
    let Some(table) = root.get("limits") else {
        return Ok(BTreeMap::new());
    };
    let mut found = BTreeMap::new();
    for (name, field) in table.open()?.entries() {
        let Some(info) = limits::TABLE.iter().find(|info| info.name == name) else {
            let known: Vec<&str> = limits::TABLE.iter().map(|info| info.name).collect();
            return Err(field.unknown(name, "limit", &known));
        };
        let value = field.unsigned()?;
        if value > info.default {
            let error = field.fail(format!("is {value}, above the host's {}", info.default));
            return Err(error.hint("a plugin may ask for less than the host allows, never for more"));
        }
        found.insert(name.to_owned(), value);
    }
    Ok(found)
}
