//! The tables of a hub with their columns, once for all stores that keep them as tables.
//!
//! They have the same names everywhere, and mean the same. Commands of other processes are not among them: they belong to their senders.

use Kind::{AnyText, Bool, Bytes, Int, Small, Text};

/// The type of a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::store) enum Kind {
    Int,
    Small,
    Bool,
    Text,
    /// A text that may have a NUL. PostgreSQL keeps it as bytes.
    AnyText,
    Bytes,
}

/// A table, or some of its columns: first those of the key.
pub(in crate::store) struct Table {
    /// Differs for each of these.
    pub(in crate::store) id: &'static str,
    pub(in crate::store) name: &'static str,
    pub(in crate::store) keys: usize,
    pub(in crate::store) columns: &'static [(&'static str, Kind)],
}

/// First the key and the columns that a turn changes.
pub(in crate::store) const INSTANCE_COLUMNS: &[(&str, Kind)] = &[
    ("key", Int),
    ("status", Small),
    ("next_event", Int),
    ("turns", Int),
    ("history_bytes", Int),
    ("inbox_next", Int),
    ("inbox_bytes", Int),
    ("unread_bytes", Int),
    ("returned", Bool),
    ("deliveries", Int),
    ("started_at", Int),
    ("updated_at", Int),
    ("custom_status", Text),
    ("output", Text),
    ("failure", Bytes),
    ("waiting", Bytes),
    ("value_count", Int),
    ("has_requests", Bool),
    ("id", Text),
    ("name", Text),
    ("version", Text),
    ("module", Bytes),
    ("execution", Int),
    ("execution_id", Text),
    ("generation", Int),
    ("created_at", Int),
    ("scheduled_for", Int),
    ("execution_timeout", Int),
    ("parent_id", Text),
    ("parent_key", Int),
    ("parent", Bytes),
    ("when_dropped", Small),
    ("tags", Text),
    ("quarantine", Bytes),
];

const fn table(name: &'static str, keys: usize, columns: &'static [(&'static str, Kind)]) -> Table {
    Table {
        id: name,
        name,
        keys,
        columns,
    }
}

pub(in crate::store) static INSTANCE: Table = table("instance", 1, INSTANCE_COLUMNS);
pub(in crate::store) static TAG: Table = table(
    "instance_tag",
    4,
    &[
        ("tag", Text),
        ("value", Text),
        ("created_at", Int),
        ("instance", Int),
    ],
);
pub(in crate::store) static VALUE: Table = table(
    "instance_value",
    2,
    &[
        ("instance", Int),
        ("name", Text),
        ("value", Text),
        ("version", Int),
        ("at", Int),
    ],
);
pub(in crate::store) static INBOX: Table = table(
    "inbox",
    2,
    &[
        ("instance", Int),
        ("seq", Int),
        ("message", Bytes),
        ("at", Int),
        ("bytes", Int),
    ],
);
pub(in crate::store) static TURN: Table = table(
    "turn",
    3,
    &[
        ("instance", Int),
        ("execution", Int),
        ("number", Int),
        ("first_event", Int),
        ("at", Int),
        ("answer", Int),
        ("received", Bytes),
        ("produced", Bytes),
    ],
);
pub(in crate::store) static CUT_TURN: Table = table(
    "cut_turn",
    4,
    &[
        ("instance", Int),
        ("execution", Int),
        ("generation", Int),
        ("number", Int),
        ("first_event", Int),
        ("at", Int),
        ("answer", Int),
        ("received", Bytes),
        ("produced", Bytes),
    ],
);
pub(in crate::store) static REWIND: Table = table(
    "rewind",
    3,
    &[
        ("instance", Int),
        ("execution", Int),
        ("generation", Int),
        ("at", Int),
        ("reason", AnyText),
        ("cut", Int),
    ],
);
pub(in crate::store) static GARBAGE: Table =
    table("garbage", 2, &[("instance", Int), ("execution", Int)]);
pub(in crate::store) static TASK: Table = table(
    "task",
    2,
    &[
        ("instance", Int),
        ("task", Int),
        ("kind", Small),
        ("execution", Int),
        ("generation", Int),
        ("module", Bytes),
        ("turn", Int),
        ("scheduled_in", Int),
        ("due", Int),
        ("attempt", Int),
        ("first_started", Int),
        ("deliveries", Int),
        ("cut", Int),
        ("begun_at", Int),
        ("heartbeat_at", Int),
        ("heartbeat", Text),
        ("failure", Bytes),
        ("attempts", Bytes),
        ("target", Bytes),
    ],
);
pub(in crate::store) static REQUEST: Table = table(
    "request",
    2,
    &[
        ("instance", Int),
        ("id", Text),
        ("name", Text),
        ("at", Int),
        ("answered_at", Int),
        ("answer", Bytes),
        ("asker", Int),
        ("execution", Int),
        ("generation", Int),
        ("task", Int),
    ],
);
pub(in crate::store) static MODULE: Table = table(
    "module",
    1,
    &[
        ("digest", Bytes),
        ("component", Bytes),
        ("contract", Text),
        ("definitions", Text),
        ("imports", Text),
        ("stored_at", Int),
    ],
);
pub(in crate::store) static NAME: Table = table(
    "module_name",
    1,
    &[
        ("name", Text),
        ("digest", Bytes),
        ("grants", Text),
        ("limits", Text),
        ("deployed_at", Int),
    ],
);
pub(in crate::store) static DEFINITION: Table = table(
    "definition",
    2,
    &[
        ("kind", Small),
        ("name", Text),
        ("module", Text),
        ("digest", Bytes),
        ("version", Text),
    ],
);
pub(in crate::store) static VERSION: Table = table(
    "definition_version",
    2,
    &[
        ("name", Text),
        ("version", Text),
        ("module", Text),
        ("digest", Bytes),
    ],
);
pub(in crate::store) static SETTING: Table =
    table("setting", 1, &[("name", Text), ("value", Text)]);
pub(in crate::store) static KEY: Table = table(
    "access_key",
    1,
    &[
        ("id", Text),
        ("name", Text),
        ("role", Small),
        ("hash", Bytes),
        ("created_at", Int),
    ],
);

/// The tables of the hub itself.
pub(in crate::store) static OF_HUB: [&Table; 6] =
    [&SETTING, &MODULE, &NAME, &DEFINITION, &VERSION, &KEY];

/// The tables whose rows belong to an instance each, and are sorted by it.
pub(in crate::store) static OF_INSTANCES: [&Table; 9] = [
    &INSTANCE, &VALUE, &TURN, &REWIND, &CUT_TURN, &TASK, &INBOX, &REQUEST, &GARBAGE,
];

/// All tables.
pub(in crate::store) fn all() -> impl Iterator<Item = &'static Table> {
    OF_HUB.into_iter().chain(OF_INSTANCES).chain([&TAG])
}

impl Table {
    /// The names of the columns.
    pub(in crate::store) fn names(&self) -> String {
        let names: Vec<&str> = self.columns.iter().map(|(name, _)| *name).collect();
        names.join(", ")
    }

    /// The names of the columns of the key, by which the rows are sorted.
    pub(in crate::store) fn key_names(&self) -> String {
        let keys = self.columns[..self.keys].iter();
        let names: Vec<&str> = keys.map(|(name, _)| *name).collect();
        names.join(", ")
    }

    /// Which column has the key of the instance, if there is one.
    pub(in crate::store) fn instance_column(&self) -> Option<usize> {
        let name = if self.name == INSTANCE.name {
            "key"
        } else {
            "instance"
        };
        self.columns.iter().position(|(column, _)| *column == name)
    }
}
