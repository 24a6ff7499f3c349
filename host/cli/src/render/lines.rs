//! A run as JSON lines: one object a record, all records, nothing else.

use std::io::{self, Write};

use midplane::core::event::Record;

use crate::render::Renderer;

/// Writes `{"run_id", "seq", "t_ms", "kind", "data"}` per record.
pub(crate) struct Lines<W> {
    out: W,
}

impl<W: Write + Send> Lines<W> {
    pub(crate) fn new(out: W) -> Self {
        Self { out }
    }
}

impl<W: Write + Send> Renderer for Lines<W> {
    fn record(&mut self, record: &Record) -> io::Result<()> {
        let mut line = serde_json::to_vec(record)?;
        line.push(b'\n');
        // In one piece: a reader sees whole lines only.
        self.out.write_all(&line)?;
        self.out.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::describe::tests::eventful;

    #[test]
    fn one_object_a_line() {
        let log = eventful();
        let mut out = Vec::new();
        let mut lines = Lines::new(&mut out);
        for record in &log {
            lines.record(record).expect("written");
        }
        let text = String::from_utf8(out).expect("text");
        let read: Vec<Record> = text.lines().map(|line| serde_json::from_str(line).expect("a record")).collect();
        assert_eq!(read, log);
        insta::assert_snapshot!(text.lines().nth(5).expect("a line"));
    }
}
