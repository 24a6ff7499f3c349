//! Telemetry: settings, allowlists, measures, trace context. Nothing here sends.
