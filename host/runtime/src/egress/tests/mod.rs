//! The gate against real servers on the loopback interface. Names are invented (`*.test`) and looked up in a table, so
//! nothing here asks a name server or leaves the machine; no test asserts a time.

mod bodies;
mod bounds;
mod failures;
pub(crate) mod harness;
mod oauth;
mod redirects;
mod rights;
mod secrets;
mod tls;
