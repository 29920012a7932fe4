//! Compares what another store reads with what the same rows in memory mean.
//!
//! Arguments are taken from the rows themselves, by a seed, so that most reads find something. Few for each hub: all tests together make
//! many.

use std::fmt::Debug;

use perennial_core::{Digest, Status, TaskId, Timestamp};

use crate::store::memory::{Instance, Memory};
use crate::store::types::{InstanceKey, OldVersions};
use crate::store::{
    InstanceFilter, ListQuery, Order, Reader, StoreError, TurnsQuery, WaitFilter, WaitKind, Window,
};

/// Rows beyond which a hub is not compared.
const INSTANCES_MAX: usize = 200;
const ROWS_MAX: usize = 3_000;

/// Instances whose reads are compared, and lists.
const LOOKS: usize = 4;
const LISTS: usize = 16;

/// Compares all reads of a hub; `None` if they agree. What the store could not read at all is left out.
pub(in crate::store) fn compare_reads(reader: &Reader, memory: &Memory) -> Option<String> {
    let rows = [memory.turns.len(), memory.tasks.len(), memory.inbox.len()];
    if memory.instances.len() > INSTANCES_MAX || rows.into_iter().sum::<usize>() > ROWS_MAX {
        return None;
    }
    let instances: Vec<&Instance> = memory.instances.values().collect();
    let mut compared = Compared {
        reader,
        memory,
        dice: memory.number,
        found: None,
    };
    compared.hub();
    compared.modules();
    for _ in 0..LOOKS.min(instances.len()) {
        let of = compared.one_of(&instances)?;
        compared.instance(of);
        compared.history(of);
        compared.family(of);
    }
    compared.tasks();
    compared.overview();
    for _ in 0..LISTS {
        compared.lists();
    }
    compared.found
}

struct Compared<'a> {
    reader: &'a Reader,
    memory: &'a Memory,
    dice: u64,
    /// The first difference.
    found: Option<String>,
}

/// Compares one read.
macro_rules! same {
    ($self:ident.$read:ident($($arg:expr),*)) => {{
        let read = || format!("{}{:?}", stringify!($read), ($(&$arg,)*));
        let (one, other) = ($self.reader.$read($($arg),*), $self.memory.$read($($arg),*));
        $self.expect(read, one, other);
    }};
}

/// Compares one read whose answer has no order.
macro_rules! same_set {
    ($self:ident.$read:ident($($arg:expr),*)) => {{
        let read = || format!("{}{:?}", stringify!($read), ($(&$arg,)*));
        let (one, other) = ($self.reader.$read($($arg),*), $self.memory.$read($($arg),*));
        $self.expect(read, one.map(texts), other.map(texts));
    }};
}

fn texts<T: Debug>(found: Vec<T>) -> Vec<String> {
    let mut texts: Vec<String> = found.iter().map(|row| format!("{row:?}")).collect();
    texts.sort();
    texts
}

impl<'a> Compared<'a> {
    fn expect<T: Debug>(
        &mut self,
        read: impl Fn() -> String,
        one: Result<T, StoreError>,
        other: Result<T, StoreError>,
    ) {
        if self.found.is_some() || matches!(one, Err(StoreError::Database(_))) {
            return;
        }
        let (one, other) = (format!("{one:?}"), format!("{other:?}"));
        if one != other {
            let read = read();
            self.found = Some(format!("{read}:\n{one}\nand in memory\n{other}"));
        }
    }

