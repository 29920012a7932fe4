//! Where the hub of a world is: in a file of SQLite, in memory, or in PostgreSQL.

use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

use perennial_core::Timestamp;

use super::world::{Host, World};
use crate::engine::clock::Clock;
use crate::store::{MemoryHub, Partition, Partitions, Place, with_suffix};
#[cfg(feature = "postgres")]
use crate::store::{Share, postgres_divided, postgres_place as in_postgres};

/// The store of a new world: SQLite, or the one that `PERENNIAL_TEST_STORE` names.
pub(super) fn a_place(dir: &Path, now: Timestamp) -> Place {
    match std::env::var("PERENNIAL_TEST_STORE").as_deref() {
        Err(_) | Ok("sqlite") => Place::File(dir.join("hub.db")),
        Ok("memory") => in_memory(dir, now),
        Ok("partitions") => divided(dir, now),
        #[cfg(feature = "postgres")]
        Ok("postgres") => in_postgres(dir).expect("PERENNIAL_TEST_STORE=postgres needs initdb"),
        #[cfg(feature = "postgres")]
        Ok("postgres-partitions") => divided_in_postgres(dir),
        Ok(other) => panic!(
            "PERENNIAL_TEST_STORE={other}: there are sqlite, memory, partitions, postgres and postgres-partitions"
        ),
    }
}

/// How often a test of random programs runs usually, or with `PERENNIAL_LONG`. On PostgreSQL each run takes several times as long, and so
/// do the images of the hub after a crash: a long run does what is usual elsewhere, and a usual one a tenth of that.
pub(super) fn runs((usual, long): (u64, u64)) -> u64 {
    let is_long = std::env::var_os("PERENNIAL_LONG").is_some();
    let on_server =
        std::env::var("PERENNIAL_TEST_STORE").is_ok_and(|store| store.starts_with("postgres"));
    match (on_server, is_long) {
        (false, true) => long,
        (false, false) | (true, true) => usual,
        (true, false) => usual.div_ceil(10),
    }
}

fn in_memory(dir: &Path, now: Timestamp) -> Place {
    let hub = MemoryHub::new(now);
    let all = hub.all();
    Place::Memory(hub, dir.join("running"), all)
}

/// A hub in memory with four partitions, which several engines share.
fn divided(dir: &Path, now: Timestamp) -> Place {
    let hub = MemoryHub::divided(now, 4);
    let all = hub.all();
    Place::Memory(hub, dir.join("running"), all)
}

/// The same in PostgreSQL.
#[cfg(feature = "postgres")]
fn divided_in_postgres(dir: &Path) -> Place {
    postgres_divided(dir, 4).expect("PERENNIAL_TEST_STORE=postgres-partitions needs initdb")
}

/// All partitions of a hub that several engines may share.
fn all_of(place: &Place) -> Option<Partitions> {
    match place {
        Place::File(_) => None,
        Place::Memory(_, _, all) => Some(*all).filter(|all| all.count() > 1),
        #[cfg(feature = "postgres")]
        Place::Postgres(_, _, Share::Some(all)) => Some(*all),
        #[cfg(feature = "postgres")]
        Place::Postgres(..) => None,
    }
}

/// The place of an engine that runs some of a divided hub. What it runs is recorded in a file with this suffix.
fn some_of(place: &Place, own: Partitions, suffix: &str) -> Place {
    match place {
        Place::File(_) => unreachable!("a file is not divided"),
        Place::Memory(hub, running, _) => {
            Place::Memory(hub.clone(), with_suffix(running, suffix), own)
        }
        #[cfg(feature = "postgres")]
        Place::Postgres(address, running, _) => Place::Postgres(
            address.clone(),
            with_suffix(running, suffix),
            Share::Some(own),
        ),
    }
}

/// The file in which an engine records what it runs, unless it lies beside the file of the hub.
fn running_of(place: &Place) -> Option<&Path> {
    match place {
        Place::File(_) => None,
        Place::Memory(_, running, _) => Some(running),
        #[cfg(feature = "postgres")]
        Place::Postgres(_, running, _) => Some(running),
    }
}

/// How the partitions of a divided hub are shared out among engines. Each host that follows another one has them in another way.
const SHARES: [&[&[u16]]; 3] = [
    &[&[0], &[1, 2], &[3]],
    &[&[0, 1, 2, 3]],
    &[&[3, 0], &[2], &[1]],
];

/// Another place of the same kind.
pub(super) fn like(place: &Place, dir: &Path, now: Timestamp) -> Place {
    match place {
        Place::File(_) => Place::File(dir.join("hub.db")),
        Place::Memory(_, _, all) if all.count() > 1 => divided(dir, now),
        Place::Memory(..) => in_memory(dir, now),
        #[cfg(feature = "postgres")]
        Place::Postgres(_, _, Share::Some(_)) => divided_in_postgres(dir),
        #[cfg(feature = "postgres")]
        Place::Postgres(..) => in_postgres(dir).expect("there is a server already"),
    }
}

impl World {
    /// The places of the engines of the next host: several, if the hub is divided.
    pub(super) fn shares(&self) -> Vec<Place> {
        let Some(all) = all_of(&self.place) else {
            return vec![self.place.clone()];
        };
        // Workers connect to one engine.
        if self.has_one_engine || self.remote || self.with_worker {
            return vec![self.place.clone()];
        }
        if self.sharing > 0 {
            return (0..self.sharing).map(|_| self.joining()).collect();
        }
        let share = |own: &&[u16]| {
            let suffix = format!("-{}", own[0]);
            let own = own.iter().copied().map(Partition);
            some_of(&self.place, Partitions::some(all.count(), own), &suffix)
        };
        let shares = SHARES[self.hosts.load(Ordering::Relaxed) % SHARES.len()];
        shares.iter().map(share).collect()
    }

