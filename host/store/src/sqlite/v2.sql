-- Version 2: the machines beside runs, and leases. A released version is never edited.

-- The log of each machine: `machine` is its kind, `id` the thing, and its state is the last row's. Nothing changes a row.
CREATE TABLE transitions (
    machine    TEXT NOT NULL,
    id         TEXT NOT NULL,
    seq        INTEGER NOT NULL,
    from_state TEXT,
    to_state   TEXT NOT NULL,
    reason     TEXT NOT NULL,
    at_ms      INTEGER NOT NULL,
    PRIMARY KEY (machine, id, seq),
    CHECK ((seq = 1) = (from_state IS NULL))
) STRICT, WITHOUT ROWID;
CREATE TRIGGER transitions_stay BEFORE UPDATE ON transitions BEGIN
    SELECT raise(ABORT, 'a transition is never changed');
END;

-- A scope stays when its leases are gone, so that none of its fences is ever given twice.
CREATE TABLE lease_scopes (
    resource   TEXT NOT NULL,
    tenant     TEXT NOT NULL,
    last_fence INTEGER NOT NULL,
    PRIMARY KEY (resource, tenant)
) STRICT, WITHOUT ROWID;

CREATE TABLE leases (
    resource   TEXT NOT NULL,
    tenant     TEXT NOT NULL,
    owner      TEXT NOT NULL,
    fence      INTEGER NOT NULL,
    counted    INTEGER NOT NULL,
    expires_ms INTEGER NOT NULL,
    PRIMARY KEY (resource, tenant, owner)
) STRICT, WITHOUT ROWID;
