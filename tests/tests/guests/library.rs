//! What an orchestration and an activity may do with the standard library: the same, whichever way a guest was built.

use serde_json::json;

use super::*;

/// Whose doing it is what differs.
#[derive(Clone, Copy, PartialEq)]
enum Of {
    /// The same on every way to build.
    Every,
    /// The standard library has no system to ask: it says so by a panic, where there is no error to say it with.
    Systems,
}

/// What is done, and what an orchestration gets: a value, or the kind of a failure.
const USES: &[(&str, Of, Result<&str, &str>)] = &[
    ("println", Of::Every, Ok("it worked")),
    ("eprintln", Of::Every, Ok("it worked")),
    ("print", Of::Every, Ok("it worked")),
    ("eprint", Of::Every, Ok("it worked")),
    ("dbg", Of::Every, Ok("42")),
    ("stdout", Of::Every, Ok("it worked")),
    ("stderr", Of::Every, Ok("it worked")),
    ("much", Of::Every, Ok("it worked")),
    ("stdin", Of::Every, Ok("0 bytes")),
    ("connect", Of::Every, Ok("an error")),
    ("connect by name", Of::Every, Ok("an error")),
    ("connect in time", Of::Every, Ok("an error")),
    ("connect v6", Of::Every, Ok("an error")),
    ("listen", Of::Every, Ok("an error")),
    ("datagram", Of::Every, Ok("an error")),
    ("resolve", Of::Every, Ok("an error")),
    ("open", Of::Every, Ok("an error")),
    ("create", Of::Every, Ok("an error")),
    ("list", Of::Every, Ok("an error")),
    ("look at", Of::Every, Ok("an error")),
    ("link", Of::Every, Ok("an error")),
    ("rename", Of::Every, Ok("an error")),
    ("remove", Of::Every, Ok("an error")),
    ("run", Of::Every, Ok("an error")),
    ("thread", Of::Every, Ok("an error")),
    ("yield", Of::Every, Ok("it worked")),
    ("sleep", Of::Systems, Err("ForbiddenImport")),
    ("sleep for nothing", Of::Systems, Ok("it worked")),
    ("variables", Of::Systems, Ok("0")),
    ("arguments", Of::Every, Ok("0")),
    ("home", Of::Every, Ok("None")),
    ("program", Of::Every, Ok("an error")),
    ("backtrace", Of::Every, Ok("it worked")),
    ("wall clock", Of::Systems, Ok("true")),
    ("clock", Of::Systems, Ok("0")),
    ("hash map", Of::Every, Ok("4950")),
    ("much memory", Of::Every, Ok("16777216")),
    ("try too much memory", Of::Every, Ok("true")),
    ("too much memory at once", Of::Every, Err("OutOfMemory")),
    ("too much memory", Of::Every, Err("OutOfMemory")),
    ("too much in a list", Of::Every, Err("OutOfMemory")),
    ("panic", Of::Every, Err("Panic")),
    ("index", Of::Every, Err("Panic")),
    ("overflow", Of::Every, Err("Panic")),
    ("unwrap", Of::Every, Err("Panic")),
    ("write, then panic", Of::Every, Err("Panic")),
    ("exit", Of::Every, Err("Trap")),
    ("exit well", Of::Every, Err("Trap")),
    ("abort", Of::Every, Err("Trap")),
    ("depth", Of::Every, Err("StackOverflow")),
];

/// What an activity gets where that is something else: it has clocks, and may wait.
const OF_ACTIVITIES: &[(&str, Of, Result<&str, &str>)] = &[("sleep", Of::Systems, Ok("it worked"))];

fn got(status: &InstanceStatus) -> Result<String, String> {
    match &status.failure {
        Some(failure) => Err(failure.kind.clone()),
        None => Ok(output(status).as_str().unwrap().to_owned()),
    }
}

fn expected(of: Of, expected: Result<&str, &str>) -> Result<String, String> {
    let expected = match of {
        Of::Systems if !Way::here().has_system() => Err("Panic"),
        Of::Systems | Of::Every => expected,
    };
    expected.map(str::to_owned).map_err(str::to_owned)
}

#[tokio::test]
async fn the_standard_library_does_the_same_on_every_way_to_build() {
    let mut stage = Stage::probe().await;
    let (mut differs, mut said) = (Vec::new(), Vec::new());
    for (what, of, result) in USES {
        let status = stage.run("Uses", json!(what)).await;
        if got(&status) != expected(*of, *result) {
            differs.push(format!("{what}: {:?} {:?}", got(&status), status.failure));
        }
        if let Some(failure) = &status.failure {
            said.push(failure.message.clone());
        }
    }
    assert!(differs.is_empty(), "{:?}: {differs:#?}", Way::here());
    // What it is about is in the words too, and not what the library wrote of it first.
    for words in [
        "enough of 42",
        "index out of bounds",
        "attempt to add with overflow",
        "it is bad",
        "after a line",
        "more than the limit of 67108864 bytes of memory",
    ] {
        assert!(said.iter().any(|said| said.contains(words)), "{said:#?}");
    }
    stage.close().await;
}

#[tokio::test]
async fn an_activity_does_the_same_and_may_wait() {
    let mut stage = Stage::probe().await;
    let mut differs = Vec::new();
    for (what, of, result) in USES {
        if *what == "clock" {
            continue;
        }
        let own = OF_ACTIVITIES.iter().find(|(own, ..)| own == what);
        let (of, result) = own.map_or((*of, *result), |(_, of, result)| (*of, *result));
        let status = stage.run("Calls", json!(["Use", what, null])).await;
        if got(&status) != expected(of, result) {
            differs.push(format!("{what}: {:?} {:?}", got(&status), status.failure));
        }
    }
    assert!(differs.is_empty(), "{:?}: {differs:#?}", Way::here());
    stage.close().await;
}
