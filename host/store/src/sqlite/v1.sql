-- Version 1. A released version is never edited: what changes is a file of its own beside this one.

-- A run's row is derived from its records by the caller; only `key` and `format_version` are the store's.
-- AUTOINCREMENT, because records of a removed run are swept later and must not fall to a new run.
CREATE TABLE runs (
    key            INTEGER PRIMARY KEY AUTOINCREMENT,
    run_id         TEXT NOT NULL UNIQUE,
    format_version INTEGER NOT NULL,
    profile        TEXT NOT NULL,
    task_id        TEXT NOT NULL,
    status         TEXT NOT NULL,
    finish_reason  TEXT,
    created_ms     INTEGER NOT NULL,
    updated_ms     INTEGER NOT NULL,
    owner          TEXT,
    summary        TEXT NOT NULL
) STRICT;
CREATE INDEX runs_by_profile ON runs (profile, run_id);
CREATE INDEX runs_unfinished ON runs (run_id) WHERE finish_reason IS NULL;

-- The log. No row id: records are only ever found by run and sequence number, and lie in that order.
CREATE TABLE records (
    run  INTEGER NOT NULL,
    seq  INTEGER NOT NULL,
    t_ms INTEGER NOT NULL,
    kind TEXT NOT NULL,
    data TEXT NOT NULL,
    PRIMARY KEY (run, seq)
) STRICT, WITHOUT ROWID;

-- Keys of removed runs whose records are still to be swept.
CREATE TABLE runs_removed (
    key INTEGER PRIMARY KEY
) STRICT;

-- One revision counter for all of `kv`, so that none is used twice even for a key that was removed.
CREATE TABLE kv_revision (
    id   INTEGER PRIMARY KEY CHECK (id = 1),
    last INTEGER NOT NULL
) STRICT;
INSERT INTO kv_revision VALUES (1, 0);

CREATE TABLE kv (
    profile  TEXT NOT NULL,
    key      TEXT NOT NULL,
    revision INTEGER NOT NULL,
    value    BLOB NOT NULL,
    PRIMARY KEY (profile, key)
) STRICT;

-- What a profile holds, kept by triggers: a sum over all its values at each write would not be cheap.
CREATE TABLE kv_usage (
    profile     TEXT PRIMARY KEY,
    keys        INTEGER NOT NULL,
    value_bytes INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TRIGGER kv_added AFTER INSERT ON kv BEGIN
    INSERT INTO kv_usage VALUES (new.profile, 1, length(new.value))
        ON CONFLICT DO UPDATE SET keys = keys + 1, value_bytes = value_bytes + length(new.value);
END;
CREATE TRIGGER kv_changed AFTER UPDATE OF value ON kv BEGIN
    UPDATE kv_usage SET value_bytes = value_bytes + length(new.value) - length(old.value) WHERE profile = new.profile;
END;
CREATE TRIGGER kv_removed AFTER DELETE ON kv BEGIN
    UPDATE kv_usage SET keys = keys - 1, value_bytes = value_bytes - length(old.value) WHERE profile = old.profile;
END;

CREATE TABLE plugins (
    name             TEXT PRIMARY KEY,
    version          TEXT NOT NULL,
    kind             TEXT NOT NULL,
    digest           TEXT NOT NULL,
    manifest_toml    TEXT NOT NULL,
    capabilities     TEXT NOT NULL,
    installed_ms     INTEGER NOT NULL,
    origin           TEXT NOT NULL,
    component_digest TEXT,
    component_path   TEXT,
    verdict          TEXT NOT NULL,
    CHECK ((component_digest IS NULL) <> (component_path IS NULL))
) STRICT, WITHOUT ROWID;

CREATE TABLE grants (
    profile    TEXT NOT NULL,
    grant_text TEXT NOT NULL,
    created_ms INTEGER NOT NULL,
    note       TEXT NOT NULL,
    PRIMARY KEY (profile, grant_text)
) STRICT, WITHOUT ROWID;

-- AUTOINCREMENT, so that the last id ever given tells whether there is news, also when all were taken.
CREATE TABLE signals (
    id     INTEGER PRIMARY KEY AUTOINCREMENT,
    run_id TEXT NOT NULL,
    kind   TEXT NOT NULL,
    text   TEXT NOT NULL
) STRICT;
CREATE INDEX signals_by_run ON signals (run_id, kind);

-- What lies in the artifact folder. A row is written before its file, and both go under the write lock.
CREATE TABLE artifacts (
    digest     TEXT PRIMARY KEY,
    size_bytes INTEGER NOT NULL,
    stored_ms  INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE artifact_refs (
    run_id     TEXT NOT NULL,
    name       TEXT NOT NULL,
    kind       TEXT NOT NULL,
    digest     TEXT NOT NULL REFERENCES artifacts (digest),
    size_bytes INTEGER NOT NULL,
    PRIMARY KEY (run_id, name)
) STRICT, WITHOUT ROWID;
CREATE INDEX artifact_refs_by_digest ON artifact_refs (digest);
