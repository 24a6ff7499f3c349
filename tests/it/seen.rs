//! Processes as they can be seen from outside: arguments, environment, memory.

use std::collections::BTreeSet;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

/// How much of a memory is searched at once, in bytes.
const CHUNK_BYTES: usize = 1 << 20;

/// A process of the machine. What is read of one that has ended is empty.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Process(PathBuf);

impl Process {
    /// The process of an id.
    pub(crate) fn of_id(id: i64) -> Self {
        Self(Path::new("/proc").join(id.to_string()))
    }

    /// All that belong to a folder of a test: it stands in their arguments or their environment, or they work in it.
    pub(crate) fn of_folder(folder: &Path) -> Vec<Self> {
        let all = std::fs::read_dir("/proc").expect("a list of processes").flatten().map(|entry| entry.path());
        let numbered =
            |path: &PathBuf| path.file_name().is_some_and(|name| name.as_encoded_bytes()[0].is_ascii_digit());
        let name = folder.as_os_str().as_encoded_bytes();
        let belongs = |process: &Self| {
            let said = [process.arguments(), process.environment()];
            let works = std::fs::read_link(process.0.join("cwd")).is_ok_and(|place| place.starts_with(folder));
            works || said.iter().any(|bytes| holds(bytes, name))
        };
        all.filter(numbered).map(Self).filter(belongs).collect()
    }

    /// The file name of its program.
    pub(crate) fn program(&self) -> String {
        let path = std::fs::read_link(self.0.join("exe")).unwrap_or_default();
        path.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }

    /// Its arguments, each with a NUL behind it.
    pub(crate) fn arguments(&self) -> Vec<u8> {
        self.read("cmdline")
    }

    /// The environment that it was started with, in the same form.
    pub(crate) fn environment(&self) -> Vec<u8> {
        self.read("environ")
    }

    /// The value of a variable of its environment.
    pub(crate) fn variable(&self, name: &str) -> Option<String> {
        let environment = self.environment();
        let lines = environment.split(|byte| *byte == 0).map(String::from_utf8_lossy);
        lines.filter_map(|line| line.strip_prefix(name)?.strip_prefix('=').map(str::to_owned)).next()
    }

    /// Which of these texts are anywhere in what it can write to. None where its memory cannot be read.
    pub(crate) fn remembers<'t>(&self, texts: &[&'t str]) -> Option<BTreeSet<&'t str>> {
        let memory = std::fs::File::open(self.0.join("mem")).ok()?;
        let areas = std::fs::read_to_string(self.0.join("maps")).ok()?;
        // What is cut at the end of a chunk is found in the next.
        let overlap = texts.iter().map(|text| text.len()).max().unwrap_or(0);
        let mut chunk = vec![0; CHUNK_BYTES + overlap];
        let mut found = BTreeSet::new();
        for (from, to) in areas.lines().filter_map(writable) {
            let mut at = from;
            while at < to {
                let most = usize::try_from(to - at).map_or(chunk.len(), |left| left.min(chunk.len()));
                // Areas of the system's own cannot be read, and those of a process that ends are gone.
                let Ok(bytes) = memory.read_at(&mut chunk[..most], at) else { break };
                found.extend(texts.iter().filter(|text| holds(&chunk[..bytes], text.as_bytes())));
                if bytes == 0 {
                    break;
                }
                at += u64::try_from(bytes.min(CHUNK_BYTES)).expect("a chunk");
            }
        }
        Some(found)
    }

    fn read(&self, file: &str) -> Vec<u8> {
        std::fs::read(self.0.join(file)).unwrap_or_default()
    }
}

/// The range of a line of `maps` that the process can write to.
fn writable(line: &str) -> Option<(u64, u64)> {
    let mut words = line.split(' ');
    let (from, to) = words.next()?.split_once('-')?;
    let rights = words.next()?;
    let number = |text| u64::from_str_radix(text, 16).ok();
    rights.starts_with("rw").then_some((number(from)?, number(to)?))
}

/// Whether a text is in some bytes.
pub(crate) fn holds(bytes: &[u8], text: &[u8]) -> bool {
    memchr::memmem::find(bytes, text).is_some()
}
