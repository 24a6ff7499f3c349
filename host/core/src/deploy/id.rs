//! Ids of deployments, content-addressed ids, idempotency keys.
