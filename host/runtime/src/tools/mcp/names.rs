//! Names of servers' tools as a model sees them: `server__tool`, of the characters and the length that every vendor takes.

use std::collections::HashSet;

use sha2::{Digest as _, Sha256};

/// What all vendors take.
const NAME_CHARS_MAX: usize = 64;
/// Hex digits that tell names apart which were shortened or became alike.
const MARK_CHARS: usize = 8;

/// Names that were given.
#[derive(Default)]
pub(super) struct Names(HashSet<String>);

impl Names {
    /// The name of a tool, unlike all before. The same servers with the same tools in the same order give the same names.
    pub(super) fn of(&mut self, server: &str, tool: &str) -> String {
        let plain = format!("{}__{}", plain(server), plain(tool));
        let fits = plain.len() <= NAME_CHARS_MAX && self.0.insert(plain.clone());
        if fits {
            return plain;
        }
        let mut count = 0_u32;
        loop {
            let digest = Sha256::digest(format!("{server}\0{tool}\0{count}"));
            let mark: String = digest.iter().take(MARK_CHARS / 2).map(|byte| format!("{byte:02x}")).collect();
            // Of ASCII letters only, so that it can be cut anywhere.
            let head = &plain[..plain.len().min(NAME_CHARS_MAX - MARK_CHARS - 1)];
            let name = format!("{head}_{mark}");
            if self.0.insert(name.clone()) {
                return name;
            }
            count += 1;
        }
    }
}

fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn odd_and_equal_names() {
        let mut names = Names::default();
        let of = |pairs: &[(&str, &str)], names: &mut Names| -> Vec<String> {
            pairs.iter().map(|(server, tool)| names.of(server, tool)).collect()
        };
        let given = of(
            &[
                ("fs", "read_file"),
                ("fs", "read.file"),
                ("fs", "read/file"),
                ("my server", "do it\u{202e}"),
                ("a", "b__c"),
                ("a__b", "c"),
                ("long", &"x".repeat(100)),
                ("long", &format!("{}y", "x".repeat(99))),
                ("", ""),
            ],
            &mut names,
        );
        insta::assert_snapshot!(given.join("\n"));
    }

    proptest! {
        #[test]
        fn names_differ_and_fit(pairs in prop::collection::hash_set(("\\PC{0,40}", "\\PC{0,80}"), 1..40)) {
            let mut names = Names::default();
            let mut seen = HashSet::new();
            for (server, tool) in pairs {
                let name = names.of(&server, &tool);
                prop_assert!((1..=NAME_CHARS_MAX).contains(&name.len()), "{}", name);
                prop_assert!(name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-'), "{}", name);
                prop_assert!(seen.insert(name));
            }
        }
    }
}