    /// The place of an engine that has no partitions at first. What it runs is recorded in a file of its own.
    pub(super) fn joining(&self) -> Place {
        let number = self.joined.fetch_add(1, Ordering::Relaxed);
        let suffix = format!("-{number}");
        match &self.place {
            Place::File(_) => panic!("the hub is not divided"),
            Place::Memory(hub, running, all) => Place::Memory(
                hub.clone(),
                with_suffix(running, &suffix),
                Partitions::some(all.count(), []),
            ),
            #[cfg(feature = "postgres")]
            Place::Postgres(address, running, _) => Place::Postgres(
                address.clone(),
                with_suffix(running, &suffix),
                Share::Joined,
            ),
        }
    }

    /// The same world with a hub of four partitions, which so many engines share and divide among themselves: in memory, or in PostgreSQL.
    pub(super) fn shared_by(mut self, engines: usize) -> Self {
        self.sharing = engines;
        self.place = match std::env::var("PERENNIAL_TEST_STORE").as_deref() {
            #[cfg(feature = "postgres")]
            Ok("postgres-partitions") => divided_in_postgres(self.dir()),
            _ => divided(self.dir(), self.clock.now()),
        };
        self
    }

    /// Declares an owner of the hub dead, while it lives.
    pub(super) fn declare_dead(&self, epoch: i64) {
        match &self.place {
            Place::File(_) => panic!("the hub is not divided"),
            Place::Memory(hub, ..) => hub.kill(epoch.cast_unsigned()),
            #[cfg(feature = "postgres")]
            Place::Postgres(address, ..) => crate::store::declare_dead_in_postgres(address, epoch),
        }
    }

    /// The same world whose hub has four partitions, which several engines share.
    pub(crate) fn divided(mut self) -> Self {
        self.place = divided(self.dir(), self.clock.now());
        self
    }

    /// Whether several engines may share the hub.
    pub(super) fn is_divided(&self) -> bool {
        all_of(&self.place).is_some()
    }

    /// A copy of the files as they are now, as another world: the state after a crash at this moment.
    pub(crate) fn crash_image(&self) -> Self {
        let mut image = self.another();
        let copied = image.dir().join("running");
        match &self.place {
            Place::File(_) => {}
            Place::Memory(hub, _, all) => image.place = Place::Memory(hub.copy(), copied, *all),
            #[cfg(feature = "postgres")]
            Place::Postgres(address, _, share) => {
                let address = crate::store::copied_in_postgres(address);
                image.place = Place::Postgres(Box::new(address), copied, *share);
            }
        }
        for (from, to) in self.shares().iter().zip(image.shares()) {
            if let (Some(from), Some(to)) = (running_of(from), running_of(&to)) {
                std::fs::copy(from, to).unwrap();
            }
        }
        if running_of(&self.place).is_some() {
            return image;
        }
        // While a reader is active, the log is not restarted: pages missing from the file are still in the log, which is copied after it.
        let db = rusqlite::Connection::open(self.path()).unwrap();
        db.execute_batch("BEGIN; SELECT * FROM hub").unwrap();
        let _: i64 = db
            .query_row("SELECT count(*) FROM instance", [], |row| row.get(0))
            .unwrap();
        for suffix in ["", "-wal", ".running"] {
            let (from, to) = (
                with_suffix(&self.path(), suffix),
                with_suffix(&image.path(), suffix),
            );
            if from.exists() {
                std::fs::copy(from, to).unwrap();
            }
        }
        image
    }

    /// The hub's file, for tests of SQLite.
    pub(crate) fn path(&self) -> PathBuf {
        let path = self.place.path();
        path.expect("a test that looks at the file of a hub begins with World::in_file")
            .to_owned()
    }

    /// The same world with a hub in a file of SQLite, for tests that look at the file, whatever store the others are run on.
    pub(crate) fn in_file(mut self) -> Self {
        self.place = Place::File(self.dir().join("hub.db"));
        self
    }

    /// The same world with a hub in PostgreSQL. `None` if there is no server.
    #[cfg(feature = "postgres")]
    pub(crate) fn in_postgres(mut self) -> Option<Self> {
        self.place = in_postgres(self.dir())?;
        Some(self)
    }

    /// The same world with a hub in memory.
    pub(crate) fn in_memory(mut self) -> Self {
        self.place = in_memory(self.dir(), self.clock.now());
        self
    }
}

impl Host<'_> {
    /// Images of the hub while instances run, each with how many were started by then, and with what `mark` told before it. `start` starts
    /// an instance: `count` of them at once, and more until there are two images, because a store may take longer for an image than an
    /// instance takes for all it does.
    pub(crate) fn images<T>(
        &self,
        mut count: usize,
        id: impl Fn(usize) -> String,
        start: impl Fn(&str),
        mark: impl Fn() -> T,
    ) -> Vec<(usize, T, World)> {
        let has_ended = |n: usize| self.row(&id(n)).unwrap().status.is_end();
        let mut images = Vec::new();
        (0..count).for_each(|n| start(&id(n)));
        loop {
            if (0..count).all(has_ended) {
                if images.len() > 1 {
                    return images;
                }
                start(&id(count));
                count += 1;
            }
            images.push((count, mark(), self.world.crash_image()));
        }
    }
}
