//! A copy of the rows of a test in PostgreSQL, to which only what a transaction wrote goes down.

use perennial_core::Timestamp;

use crate::store::StoreError;
use crate::store::memory::Memory;
use crate::store::memory::delta::Delta;
use crate::store::overlay::source::{HubRows, Source, Wanted};
use crate::store::overlay::{Bound, Overlay};
use crate::store::owned::{OwnerNote, Share};
use crate::store::partition::Partitions;
use crate::store::postgres::lease::{Lease, Taken, take};
use crate::store::postgres::link::Link;
use crate::store::postgres::session::{Purpose, Session};
use crate::store::postgres::source::{posted, small, turn};
use crate::store::postgres::testing::server;
use crate::store::postgres::writer::commit_delta;
use crate::store::types::InstanceKey;

/// See the [module](self).
pub(in crate::store) struct Copy {
    pub(in crate::store) overlay: Overlay<Link>,
    lease: Lease,
}

impl std::fmt::Debug for Copy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}", self.lease)
    }
}

impl Copy {
    /// Copies rows, without commands. `None` if there is no server.
    pub(in crate::store) fn of(memory: &Memory, bound: Bound) -> Option<Self> {
        let address = server()?.fresh();
        let session = Session::open(&address, Purpose::Write).unwrap();
        let note = OwnerNote::of_this_process("a test", None);
        let Taken::Lease { lease, .. } = take(&session, &address, &note, Share::All).unwrap()
        else {
            panic!("somebody owns a new hub")
        };
        let overlay = Overlay::new(Link(Some(session)), bound);
        let mut copy = Self { overlay, lease };
        let mut all = Memory::default();
        macro_rules! insert_all {
            ($($table:ident)*) => {
                $(for (key, row) in memory.$table.iter() {
                    all.$table.insert(key.clone(), row.clone());
                })*
            };
        }
        insert_all!(instances values inbox turns cut_turns rewinds garbage tasks requests modules names definitions versions settings keys outbox);
        copy.write(&all.take_delta());
        Some(copy)
    }

    /// Writes what a transaction wrote.
    pub(in crate::store) fn write(&mut self, delta: &Delta) {
        let session = self.overlay.source().session().unwrap();
        commit_delta(session, &mut self.lease, delta).unwrap();
    }

    /// As [`write`](Self::write), if the database takes it.
    pub(in crate::store) fn try_write(&mut self, delta: &Delta) -> Result<(), StoreError> {
        let session = self.overlay.source().session()?;
        commit_delta(session, &mut self.lease, delta)
    }

    /// Writes what the overlay has made.
    pub(in crate::store) fn commit(&mut self) {
        let delta = self.overlay.take_delta();
        self.write(&delta);
        self.overlay.committed();
    }

    /// All rows, without commands.
    pub(in crate::store) fn load(&mut self) -> Memory {
        let link = self.overlay.source();
        let mut memory = Memory::default();
        load_instances(link, &mut memory);
        load_histories(link, &mut memory);
        memory.begin(0, Timestamp(0));
        memory
    }
}

/// Keys of a query, with a number each.
fn keys(sql: &str, link: &Link) -> Vec<(InstanceKey, u32)> {
    let rows = link.session().unwrap().query(sql, &[]).unwrap();
    let key = |row: &tokio_postgres::Row| (InstanceKey(row.get(0)), small(row, 1).unwrap());
    rows.iter().map(key).collect()
}

fn load_instances(link: &mut Link, memory: &mut Memory) {
    let instances = keys("SELECT key, 0::bigint FROM instance", link).into_iter();
    let wanted = Wanted {
        keys: instances.map(|(key, _)| key).collect(),
        hub: true,
        ..Wanted::default()
    };
    let loaded = link.load(&wanted, &Partitions::default()).unwrap();
    for found in loaded.instances {
        let key = found.instance.row.key;
        memory.put_instance(found.instance);
        for (seq, mail) in found.inbox {
            memory.inbox.insert((key, seq), mail);
        }
        for task in found.tasks {
            memory.tasks.insert((key, task.row.task.task), task);
        }
        for value in found.values {
            memory.values.insert((key, value.name.clone()), value);
        }
        for (id, request) in found.requests {
            memory.requests.insert((key, id), request);
        }
    }
    load_hub(loaded.hub.unwrap(), link, memory);
}

fn load_hub(hub: HubRows, link: &Link, memory: &mut Memory) {
    for (digest, mut module) in hub.modules {
        let sql = "SELECT component FROM module WHERE digest = $1";
        let row = link.session().unwrap().query_opt(sql, &[&&digest.0[..]]);
        module.component = row.unwrap().unwrap().get(0);
        memory.modules.insert(digest, module);
    }
    macro_rules! insert {
        ($($table:ident)*) => {
            $(for (key, row) in hub.$table {
                memory.$table.insert(key, row);
            })*
        };
    }
    insert!(names definitions versions settings keys);
}

fn load_histories(link: &mut Link, memory: &mut Memory) {
    let sql = "SELECT instance, execution FROM turn UNION SELECT instance, execution FROM rewind";
    for (key, execution) in keys(sql, link) {
        let history = link.history(key, execution, 0).unwrap();
        for turn in history.turns {
            memory.turns.insert((key, execution, turn.number), turn);
        }
        for (generation, row) in history.rewinds {
            memory.rewinds.insert((key, execution, generation), row);
        }
    }
    let sql = "SELECT number, first_event, at, answer, received, produced, instance, execution, generation FROM cut_turn";
    for row in link.session().unwrap().query(sql, &[]).unwrap() {
        let turn = turn(&row).unwrap();
        let (execution, generation) = (small(&row, 7).unwrap(), small(&row, 8).unwrap());
        let place = (InstanceKey(row.get(6)), execution, generation, turn.number);
        memory.cut_turns.insert(place, turn);
    }
    for row in link
        .session()
        .unwrap()
        .query("SELECT seq, partition, body FROM outbox", &[])
        .unwrap()
    {
        let (seq, posted) = posted(&row).unwrap();
        memory.outbox.insert(seq, posted);
    }
    for left in link
        .garbage(usize::MAX >> 1, &Partitions::default())
        .unwrap()
    {
        memory.garbage.insert(left, ());
    }
}
