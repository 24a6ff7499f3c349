//! `bun.lockb`: bun's binary format, versions 2 (up to bun 1.1) and 3 (bun 1.2 and later, on request).
//!
//! All numbers are little-endian. After a line of text, the format version and a hash stands the table of packages, stored by
//! columns: of `n` packages first all names, then all hashes of names, all resolutions, all slices of dependencies.
//! Buffers follow, each as the offsets of its first byte and of the byte behind its last: trees, hoisted dependencies,
//! resolutions, dependencies, external strings, string bytes. The first package is the project itself.
//! A string is 8 bytes: the text itself if it fits, else (top bit set) an offset and a length in the string bytes.

use std::collections::BTreeMap;

use super::node::{Entry, PEERS, Recorded};
use crate::problem::Problem;

const MAGIC: &[u8] = b"#!/usr/bin/env bun\nbun-lockfile-format-v0\n";
const HASH_BYTES: usize = 32;
const STRING_BYTES: usize = 8;
/// Bytes of a name, a range or a folder.
const TEXT_BYTES_MAX: usize = 4096;
/// Dependencies of the project and all its members. With the bound above it keeps a small file that refers to the same
/// bytes over and over from becoming large.
const DEPENDENCIES_MAX: usize = 20_000;
/// Name, hash of the name, behaviour, kind of range, range.
const DEPENDENCY_BYTES: usize = 26;
/// Kinds of resolution: the project itself, a package from a registry, a member of the workspace.
const ROOT: u8 = 1;
const FROM_REGISTRY: u8 = 2;
const MEMBER: u8 = 72;
/// The kind of range that a member of the workspace has.
const IS_MEMBER: u8 = 6;

/// What the lock file recorded for the project (under the empty name) and for each member of its workspace, by folder. `file`
/// is its name in messages.
pub(super) fn read(bytes: &[u8], file: &str) -> Result<BTreeMap<String, Recorded>, Problem> {
    let body =
        bytes.strip_prefix(MAGIC).ok_or_else(|| damaged(file, "it does not begin as bun's binary format does"))?;
    let version = body.first_chunk::<4>().map(|version| u32::from_le_bytes(*version));
    match version {
        Some(version @ (2 | 3)) => read_all(bytes, version)
            .ok_or_else(|| damaged(file, "it is cut off or too large, or an offset in it leads out of it")),
        Some(version) => Err(Problem::new(file, "lock-version", format!("format version `{version}` is not known"))
            .hint("known are 2 and 3; `bun install --save-text-lockfile` writes the text format")),
        None => Err(damaged(file, "it is cut off")),
    }
}

fn damaged(file: &str, message: &str) -> Problem {
    Problem::new(file, "lock-unreadable", message)
        .hint("restore the file from version control, or delete it and write it anew")
}

/// Everything of interest; none where an offset leads out of the file, or there is too much.
fn read_all(bytes: &[u8], version: u32) -> Option<BTreeMap<String, Recorded>> {
    let file = Bytes(bytes);
    let header = MAGIC.len() + 4 + HASH_BYTES;
    // The size of all, then of the table: packages, alignment, columns, first byte, byte behind the last.
    let count = file.u64(header + 8)?;
    let (begin, end) = (file.u64(header + 32)?, file.u64(header + 40)?);
    // Version 3 has wider numbers in a version.
    let (resolution_bytes, number_bytes) = if version == 2 { (64, 4) } else { (72, 8) };
    let resolutions = begin.checked_add(count.checked_mul(16)?)?;
    let slices = resolutions.checked_add(count.checked_mul(resolution_bytes)?)?;
    // All columns lie in the file, so that no count can be larger than it.
    file.part(slices, count.checked_mul(16)?)?;

    // Each buffer begins with its two offsets and ends where the next begins.
    let mut buffers = [(0, 0); 6];
    let mut at = end;
    for buffer in &mut buffers {
        *buffer = (file.u64(at)?, file.u64(at.checked_add(8)?)?);
        at = buffer.1;
    }
    let [_, _, ids, dependencies, _, strings] = buffers.map(|(start, end)| file.0.get(start..end));
    let table = Table {
        resolutions: Bytes(file.part(resolutions, slices - resolutions)?),
        resolution_bytes,
        number_bytes,
        ids: Bytes(ids?),
        dependencies: dependencies?,
        strings: strings?,
    };

    let mut recorded = BTreeMap::new();
    let mut left = DEPENDENCIES_MAX;
    for package in 0..count {
        let resolution = package * resolution_bytes;
        let path = match table.resolutions.part(resolution, 1)? {
            [ROOT] => String::new(),
            [MEMBER] => string(table.resolutions.part(resolution + 8, STRING_BYTES)?.first_chunk()?, table.strings)?,
            _ => continue,
        };
        let slice = slices + package * 8;
        let (first, own) = (file.u32(slice)?, file.u32(slice + 4)?);
        left = left.checked_sub(own.max(1))?;
        recorded.insert(path, table.recorded(first, own)?);
    }
    Some(recorded)
}

