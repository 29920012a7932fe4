//! Copies of a hub.

use super::*;
use crate::store::sqlite::file::backup::{backup, restore};
use crate::store::{NewModule, with_suffix};

fn starts(hub: &Hub, from: u32, to: u32) {
    for n in from..to {
        let told = hub.submit(Change::Start(large(n)));
        assert_eq!(told.recv().unwrap().unwrap().reply, Reply::Done);
    }
}

fn large(n: u32) -> NewInstance {
    let mut new = new(1_000 + i64::from(n), &format!("i{n}"));
    // Large enough that a copy takes more than one step.
    new.start.input = Some(Json::from_text(format!("\"{}\"", "x".repeat(20_000))));
    new
}

fn ids(path: &std::path::Path) -> i64 {
    let db = Connection::open(path).unwrap();
    let found: String = db
        .query_row("PRAGMA integrity_check", [], |row| row.get(0))
        .unwrap();
    assert_eq!(found, "ok");
    db.query_row("SELECT count(*) FROM instance", [], |row| row.get(0))
        .unwrap()
}

#[test]
fn a_copy_is_the_hub_at_one_moment_whatever_is_written_meanwhile() {
    let hub = Hub::new();
    starts(&hub, 0, 600);
    let copy = hub.dir.path().join("copy.db");
    let mut steps = Vec::new();
    backup(&hub.path(), &copy, &mut |done, all| {
        starts(
            &hub,
            600 + 10 * steps.len() as u32,
            610 + 10 * steps.len() as u32,
        );
        steps.push((done, all));
    })
    .unwrap();
    assert!(steps.len() > 2, "{steps:?}");
    assert!(steps.is_sorted());
    assert_eq!(steps.last().map(|(done, all)| done == all), Some(true));
    assert_eq!(ids(&copy), 600);
    assert!(!with_suffix(&copy, "-wal").exists() && !with_suffix(&copy, ".new").exists());
}

#[test]
fn a_restored_hub_has_a_later_owner_and_what_the_copy_had() {
    let hub = Hub::new();
    starts(&hub, 0, 5);
    let (copy, other) = (
        hub.dir.path().join("copy.db"),
        hub.dir.path().join("other.db"),
    );
    backup(&hub.path(), &copy, &mut |_, _| {}).unwrap();
    restore(&copy, &other, &mut |_, _| {}).unwrap();
    assert_eq!(ids(&other), 5);
    let epoch = |path: &std::path::Path| -> i64 {
        Connection::open(path)
            .unwrap()
            .query_row("SELECT owner_epoch FROM hub", [], |row| row.get(0))
            .unwrap()
    };
    assert_eq!(epoch(&other), epoch(&copy) + 1);
    let owned = take_over(&other, Timestamp(9_000)).unwrap();
    assert!(owned.reader.instance("i3").unwrap().is_some());
}

#[test]
fn nothing_is_replaced_and_nothing_half_done_is_left() {
    let hub = Hub::new();
    let copy = hub.dir.path().join("copy.db");
    std::fs::write(&copy, "mine").unwrap();
    let refused = |result: Result<(), StoreError>| result.unwrap_err().to_string();
    let error = refused(backup(&hub.path(), &copy, &mut |_, _| {}));
    assert!(error.starts_with("will not replace"), "{error}");
    assert_eq!(std::fs::read(&copy).unwrap(), b"mine");
    let error = refused(restore(
        &copy,
        &hub.dir.path().join("other.db"),
        &mut |_, _| {},
    ));
    assert!(
        error.contains("is not the file of a task hub; it was left unchanged"),
        "{error}"
    );

    let nowhere = hub.dir.path().join("no-such-directory/copy.db");
    let error = refused(backup(&hub.path(), &nowhere, &mut |_, _| {}));
    assert!(error.contains("could not write"), "{error}");

    std::fs::remove_file(&copy).unwrap();
    backup(&hub.path(), &copy, &mut |_, _| {}).unwrap();
    let error = refused(restore(&copy, &hub.path(), &mut |_, _| {}));
    assert!(error.starts_with("the task hub is in use by"), "{error}");
    drop(hub.owned);
    let error = refused(restore(
        &copy,
        &hub.dir.path().join("hub.db"),
        &mut |_, _| {},
    ));
    assert!(error.starts_with("will not replace"), "{error}");
}

#[test]
fn a_damaged_copy_is_refused() {
    let hub = Hub::new();
    starts(&hub, 0, 200);
    let (copy, other) = (
        hub.dir.path().join("copy.db"),
        hub.dir.path().join("other.db"),
    );
    backup(&hub.path(), &copy, &mut |_, _| {}).unwrap();
    let whole = std::fs::read(&copy).unwrap();
    let mut damaged = whole.clone();
    let middle = damaged.len() / 2;
    damaged[middle..middle + 8_192].fill(0xa5);
    for bytes in [&damaged[..], &whole[..whole.len() / 2]] {
        std::fs::write(&copy, bytes).unwrap();
        let error = restore(&copy, &other, &mut |_, _| {}).unwrap_err();
        assert!(matches!(error, StoreError::Corrupt(_)), "{error}");
        assert!(!other.exists());
    }
}

#[test]
fn a_damaged_module_is_in_no_copy_and_is_mended_by_its_deployment() {
    let hub = Hub::new();
    let place = |name: &str| hub.dir.path().join(name);
    let component = || {
        let found = hub.reader().component(MODULE).unwrap();
        found.expect("the module is stored")
    };
    backup(&hub.path(), &place("sound.db"), &mut |_, _| {}).unwrap();
    let damage = "UPDATE module SET component = x'01'";
    hub.other().execute_batch(damage).unwrap();
    let names_it = |error: StoreError| {
        let text = error.to_string();
        assert!(
            text.contains(&MODULE.short().to_string()) && text.contains("deploy"),
            "{text}"
        );
    };
    names_it(backup(&hub.path(), &place("damaged.db"), &mut |_, _| {}).unwrap_err());
    assert!(!place("damaged.db").exists());
    let copy = Connection::open(place("sound.db")).unwrap();
    copy.execute_batch(damage).unwrap();
    drop(copy);
    names_it(restore(&place("sound.db"), &place("other.db"), &mut |_, _| {}).unwrap_err());
    assert!(!place("other.db").exists());
    let deployed = hub.submit(Change::Deploy(Box::new(NewModule {
        name: "m".to_owned(),
        digest: MODULE,
        component: vec![0],
        contract: "0.1".to_owned(),
        definitions: Vec::new(),
        imports: Vec::new(),
        grants: None,
        limits: None,
        replace: false,
    })));
    deployed.recv().unwrap().unwrap();
    assert_eq!(component(), [0]);
    backup(&hub.path(), &place("mended.db"), &mut |_, _| {}).unwrap();
}
