//! What people and programs see.
//!
//! - [`describe`]: what a record says, in words; [`tally`]: what is kept of a run for its end
//! - [`terminal`], [`plain`], [`lines`]: a run on a terminal, elsewhere, and as JSON lines
//! - [`table`], [`units`]: lists, and numbers with their units

use std::io;

use midplane::core::event::Record;

pub(crate) mod describe;
pub(crate) mod lines;
pub(crate) mod plain;
pub(crate) mod table;
pub(crate) mod tally;
pub(crate) mod terminal;
pub(crate) mod units;

/// Shows the records of one run as they come, its end included. An error means that nobody reads any more.
pub(crate) trait Renderer: Send {
    /// One more record.
    fn record(&mut self, record: &Record) -> io::Result<()>;

    /// Nothing follows, although there was no terminal record.
    fn finish(&mut self) -> io::Result<()> {
        Ok(())
    }

    /// Makes room for a question at the terminal.
    fn pause(&mut self) -> io::Result<()> {
        Ok(())
    }

    /// Goes on after it.
    fn resume(&mut self) {}
}
