//! What a component says of itself, read before anything compiles it.
//!
//! Compiling is where an engine is not hardened against hostile input, so a file first passes bounds that cost one linear
//! read: its size, the number of its functions, the features that it uses, and the names that it imports and exports.

use midplane_core::limits::Limits;
use midplane_core::manifest::PluginKind;
use midplane_core::text::shown;
use midplane_core::{Error, Result};
use wasmparser::{ComponentExternalKind, Encoding, Parser, Payload, Validator, WasmFeatures};

/// What was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inspected {
    /// Interfaces that it imports, with their versions.
    pub imports: Vec<String>,
    /// Instances that it exports.
    pub exports: Vec<String>,
    /// Functions that would be compiled.
    pub functions: u64,
}

/// The release of the contract that this host offers.
pub const WIT_RELEASE: &str = "0.1.0";

/// Interfaces of the contract that the linker has; with [`WIT_RELEASE`].
const CONTRACT: [&str; 15] = [
    "types",
    "approval",
    "blob",
    "config",
    "control",
    "detached",
    "dns-exchange",
    "events",
    "files",
    "http",
    "kv",
    "log",
    "process",
    "tools",
    "ws",
];

/// Packages of WASI 0.2 that the linker has.
const WASI: [&str; 6] = ["io", "clocks", "random", "cli", "filesystem", "sockets"];

/// What to do about a component that is too much.
const RAISE: &str = "an operator may raise the limit in the configuration";

/// What to do about one that is none, or uses what is not run here.
pub(crate) const BUILD: &str =
    "build it for `wasm32-wasip2` against this host's SDK, without threads, garbage collection, exceptions and async";

/// The features that a plugin may use: WebAssembly 2.0 with the component model, and nothing that is new, hard to bound
/// or was the ground of most advisories (GC, threads, exceptions, the async ABI).
fn features() -> WasmFeatures {
    WasmFeatures::WASM2
        | WasmFeatures::EXTENDED_CONST
        | WasmFeatures::MULTI_MEMORY
        | WasmFeatures::COMPONENT_MODEL
        | WasmFeatures::TAIL_CALL
}

/// Reads a component and refuses what this host will not compile or could not link.
pub fn inspect(bytes: &[u8], kind: PluginKind, limits: &Limits) -> Result<Inspected> {
    if bytes.len() as u64 > limits.component_bytes_max {
        return Err(Error::limit(
            "component-size",
            format!(
                "the component has {} bytes, more than the {} of `component_bytes_max`",
                bytes.len(),
                limits.component_bytes_max
            ),
        )
        .hint(RAISE));
    }
    if !bytes.starts_with(b"\0asm") {
        return Err(Error::invalid("not-wasm", "the file is not WebAssembly")
            .hint("a plugin is one component file, such as `cargo build --target wasm32-wasip2` makes"));
    }
    let read = read(bytes, limits)?;
    check_imports(&read.imports)?;
    check_export(&read.exports, kind)?;
    Ok(read)
}

