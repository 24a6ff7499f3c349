//! The only crate that names wasmtime: it loads a component, gives a call its reach, and says how the call ended.
//!
//! # Layout
//! - [`inspect`](mod@inspect): what a component says of itself, read before anything compiles it
//! - [`engine`]: wasmtime's configuration, the epoch ticker, the compile cache
//! - [`plugin`]: a loaded component and its calls
//! - [`ports`]: what a guest can reach, as traits that the runtime implements
//! - [`control`]: deadline, cancel and signals of one call
//! - `imports/`: one file an interface: from a guest's call to a port and back
//! - `data`: what a store carries; `bindings`: `wit/v0` in Rust, generated
//!
//! # What it never does
//! It has no policy (each import asks a port, behind which the gate is), no transport (no socket, no file but the compiled
//! form that it is told to load) and no shared instance: one store a call, thrown away after it, whatever happened.

mod bindings;
pub mod control;
mod data;
pub mod engine;
mod imports;
pub mod inspect;
pub mod plugin;
pub mod ports;

pub use control::{Control, Signal};
pub use engine::Engine;
pub use inspect::{Inspected, WIT_RELEASE, inspect};
pub use plugin::{AgentTask, Attached, Plugin};
pub use ports::Ports;
