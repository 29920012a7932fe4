-- A hub: one schema of a database, everything in it. Tables and columns mean what they do in a hub of SQLite, whose file says more about
-- each. Times are milliseconds since 1970, digests are 32 bytes, payloads are JSON text as given. Numbers are bigint, so that each fits
-- that fits there; what has a few values only is smallint. Texts that are sorted or compared by range are so by their bytes.
--
-- No text has a NUL, which no text of PostgreSQL can have: names, ids, tags and JSON are checked before they get here. Reasons of people
-- are bytes.
CREATE SCHEMA IF NOT EXISTS {schema};
SET LOCAL search_path = {schema};

-- One row.
CREATE TABLE hub (
    id           smallint PRIMARY KEY CHECK (id = 1),
    mark         text NOT NULL DEFAULT 'perennial',
    format       integer NOT NULL,
    created_at   bigint NOT NULL,
    -- Partitions of instances, fixed when the hub is made.
    partitions   smallint NOT NULL CHECK (partitions BETWEEN 1 AND 1024),
    -- Counted up by each change of what owners keep of the hub in memory: modules, names, keys, settings.
    version      bigint NOT NULL DEFAULT 0,
    -- The highest number of a transaction, and the time of the last one by the clock of its host: of owners that are gone. Those that live
    -- have theirs in their rows, so that no transaction waits for that of another owner.
    commits      bigint NOT NULL DEFAULT 0,
    at           bigint NOT NULL DEFAULT 0,
    -- What its continuation tokens are made with.
    secret       bytea NOT NULL
) WITH (fillfactor = 20);

-- Numbers of owners. A command that finds no host takes one too.
CREATE SEQUENCE owner_epoch AS bigint MINVALUE 1 NO CYCLE;

-- Owners that live, and those that died of late. The row is the lease of an owner, the fence that keeps it from writing after another one
-- took over, and the number of its last transaction.
CREATE TABLE owner (
    -- Its number, above 31 random bits.
    epoch        bigint PRIMARY KEY,
    -- The process, its machine and version, and the number of the hub's transaction before its own, in JSON.
    host         text NOT NULL,
    commits      bigint NOT NULL,
    -- The time of its last transaction by the clock of its host.
    at           bigint NOT NULL DEFAULT 0,
    -- That of the hub: whoever changes what owners keep of the hub in memory counts it up in the rows of all of them. So a transaction that
    -- goes by what was before finds its own row changed, and one that is under way is waited for.
    version      bigint NOT NULL DEFAULT 0,
    -- By the clock of the database, with each transaction.
    renewed      timestamptz NOT NULL,
    -- Not used.
    url          text,
    -- Set by who takes over: no transaction of this owner is committed after that.
    dead         boolean NOT NULL DEFAULT false
) WITH (fillfactor = 20);

-- Who runs the instances of a partition; nobody if NULL.
CREATE TABLE partition (
    partition    smallint PRIMARY KEY,
    owner        bigint,
    since        timestamptz
) WITH (fillfactor = 50);

CREATE TABLE setting (
    name         text COLLATE "C" PRIMARY KEY,
    value        text NOT NULL
);

CREATE TABLE module (
    digest       bytea PRIMARY KEY,
    component    bytea NOT NULL,
    contract     text NOT NULL,
    definitions  text NOT NULL,
    imports      text NOT NULL,
    stored_at    bigint NOT NULL
);
-- Components are read as a whole, and by other hosts compiled once: compression would cost more than it saves.
ALTER TABLE module ALTER component SET STORAGE EXTERNAL;

CREATE TABLE module_name (
    name         text COLLATE "C" PRIMARY KEY,
    digest       bytea NOT NULL,
    grants       text NOT NULL,
    deployed_at  bigint NOT NULL,
    limits       text NOT NULL DEFAULT '{}'
);

CREATE TABLE definition (
    kind         smallint NOT NULL,
    name         text NOT NULL COLLATE "C",
    module       text NOT NULL COLLATE "C",
    digest       bytea NOT NULL,
    version      text COLLATE "C",
    PRIMARY KEY (kind, name)
);

