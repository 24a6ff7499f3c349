//! What `wit/v0` looks like in Rust, generated. Nothing else in the host describes this border.
//!
//! All imports of all worlds are generated once, here, and shared by the four kinds: a world includes them by need, and
//! the linker offers each guest all of them. Being linked is no permission; the port behind an import asks the gate.

#![expect(unreachable_pub, reason = "generated")]

wasmtime::component::bindgen!({
    path: "../../wit/v0",
    inline: "
        package midplane:host;
        world everything {
            include midplane:plugin/agent-adapter@0.1.0;
            import midplane:plugin/files@0.1.0;
            import midplane:plugin/dns-exchange@0.1.0;
            import midplane:plugin/detached@0.1.0;
        }
    ",
    world: "midplane:host/everything",
    imports: {
        // What never waits is a plain call: a guest polls these in its inner loop.
        "midplane:plugin/control.cancelled": trappable,
        "midplane:plugin/control.remaining-ms": trappable,
        "midplane:plugin/config.get": trappable,
        "midplane:plugin/log.write": trappable,
        default: async | trappable,
    },
    exports: { default: async },
    with: {
        "midplane:plugin/blob.blob": crate::imports::blob::BlobHandle,
        "midplane:plugin/blob.writer": crate::imports::blob::WriterHandle,
        "midplane:plugin/http.response": crate::imports::http::ResponseHandle,
        "midplane:plugin/process.child": crate::imports::process::ChildHandle,
        "midplane:plugin/ws.socket": crate::imports::ws::SocketHandle,
    },
});

pub use self::exports::midplane::plugin::agent;
pub use self::midplane::plugin::{
    approval, blob, config, control, detached, dns_exchange, events, files, http, kv, log, process, tools, types, ws,
};
