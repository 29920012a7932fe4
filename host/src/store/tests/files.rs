//! The hub's file: created atomically, owned by one process, and left unchanged if it is something else.

use std::path::Path;

use super::*;
use crate::store::sqlite::file::hubs::delete;
use crate::store::sqlite::file::open::{MIGRATIONS, fits, migrate_with};
use crate::store::{FileId, real, with_suffix};

fn take(path: &Path) -> Result<Owned, StoreError> {
    take_over(path, Timestamp(1_000))
}

/// Tries to use a file, which must stay unchanged.
fn check_refused(content: &[u8], is_right: impl Fn(&StoreError) -> bool) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("hub.db");
    std::fs::write(&path, content).unwrap();
    for _ in 0..2 {
        let Err(error) = take(&path) else {
            panic!("it was taken over")
        };
        assert!(is_right(&error), "{error}");
        let Err(error) = crate::store::sqlite::owned::open_reader(&path) else {
            panic!("it was read")
        };
        assert!(is_right(&error), "{error}");
    }
    assert_eq!(std::fs::read(&path).unwrap(), content);
    assert!(!with_suffix(&path, "-wal").exists());
}

fn database(sql: &str) -> Vec<u8> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("other.db");
    Connection::open(&path).unwrap().execute_batch(sql).unwrap();
    std::fs::read(path).unwrap()
}

#[test]
fn what_is_no_hub_is_left_as_it_is() {
    let is_no_hub = |error: &StoreError| matches!(error, StoreError::NotAHub(_));
    check_refused(b"Dear diary", is_no_hub);
    check_refused("A longer text. ".repeat(1_000).as_bytes(), is_no_hub);
    check_refused(&[0; 4_096], is_no_hub);
    check_refused(&database("CREATE TABLE hub (a)"), is_no_hub);
    check_refused(
        &database("PRAGMA application_id = 7; CREATE TABLE hub (a)"),
        is_no_hub,
    );
}

#[test]
fn a_hub_of_a_newer_version_is_left_as_it_is() {
    let Hub { dir, owned } = Hub::new();
    drop(owned);
    let path = dir.path().join("hub.db");
    let sql = "PRAGMA journal_mode = DELETE; PRAGMA user_version = 99";
    Connection::open(&path).unwrap().execute_batch(sql).unwrap();
    check_refused(&std::fs::read(path).unwrap(), |error| {
        matches!(error, StoreError::Newer { found: 99, .. })
    });
}

#[test]
fn what_is_no_file_is_neither_opened_nor_removed() {
    let dir = tempfile::tempdir().unwrap();
    let place = |name: &str| dir.path().join(name);
    let socket = std::os::unix::net::UnixListener::bind(place("socket.db")).unwrap();
    let pipe = std::process::Command::new("mkfifo")
        .arg(place("pipe.db"))
        .status();
    assert!(pipe.unwrap().success());
    std::fs::create_dir(place("dir.db")).unwrap();
    std::os::unix::fs::symlink(place("pipe.db"), place("link.db")).unwrap();
    for (name, what) in [
        ("socket.db", "socket"),
        ("pipe.db", "named pipe"),
        ("dir.db", "directory"),
        ("link.db", "named pipe"),
    ] {
        let path = real(place(name));
        let kind = || path.symlink_metadata().unwrap().file_type();
        let before = kind();
        let refusals = [
            take(&path).map(drop),
            crate::store::sqlite::owned::open_reader(&path).map(drop),
            delete(&path, false),
            delete(&path, true),
        ];
        for refused in refusals {
            let error = refused.unwrap_err().to_string();
            assert!(error.contains(what), "{error}");
        }
        assert_eq!(kind(), before, "{name}");
    }
    drop(socket);
}

