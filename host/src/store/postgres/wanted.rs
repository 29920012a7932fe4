//! The queries for rows that changes want: of instances by their keys or ids, with all that belongs to them, of the outbox, and of the hub
//! itself. Where only the instances of some partitions are wanted, the numbers of these are a parameter, which is NULL for all.

use crate::store::postgres::indexes::by;

/// Rows of a table, by the column that has the keys of wanted instances. The keys are made an array first: as a join, PostgreSQL would
/// choose which of both it walks, by what it believes to know of their sizes.
macro_rules! of_wanted {
    ($select:expr, $table:literal, $column:literal, $order:literal) => {
        concat!(
            "SELECT ",
            $select,
            " FROM ",
            $table,
            " WHERE ",
            $column,
            " = ANY(ARRAY(SELECT unnest($1::bigint[]) UNION ALL SELECT key FROM instance WHERE id = ANY($2)
               UNION ALL SELECT parent_key FROM instance WHERE key = ANY($3) AND parent_key IS NOT NULL
                   AND ($6::smallint[] IS NULL OR (parent_key >> 53)::smallint = ANY($6))
               UNION ALL SELECT key FROM instance WHERE parent_key = ANY($4) AND status < 3
                   AND ($6::smallint[] IS NULL OR partition = ANY($6)) AND ",
            by!(parent),
            "
               UNION ALL SELECT instance FROM request WHERE asker = ANY($5) AND asker IS NOT NULL
                   AND ($6::smallint[] IS NULL OR (instance >> 53)::smallint = ANY($6))))",
            $order
        )
    };
}

/// The columns of an instance.
macro_rules! of_instance {
    () => {
        "key, id, name, version, module, status, execution, execution_id, generation, next_event, turns, history_bytes,
         returned, created_at, started_at, updated_at, scheduled_for, parent, parent_key, tags, custom_status, output,
         failure, waiting, quarantine, value_count, parent_id, inbox_next, inbox_bytes, unread_bytes, deliveries,
         when_dropped, execution_timeout, has_requests"
    };
}

pub(super) const INSTANCES: &str = of_wanted!(of_instance!(), "instance", "key", "");
/// An instance, whose ever it is.
pub(super) const GLANCE: &str = concat!("SELECT ", of_instance!(), " FROM instance WHERE id = $1");
pub(super) const INBOX: &str = of_wanted!(
    "instance, seq, message, at, bytes",
    "inbox",
    "instance",
    " ORDER BY instance, seq"
);
pub(super) const TASKS: &str = of_wanted!(
    "instance, task, kind, execution, generation, turn, due, attempt, first_started, deliveries, failure, target,
     scheduled_in, attempts, begun_at, cut, heartbeat_at, heartbeat, module",
    "task",
    "instance",
    ""
);
pub(super) const VALUES: &str = of_wanted!(
    "instance, name, value, version, at",
    "instance_value",
    "instance",
    ""
);
pub(super) const REQUESTS: &str = of_wanted!(
    "instance, id, name, at, answered_at, answer, asker, execution, generation, task",
    "request",
    "instance",
    ""
);
pub(super) const ENDED_CHILDREN: &str = concat!(
    "SELECT parent_key, key, id, status FROM instance WHERE parent_key = ANY($1) AND status >= 3
         AND ($2::smallint[] IS NULL OR (key >> 53)::smallint = ANY($2)) AND ",
    by!(parent),
    " ORDER BY parent_key, key"
);
/// Where children of instances are, or are about to be.
pub(super) const BELOW: &str = concat!(
    "SELECT DISTINCT parent_key, (key >> 53)::smallint FROM instance WHERE parent_key = ANY($1) AND ",
    by!(parent),
    " UNION ALL SELECT parent, partition FROM outbox WHERE parent = ANY($1) AND parent IS NOT NULL"
);
/// Where requests of an instance are, or are about to be.
pub(super) const ASKED: &str =
    "SELECT DISTINCT (instance >> 53)::smallint FROM request WHERE asker = $1 AND asker IS NOT NULL
     UNION ALL SELECT partition FROM outbox WHERE asker = $1 AND asker IS NOT NULL";
/// Whether a descendant of an instance lives in other partitions than some, or is about to; or is one of some instances.
pub(super) const LIVES_BELOW: &str = concat!(
    "WITH RECURSIVE below (key, lives) AS (
         SELECT $1::bigint, false
         UNION ALL
         SELECT i.key, i.status < 3 AND (i.key >> 53)::smallint <> ALL($2::smallint[])
         FROM below AS b CROSS JOIN LATERAL (SELECT key, status FROM instance WHERE parent_key = b.key AND ",
    by!(parent),
    " ORDER BY status, key OFFSET 0) AS i)
     SELECT EXISTS (SELECT 1 FROM below AS b WHERE b.lives OR b.key = ANY($3)
         OR (SELECT true FROM outbox WHERE parent = b.key AND parent IS NOT NULL LIMIT 1))"
);
/// The first messages for some partitions, without some.
pub(super) const WAITING: &str = "SELECT s.seq, s.partition, s.body FROM unnest($1::smallint[]) AS p (number)
     CROSS JOIN LATERAL (SELECT seq, partition, body FROM outbox WHERE partition = p.number AND seq <> ALL($3::bigint[])
         ORDER BY (seq + 0) LIMIT $2) AS s
     ORDER BY s.seq LIMIT $2";
/// Messages of the outbox.
pub(super) const SENT: &str = "SELECT seq, partition, body FROM outbox WHERE seq = ANY($1)";
/// Those of the ids that an instance has.
pub(super) const TAKEN: &str = "SELECT id FROM instance WHERE id = ANY($1)";
pub(super) const COMMANDS: &str = "SELECT token, at, answer FROM command WHERE token = ANY($1)";
pub(super) const HUB: [&str; 6] = [
    "SELECT digest, octet_length(component)::bigint, contract, definitions, imports, stored_at FROM module",
    "SELECT name, digest, grants, limits, deployed_at FROM module_name",
    "SELECT kind, name, module, digest, version FROM definition",
    "SELECT name, version, module, digest FROM definition_version",
    "SELECT name, value FROM setting",
    "SELECT id, name, role, hash, created_at FROM access_key",
];
