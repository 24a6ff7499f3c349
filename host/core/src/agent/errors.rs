//! What agent-runtime-kit raises, by the kind and code of our errors.

use crate::outcome::{FinishReason, Outcome};
use crate::{Error, ErrorKind};

/// One row: our kind, our code (empty for any), their type.
type Row = (ErrorKind, &'static str, &'static str);

/// The first row that fits holds. What is in none is a vendor's own exception there.
pub const TABLE: &[Row] = &[
    (ErrorKind::Unsupported, "task-unsupported", "UnsupportedTaskInputError"),
    (ErrorKind::Invalid, "output-schema", "OutputSchemaError"),
    (ErrorKind::Invalid, "output-schema-reference", "OutputSchemaError"),
    (ErrorKind::Invalid, "output-type", "OutputTypeError"),
    (ErrorKind::Cancelled, "deadline", "AgentTaskTimeoutError"),
    (ErrorKind::NotFound, "agent-unknown", "RuntimeNotRegisteredError"),
    (ErrorKind::NotFound, "profile-unknown", "RuntimeNotRegisteredError"),
    (ErrorKind::Conflict, "agent-exists", "ValueError"),
    (ErrorKind::Conflict, "task-active", "AgentRuntimeError"),
    (ErrorKind::Unavailable, "", "AgentRuntimeUnavailableError"),
    (ErrorKind::Invalid, "option-type", "TypeError"),
    (ErrorKind::Invalid, "", "ValueError"),
    (ErrorKind::Cancelled, "", "CancelledError"),
];

/// The name under which the original raises this, if it has one.
#[must_use]
pub fn original(error: &Error) -> Option<&'static str> {
    let fits = |(kind, code, _): &&Row| *kind == error.kind && (code.is_empty() || *code == error.code);
    TABLE.iter().find(fits).map(|(.., name)| *name)
}

/// What the original raises in place of a result for a run that ended so: nothing where it gives a result.
#[must_use]
pub fn raised(outcome: &Outcome) -> Option<&'static str> {
    match outcome.finish_reason {
        FinishReason::TimedOut => Some("AgentTaskTimeoutError"),
        // Its language's own word for a cancel.
        FinishReason::Interrupted => Some("CancelledError"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_row_holds() {
        assert_eq!(original(&Error::invalid("output-schema", "x")), Some("OutputSchemaError"));
        assert_eq!(original(&Error::invalid("task-field", "x")), Some("ValueError"));
        assert_eq!(original(&Error::internal("x", "x")), None);
    }
}