    /// The next number below this one.
    fn below(&mut self, end: usize) -> usize {
        // splitmix64
        self.dice = self.dice.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let n = (self.dice ^ (self.dice >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let n = (n ^ (n >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((n ^ (n >> 31)) % end.max(1) as u64).unwrap_or(0)
    }

    fn one_of<T: Copy>(&mut self, all: &[T]) -> Option<T> {
        let at = self.below(all.len());
        all.get(at).copied()
    }

    /// One of these now and then.
    fn seldom<T: Copy>(&mut self, one_in: usize, all: &[T]) -> Option<T> {
        let is_now = self.below(one_in) == 0;
        is_now.then(|| self.one_of(all)).flatten()
    }

    fn some_instance(&mut self) -> Option<&'a Instance> {
        let at = self.below(self.memory.instances.len());
        self.memory.instances.values().nth(at)
    }

    /// A time at which something happened, or just before or after it.
    fn time(&mut self) -> Timestamp {
        let row = self.some_instance().map(|of| &of.row);
        let times = row.map_or([self.memory.at; 3], |row| {
            let started = row.started_at.unwrap_or_default();
            [row.created_at, row.updated_at, started]
        });
        let at = self.one_of(&times).unwrap_or_default().0;
        let late = at.saturating_add(1);
        Timestamp(self.one_of(&[at, at.saturating_sub(1), late]).unwrap_or(at))
    }

    fn limit(&mut self) -> u32 {
        self.one_of(&[1, 2, 3, 10, 1_000]).unwrap_or(1)
    }

    fn hub(&mut self) {
        same!(self.created_at());
        same!(self.secret());
        same!(self.last_commit());
        same!(self.has_garbage());
        same!(self.last_key());
        same!(self.keys());
        same!(self.retention());
        same!(self.worker_names());
        same_set!(self.suspended());
        let limit = self.limit();
        same!(self.unanswered(limit));
        let tokens: Vec<&String> = self.memory.commands.keys().collect();
        if let Some(token) = self.one_of(&tokens) {
            same!(self.answer(token));
        }
        same!(self.answer("no such token"));
        // How much space the rows take differs.
        let one = self.reader.tally();
        let other = self.memory.tally();
        let pages = self.memory.pages();
        let one = one.map(|one| crate::store::Tally { pages, ..one });
        self.expect(|| "tally".to_owned(), one, other);
        let (now, limit) = (self.time(), self.limit());
        same!(self.with_messages(now));
        let status = self.one_of(&Status::ALL).unwrap_or(Status::Failed);
        same!(self.ended_by(status, now, limit));
        same!(self.first_end(status));
        #[cfg(feature = "http")]
        {
            let bytes = self.one_of(&[1, 2_000, usize::MAX]).unwrap_or(1);
            same!(self.updated_after((now, 0), limit, bytes));
        }
    }

    fn modules(&mut self) {
        same!(self.names());
        same!(self.digests());
        same!(self.modules());
        same!(self.stored_modules(None::<Digest>));
        same!(self.collectable(OldVersions::Keep));
        same!(self.collectable(OldVersions::Forget));
        let digests: Vec<Digest> = self.memory.modules.keys().copied().collect();
        let digest = self.one_of(&digests).unwrap_or(Digest([7; 32]));
        // Components are large.
        if self
            .memory
            .modules
            .values()
            .map(|of| of.component.len())
            .sum::<usize>()
            < 100_000
        {
            same!(self.component(digest));
            same!(self.component_undamaged(digest));
        }
        same!(self.grants(digest));
        same!(self.stored_modules(Some(digest)));
        let digits = digest.to_string();
        same_set!(self.find_module(&digits));
        same_set!(self.find_module(&digits[..6].to_uppercase()));
        let names: Vec<&String> = self.memory.names.keys().collect();
        if let Some(name) = self.one_of(&names) {
            same_set!(self.find_module(name));
        }
        let defined: Vec<&String> = self
            .memory
            .definitions
            .keys()
            .map(|(_, name)| name)
            .collect();
        if let Some(name) = self.one_of(&defined) {
            same!(self.defines(digest, name));
        }
    }

    fn instance(&mut self, of: &Instance) {
        let (key, id) = (of.row.key, &of.row.id);
        same!(self.instance(id));
        same!(self.instance("no such instance"));
        same!(self.instance_by_key(key));
        same!(self.deliveries(key));
        same!(self.execution_timeout(key));
        let from = self
            .one_of(&[0, 1, of.inbox_next.saturating_sub(1)])
            .unwrap_or(0);
        let limit = self.limit();
        same!(self.inbox(key, from, limit));
        same!(self.inbox_commands(key, from));
        same!(self.terminate_in(key));
        same!(self.cancel_in(key));
        same!(self.tasks_of(key));
        same!(self.first_tasks(key, limit));
        same!(self.requests(key, limit));
        same!(self.asked_by(key, of.row.position(), limit));
        let requests: Vec<_> = self.memory.requests.keys().collect();
        if let Some((asked, request)) = self.one_of(&requests) {
            let asked = self.memory.instances.get(asked).map(|of| of.row.id.clone());
            let asked = asked.unwrap_or_default();
            same!(self.request(&asked, request));
        }
        same!(self.request(id, "no such request"));
        same!(self.values(key));
        same!(self.value(id, "no such value"));
        let values: Vec<_> = self.memory.values.keys().collect();
        if let Some((_, name)) = self.one_of(&values) {
            same!(self.value(id, name));
        }
    }

    fn history(&mut self, of: &Instance) {
        let row = &of.row;
        same!(self.rewinds(row));
        #[cfg(feature = "http")]
        same!(self.first_cut(row, 0));
        let event = self.below(usize::try_from(row.next_event).unwrap_or(0) + 2) as u64;
        // It is searched for in a history without gaps, which a test may have made.
        let of = (row.key, row.execution, 0)..=(row.key, row.execution, u32::MAX);
        if self.memory.turns.range(of).count() == row.turns as usize {
            same!(self.turn_with_event(row, event));
        }
        let from = u32::try_from(self.below(row.turns as usize + 1)).unwrap_or(0);
        let limit = self.limit();
        let asked = TurnsQuery {
            key: row.key,
            execution: row.execution,
            before_rewind: self.one_of(&[None, Some(0), Some(1)]).flatten(),
            from,
            limit,
            bytes_max: self.one_of(&[1, 300, usize::MAX]).unwrap_or(1),
        };
        same!(self.turns_of(&asked));
        let all = TurnsQuery {
            before_rewind: None,
            bytes_max: usize::MAX,
            ..asked
        };
        same!(self.turns_of(&all));
    }

    fn family(&mut self, of: &Instance) {
        let limit = self.limit();
        let keys: Vec<InstanceKey> = self.memory.instances.keys().copied().collect();
        let after = self.one_of(&keys).unwrap_or(InstanceKey(0));
        for key in [Some(of.row.key), of.row.parent_key].into_iter().flatten() {
            same!(self.live_children(key, limit));
            same!(self.ended_children(key, after, limit));
            same!(self.ended_children(key, InstanceKey(0), limit));
            same!(self.child_ids(key, limit));
        }
        for id in [Some(&of.row.id), of.parent_id.as_ref()]
            .into_iter()
            .flatten()
        {
            for live in [true, false] {
                same!(self.left_behind(id, None::<InstanceKey>, live, limit));
                same!(self.left_behind(id, Some(after), live, limit));
            }
        }
    }

    fn tasks(&mut self) {
        let (now, limit) = (self.time(), self.limit());
        same!(self.ready_activities((InstanceKey(0), -1), limit));
        same!(self.due_tasks((Timestamp(0), InstanceKey(0), -1), limit));
        same_set!(self.tasks_set_after(now));
        let tasks: Vec<_> = self.memory.tasks.iter().collect();
        if let Some(((key, task), row)) = self.one_of(&tasks) {
            same!(self.task(*key, *task));
            same!(self.task(*key, TaskId(task.0.wrapping_add(1))));
            let place = (*key, i64::from(task.0));
            same!(self.ready_activities(place, limit));
            let due = row.row.due.unwrap_or(now);
            same!(self.due_tasks((due, place.0, place.1), limit));
        }
    }

    fn overview(&mut self) {
        let (from, now) = (self.time(), self.time());
        let at_most = self.below(4);
        same!(self.wait_counts());
        same!(self.open_activities(Some(now), at_most));
        same!(self.open_activities(None::<Timestamp>, 10));
        same!(self.live_names(at_most));
        let to = Timestamp(from.0.max(now.0) + 1);
        let bucket = ((to.0 - from.0) / 3).max(1);
        let window = Window { from, to, bucket };
        same!(self.bucket_counts(window));
        same!(self.failure_kinds(window, at_most));
    }

    fn lists(&mut self) {
        let filter = self.filter();
        let row = self.some_instance().map(|of| &of.row);
        let places = row.map_or(Vec::new(), |row| {
            vec![(row.created_at, row.key.0), (row.updated_at, row.key.0)]
        });
        let orders = [Order::NewestFirst, Order::OldestFirst, Order::EndedFirst];
        let query = ListQuery {
            order: self.one_of(&orders).unwrap_or_default(),
            after: self.seldom(3, &places),
            limit: self.limit(),
            output: self.below(2) == 0,
            filter,
        };
        same!(self.list(&query));
        same!(self.brief(&query));
        same!(self.counts(&query.filter));
    }

    fn filter(&mut self) -> InstanceFilter {
        let Some(of) = self.some_instance() else {
            return InstanceFilter::default();
        };
        let (row, times) = (&of.row, [self.time(), self.time(), self.time()]);
        let statuses = [self.seldom(4, &Status::ALL), self.seldom(4, &[row.status])];
        let prefixes = [
            &*row.id,
            row.id.get(..1).unwrap_or(""),
            "",
            "nothing begins so",
        ];
        let tags = row.tags.first().into_iter().chain(row.tags.last());
        let tags: Vec<_> = tags.collect();
        let has_tags = self.below(6) == 0;
        let kind = row
            .failure
            .as_ref()
            .map_or("unknown", |failure| &failure.kind);
        let waits: Vec<WaitFilter> = WaitKind::ALL.into_iter().map(WaitFilter::from).collect();
        let events = row.waiting.events.iter().cloned().map(WaitFilter::event);
        let requests = row
            .waiting
            .requests
            .iter()
            .cloned()
            .map(WaitFilter::request);
        let answers = self.memory.requests.values();
        let answers = answers.map(|of| WaitFilter::answer(of.name.clone()));
        let waits: Vec<_> = waits
            .into_iter()
            .chain(events)
            .chain(requests)
            .chain(answers)
            .collect();
        let waits: Vec<&WaitFilter> = waits.iter().collect();
        InstanceFilter {
            statuses: statuses.into_iter().flatten().collect(),
            id_prefix: self.seldom(5, &prefixes).map(str::to_owned),
            name: self.seldom(5, &[&row.name]).cloned(),
            version: self.seldom(5, &[&row.version]).cloned().flatten(),
            tags: tags.into_iter().filter(|_| has_tags).cloned().collect(),
            created_from: self.seldom(6, &times),
            created_to: self.seldom(6, &times),
            ended_from: self.seldom(6, &times),
            ended_to: self.seldom(8, &times),
            updated_from: self.seldom(8, &times),
            updated_to: self.seldom(6, &times),
            failure_kind: self.seldom(6, &[kind]).map(str::to_owned),
            waits_for: self.seldom(4, &waits).cloned(),
        }
    }
}