/// The parts of the file that say what a package needs.
struct Table<'b> {
    resolutions: Bytes<'b>,
    resolution_bytes: usize,
    number_bytes: usize,
    /// For each dependency the package that it was resolved to.
    ids: Bytes<'b>,
    dependencies: &'b [u8],
    strings: &'b [u8],
}

impl Table<'_> {
    /// A slice of the dependencies.
    fn recorded(&self, first: usize, count: usize) -> Option<Recorded> {
        let mut entries = BTreeMap::new();
        let mut peers = BTreeMap::new();
        for index in first..first.checked_add(count)? {
            let start = index.checked_mul(DEPENDENCY_BYTES)?;
            let dependency = self.dependencies.get(start..start.checked_add(DEPENDENCY_BYTES)?)?;
            let name = string(dependency.first_chunk()?, self.strings)?;
            let range = string(dependency.last_chunk()?, self.strings)?;
            // Bits of the behaviour. What has only the workspace's is a member that the project lists, and no dependency.
            let section = match dependency[16] {
                0x20 => continue,
                behaviour if behaviour & 0x10 != 0 => PEERS,
                behaviour if behaviour & 0x08 != 0 => "devDependencies",
                behaviour if behaviour & 0x04 != 0 => "optionalDependencies",
                _ => "dependencies",
            };
            if section == PEERS {
                peers.insert(name, range);
            } else {
                let version = self.ids.u32(index.checked_mul(4)?).and_then(|id| self.version(id));
                // For a member the folder stands in place of the range.
                let range = Some(range).filter(|_| dependency[17] != IS_MEMBER);
                entries.insert(name, Entry { section: Some(section), range, version });
            }
        }
        Some(Recorded { entries, peers: Some(peers), ..Recorded::default() })
    }

    /// The version of a package from a registry: kind, URL, three numbers, pre-release, build.
    fn version(&self, package: usize) -> Option<String> {
        let start = package.checked_mul(self.resolution_bytes)?;
        if self.resolutions.part(start, 1)? != [FROM_REGISTRY] {
            return None;
        }
        let numbers = start + 8 + STRING_BYTES;
        let number = |index: usize| {
            let at = numbers + index * self.number_bytes;
            if self.number_bytes == 4 { self.resolutions.u32(at) } else { self.resolutions.u64(at) }
        };
        // Three numbers of four bytes are padded to eight.
        let pre = numbers + (3 * self.number_bytes).next_multiple_of(8);
        let pre = string(self.resolutions.part(pre, STRING_BYTES)?.first_chunk()?, self.strings)?;
        let pre = if pre.is_empty() { pre } else { format!("-{pre}") };
        Some(format!("{}.{}.{}{pre}", number(0)?, number(1)?, number(2)?))
    }
}

/// Bytes with bounded access.
struct Bytes<'b>(&'b [u8]);

impl<'b> Bytes<'b> {
    fn part(&self, at: usize, len: usize) -> Option<&'b [u8]> {
        self.0.get(at..at.checked_add(len)?)
    }

    fn u32(&self, at: usize) -> Option<usize> {
        let bytes = self.part(at, 4)?.first_chunk::<4>()?;
        usize::try_from(u32::from_le_bytes(*bytes)).ok()
    }

    fn u64(&self, at: usize) -> Option<usize> {
        let bytes = self.part(at, 8)?.first_chunk::<8>()?;
        usize::try_from(u64::from_le_bytes(*bytes)).ok()
    }
}

fn string(bytes: &[u8; STRING_BYTES], strings: &[u8]) -> Option<String> {
    let number = u64::from_le_bytes(*bytes);
    let text = if number >> 63 == 0 {
        let len = bytes.iter().position(|byte| *byte == 0).unwrap_or(STRING_BYTES);
        &bytes[..len]
    } else {
        let at = usize::try_from(number & 0xffff_ffff).ok()?;
        let len = usize::try_from(number >> 32 & 0x7fff_ffff).ok()?;
        strings.get(at..at.checked_add(len)?).filter(|text| text.len() <= TEXT_BYTES_MAX)?
    };
    Some(String::from_utf8_lossy(text).into_owned())
}
