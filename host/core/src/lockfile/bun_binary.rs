//! `bun.lockb`: bun's binary format, versions 2 (up to bun 1.1) and 3 (bun 1.2 and later, on request).
//!
//! All numbers are little-endian. After a line of text, the format version and a hash stands the table of packages, stored by
//! columns: of `n` packages first all names, then all hashes of names, all resolutions, all slices of dependencies.
//! Buffers follow, each as the offsets of its first byte and of the byte behind its last: trees, hoisted dependencies,
//! resolutions, dependencies, external strings, string bytes. The first package is the project itself.
//! A string is 8 bytes: the text itself if it fits, else (top bit set) an offset and a length in the string bytes.

use std::collections::BTreeMap;

use super::node::Entry;
use crate::problem::Problem;

const MAGIC: &[u8] = b"#!/usr/bin/env bun\nbun-lockfile-format-v0\n";
const HASH_BYTES: usize = 32;
const STRING_BYTES: usize = 8;
/// Name, hash of the name, behaviour, kind of range, range.
const DEPENDENCY_BYTES: usize = 26;
/// The resolution of a package from a registry.
const FROM_REGISTRY: u8 = 2;

/// What the lock file recorded for the project, by name. `file` is its name in messages.
pub(super) fn read(bytes: &[u8], file: &str) -> Result<BTreeMap<String, Entry>, Problem> {
    let body =
        bytes.strip_prefix(MAGIC).ok_or_else(|| damaged(file, "it does not begin as bun's binary format does"))?;
    let version = body.first_chunk::<4>().map(|version| u32::from_le_bytes(*version));
    match version {
        Some(version @ (2 | 3)) => Reader { bytes }
            .project(version)
            .ok_or_else(|| damaged(file, "it is cut off, or an offset in it leads out of it")),
        Some(version) => Err(Problem::new(file, "lock-version", format!("format version `{version}` is not known"))
            .hint("known are 2 and 3; `bun install --save-text-lockfile` writes the text format")),
        None => Err(damaged(file, "it is cut off")),
    }
}

fn damaged(file: &str, message: &str) -> Problem {
    Problem::new(file, "lock-unreadable", message)
        .hint("restore the file from version control, or delete it and write it anew")
}

struct Reader<'b> {
    bytes: &'b [u8],
}

impl Reader<'_> {
    fn part(&self, at: usize, len: usize) -> Option<&[u8]> {
        self.bytes.get(at..at.checked_add(len)?)
    }

    fn u32(&self, at: usize) -> Option<usize> {
        let bytes = self.part(at, 4)?.first_chunk::<4>()?;
        usize::try_from(u32::from_le_bytes(*bytes)).ok()
    }

    fn u64(&self, at: usize) -> Option<usize> {
        let bytes = self.part(at, 8)?.first_chunk::<8>()?;
        usize::try_from(u64::from_le_bytes(*bytes)).ok()
    }

    /// Everything of interest; none where an offset leads out of the file.
    fn project(&self, version: u32) -> Option<BTreeMap<String, Entry>> {
        let table = MAGIC.len() + 4 + HASH_BYTES;
        // The size of all, then of the table: packages, alignment, columns, first byte, byte behind the last.
        let packages = self.u64(table + 8)?;
        let (begin, end) = (self.u64(table + 32)?, self.u64(table + 40)?);
        // Version 3 has wider numbers in a version.
        let (resolution_bytes, number_bytes) = if version == 2 { (64, 4) } else { (72, 8) };
        let resolutions_at = begin.checked_add(packages.checked_mul(16)?)?;
        let slices_at = resolutions_at.checked_add(packages.checked_mul(resolution_bytes)?)?;

        // Each buffer begins with its two offsets and ends where the next begins.
        let mut buffers = [(0, 0); 6];
        let mut at = end;
        for buffer in &mut buffers {
            *buffer = (self.u64(at)?, self.u64(at.checked_add(8)?)?);
            at = buffer.1;
        }
        let [_, _, (ids, ids_end), (dependencies, _), _, (strings, strings_end)] = buffers;
        let strings = self.bytes.get(strings..strings_end)?;

        let (first, count) = (self.u32(slices_at)?, self.u32(slices_at.checked_add(4)?)?);
        let mut entries = BTreeMap::new();
        for index in first..first.checked_add(count)? {
            let at = dependencies.checked_add(index.checked_mul(DEPENDENCY_BYTES)?)?;
            let dependency = self.part(at, DEPENDENCY_BYTES)?;
            let name = string(dependency.first_chunk()?, strings)?;
            let range = string(dependency.last_chunk()?, strings)?;
            // Bits of the behaviour. A member of a workspace is no dependency, though it is listed as one.
            let section = match dependency[16] {
                behaviour if behaviour & 0x20 != 0 => continue,
                behaviour if behaviour & 0x04 != 0 && behaviour & 0x10 == 0 => "optionalDependencies",
                behaviour if behaviour & 0x08 != 0 => "devDependencies",
                behaviour if behaviour & 0x10 != 0 => "peerDependencies",
                _ => "dependencies",
            };
            let at = ids.checked_add(index.checked_mul(4)?)?;
            let id = self.u32(at).filter(|id| *id < packages && at < ids_end);
            let version = id.and_then(|id| {
                let at = resolutions_at + id.checked_mul(resolution_bytes)?;
                self.version(at, number_bytes, strings)
            });
            entries.insert(name, Entry { section: Some(section), range: Some(range), version });
        }
        Some(entries)
    }

    /// The version of a package from a registry: kind, URL, three numbers, pre-release, build.
    fn version(&self, at: usize, number_bytes: usize, strings: &[u8]) -> Option<String> {
        if self.part(at, 1)? != [FROM_REGISTRY] {
            return None;
        }
        let numbers = at.checked_add(8 + STRING_BYTES)?;
        let number = |index: usize| {
            let at = numbers.checked_add(index * number_bytes)?;
            if number_bytes == 4 { self.u32(at) } else { self.u64(at) }
        };
        // Three numbers of four bytes are padded to eight.
        let pre = numbers.checked_add((3 * number_bytes).next_multiple_of(8))?;
        let pre = string(self.part(pre, STRING_BYTES)?.first_chunk()?, strings)?;
        let pre = if pre.is_empty() { pre } else { format!("-{pre}") };
        Some(format!("{}.{}.{}{pre}", number(0)?, number(1)?, number(2)?))
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
        strings.get(at..at.checked_add(len)?)?
    };
    Some(String::from_utf8_lossy(text).into_owned())
}
