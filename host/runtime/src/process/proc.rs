//! What `/proc` says: which processes belong to a program, and whose a loopback port is.
//!
//! Every answer may be old when it is read. So nothing here is a fence by itself: who asks, asks again after the act.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4};
use std::path::Path;

/// State of a listening socket in the tables of `/proc/net`.
const LISTEN: &str = "0A";

/// The processes of a process group, those that have ended included until they are reaped.
pub(crate) fn group(group: i32) -> BTreeSet<i32> {
    all().filter(|process| process.group == group).map(|process| process.pid).collect()
}

/// All that a process started, and what those started, whichever group or session they are in now.
pub(crate) fn descendants(root: i32) -> Vec<Process> {
    let mut children: BTreeMap<i32, Vec<Process>> = BTreeMap::new();
    for process in all() {
        children.entry(process.parent).or_default().push(process);
    }
    let mut found = Vec::new();
    let mut parents = vec![root];
    // Each list is taken out once, so that a number used anew meanwhile makes no circle.
    while let Some(parent) = parents.pop() {
        let of = children.remove(&parent).unwrap_or_default();
        parents.extend(of.iter().map(|process| process.pid));
        found.extend(of);
    }
    found
}

/// All processes that were started with a variable of this value, and whose environment may be read.
pub(crate) fn with_variable(name: &str, value: &str) -> Vec<i32> {
    let wanted = format!("{name}={value}");
    let has = |pid: &i32| {
        let environ = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        environ.split(|byte| *byte == 0).any(|variable| variable == wanted.as_bytes())
    };
    all().map(|process| process.pid).filter(has).collect()
}

/// Whether somebody listens on `127.0.0.1:<port>`, and all who do are among these processes. Several can: each socket with
/// `SO_REUSEPORT` gets a share of the connections, whichever process holds it.
pub(crate) fn listens(port: u16, processes: &BTreeSet<i32>) -> io::Result<bool> {
    let mut listeners = BTreeSet::new();
    for socket in sockets()? {
        let reached = match socket.local.ip() {
            IpAddr::V4(ip) => ip == Ipv4Addr::LOCALHOST || ip.is_unspecified(),
            // Also where it takes IPv6 alone, which the table does not say: then the port is not ours to judge.
            IpAddr::V6(ip) => ip.is_unspecified(),
        };
        if socket.listens && socket.local.port() == port && reached {
            listeners.insert(socket.inode);
        }
    }
    let found = listeners.len();
    Ok(found > 0 && held(listeners, processes).len() == found)
}

/// Whether the other end of a connection from `ours` to `127.0.0.1:<port>` is held by one of these processes.
pub(crate) fn answers(port: u16, ours: SocketAddr, processes: &BTreeSet<i32>) -> io::Result<bool> {
    let theirs = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::LOCALHOST, port));
    let ends = sockets()?.into_iter().filter(|socket| socket.local == theirs && socket.remote == ours);
    // 0 until it is accepted.
    let inodes: BTreeSet<u64> = ends.map(|socket| socket.inode).filter(|inode| *inode != 0).collect();
    Ok(!held(inodes, processes).is_empty())
}

/// One row of the tables of TCP.
#[derive(Debug, PartialEq, Eq)]
struct Socket {
    local: SocketAddr,
    remote: SocketAddr,
    listens: bool,
    inode: u64,
}

/// Those of some sockets that one of these processes holds. A process whose descriptors may not be read holds none.
fn held(inodes: BTreeSet<u64>, processes: &BTreeSet<i32>) -> BTreeSet<u64> {
    let mut found = BTreeSet::new();
    for pid in processes {
        let Ok(descriptors) = std::fs::read_dir(format!("/proc/{pid}/fd")) else { continue };
        for descriptor in descriptors.flatten() {
            let Ok(target) = std::fs::read_link(descriptor.path()) else { continue };
            let inode = target.to_str().and_then(|text| text.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok());
            found.extend(inode.filter(|inode| inodes.contains(inode)));
        }
    }
    found
}

