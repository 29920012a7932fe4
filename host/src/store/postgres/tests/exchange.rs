//! Commands that a process leaves for the owners of a hub.

use std::sync::mpsc;
use std::time::Duration;

use perennial_core::Timestamp;

use crate::store::StoreError;
use crate::store::exchange::Exchange;
use crate::store::partition::{Partition, Partitions};
use crate::store::postgres::outside::{Outside, Told};
use crate::store::postgres::session::{Purpose, Session};
use crate::store::postgres::testing::server;

const NOW: Timestamp = Timestamp(1_000);

fn tokens(of: &[&str]) -> Vec<String> {
    of.iter().copied().map(str::to_owned).collect()
}

#[test]
fn commands_are_left_looked_for_and_deleted_at_once_and_wake_only_their_owner() {
    let Some(server) = server() else { return };
    let address = server.divided(4);
    let session = Session::open(&address, Purpose::Manage).unwrap();
    let outside = Outside::new(address.clone()).hasty();
    let (tell, told) = mpsc::channel();
    let own = || Partitions::some(4, [Partition(3)]);
    let _listens = Told::listen(&address, own, move || tell.send(()).unwrap_or_default()).unwrap();
    let left = |append: &[(Partition, &str, &[u8])]| {
        let what = Exchange {
            append,
            ..Exchange::default()
        };
        outside.exchange(&what, NOW).appended.unwrap();
    };
    left(&[(Partition(2), "a", b"1")]);
    left(&[
        (Partition(1), "b", b"2"),
        (Partition(3), "c", b"3"),
        (Partition(3), "d", b""),
    ]);
    told.recv_timeout(Duration::from_secs(30)).unwrap();
    assert!(
        told.try_recv().is_err(),
        "it was told of what is for others"
    );
    let rows = session
        .query(
            "SELECT token, partition, body FROM command ORDER BY seq",
            &[],
        )
        .unwrap();
    let rows: Vec<(String, i16, Vec<u8>)> = rows
        .iter()
        .map(|row| (row.get(0), row.get(1), row.get(2)))
        .collect();
    let row = |token: &str, to, body: &[u8]| (token.to_owned(), to, body.to_vec());
    let expected = [
        row("a", 2, b"1"),
        row("b", 1, b"2"),
        row("c", 3, b"3"),
        row("d", 3, b""),
    ];
    assert_eq!(rows, expected);

    session
        .batch("UPDATE command SET answer = '\\x07' WHERE token IN ('a', 'd')")
        .unwrap();
    let exchanged = outside.exchange(
        &Exchange {
            append: &[(Partition(0), "e", b"5")],
            forget: &tokens(&["d"]),
            look: &tokens(&["a", "b", "gone"]),
        },
        NOW,
    );
    exchanged.appended.unwrap();
    let mut found = exchanged.found.unwrap();
    found.sort();
    assert_eq!(
        found,
        [("a".to_owned(), Some(vec![7])), ("b".to_owned(), None)]
    );
    assert_eq!(exchanged.connection, 1);
    assert!(outside.take_back("b").unwrap());
    assert!(!outside.take_back("a").unwrap(), "it was answered");
    let left = session.query("SELECT token FROM command ORDER BY seq", &[]);
    let left: Vec<String> = left.unwrap().iter().map(|row| row.get(0)).collect();
    assert_eq!(left, ["a", "c", "e"]);
}

#[test]
fn a_command_that_was_left_before_is_not_left_again_and_one_that_is_refused_is_not_there() {
    let Some(server) = server() else { return };
    let address = server.divided(4);
    let session = Session::open(&address, Purpose::Manage).unwrap();
    let outside = Outside::new(address.clone()).hasty();
    for body in [b"1", b"2"] {
        outside.append(Partition(0), "a", body, NOW).unwrap();
    }
    let body: Vec<u8> = session.query("SELECT body FROM command", &[]).unwrap()[0].get(0);
    assert_eq!(body, b"1");

    // What the database refuses is said as that, and leaves the connection as it was.
    session
        .batch("ALTER TABLE command ADD CHECK (octet_length(body) < 4)")
        .unwrap();
    let append: [(Partition, &str, &[u8]); 2] =
        [(Partition(0), "b", b"3"), (Partition(0), "c", b"too long")];
    let exchanged = outside.exchange(
        &Exchange {
            append: &append,
            forget: &[],
            look: &tokens(&["a"]),
        },
        NOW,
    );
    let refused = exchanged.appended.unwrap_err();
    assert!(!matches!(refused, StoreError::NoAnswer(_)), "{refused}");
    assert_eq!(exchanged.found.unwrap(), [("a".to_owned(), None)]);
    let count: i64 = session.query("SELECT count(*) FROM command", &[]).unwrap()[0].get(0);
    assert_eq!(count, 1, "all or none");
}
