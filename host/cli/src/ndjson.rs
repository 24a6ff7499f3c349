//! Lines of JSON on standard input, one at a time and of bounded size.

use std::io::{BufRead, Read as _};

/// One line, without its end.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Line {
    /// Its number in the input, from 1.
    pub(crate) number: u64,
    /// Its bytes; of one that is too long, one more than the bound, so that whoever judges it sees that.
    pub(crate) bytes: Vec<u8>,
}

/// The lines of an input that are not blank.
pub(crate) struct Lines<R> {
    input: R,
    bytes_max: usize,
    number: u64,
}

impl<R: BufRead> Lines<R> {
    pub(crate) fn new(input: R, bytes_max: usize) -> Self {
        Self { input, bytes_max, number: 0 }
    }

    /// The next line; none at the end.
    pub(crate) fn next(&mut self) -> std::io::Result<Option<Line>> {
        loop {
            self.number += 1;
            let mut bytes = Vec::new();
            let bound = self.bytes_max as u64 + 1;
            if self.input.by_ref().take(bound).read_until(b'\n', &mut bytes)? == 0 {
                return Ok(None);
            }
            if bytes.last() == Some(&b'\n') {
                bytes.pop();
            } else {
                // Too long, or the last of the input; what is left of the line is not held.
                self.input.skip_until(b'\n')?;
            }
            if !bytes.trim_ascii().is_empty() {
                return Ok(Some(Line { number: self.number, bytes }));
            }
        }
    }

    /// All that is left, at most the bound and one more.
    pub(crate) fn rest(&mut self) -> std::io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.input.by_ref().take(self.bytes_max as u64 + 1).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    /// How many bytes a line may have.
    pub(crate) fn bytes_max(&self) -> usize {
        self.bytes_max
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str, bytes_max: usize) -> Vec<(u64, String)> {
        let mut lines = Lines::new(text.as_bytes(), bytes_max);
        let mut all = Vec::new();
        while let Some(line) = lines.next().expect("read") {
            all.push((line.number, String::from_utf8(line.bytes).expect("text")));
        }
        all
    }

    #[test]
    fn lines_of_bounded_size() {
        let text = "one\n\n  \r\nfour\nlong-long-long\nlast";
        let whole: Vec<_> =
            [(1, "one"), (4, "four"), (5, "long-long-long"), (6, "last")].map(|(n, s)| (n, s.to_owned())).into();
        assert_eq!(lines(text, 100), whole);
        let cut = lines(text, 5);
        assert_eq!(cut[2], (5, "long-l".to_owned()));
        assert_eq!(cut[3], (6, "last".to_owned()));
        assert_eq!(lines("abcde\nx", 5), [(1, "abcde".to_owned()), (2, "x".to_owned())]);
        assert!(lines("", 5).is_empty());
    }
}
