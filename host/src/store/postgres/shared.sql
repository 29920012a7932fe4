-- Messages to partitions of other owners, each deleted with what it asked for.
CREATE TABLE outbox (
    seq          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    -- Whose instances it is for.
    partition    smallint NOT NULL,
    -- What a start in it refers to.
    module       bytea,
    -- The instance whose child it starts.
    parent       bigint,
    -- The instance whose request it is.
    asker        bigint,
    body         bytea NOT NULL
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 20000, autovacuum_vacuum_cost_delay = 0);
-- The sum names the index: that of the key has not its order (see the indexes of instances).
CREATE INDEX outbox_partition ON outbox (partition, (seq + 0));
CREATE INDEX outbox_parent ON outbox (parent) WHERE parent IS NOT NULL;
CREATE INDEX outbox_asker ON outbox (asker) WHERE asker IS NOT NULL;

-- Remote workers that are connected to owners. A few small rows, which each owner replaces when its workers come and go.
CREATE TABLE worker (
    owner        bigint NOT NULL,
    -- Its number there.
    number       bigint NOT NULL,
    -- What it offers.
    offer        text NOT NULL
);