#[test]
fn what_is_no_file_beside_a_hub_is_neither_opened_nor_removed() {
    let dir = tempfile::tempdir().unwrap();
    let pipe = |path: &Path| {
        let made = std::process::Command::new("mkfifo").arg(path).status();
        assert!(made.unwrap().success());
    };
    for (n, suffix) in ["-wal", "-shm", "-journal", ".lock", ".running"]
        .into_iter()
        .enumerate()
    {
        // With no hub, and with one.
        for is_there in [false, true] {
            let path = dir.path().join(format!("{n}-{is_there}.db"));
            if is_there {
                drop(take(&path).unwrap());
            }
            let beside = with_suffix(&path, suffix);
            let _ = std::fs::remove_file(&beside);
            pipe(&beside);
            let mut refusals = vec![take(&path).map(drop)];
            if is_there {
                refusals.push(crate::store::sqlite::owned::open_reader(&path).map(drop));
                refusals.push(crate::store::sqlite::file::backup::integrity(&path, 1).map(drop));
                refusals.push(delete(&path, false));
            }
            for refused in refusals {
                let error = refused.unwrap_err().to_string();
                assert!(
                    error.contains("named pipe") && error.contains(suffix),
                    "{error}"
                );
            }
            let found = beside.symlink_metadata().unwrap();
            assert!(!found.is_file(), "{suffix} was replaced");
            assert_eq!(path.exists(), is_there, "{suffix}");
        }
    }
    // A log beside something that is no regular file is not opened.
    let path = dir.path().join("pipe.db");
    pipe(&path);
    std::fs::write(dir.path().join("pipe.db-wal"), [7; 100]).unwrap();
    let to = dir.path().join("copy.db");
    for refused in [
        take(&path).map(drop),
        crate::store::sqlite::owned::open_reader(&path).map(drop),
        crate::store::sqlite::file::backup::integrity(&path, 1).map(drop),
        crate::store::sqlite::file::backup::backup(&path, &to, &mut |_, _| {}),
    ] {
        let error = refused.unwrap_err().to_string();
        assert!(error.contains("named pipe"), "{error}");
    }
}

#[test]
fn an_empty_file_becomes_a_hub_that_is_not_taken_back() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("hub.db");
    std::fs::write(&path, "").unwrap();
    let owned = take(&path).unwrap();
    assert!(!owned.made, "it was somebody's file");
    drop(owned);
    crate::store::sqlite::owned::open_reader(&path)
        .map(drop)
        .unwrap();
}

#[test]
fn a_hub_of_a_newer_version_is_not_deleted() {
    let Hub { dir, owned } = Hub::new();
    drop(owned);
    let path = dir.path().join("hub.db");
    let sql = "PRAGMA journal_mode = DELETE; PRAGMA user_version = 99";
    Connection::open(&path).unwrap().execute_batch(sql).unwrap();
    let before = std::fs::read(&path).unwrap();
    for forced in [false, true] {
        let error = delete(&path, forced).unwrap_err();
        assert!(matches!(error, StoreError::Newer { .. }), "{error}");
    }
    assert_eq!(std::fs::read(&path).unwrap(), before);
}

#[test]
fn a_directory_that_cannot_be_used_is_named() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("file"), "x").unwrap();
    let Err(error) = take(&dir.path().join("file/hub.db")) else {
        panic!("it was made")
    };
    assert!(error.to_string().contains("file"), "{error}");
    assert!(matches!(
        crate::store::sqlite::owned::open_reader(&dir.path().join("none.db")),
        Err(StoreError::Missing(_))
    ));
    assert!(
        !dir.path().join("none.db").exists(),
        "looking makes nothing"
    );
    take(&dir.path().join("a/b/hub.db")).unwrap();
}

#[test]
fn a_crash_while_the_hub_is_made_leaves_nothing_in_the_way() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("hub.db");
    let left = dir
        .path()
        .join(format!(".hub.db.{}.perennial-new", "0a".repeat(16)));
    std::fs::write(&left, "half of a hub").unwrap();
    // Files of others are not taken for it.
    std::fs::write(with_suffix(&path, ".new"), "mine").unwrap();
    let owned = take(&path).unwrap();
    assert_eq!(owned.reader.last_key().unwrap().0, 1 << 40);
    assert!(!left.exists());
    assert_eq!(std::fs::read(with_suffix(&path, ".new")).unwrap(), b"mine");
    // An empty file is not a hub.
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("hub.db"), "").unwrap();
    take(&dir.path().join("hub.db")).unwrap();
}

