//! Through the Rust API: what a program passes by mistake.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;

use perennial::{Client, Error, Grants, Host, Hubs, Json, Module, Role};
use perennial_tests::module;

use crate::{Hub, judge, shown};

/// What is true of an error.
type Is = fn(&Error) -> bool;

type Asked = Pin<Box<dyn Future<Output = Result<(), Error>> + Send>>;

/// What it is; the call; the predicate and what the message says.
type Case = (&'static str, Asked, Is, &'static str);

/// A call, made when it is awaited.
macro_rules! ask {
    ($client:ident, $call:expr) => {{
        let $client = $client.clone();
        Box::pin(async move { $call.await.map(drop) }) as Asked
    }};
}

fn text(n: usize) -> String {
    "x".repeat(n)
}

/// JSON has no keys that are lists.
fn unspeakable() -> BTreeMap<Vec<u8>, u8> {
    BTreeMap::from([(vec![1], 1)])
}

#[rustfmt::skip]
fn cases(c: &Client, dir: &std::path::Path, foreign: String) -> Vec<Case> {
    let hubs = Hubs::new(dir);
    let owned = dir.to_owned();
    vec![
        ("an input that is no JSON", ask!(c, c.start("Wait").input_json(Some(Json::from_text("{")))), Error::is_invalid, "not valid JSON"),
        ("an input that cannot be JSON", ask!(c, c.start("Wait").input(&unspeakable())), Error::is_invalid, "the input"),
        ("an input over the limit", ask!(c, c.start("Wait").input(&text(2 << 20))), Error::is_limit_exceeded, "at most 1048576 are allowed"),
        ("an empty id", ask!(c, c.start("Wait").id("")), Error::is_invalid, "must not be empty"),
        ("an id of blanks and tabs", ask!(c, c.start("Wait").id("\t")), Error::is_invalid, "must not contain"),
        ("an id that is a path", ask!(c, c.start("Wait").id("../..")), Error::is_invalid, "must not contain '/'"),
        ("an id of 257 characters", ask!(c, c.start("Wait").id("é".repeat(257))), Error::is_invalid, "256"),
        ("an id in use", ask!(c, c.start("Wait").id("waits")), Error::is_already_exists, "exists already"),
        ("a name that is nobody's", ask!(c, c.start("Wäit\u{0}")), Error::is_unknown_orchestration, "there is no orchestration"),
        ("a name of a megabyte", ask!(c, c.start(text(1 << 20))), Error::is_unknown_orchestration, "there is no orchestration"),
        ("a version that is nobody's", ask!(c, c.start("Wait").version("")), Error::is_unknown_orchestration, "there is no version"),
        ("a tag without a key", ask!(c, c.start("Wait").tag("", "x")), Error::is_invalid, "a tag"),
        ("a tag of a megabyte", ask!(c, c.start("Wait").tag("a", text(1 << 20))), Error::is_invalid, "a tag"),
        ("a trace of a megabyte", ask!(c, c.start("Wait").trace_parent(text(1 << 20))), Error::is_invalid, "trace parent"),
        ("an event of no name", ask!(c, c.raise_event("waits", "", &1)), Error::is_invalid, "must not be empty"),
        ("an event of a long name", ask!(c, c.raise_event("waits", &text(257), &1)), Error::is_invalid, "at most 256"),
        ("an event that cannot be JSON", ask!(c, c.raise_event("waits", "Go", &unspeakable())), Error::is_invalid, "the event's data"),
        ("an event that is no JSON", ask!(c, c.raise_event_json("waits", "Go", Some(Json::from_text("go")))), Error::is_invalid, "not valid JSON"),
        ("an event over the limit", ask!(c, c.raise_event("waits", "Go", &text(2 << 20))), Error::is_limit_exceeded, "at most 1048576 are allowed"),
        ("an event for nobody", ask!(c, c.raise_event("' OR 1=1 --", "Go", &1)), Error::is_not_found, "there is no instance"),
        ("an event for an id that cannot be", ask!(c, c.raise_event("a/b", "Go", &1)), Error::is_invalid, "must not contain '/'"),
        ("an event for one that has ended", ask!(c, c.raise_event("done", "Go", &1)), Error::is_wrong_state, "it has ended"),
        ("a reason of a megabyte", ask!(c, c.terminate("waits", Some(&text(1 << 20)))), Error::is_limit_exceeded, "the reason has"),
        ("another reason of a megabyte", ask!(c, c.suspend("waits", Some(&text(1 << 20)))), Error::is_limit_exceeded, "the reason has"),
        ("to resume on a module that is none", ask!(c, c.resume_on("waits", "nothing", None)), Error::is_not_found, "there is no module"),
        ("to rewind what did not fail", ask!(c, c.rewind("done")), Error::is_wrong_state, "done"),
        ("to rewind with a reason of a megabyte", ask!(c, c.rewind("done").reason(text(1 << 20))), Error::is_limit_exceeded, "the reason has"),
        ("to rewind nobody", ask!(c, c.rewind("nobody")), Error::is_not_found, "there is no instance"),
        ("to restart under an id that cannot be", ask!(c, c.restart("done").with_id("a#b")), Error::is_invalid, "must not contain '#'"),
        ("to restart under an id in use", ask!(c, c.restart("done").with_id("waits")), Error::is_already_exists, "exists already"),
        ("to purge what lives", ask!(c, c.purge("waits")), Error::is_wrong_state, "waits"),
        ("a token of another list", ask!(c, c.list().continuation_token(foreign)), Error::is_invalid, "does not belong"),
        ("a token that is none", ask!(c, c.list().continuation_token("\u{0}")), Error::is_invalid, "does not belong"),
        ("a key of no name", ask!(c, c.create_key("", Role::ReadOnly)), Error::is_invalid, "name"),
        ("a key of a long name", ask!(c, c.create_key(&text(100_000), Role::ReadOnly)), Error::is_invalid, "name"),
        ("a module that is noise", ask!(c, async { c.deploy(Module::from_bytes("m", &[7; 1_000])?).await }), Error::is_invalid, "not a WebAssembly file"),
        ("a module of no name", ask!(c, c.deploy(module("hello-sequence").named(""))), Error::is_invalid, "must not be empty"),
        ("a module of another's names", ask!(c, c.deploy(module("workloads").named("other"))), Error::is_name_taken, "deploy with replace"),
        ("a grant to a module that is none", ask!(c, c.grant("nothing", &Grants::default())), Error::is_not_found, "there is no module"),
        ("a directory that is not there", ask!(c, c.deploy(module("workloads")).grant_dir("/nowhere/at/all", "/x")), Error::is_invalid, "/nowhere/at/all"),
        ("a host that is none", ask!(c, c.deploy(module("workloads")).allow_http("http://a b")), Error::is_invalid, "a b"),
        ("a hub of no name", ask!(hubs, hubs.create("")), Error::is_invalid, "1 to 64 letters"),
        ("a hub that is a path", ask!(hubs, hubs.create("../x")), Error::is_invalid, "1 to 64 letters"),
        ("a hub with a null in it", ask!(hubs, hubs.delete("a\0b")), Error::is_invalid, "1 to 64 letters"),
        ("to delete a hub that runs", ask!(hubs, hubs.delete("default")), Error::is_owned, "process"),
        ("to delete a hub that is not there", ask!(hubs, hubs.delete("nowhere")), Error::is_not_found, "nowhere"),
        ("to run a hub that runs", Box::pin(async move { Host::builder().data_dir(owned).start().await.map(drop) }), Error::is_owned, "process"),
    ]
}

#[tokio::test]
async fn through_the_rust_api_it_is_refused_and_changes_nothing() {
    let hub = Hub::new().await;
    let foreign = hub.foreign_token().await;
    let before = hub.dump();
    let cases = cases(&hub.client(), hub.dir.path(), foreign);
    let tried = cases.len();
    let mut wrong = Vec::new();
    for (what, asked, is, says) in cases {
        match asked.await {
            Ok(()) => wrong.push(format!("{what}: it was done")),
            Err(error) => {
                let text = error.to_string();
                if !is(&error) || !text.contains(says) || text.len() > 10_000 {
                    wrong.push(format!(
                        "{what}: expected {says:?}, answered {}",
                        shown(&format!("{error:?} {text}"))
                    ));
                }
            }
        }
    }
    judge(&hub, &before, tried, &wrong);
    hub.host.shut_down().await;
}
