//! Plugins that misbehave, and files that are no plugins: each ends in its named state, the host lives on, holds no more
//! memory than before, and leaves nothing behind.
//!
//! # Layout
//! - [`harness`]: a host for one test, what a run left, and what holds after every one of them
//! - [`rows`]: behaviours of the guest `tests/guests/hostile`, as a table
//! - [`cancels`]: those that do not want to end
//! - [`secrets`]: a server that gives the guest its own credential, in disguises
//! - [`core_guests`]: what no language can say, as core WebAssembly
//! - [`installs`]: what is refused at `install`
//! - [`places`]: the servers of the tests; [`components`]: makes components of text

mod cancels;
mod components;
mod core_guests;
mod harness;
mod installs;
mod places;
mod rows;
mod secrets;