CREATE TABLE definition_version (
    name         text NOT NULL COLLATE "C",
    version      text NOT NULL COLLATE "C",
    module       text NOT NULL COLLATE "C",
    digest       bytea NOT NULL,
    PRIMARY KEY (name, version)
);

-- The partition is in the upper bits of the key, so that rows of a partition are a range of each primary key: no unique index begins with
-- the partition, which PostgreSQL would choose by mistake while a table is empty.
CREATE TABLE instance (
    key           bigint PRIMARY KEY CHECK (key >= 0),
    partition     smallint NOT NULL GENERATED ALWAYS AS ((key >> 53)::smallint) STORED,
    id            text NOT NULL COLLATE "C",
    name          text NOT NULL COLLATE "C",
    version       text COLLATE "C",
    module        bytea,
    status        smallint NOT NULL,
    execution     bigint NOT NULL,
    execution_id  text NOT NULL COLLATE "C",
    generation    bigint NOT NULL,
    next_event    bigint NOT NULL,
    turns         bigint NOT NULL,
    history_bytes bigint NOT NULL,
    inbox_next    bigint NOT NULL,
    inbox_bytes   bigint NOT NULL DEFAULT 0,
    unread_bytes  bigint NOT NULL DEFAULT 0,
    returned      boolean NOT NULL,
    deliveries    bigint NOT NULL,
    created_at    bigint NOT NULL,
    started_at    bigint,
    updated_at    bigint NOT NULL,
    -- When it changed last, if it has ended: an index of `updated_at` would make each update of a live row one of all indexes.
    ended_at      bigint GENERATED ALWAYS AS (CASE WHEN status >= 3 THEN updated_at END) STORED,
    scheduled_for bigint,
    execution_timeout bigint,
    parent_id     text COLLATE "C",
    parent_key    bigint,
    parent        bytea,
    when_dropped  smallint,
    tags          text,
    custom_status text,
    output        text,
    failure       bytea,
    waiting       bytea,
    quarantine    bytea,
    value_count   bigint NOT NULL DEFAULT 0,
    has_requests  boolean NOT NULL DEFAULT false
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.05);

CREATE UNIQUE INDEX instance_id ON instance (id);
-- Statistics must not choose the index of a query: tables that were empty when PostgreSQL looked at them last make each index look as good
-- as another, and a hub with one name, or one status, makes it walk the index of all instances for another one. So each index has a condition
-- that every instance fulfils, and that no other index has. PostgreSQL considers an index only for a query with its condition: that is how
-- queries name their index (`indexes.rs`).
CREATE INDEX instance_created ON instance (created_at, key) WHERE key <> -1;
CREATE INDEX instance_status ON instance (status, created_at, key) WHERE key <> -2;
CREATE INDEX instance_name ON instance (name, status, created_at, key) WHERE key <> -3;
CREATE INDEX instance_version ON instance (version, status, created_at, key) WHERE version IS NOT NULL AND key <> -4;
CREATE INDEX instance_parent ON instance (parent_key, status, key) WHERE parent_key IS NOT NULL AND key <> -5;
-- Live ones by partition, for the start of an owner; by module, for quotas and before a module is deleted.
CREATE INDEX instance_live ON instance (partition, status, module) WHERE status < 3 AND key <> -6;
-- Those whose retention ends first.
CREATE INDEX instance_ended ON instance (status, ended_at, key) WHERE ended_at IS NOT NULL AND key <> -7;

CREATE TABLE instance_tag (
    tag          text NOT NULL COLLATE "C",
    value        text NOT NULL COLLATE "C",
    created_at   bigint NOT NULL,
    instance     bigint NOT NULL,
    PRIMARY KEY (tag, value, created_at, instance)
);

CREATE TABLE instance_value (
    instance     bigint NOT NULL,
    name         text NOT NULL COLLATE "C",
    value        text NOT NULL,
    version      bigint NOT NULL,
    at           bigint NOT NULL,
    PRIMARY KEY (instance, name)
);

