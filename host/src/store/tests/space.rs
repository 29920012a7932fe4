//! Free pages are returned to the disk.

use super::*;
use crate::store::sqlite::file::backup::backup;
use crate::store::sqlite::file::paths::bytes_of;
use crate::store::sqlite::file::space::compact;
use crate::store::with_suffix;

fn large(n: i64) -> NewInstance {
    let mut new = new(1_000 + n, &format!("i{n}"));
    new.start.input = Some(Json::from_text(format!("\"{}\"", "x".repeat(20_000))));
    new
}

/// Ends and purges this many of them.
fn purge(hub: &Hub, count: i64) {
    let ended = "UPDATE instance SET status = 3 WHERE key >= 1000";
    hub.other().execute(ended, []).unwrap();
    let keys = (0..count).map(|n| InstanceKey(1_000 + n)).collect();
    hub.write(Change::Purge(keys)).unwrap();
    let collect = || hub.write(Change::Collect { rows: 1_000 }).unwrap();
    while collect().effects.garbage {}
}

fn pages(path: &std::path::Path) -> (i64, i64) {
    let db = Connection::open(path).unwrap();
    let number = |pragma: &str| db.query_row(pragma, [], |row| row.get(0)).unwrap();
    (number("PRAGMA page_count"), number("PRAGMA freelist_count"))
}

/// Waits for the idle writer's housekeeping, which sends no notification.
fn eventually(what: &str, is_so: impl Fn() -> bool) {
    let begun = std::time::Instant::now();
    while !is_so() {
        assert!(begun.elapsed().as_secs() < 60, "{what}");
        std::thread::yield_now();
    }
}

#[test]
fn what_is_deleted_does_not_count_and_is_given_back_while_nobody_writes() {
    let hub = Hub::new();
    hub.owned.writer.space().enable();
    hub.start(1, "first");
    let before = hub.owned.writer.space().bytes();
    assert!(before > 0);
    for n in 0..200 {
        hub.does(Change::Start(large(n)));
    }
    let full = hub.owned.writer.space().bytes();
    assert!(full > before + 200 * 20_000, "{before} {full}");
    purge(&hub, 200);
    // At once, whatever the file's state.
    let emptied = hub.owned.writer.space().bytes();
    assert!(emptied < before + 200_000, "{before} {emptied}");
    eventually("the file stays large", || {
        bytes_of(&hub.path()) < before + 400_000
    });
    assert!(hub.reader().instance("first").unwrap().is_some());
    assert!(
        hub.owned
            .writer
            .counts()
            .given_back
            .load(std::sync::atomic::Ordering::Relaxed)
            > 1
    );
    // The next writes find room.
    hub.start(2, "next");
}

#[test]
fn a_log_that_a_reader_kept_is_emptied_when_it_has_gone() {
    let hub = Hub::new();
    let reader = hub.other();
    reader.execute_batch("BEGIN").unwrap();
    let _: i64 = reader
        .query_row("SELECT count(*) FROM instance", [], |row| row.get(0))
        .unwrap();
    for n in 0..300 {
        hub.does(Change::Start(large(n)));
    }
    let log = with_suffix(&hub.path(), "-wal");
    let length = || std::fs::metadata(&log).unwrap().len();
    assert!(length() > 300 * 20_000, "{}", length());
    reader.execute_batch("COMMIT").unwrap();
    eventually("the log stays long", || length() == 0);
    assert!(hub.reader().instance("i299").unwrap().is_some());
}

#[test]
fn a_hub_that_cannot_give_space_back_is_compacted_and_then_can() {
    let hub = Hub::new();
    let path = hub.path();
    let Hub { dir: _dir, owned } = hub;
    drop(owned);
    // As older versions created hubs.
    let old = "PRAGMA journal_mode = DELETE; PRAGMA auto_vacuum = NONE; VACUUM;";
    Connection::open(&path).unwrap().execute_batch(old).unwrap();
    let filled =
        "CREATE TABLE gone (a); INSERT INTO gone VALUES (zeroblob(4000000)); DROP TABLE gone";
    Connection::open(&path)
        .unwrap()
        .execute_batch(filled)
        .unwrap();
    assert!(pages(&path).1 > 900);

    let owned = take_over(&path, Timestamp(5_000)).unwrap();
    let error = compact(&path).unwrap_err();
    assert!(matches!(error, StoreError::Owned(_)), "{error}");
    drop(owned);
    let (before, after) = compact(&path).unwrap();
    assert!(before > 4_000_000 && after < 400_000, "{before} {after}");
    assert_eq!(bytes_of(&path), after);
    let db = Connection::open(&path).unwrap();
    let mode: i64 = db
        .query_row("PRAGMA auto_vacuum", [], |row| row.get(0))
        .unwrap();
    assert_eq!(mode, 2);
    take_over(&path, Timestamp(6_000)).unwrap();
}

#[test]
fn a_backup_has_no_free_pages_and_touches_no_file_of_a_users() {
    let hub = Hub::new();
    for n in 0..100 {
        hub.does(Change::Start(large(n)));
    }
    let filled =
        "CREATE TABLE gone (a); INSERT INTO gone VALUES (zeroblob(4000000)); DROP TABLE gone";
    // Not by the writer, which would return the pages.
    hub.other().execute_batch(filled).unwrap();
    let at = |name: &str| hub.dir.path().join(name);
    let mine = ["copy.db.new", "copy.db.new-wal", "copy.db.new-journal"];
    for name in mine {
        std::fs::write(at(name), "mine").unwrap();
    }
    std::thread::scope(|threads| {
        // Two restores to one place: one succeeds, the other fails.
        let tries =
            [0, 1].map(|_| threads.spawn(|| backup(&hub.path(), &at("copy.db"), &mut |_, _| {})));
        let done = tries.map(|one| one.join().unwrap());
        assert_eq!(done.iter().filter(|one| one.is_ok()).count(), 1, "{done:?}");
        for error in done.into_iter().filter_map(Result::err) {
            assert!(error.to_string().starts_with("will not replace"), "{error}");
        }
    });
    let (all, free) = pages(&at("copy.db"));
    assert!(free == 0 && all * 4_096 < 3_000_000, "{all} {free}");
    for name in mine {
        assert_eq!(std::fs::read(at(name)).unwrap(), b"mine");
    }
    // Files that SQLite would take for parts of the copy prevent a restore.
    std::fs::write(at("other.db-wal"), "mine").unwrap();
    let error = backup(&hub.path(), &at("other.db"), &mut |_, _| {}).unwrap_err();
    assert!(error.to_string().starts_with("will not replace"), "{error}");
    assert_eq!(std::fs::read(at("other.db-wal")).unwrap(), b"mine");
    let names = std::fs::read_dir(hub.dir.path()).unwrap();
    let left = names.filter(|name| {
        let name = name.as_ref().unwrap().file_name();
        name.to_str().unwrap().ends_with(".perennial-new")
    });
    assert_eq!(left.count(), 0);
}
