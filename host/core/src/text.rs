//! Text that came from outside, made fit to show: control characters escaped, length bounded.

/// Escapes control characters (C0, DEL, C1, and the bidirectional overrides that can reorder a terminal line), so that
/// text of a guest or a vendor cannot move the cursor, recolour the screen or forge a line. Newline and tab stay
/// where `lines` is true.
#[must_use]
pub fn escape_controls(text: &str, lines: bool) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' | '\t' if lines => out.push(c),
            '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {
                out.extend(c.escape_unicode());
            }
            c if c.is_control() => out.extend(c.escape_default()),
            c => out.push(c),
        }
    }
    out
}

/// One line of at most `chars_max` characters, escaped; what was cut is said by an ellipsis.
#[must_use]
pub fn shown(text: &str, chars_max: usize) -> String {
    escape_controls(&preview(text, chars_max), false)
}

/// The first `chars_max` characters, with an ellipsis where more followed.
#[must_use]
pub fn preview(text: &str, chars_max: usize) -> String {
    match text.char_indices().nth(chars_max) {
        None => text.to_owned(),
        Some((end, _)) => format!("{}…", &text[..end]),
    }
}

/// The longest prefix of at most `bytes_max` bytes that ends at a character.
#[must_use]
pub fn cut(text: &str, bytes_max: usize) -> &str {
    if text.len() <= bytes_max {
        return text;
    }
    let mut end = bytes_max;
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

/// Of `known`, the names most like `wanted`, nearest first: what "did you mean" says. Empty when none is near.
#[must_use]
pub fn near<'a>(wanted: &str, known: impl IntoIterator<Item = &'a str>) -> Vec<&'a str> {
    let mut scored: Vec<(f64, &str)> = known
        .into_iter()
        .map(|name| (strsim::jaro_winkler(wanted, name), name))
        .filter(|(score, _)| *score > 0.8)
        .collect();
    scored.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(b.1)));
    scored.into_iter().take(3).map(|(_, name)| name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn controls_are_escaped() {
        assert_eq!(escape_controls("a\x1b[31mb\u{202e}\n", false), "a\\u{1b}[31mb\\u{202e}\\n");
        assert_eq!(escape_controls("a\n\tb", true), "a\n\tb");
    }

    #[test]
    fn cut_keeps_characters_whole() {
        assert_eq!(cut("aé", 2), "a");
        assert_eq!(preview("abc", 2), "ab…");
    }

    #[test]
    fn near_names() {
        assert_eq!(near("antropic", ["anthropic", "playbook"]), ["anthropic"]);
        assert!(near("zzz", ["anthropic", "playbook"]).is_empty());
    }
}
