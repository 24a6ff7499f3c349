//! What a language's standard library could reach: nothing.

use std::net::{TcpListener, TcpStream, ToSocketAddrs as _, UdpSocket};

use midplane_plugin::Result;
use midplane_plugin::agent::Outcome;

use crate::{Behaviour, Call, survived};

pub(crate) const BEHAVIOURS: &[(&str, Behaviour)] =
    &[("wasi_environment", environment), ("wasi_files", files), ("wasi_sockets", sockets)];

fn verdict(found: Vec<String>) -> Result<Outcome> {
    if found.is_empty() { Ok(Outcome::done("nothing")) } else { survived(found.join("; ")) }
}

fn environment(_call: &Call<'_>) -> Result<Outcome> {
    let mut found: Vec<String> = std::env::vars_os().map(|(name, value)| format!("{name:?}={value:?}")).collect();
    found.extend(std::env::args_os().map(|argument| format!("argument {argument:?}")));
    let mut line = String::new();
    if std::io::stdin().read_line(&mut line).is_ok_and(|size| size > 0) {
        found.push(format!("standard input {line:?}"));
    }
    verdict(found)
}

fn files(_call: &Call<'_>) -> Result<Outcome> {
    let mut found = Vec::new();
    for path in ["/etc/passwd", "etc/passwd", "/proc/self/environ", ".", "/", "inside.txt"] {
        if std::fs::read(path).is_ok() || std::fs::read_dir(path).is_ok() || std::fs::metadata(path).is_ok() {
            found.push(format!("`{path}`"));
        }
    }
    for path in ["/tmp/made-by-a-guest", "made-by-a-guest"] {
        if std::fs::write(path, "x").is_ok() || std::fs::create_dir(path).is_ok() {
            found.push(format!("made `{path}`"));
        }
    }
    verdict(found)
}

/// The parameter is an address at which somebody listens.
fn sockets(call: &Call<'_>) -> Result<Outcome> {
    let mut found = Vec::new();
    let address = call.word(1);
    if TcpStream::connect(address).is_ok() {
        found.push(format!("connected to {address}"));
    }
    if TcpListener::bind("127.0.0.1:0").is_ok() {
        found.push("listens".to_owned());
    }
    match UdpSocket::bind("0.0.0.0:0") {
        Ok(socket) if socket.send_to(b"x", address).is_ok() => found.push("sent a datagram".to_owned()),
        Ok(_) => found.push("bound a datagram socket".to_owned()),
        Err(_) => {}
    }
    if ("localhost", 80).to_socket_addrs().is_ok_and(|mut found| found.next().is_some()) {
        found.push("looked up a name".to_owned());
    }
    verdict(found)
}
