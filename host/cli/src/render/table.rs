//! Lists as aligned columns.

use console::{measure_text_width, style};
use midplane::core::text::escape_controls;

/// Rows below a head of so many columns. The last column is not padded, so that long texts end where they end.
pub(crate) struct Table(Grid);

impl Table {
    /// A table with these columns.
    pub(crate) fn new<const N: usize>(head: [&str; N]) -> Self {
        Self(Grid { rows: vec![head.map(str::to_owned).to_vec()] })
    }

    /// One more row.
    pub(crate) fn row<const N: usize>(&mut self, cells: [String; N]) {
        self.0.row(cells.to_vec());
    }

    /// The lines; `empty` where there are no rows.
    pub(crate) fn text(&self, empty: &str) -> String {
        if self.0.rows.len() == 1 { format!("{empty}\n") } else { self.0.text() }
    }
}

/// The same where the number of columns is known at run time alone. The first row is the head.
#[derive(Default)]
pub(crate) struct Grid {
    rows: Vec<Vec<String>>,
}

impl Grid {
    /// One more row. Control characters are escaped: names and messages come from outside.
    pub(crate) fn row(&mut self, cells: Vec<String>) {
        self.rows.push(cells.iter().map(|cell| escape_controls(cell, false)).collect());
    }

    /// The lines.
    pub(crate) fn text(&self) -> String {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or_default();
        let width = |column: usize| {
            self.rows
                .iter()
                .filter_map(|row| row.get(column))
                .map(|cell| measure_text_width(cell))
                .max()
                .unwrap_or_default()
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        let mut text = String::new();
        for (index, row) in self.rows.iter().enumerate() {
            let mut line = String::new();
            for (cell, width) in row.iter().zip(&widths) {
                line.push_str(cell);
                line.extend(std::iter::repeat_n(' ', width - measure_text_width(cell) + 2));
            }
            let line = line.trim_end();
            if index == 0 {
                text.push_str(&style(line).bold().to_string());
            } else {
                text.push_str(line);
            }
            text.push('\n');
        }
        text
    }
}

/// Names and values below each other; values of several lines are indented.
pub(crate) fn fields(fields: &[(&str, String)]) -> String {
    let width = fields.iter().map(|(name, _)| measure_text_width(name)).max().unwrap_or_default();
    let mut text = String::new();
    for (name, value) in fields {
        let padded = format!("{name}{}", " ".repeat(width - measure_text_width(name)));
        let value = escape_controls(value, true).replace('\n', &format!("\n{}", " ".repeat(width + 2)));
        for line in format!("{}  {value}", style(padded).bold()).lines() {
            text.push_str(line.trim_end());
            text.push('\n');
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned() {
        console::set_colors_enabled(false);
        let mut table = Table::new(["NAME", "WHAT"]);
        assert_eq!(table.text("none"), "none\n");
        table.row(["日本".into(), "x".into()]);
        table.row(["longer-name".into(), "a\u{1b}[2Jb".into()]);
        assert_eq!(table.text("none"), "NAME         WHAT\n日本         x\nlonger-name  a\\u{1b}[2Jb\n");
        assert_eq!(fields(&[("a", "1\n\n2".into()), ("long", String::new())]), "a     1\n\n      2\nlong\n");
    }
}