fn sockets() -> io::Result<Vec<Socket>> {
    let mut sockets = rows(&std::fs::read_to_string("/proc/net/tcp")?);
    match std::fs::read_to_string("/proc/net/tcp6") {
        Ok(table) => sockets.extend(rows(&table)),
        // A kernel without IPv6.
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    Ok(sockets)
}

fn rows(table: &str) -> Vec<Socket> {
    let row = |line: &str| {
        let mut fields = line.split_ascii_whitespace().skip(1);
        let (local, remote) = (address(fields.next()?)?, address(fields.next()?)?);
        let listens = fields.next()? == LISTEN;
        let inode = fields.nth(5)?.parse().ok()?;
        Some(Socket { local, remote, listens, inode })
    };
    table.lines().skip(1).filter_map(row).collect()
}

/// `0100007F:1F90`: the address in words of this machine's byte order, the port as a number. An IPv4 address in IPv6 form
/// is given as IPv4.
fn address(text: &str) -> Option<SocketAddr> {
    let (ip, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    if !ip.is_ascii() {
        return None;
    }
    let word = |at: usize| Some(u32::from_str_radix(ip.get(at..at + 8)?, 16).ok()?.to_ne_bytes());
    let ip = match ip.len() {
        8 => IpAddr::from(word(0)?),
        32 => {
            let mut bytes = [0; 16];
            for (index, four) in bytes.chunks_exact_mut(4).enumerate() {
                four.copy_from_slice(&word(index * 8)?);
            }
            let ip = Ipv6Addr::from(bytes);
            ip.to_ipv4_mapped().map_or(IpAddr::V6(ip), IpAddr::V4)
        }
        _ => return None,
    };
    Some(SocketAddr::new(ip, port))
}

/// One process.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Process {
    pub(crate) pid: i32,
    parent: i32,
    pub(crate) group: i32,
}

fn all() -> impl Iterator<Item = Process> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| stat(entry.file_name().to_str()?.parse().ok()?, &entry.path()))
}

fn stat(pid: i32, folder: &Path) -> Option<Process> {
    let stat = std::fs::read(folder.join("stat")).ok()?;
    // The name in parentheses may hold anything; what follows the last of them: state, parent, group.
    let after = stat.iter().rposition(|byte| *byte == b')')?;
    let mut fields = std::str::from_utf8(&stat[after + 1..]).ok()?.split_ascii_whitespace();
    let parent = fields.nth(1)?.parse().ok()?;
    let group = fields.next()?.parse().ok()?;
    Some(Process { pid, parent, group })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, TcpStream};

    #[test]
    fn tables_are_read() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n\
            0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4711 1 0 100 0\n\
            1: 0000000000000000FFFF00000100007F:1F91 00000000000000000000000000000000:0000 01 0:0 0:0 0 0 0 4712 1\n\
            2: garbage\n\
            3: 0100007F:zz 00000000:0000 0A 0:0 0:0 0 0 0 1 1\n";
        let shown: Vec<String> = rows(table)
            .into_iter()
            .map(|socket| format!("{} {} {} {}", socket.local, socket.remote, socket.listens, socket.inode))
            .collect();
        #[cfg(target_endian = "little")]
        assert_eq!(shown, ["127.0.0.1:8080 0.0.0.0:0 true 4711", "127.0.0.1:8081 [::]:0 false 4712"]);
    }

    #[test]
    fn whose_a_port_is() {
        let me = BTreeSet::from([i32::try_from(std::process::id()).unwrap()]);
        let other = BTreeSet::from([1]);
        for ip in ["127.0.0.1", "0.0.0.0", "::"] {
            let Ok(listener) = TcpListener::bind((ip, 0)) else { continue };
            let port = listener.local_addr().unwrap().port();
            assert!(listens(port, &me).unwrap(), "{ip}");
            assert!(!listens(port, &other).unwrap(), "{ip}");
            let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
            let ours = stream.local_addr().unwrap();
            // Nobody holds it before it is accepted.
            assert!(!answers(port, ours, &me).unwrap(), "{ip}");
            let accepted = listener.accept().unwrap();
            assert!(answers(port, ours, &me).unwrap(), "{ip}");
            assert!(!answers(port, ours, &other).unwrap(), "{ip}");
            drop((accepted, listener));
            assert!(!listens(port, &me).unwrap(), "{ip}");
        }
        assert!(!listens(1, &me).unwrap());
    }
}
