//! The plans of what hosts and clients ask and tell beside reads and transactions; and that no statement of the store has a plan at which
//! no test looks.

use std::collections::BTreeMap;
use std::path::Path;

use perennial_core::Timestamp;

use crate::store::exchange::Exchange;
use crate::store::owned::{OwnerNote, Share};
use crate::store::partition::{Partition, Partitions};
use crate::store::postgres::address::Address;
use crate::store::postgres::outside::{Outside, Told};
use crate::store::postgres::owned::{open_reader, owned, owners_now};
use crate::store::postgres::session::{Purpose, Session};
use crate::store::postgres::testing::plans::{check_in_all_states, plans};
use crate::store::postgres::testing::sent::{Kept, Statements};
use crate::store::postgres::testing::server;
use crate::store::postgres::testing::sources::{check_all_known, names_rows};
use crate::store::postgres::tests::plans::writes;
use crate::store::tests::postgres_plans::reads;

const NOW: Timestamp = Timestamp(1_000);

/// Two hosts that share a hub, clients that ask them, and what all of them send on whatever connections.
fn statements_beside(address: &Address, dir: &Path) -> Statements {
    let running = dir.join("running");
    let kept = Kept::of(address);
    let host = || owned(address, &running, NOW, "a host", Share::Joined, &|_| false).unwrap();
    let (mut one, other) = (host(), host());
    let took = one.owner.take(&[Partition(0), Partition(1)]).unwrap();
    assert_eq!(took.len(), 2);
    one.owner.give(&took, other.owner.epoch()).unwrap();
    one.owner.offer(&[(1, "{}".to_owned())]).unwrap();
    let note = OwnerNote::of_this_process("a host", None);
    one.owner.announce(&note).unwrap();
    assert_eq!(one.owner.look().unwrap().unwrap().owners.len(), 2);
    let told = Told::listen(address, || Partitions::all(4), || {}).unwrap();
    told.ask();
    for outside in [
        Outside::new(address.clone()),
        Outside::new(address.clone()).hasty(),
    ] {
        assert!(outside.owner().unwrap().is_some());
        assert_eq!(outside.partitions().unwrap().count(), 4);
        outside.append(Partition(1), "a", b"1", NOW).unwrap();
        let tokens = ["a".to_owned()];
        let exchanged = outside.exchange(
            &Exchange {
                append: &[(Partition(2), "b", b"2")],
                forget: &tokens,
                look: &tokens,
            },
            NOW,
        );
        exchanged.appended.unwrap();
        assert_eq!(outside.answer("b").unwrap(), None);
        assert!(outside.take_back("b").unwrap());
        outside.forget("b").unwrap();
    }
    assert!(owners_now(address).unwrap().is_some());
    open_reader(address, &running).unwrap();
    drop((one, other));
    kept.take()
}

#[test]
fn what_is_asked_beside_reads_and_transactions_finds_rows_by_the_same_indexes_in_all_hubs() {
    let Some(server) = server() else { return };
    let address = server.divided(4);
    let dir = tempfile::tempdir().unwrap();
    let sent = statements_beside(&address, dir.path());
    let people: Vec<_> = sent
        .iter()
        .filter(|(text, _)| names_rows(text))
        .filter(|(_, sent)| [Purpose::Manage, Purpose::Look].contains(&sent.purpose))
        .map(|(text, _)| text)
        .collect();
    assert!(
        people.is_empty(),
        "on connections that may read whole tables, which are for what people order: {people:?}"
    );
    let statements: BTreeMap<String, usize> = sent
        .into_iter()
        .map(|(text, sent)| (text, sent.params))
        .collect();
    let commands = statements.keys().filter(|text| text.contains("command"));
    assert!(commands.count() > 5, "{statements:?}");
    let session = |address: &Address| Session::open(address, Purpose::Beside).unwrap();
    let few = plans(&session(&address), &statements);
    let empty = session(&server.fresh());
    check_in_all_states(
        &|sql| empty.batch(sql).unwrap(),
        &|| plans(&empty, &statements),
        &few,
        &[],
    );
}

#[test]
fn no_statement_has_a_plan_that_no_test_looks_at() {
    let Some(server) = server() else { return };
    let dir = tempfile::tempdir().unwrap();
    let beside = statements_beside(&server.divided(4), dir.path());
    let (Some((reads, _)), Some((writes, _))) = (reads(), writes()) else {
        return;
    };
    check_all_known(
        reads
            .keys()
            .chain(writes.keys())
            .chain(beside.keys())
            .map(String::as_str),
    );
}
