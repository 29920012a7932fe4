-- The hub: one file, everything in it. Times are milliseconds since 1970, digests are 32 bytes, payloads are JSON text as given.

-- One row: who owns the hub, and how many transactions owners have committed in it.
CREATE TABLE hub (
    id           INTEGER PRIMARY KEY CHECK (id = 1),
    created_at   INTEGER NOT NULL,
    owner_epoch  INTEGER NOT NULL,
    commits      INTEGER NOT NULL,
    -- What its continuation tokens are made with.
    secret       BLOB NOT NULL DEFAULT (randomblob(16))
) STRICT;

-- Settings of the hub itself, such as how long instances that have ended are kept: JSON by name.
CREATE TABLE setting (
    name         TEXT PRIMARY KEY,
    value        TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- Modules by content. What an instance is pinned to stays here for as long as the instance does.
CREATE TABLE module (
    digest       BLOB PRIMARY KEY,
    component    BLOB NOT NULL,
    contract     TEXT NOT NULL,
    definitions  TEXT NOT NULL,
    imports      TEXT NOT NULL,
    stored_at    INTEGER NOT NULL
) STRICT;

-- Modules by name: the digest that was deployed last, and what the module is granted.
CREATE TABLE module_name (
    name         TEXT PRIMARY KEY,
    digest       BLOB NOT NULL,
    grants       TEXT NOT NULL,
    deployed_at  INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- What a name means for new instances and calls, and which module owns it. Kind 0 is an orchestration, 1 an activity.
CREATE TABLE definition (
    kind         INTEGER NOT NULL,
    name         TEXT NOT NULL,
    module       TEXT NOT NULL,
    digest       BLOB NOT NULL,
    version      TEXT,
    PRIMARY KEY (kind, name)
) STRICT, WITHOUT ROWID;

-- Versions of orchestrations that were deployed and can be started, and the newest module that has each.
CREATE TABLE definition_version (
    name         TEXT NOT NULL,
    version      TEXT NOT NULL,
    module       TEXT NOT NULL,
    digest       BLOB NOT NULL,
    PRIMARY KEY (name, version)
) STRICT, WITHOUT ROWID;

-- Instances: what clients ask about, and the compare-and-set of turns (execution, generation, next_event).
CREATE TABLE instance (
    key           INTEGER PRIMARY KEY,
    id            TEXT NOT NULL,
    name          TEXT NOT NULL,
    version       TEXT,
    module        BLOB,
    status        INTEGER NOT NULL,
    execution     INTEGER NOT NULL,
    execution_id  TEXT NOT NULL,
    generation    INTEGER NOT NULL,
    next_event    INTEGER NOT NULL,
    turns         INTEGER NOT NULL,
    history_bytes INTEGER NOT NULL,
    -- The number that the next message of the inbox gets.
    inbox_next    INTEGER NOT NULL,
    -- Whether the orchestration returned and waits for tasks that it did not cancel.
    returned      INTEGER NOT NULL,
    deliveries    INTEGER NOT NULL,
    created_at    INTEGER NOT NULL,
    started_at    INTEGER,
    updated_at    INTEGER NOT NULL,
    scheduled_for INTEGER,
    parent_id     TEXT,
    -- The parent's row, which is told of the end: another instance may have the parent's id by then.
    parent_key    INTEGER,
    parent        BLOB,
    tags          TEXT,
    custom_status TEXT,
    output        TEXT,
    failure       BLOB,
    waiting       BLOB,
    quarantine    BLOB
) STRICT;

CREATE UNIQUE INDEX instance_id ON instance (id);
-- Lists are newest first. With the id, so that a prefix is looked for without the rows.
CREATE INDEX instance_created ON instance (created_at, key, id);
-- Lists and counts by status; the live ones at start-up.
CREATE INDEX instance_status ON instance (status, created_at, key);
-- Lists and counts by name, and by version; of all statuses together, a page of each.
CREATE INDEX instance_name ON instance (name, status, created_at, key);
CREATE INDEX instance_version ON instance (version, status, created_at, key) WHERE version IS NOT NULL;
-- The children of an instance.
CREATE INDEX instance_parent ON instance (parent_key, status, key) WHERE parent_key IS NOT NULL;
-- Those whose retention ends first.
CREATE INDEX instance_ended ON instance (status, updated_at, key) WHERE status >= 3;

-- Lists by tag.
CREATE TABLE instance_tag (
    tag          TEXT NOT NULL,
    value        TEXT NOT NULL,
    created_at   INTEGER NOT NULL,
    instance     INTEGER NOT NULL,
    PRIMARY KEY (tag, value, created_at, instance)
) STRICT, WITHOUT ROWID;

-- Histories: a row for each turn, with its events in the order of their numbers.
CREATE TABLE turn (
    instance     INTEGER NOT NULL,
    execution    INTEGER NOT NULL,
    number       INTEGER NOT NULL,
    first_event  INTEGER NOT NULL,
    at           INTEGER NOT NULL,
    answer       INTEGER,
    received     BLOB NOT NULL,
    produced     BLOB NOT NULL,
    PRIMARY KEY (instance, execution, number)
) STRICT, WITHOUT ROWID;

-- Rewinds of an execution, by the generation that they ended, and the turns that they cut off.
CREATE TABLE rewind (
    instance     INTEGER NOT NULL,
    execution    INTEGER NOT NULL,
    generation   INTEGER NOT NULL,
    at           INTEGER NOT NULL,
    reason       TEXT,
    cut          INTEGER NOT NULL,
    PRIMARY KEY (instance, execution, generation)
) STRICT, WITHOUT ROWID;

CREATE TABLE cut_turn (
    instance     INTEGER NOT NULL,
    execution    INTEGER NOT NULL,
    generation   INTEGER NOT NULL,
    number       INTEGER NOT NULL,
    first_event  INTEGER NOT NULL,
    at           INTEGER NOT NULL,
    answer       INTEGER,
    received     BLOB NOT NULL,
    produced     BLOB NOT NULL,
    PRIMARY KEY (instance, execution, generation, number)
) STRICT, WITHOUT ROWID;

-- Open tasks that the engine must act on: activities (kind 0), timers (1), children that wait to be tried again (2), and
-- the start of an instance that is scheduled for later (3).
CREATE TABLE task (
    instance      INTEGER NOT NULL,
    task          INTEGER NOT NULL,
    kind          INTEGER NOT NULL,
    execution     INTEGER NOT NULL,
    generation    INTEGER NOT NULL,
    -- What runs it, where a module does: it is kept until then.
    module        BLOB,
    -- The turn that scheduled it, where its call is, and the generation in which that was.
    turn          INTEGER NOT NULL,
    scheduled_in  INTEGER NOT NULL,
    -- When a timer fires or the next attempt starts; NULL for what may run at once.
    due           INTEGER,
    attempt       INTEGER NOT NULL,
    first_started INTEGER,
    deliveries    INTEGER NOT NULL,
    failure       BLOB,
    -- What runs it, where that is no longer what its call says.
    target        BLOB,
    PRIMARY KEY (instance, task)
) STRICT, WITHOUT ROWID;

-- The next things that come due.
CREATE INDEX task_due ON task (due) WHERE due IS NOT NULL;

-- Messages that are durable and not yet part of a history.
CREATE TABLE inbox (
    instance     INTEGER NOT NULL,
    seq          INTEGER NOT NULL,
    message      BLOB NOT NULL,
    PRIMARY KEY (instance, seq)
) STRICT, WITHOUT ROWID;

-- Instances that are gone, and executions that were continued as new, whose rows are still to be deleted in batches. An absent execution
-- means all of them.
CREATE TABLE garbage (
    instance     INTEGER NOT NULL,
    execution    INTEGER NOT NULL,
    PRIMARY KEY (instance, execution)
) STRICT, WITHOUT ROWID;

-- Commands of processes that do not own the hub, and the owner's answers.
CREATE TABLE command (
    token        TEXT PRIMARY KEY,
    at           INTEGER NOT NULL,
    body         BLOB NOT NULL,
    answer       BLOB
) STRICT;

-- Keys of the HTTP server: the SHA-256 of each, never the key. Role 0 reads, 1 may do everything.
CREATE TABLE access_key (
    id           TEXT PRIMARY KEY,
    name         TEXT NOT NULL,
    role         INTEGER NOT NULL,
    hash         BLOB NOT NULL UNIQUE,
    created_at   INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
