//! The plan of each read of PostgreSQL, those of lists with their filters among them: the same for an empty hub and for a large one, and
//! whatever was there when tables were analyzed.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use super::plans::filters;
use super::postgres_reads::{
    overviews_agree, reads_of_instances_agree, reads_of_the_hub_agree, some_list,
};
use super::postgres_rows::{Random, copied, key_of, mixed_hub};
use super::*;
use crate::store::postgres::reads::testing::Filled;
use crate::store::postgres::testing::plans::{Excused, Plans, check_in_all_states};
use crate::store::postgres::testing::server;
use crate::store::sqlite::rows::reader::FileReader;
use crate::store::{InstanceFilter, ListQuery, Order, Partition, Partitions};

/// Statements that may do what others must not.
const EXCUSED: &Excused = &[
    (
        "SELECT digest, octet_length(component)::bigint FROM module",
        "it looks at all open tasks, for a person who asks which modules could be collected",
    ),
    (
        "AS live\n                            WHERE (updated_at, key) > ($1, $2) ORDER BY updated_at, key LIMIT $3)",
        "it looks at all that live, for followers that were disconnected: an index would cost each turn more",
    ),
    (
        "SELECT coalesce(sum(turns), 0)",
        "sums over all instances, which a person asks for",
    ),
    (
        "SELECT i.key, i.id FROM\n             (SELECT key, id, parent_key FROM instance\n              WHERE parent_key IS NOT NULL",
        "children whose parent is gone, for a person, by the index of all children as in SQLite",
    ),
];

/// Lists of random filters.
const RANDOM: usize = 400;

/// Statements by their texts, as they are prepared. A connection keeps only so many of them, so they are taken after each few reads.
struct Seen<'a> {
    hub: &'a Filled,
    statements: BTreeMap<String, usize>,
}

impl Seen<'_> {
    fn take(&mut self) {
        self.statements.extend(self.hub.prepared());
    }

    fn list(&mut self, query: &ListQuery) {
        let reader = &self.hub.reader;
        reader.list(query).unwrap();
        reader.brief(query).unwrap();
        reader.counts(&query.filter).unwrap();
        self.take();
    }

    /// All lists of a filter: the first page, and another one.
    fn lists(&mut self, filter: &InstanceFilter) {
        for order in [Order::NewestFirst, Order::OldestFirst, Order::EndedFirst] {
            for after in [None, Some((Timestamp(1_100), key_of(50)))] {
                self.list(&ListQuery {
                    filter: filter.clone(),
                    order,
                    after,
                    limit: 20,
                    output: after.is_none(),
                });
            }
        }
    }
}

/// Makes all reads, on a hub with some rows.
fn all_reads(hub: (&FileReader, &Filled)) -> BTreeMap<String, usize> {
    let mut seen = Seen {
        hub: hub.1,
        statements: BTreeMap::new(),
    };
    reads_of_the_hub_agree(hub);
    hub.1.reader.sharing().unwrap();
    hub.1.reader.oldest_sent().unwrap();
    hub.1.reader.last_key().unwrap();
    let some = Partitions::some(64, [Partition(1), Partition(3)]);
    hub.1.reader.within(some).unwrap().suspended().unwrap();
    seen.take();
    reads_of_instances_agree(hub, 1..=20);
    seen.take();
    overviews_agree((hub.0, &hub.1.reader));
    seen.take();
    for (_, filter) in filters() {
        seen.lists(&filter);
    }
    let mut random = Random(5);
    for _ in 0..RANDOM {
        seen.list(&some_list(&mut random));
    }
    seen.statements
}

/// All statements of readers, with their plans on a hub that has some rows; made once. `None` if there is no server.
pub(in crate::store) fn reads() -> Option<&'static (BTreeMap<String, usize>, Plans)> {
    server()?;
    static READS: OnceLock<Option<(BTreeMap<String, usize>, Plans)>> = OnceLock::new();
    let made = READS.get_or_init(|| {
        let hub = mixed_hub(300);
        let filled = copied(&hub)?;
        let statements = all_reads((hub.file_reader(), &filled));
        assert!(statements.len() > 300, "{} statements", statements.len());
        let few = filled.plans_of(&statements);
        Some((statements, few))
    });
    made.as_ref()
}

#[test]
fn a_read_finds_rows_by_the_same_indexes_whatever_was_there_when_tables_were_analyzed() {
    let Some((statements, few)) = reads() else {
        return;
    };
    let Some(empty) = Filled::new() else { return };
    check_in_all_states(
        &|sql| empty.sql(sql),
        &|| empty.plans_of(statements),
        few,
        EXCUSED,
    );
}