#[test]
fn the_log_of_a_deleted_hub_does_not_come_back() {
    let hub = Hub::new();
    hub.start(1, "a");
    let log = std::fs::read(with_suffix(&hub.path(), "-wal")).unwrap();
    assert!(!log.is_empty());
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("hub.db");
    std::fs::write(with_suffix(&path, "-wal"), log).unwrap();
    let owned = take(&path).unwrap();
    assert!(owned.reader.instance("a").unwrap().is_none());
}

#[test]
fn a_hub_has_one_owner_who_says_its_name() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("hub.db");
    let mut owned = take(&path).unwrap();
    let note = crate::store::OwnerNote {
        pid: 42,
        version: "1".to_owned(),
        what: "a test".to_owned(),
        socket: None,
        machine: None,
        url: None,
        leaves: false,
        lacks: None,
    };
    owned.owner.announce(&note).unwrap();
    let Err(error) = take(&path) else {
        panic!("two owners")
    };
    assert_eq!(
        error.to_string(),
        "the task hub is in use by a test (process 42)"
    );
    drop(owned);
    assert!(crate::store::sqlite::file::lock::read_note(&path).is_none());
    let owned = take(&path).unwrap();
    assert_eq!(
        owned.reader.last_key().unwrap().0,
        2 << 40,
        "no key is given twice"
    );
}

#[test]
fn what_was_committed_survives_the_death_of_its_owner() {
    let hub = Hub::new();
    for n in 0..10 {
        hub.start(n, &format!("i{n}"));
    }
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("hub.db");
    for suffix in ["", "-wal"] {
        std::fs::copy(with_suffix(&hub.path(), suffix), with_suffix(&path, suffix)).unwrap();
    }
    // A transaction that was cut off was never acknowledged.
    let log = std::fs::OpenOptions::new()
        .write(true)
        .open(with_suffix(&path, "-wal"))
        .unwrap();
    log.set_len(log.metadata().unwrap().len() - 100).unwrap();
    let owned = take(&path).unwrap();
    assert!(owned.reader.instance("i8").unwrap().is_some());
    assert!(owned.reader.instance("i9").unwrap().is_none());
}

/// A hub with an instance and without an owner.
fn left_behind() -> TempDir {
    let hub = Hub::new();
    hub.start(1, "kept");
    let Hub { dir, owned } = hub;
    drop(owned);
    dir
}

/// The format and the owner epoch.
fn format_and_epoch(path: &Path) -> (u32, i64) {
    let db = Connection::open(path).unwrap();
    let format = db.pragma_query_value(None, "user_version", |row| row.get(0));
    let epoch = db.query_row("SELECT owner_epoch FROM hub", [], |row| row.get(0));
    (format.unwrap(), epoch.unwrap())
}

#[test]
fn an_older_hub_is_brought_up_to_date_once_and_then_left_alone_by_older_versions() {
    let dir = left_behind();
    let path = dir.path().join("hub.db");
    let (_, epoch) = format_and_epoch(&path);
    let known = format_and_epoch(&path).0;
    let further = [
        "CREATE TABLE extra (a INTEGER); INSERT INTO extra VALUES (7)",
        "ALTER TABLE extra ADD COLUMN b INTEGER; UPDATE extra SET b = a + 1",
    ];
    for more in [1, 2, 2] {
        let steps: Vec<&str> = MIGRATIONS.iter().chain(&further[..more]).copied().collect();
        migrate_with(&path, &steps).unwrap();
        assert_eq!(format_and_epoch(&path).0, known + more as u32);
    }
    // Each time the former owner has lost it.
    assert_eq!(format_and_epoch(&path), (known + 2, epoch + 2));
    let db = Connection::open(&path).unwrap();
    let found = |sql: &str| db.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap();
    assert_eq!(found("SELECT b FROM extra"), 8);
    assert_eq!(found("SELECT count(*) FROM instance"), 1);
    let Err(error) = take(&path) else {
        panic!("an older version took it over")
    };
    assert!(
        matches!(error, StoreError::Newer { found, .. } if found == known + 2),
        "{error}"
    );
}