CREATE TABLE turn (
    instance     bigint NOT NULL,
    execution    bigint NOT NULL,
    number       bigint NOT NULL,
    first_event  bigint NOT NULL,
    at           bigint NOT NULL,
    answer       bigint,
    received     bytea NOT NULL,
    produced     bytea NOT NULL,
    PRIMARY KEY (instance, execution, number)
);

CREATE TABLE rewind (
    instance     bigint NOT NULL,
    execution    bigint NOT NULL,
    generation   bigint NOT NULL,
    at           bigint NOT NULL,
    -- Text in UTF-8, as bytes: a client may send any.
    reason       bytea,
    cut          bigint NOT NULL,
    PRIMARY KEY (instance, execution, generation)
);

CREATE TABLE cut_turn (
    instance     bigint NOT NULL,
    execution    bigint NOT NULL,
    generation   bigint NOT NULL,
    number       bigint NOT NULL,
    first_event  bigint NOT NULL,
    at           bigint NOT NULL,
    answer       bigint,
    received     bytea NOT NULL,
    produced     bytea NOT NULL,
    PRIMARY KEY (instance, execution, generation, number)
);

CREATE TABLE task (
    instance      bigint NOT NULL,
    task          bigint NOT NULL,
    partition     smallint NOT NULL GENERATED ALWAYS AS ((instance >> 53)::smallint) STORED,
    kind          smallint NOT NULL,
    execution     bigint NOT NULL,
    generation    bigint NOT NULL,
    module        bytea,
    turn          bigint NOT NULL,
    scheduled_in  bigint NOT NULL,
    due           bigint,
    attempt       bigint NOT NULL,
    first_started bigint,
    deliveries    bigint NOT NULL,
    cut           bigint NOT NULL DEFAULT 0,
    begun_at      bigint,
    heartbeat_at  bigint,
    heartbeat     text,
    failure       bytea,
    attempts      bytea,
    target        bytea,
    PRIMARY KEY (instance, task)
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 20000, autovacuum_vacuum_cost_delay = 0);
CREATE INDEX task_due ON task (partition, due, instance, task) WHERE due IS NOT NULL;

CREATE TABLE inbox (
    instance     bigint NOT NULL,
    seq          bigint NOT NULL,
    message      bytea NOT NULL,
    at           bigint NOT NULL,
    bytes        bigint NOT NULL,
    PRIMARY KEY (instance, seq)
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 20000, autovacuum_vacuum_cost_delay = 0);
-- Suspend, resume and terminate, by the first two bytes of a message: they are found behind a long queue.
CREATE INDEX inbox_command ON inbox (instance, seq) WHERE substr(message, 1, 2) BETWEEN '\x0107'::bytea AND '\x0109'::bytea;

CREATE TABLE request (
    instance     bigint NOT NULL,
    id           text NOT NULL COLLATE "C",
    name         text NOT NULL COLLATE "C",
    at           bigint NOT NULL,
    answered_at  bigint,
    answer       bytea,
    asker        bigint,
    execution    bigint,
    generation   bigint,
    task         bigint,
    PRIMARY KEY (instance, id)
);
CREATE INDEX request_answered ON request (instance, answered_at) WHERE answered_at IS NOT NULL;
CREATE INDEX request_asker ON request (asker) WHERE asker IS NOT NULL;

CREATE TABLE garbage (
    instance     bigint NOT NULL,
    execution    bigint NOT NULL,
    PRIMARY KEY (instance, execution)
);

-- In the order of `seq`.
CREATE TABLE command (
    token        text COLLATE "C" PRIMARY KEY,
    seq          bigint NOT NULL GENERATED ALWAYS AS IDENTITY,
    at           bigint NOT NULL,
    body         bytea NOT NULL,
    answer       bytea,
    -- Whose owner it is for.
    partition    smallint NOT NULL DEFAULT 0
);
CREATE INDEX command_open ON command (seq) WHERE answer IS NULL;
CREATE INDEX command_answered ON command (at) WHERE answer IS NOT NULL;

CREATE TABLE access_key (
    id           text COLLATE "C" PRIMARY KEY,
    name         text NOT NULL COLLATE "C",
    role         smallint NOT NULL,
    hash         bytea NOT NULL UNIQUE,
    created_at   bigint NOT NULL
);
