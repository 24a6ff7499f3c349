//! The generated half of the SDK: `wit/v0` in Rust, for the world `agent-adapter`.
//!
//! Generated once, here, and re-exported: a plugin that generated its own would hold types that the SDK's helpers do
//! not take, and would have to be rebuilt in step. Only `export_agent!` and [`crate::host`] should need this module;
//! `blob` is used from here directly until it has helpers.
#![expect(missing_docs, reason = "generated; the documentation is in `wit/v0`")]

wit_bindgen::generate!({
    path: "../../wit/v0",
    world: "agent-adapter",
    pub_export_macro: true,
    export_macro_name: "export_agent_adapter",
    default_bindings_module: "midplane_plugin::bindings",
    additional_derives: [PartialEq],
    additional_derives_ignore: ["body"],
});