#[test]
fn a_step_that_fails_leaves_the_older_hub_as_it_was() {
    let dir = left_behind();
    let path = dir.path().join("hub.db");
    let before = format_and_epoch(&path);
    let further = ["CREATE TABLE extra (a)", "INSERT INTO nowhere VALUES (1)"];
    let steps: Vec<&str> = MIGRATIONS.iter().chain(&further).copied().collect();
    let error = migrate_with(&path, &steps).unwrap_err();
    assert!(error.to_string().contains("nowhere"), "{error}");
    assert_eq!(format_and_epoch(&path), before);
    let owned = take(&path).unwrap();
    assert!(owned.reader.instance("kept").unwrap().is_some());
    let db = Connection::open(&path).unwrap();
    assert!(db.prepare("SELECT a FROM extra").is_err());
}

#[test]
fn who_may_not_bring_a_hub_up_to_date_says_who_may() {
    let path = Path::new("hub.db");
    fits(2, 2, path).unwrap();
    let error = fits(1, 2, path).unwrap_err().to_string();
    assert!(error.contains("start a host on it"), "{error}");
    let error = fits(3, 2, path).unwrap_err().to_string();
    assert!(error.contains("newer version"), "{error}");
}

#[test]
fn a_hub_has_one_lock_whatever_name_leads_to_it() {
    let hub = Hub::new();
    let link = hub.dir.path().join("link.db");
    std::os::unix::fs::symlink(hub.path(), &link).unwrap();
    let Err(error) = take(&link) else {
        panic!("two owners")
    };
    assert!(matches!(error, StoreError::Owned(_)), "{error}");
    assert!(!with_suffix(&link, ".lock").exists());
    let Hub { dir, owned } = hub;
    drop(owned);
    drop(take(&link).unwrap());

    // A file with two hard links would have two locks, and two logs.
    let (path, other) = (dir.path().join("hub.db"), dir.path().join("other.db"));
    std::fs::hard_link(&path, &other).unwrap();
    for name in [&path, &other] {
        let Err(error) = take(name) else {
            panic!("it was taken over")
        };
        assert!(matches!(error, StoreError::Linked(_)), "{error}");
    }
    std::fs::remove_file(&other).unwrap();
    take(&path).unwrap();
}

#[test]
fn a_link_is_deleted_with_what_it_leads_to() {
    let dir = left_behind();
    let (path, link) = (dir.path().join("hub.db"), dir.path().join("link.db"));
    std::os::unix::fs::symlink("hub.db", &link).unwrap();
    delete(&link, false).unwrap();
    assert!(!path.exists() && link.symlink_metadata().is_err());
}

/// A hub and its log after its owner died, and an earlier state of the file.
fn killed_later() -> (TempDir, Vec<u8>) {
    let hub = Hub::new();
    hub.start(1, "a");
    let Hub { dir, owned } = hub;
    drop(owned);
    let path = dir.path().join("hub.db");
    let early = std::fs::read(&path).unwrap();
    start_on(&take(&path).unwrap(), 2);
    let owned = take(&path).unwrap();
    start_on(&owned, 3);
    let log = std::fs::read(with_suffix(&path, "-wal")).unwrap();
    let file = std::fs::read(&path).unwrap();
    drop(owned);
    std::fs::write(&path, file).unwrap();
    std::fs::write(with_suffix(&path, "-wal"), log).unwrap();
    (dir, early)
}

fn start_on(owned: &Owned, key: i64) {
    let (tell, told) = mpsc::channel();
    let change = Change::Start(new(key, &format!("i{key}")));
    let write = Write::new(change, Timestamp(2_000), move |_, result| {
        tell.send(result.is_ok()).unwrap();
    });
    owned.writer.submit(write);
    assert!(told.recv().unwrap());
}

/// Replaces a hub that has a log by another file, and tries to use it in every way.
fn check_foreign(path: &Path, content: &[u8]) {
    let log = std::fs::read(with_suffix(path, "-wal")).unwrap();
    std::fs::write(path, content).unwrap();
    let copy = path.with_file_name("copy.db");
    let tries: [Result<(), StoreError>; 5] = [
        take(path).map(drop),
        crate::store::sqlite::owned::open_reader(path).map(drop),
        crate::store::sqlite::file::backup::backup(path, &copy, &mut |_, _| {}),
        crate::store::sqlite::file::backup::integrity(path, 1).map(drop),
        crate::store::sqlite::file::space::compact(path).map(drop),
    ];
    for (n, tried) in tries.into_iter().enumerate() {
        let error = tried.expect_err(&n.to_string());
        assert!(
            matches!(error, StoreError::ForeignLog { .. }),
            "{n}: {error}"
        );
    }
    assert_eq!(std::fs::read(path).unwrap(), content);
    assert_eq!(std::fs::read(with_suffix(path, "-wal")).unwrap(), log);
    assert!(!copy.exists());
}