fn read(bytes: &[u8], limits: &Limits) -> Result<Inspected> {
    let mut found = Inspected { imports: Vec::new(), exports: Vec::new(), functions: 0 };
    let mut validator = Validator::new_with_features(features());
    let mut depth = 0_usize;
    let bad = |error: wasmparser::BinaryReaderError| {
        Error::invalid("component", format!("not a component that this host can run: {}", shown(error.message(), 300)))
            .hint(BUILD)
    };
    for payload in Parser::new(0).parse_all(bytes) {
        let payload = payload.map_err(bad)?;
        match &payload {
            Payload::Version { encoding: Encoding::Module, .. } if depth == 0 => {
                return Err(Error::invalid("not-a-component", "the file is a core module, not a component")
                    .hint("build it for `wasm32-wasip2`, or wrap it with `wasm-tools component new`"));
            }
            Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => depth += 1,
            Payload::End(_) => depth = depth.saturating_sub(1),
            Payload::CodeSectionStart { count, .. } => {
                found.functions += u64::from(*count);
                if found.functions > limits.component_functions_max {
                    return Err(Error::limit(
                        "component-functions",
                        format!(
                            "the component has more than the {} functions of `component_functions_max`",
                            limits.component_functions_max
                        ),
                    )
                    .hint(RAISE));
                }
            }
            Payload::ComponentImportSection(section) if depth == 0 => {
                for import in section.clone() {
                    found.imports.push(import.map_err(bad)?.name.name.to_owned());
                }
            }
            Payload::ComponentExportSection(section) if depth == 0 => {
                for export in section.clone() {
                    let export = export.map_err(bad)?;
                    if export.kind == ComponentExternalKind::Instance {
                        found.exports.push(export.name.name.to_owned());
                    }
                }
            }
            _ => {}
        }
        // Types and structure only; function bodies are validated by the compiler, which reads them anyway.
        validator.payload(&payload).map_err(bad)?;
    }
    Ok(found)
}

fn check_imports(imports: &[String]) -> Result<()> {
    for import in imports {
        let (name, version) = import.split_once('@').unwrap_or((import, ""));
        let ok = match name.split_once('/') {
            Some(("midplane:plugin", interface)) => {
                if !same_line(version) {
                    return Err(other_line(version));
                }
                CONTRACT.contains(&interface)
            }
            Some((package, _)) => package
                .strip_prefix("wasi:")
                .is_some_and(|package| WASI.contains(&package) && version.starts_with("0.2.")),
            None => false,
        };
        if !ok {
            let error = Error::unsupported(
                "import-unknown",
                format!("the component imports `{}`, which this host does not offer", shown(import, 120)),
            );
            let hint = match name.split_once('/') {
                Some(("wasi:http", _)) => "HTTP goes through the import `midplane:plugin/http`",
                Some((package, _)) if package.starts_with("wasi:") => {
                    "this host offers part of WASI 0.2: io, clocks, random, cli, filesystem without preopens"
                }
                _ => "build it against the worlds of `wit/v0`",
            };
            return Err(error.hint(hint));
        }
    }
    Ok(())
}

fn check_export(exports: &[String], kind: PluginKind) -> Result<()> {
    let prefix = format!("midplane:plugin/{}", kind.as_str());
    let found = exports.iter().find_map(|export| {
        let (name, version) = export.split_once('@').unwrap_or((export, ""));
        (name == prefix).then_some(version)
    });
    match found {
        Some(version) if same_line(version) => Ok(()),
        Some(version) => Err(other_line(version)),
        None => {
            let has: Vec<&str> =
                exports.iter().map(String::as_str).filter(|name| name.starts_with("midplane:plugin/")).collect();
            let has = if has.is_empty() {
                "none of the contract".to_owned()
            } else {
                format!("`{}`", shown(&has.join("`, `"), 200))
            };
            Err(Error::unsupported(
                "world",
                format!(
                    "a plugin of kind `{}` exports `{prefix}@{WIT_RELEASE}`; this component exports {has}",
                    kind.as_str()
                ),
            )
            .hint("set `plugin.kind` to what the component is, or build it for the other world"))
        }
    }
}

/// Whether a version is of the host's line: the first number that is not zero, and all before it.
fn same_line(version: &str) -> bool {
    let line = |version: &str| version.rsplit_once('.').map(|(line, _)| line.to_owned());
    // Pre-releases are names of their own to the component linker and are never published.
    !version.contains('-') && line(version) == line(WIT_RELEASE)
}

fn other_line(version: &str) -> Error {
    Error::unsupported(
        "wit-line",
        format!("built against `midplane:plugin@{}`, this host offers `{WIT_RELEASE}`", shown(version, 40)),
    )
    .hint("build the plugin against the SDK of this host's line, or update the host")
}
