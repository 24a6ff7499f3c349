//! Every bound of a playbook, with its unit. The README's table is this file.

/// Longest playbook, in bytes.
pub const PLAYBOOK_BYTES_MAX: usize = 1024 * 1024;
/// Values of one playbook, those that aliases repeat counted.
pub const NODES_MAX: usize = 100_000;
/// How deep values may be inside of values: the stack of a component is small.
pub const DEPTH_MAX: usize = 64;
/// Steps in one playbook, those inside of other steps counted.
pub const STEPS_MAX: usize = 1000;
/// How deep steps may be inside of steps.
pub const STEP_DEPTH_MAX: usize = 8;
/// Items of one loop.
pub const LOOP_ITEMS_MAX: usize = 10_000;
/// Tool calls of one run.
pub const TOOL_CALLS_MAX: usize = 10_000;
/// Calls that one batch sends side by side. Half of what the host takes: all their answers are in memory at once.
pub const BATCH_CALLS_MAX: usize = 32;
/// Operators (marks and words, such as `+`, `|`, `.`, `not`) of one expression, also of one in a template.
pub const OPERATORS_MAX: usize = 200;
/// What one expression or template may execute, in instructions of the template engine.
pub const TEMPLATE_FUEL: u64 = 5_000_000;
/// How deep macros of a template may call each other.
pub const TEMPLATE_RECURSION_MAX: usize = 64;
/// Longest text that one template gives, in bytes.
pub const TEMPLATE_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Longest value of one variable, in bytes of its JSON.
pub const VALUE_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Longest output of a run, in bytes.
pub const OUTPUT_BYTES_MAX: usize = 1024 * 1024;
/// Failures that `on_error: continue` keeps in `errors`; more are counted, not kept.
pub const ERRORS_KEPT_MAX: usize = 100;
/// Problems of a malformed playbook that are listed.
pub const PROBLEMS_MAX: usize = 20;