#[test]
fn a_file_beside_the_log_of_another_one_is_left_as_it_is() {
    let (dir, early) = killed_later();
    let path = dir.path().join("hub.db");
    let own = std::fs::read(&path).unwrap();
    // A state from before the log, and another hub.
    check_foreign(&path, &early);
    check_foreign(
        &path,
        &std::fs::read(left_behind().path().join("hub.db")).unwrap(),
    );
    // With its own log the hub works.
    std::fs::write(&path, own).unwrap();
    let owned = take(&path).unwrap();
    assert!(owned.reader.instance("i3").unwrap().is_some());
}

#[test]
fn neither_a_later_file_nor_a_backup_is_mixed_with_a_log() {
    let (dir, _) = killed_later();
    let path = dir.path().join("hub.db");
    let log = std::fs::read(with_suffix(&path, "-wal")).unwrap();
    let copy = dir.path().join("backup.db");
    crate::store::sqlite::file::backup::backup(&path, &copy, &mut |_, _| {}).unwrap();
    check_foreign(&path, &std::fs::read(&copy).unwrap());
    // A state from after the log, under another owner.
    std::fs::remove_file(with_suffix(&path, "-wal")).unwrap();
    let owned = take(&path).unwrap();
    for key in 10..20 {
        start_on(&owned, key);
    }
    drop(owned);
    let later = std::fs::read(&path).unwrap();
    std::fs::write(with_suffix(&path, "-wal"), log).unwrap();
    check_foreign(&path, &later);
}

/// Whether a write to a new file gets the time of the last tick of the kernel, and not a time of its own.
#[cfg(target_os = "linux")]
fn keeps_the_tick(path: &Path, before_the_write: impl Fn(&Path)) -> bool {
    use std::os::unix::fs::MetadataExt;
    use std::time::{SystemTime, UNIX_EPOCH};
    let _ = std::fs::remove_file(path);
    std::fs::write(path, "1").unwrap();
    before_the_write(path);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    std::fs::write(path, "2").unwrap();
    let file = std::fs::metadata(path).unwrap();
    let changed = (file.ctime(), file.ctime_nsec());
    let seconds = i64::try_from(now.as_secs()).unwrap();
    changed < (seconds, i64::from(now.subsec_nanos()))
}

#[cfg(target_os = "linux")]
#[test]
fn the_identity_of_a_file_leaves_its_next_write_cheap() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    // A tick may fall between the clock and the write, but seldom does.
    let mostly = |look: &dyn Fn(&Path)| {
        let kept = (0..100).filter(|_| keeps_the_tick(&path, look));
        kept.count() > 50
    };
    // Some file systems give every write a time of its own.
    let has_ticks = mostly(&|_| {});
    assert_eq!(mostly(&|path| assert!(FileId::of(path).is_ok())), has_ticks);
}

#[test]
fn the_identity_of_a_file_is_that_of_its_metadata() {
    let dir = tempfile::tempdir().unwrap();
    let [file, link] = ["file", "link"].map(|name| dir.path().join(name));
    assert!(matches!(FileId::of(&file), Err(StoreError::Missing(path)) if path == file));
    std::fs::write(&file, "").unwrap();
    std::os::unix::fs::symlink(&file, &link).unwrap();
    let found = std::fs::metadata(&file).unwrap();
    let id = FileId::of(&file).unwrap();
    assert_eq!(id, FileId::of(&link).unwrap());
    assert_eq!(id, FileId::from_metadata(&found));
    let other = dir.path().join("other");
    std::fs::write(&other, "").unwrap();
    std::fs::rename(&other, &file).unwrap();
    assert_ne!(id, FileId::of(&file).unwrap());
}
