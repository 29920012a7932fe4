//! Orchestrations and activities that try everything they should not: what they come to is what the tests of the sandbox compare.

// What the modules print is logged also where the standard library writes nowhere.
#[cfg(target_os = "unknown")]
#[macro_use]
extern crate perennial_sdk;

mod acts;
mod library;
mod mistakes;
mod sandbox;
mod shapes;

perennial_sdk::export! {
    orchestrations: {
        // What can be observed.
        "Clocks" => sandbox::clocks,
        "Hashes" => sandbox::hashes,
        "Randoms" => sandbox::randoms,
        "Floats" => sandbox::floats,
        "Surroundings" => sandbox::surroundings,
        "Logs" => sandbox::logs,
        "BurnsEachTurn" => sandbox::burns_each_turn,
        "HoldsMemory" => sandbox::holds_memory,
        "Uses" => library::uses,
        // What must not be done.
        "Sleeps" => mistakes::sleeps,
        "ReadsInput" => mistakes::reads_input,
        "Exits" => mistakes::exits,
        "Traps" => mistakes::traps,
        "CallsAfterTheEnd" => mistakes::calls_after_the_end,
        "PollsForOthers" => mistakes::polls_for_others,
        "SendsTooMuch" => mistakes::sends_too_much,
        "ShowsTooMuch" => mistakes::shows_too_much,
        "ReturnsTooMuch" => mistakes::returns_too_much,
        "ReturnsNoJson" => mistakes::returns_no_json,
        "CallsWithTooMuch" => mistakes::calls_with_too_much,
        "CallsWithNoJson" => mistakes::calls_with_no_json,
        "CallsTooOften" => mistakes::calls_too_often,
        "RacesNobody" => mistakes::races_nobody,
        "TriesNever" => mistakes::tries_never,
        "Unlisted" => mistakes::unlisted,
        "StartsNobody" => mistakes::starts_nobody,
        "ChildOfNobody" => mistakes::child_of_nobody,
        // How programs are put together.
        "Calls" => shapes::calls,
        "FailsThrough" => shapes::fails_through,
        "FailsBelow" => shapes::fails_below,
        "Joins" => shapes::joins,
        "Selects" => shapes::selects,
        "SelectsAtRandom" => shapes::selects_at_random,
        "AsTheyCome" => shapes::as_they_come,
        "Waits" => shapes::waits,
        "Far" => shapes::far,
        "Knows" => shapes::knows,
        "Messages" => shapes::messages,
        "Listens" => shapes::listens,
        "Typed" => shapes::typed,
        "Limited" => shapes::limited,
    },
    activities: {
        "Keep" => acts::keep,
        "Look" => acts::look,
        "Use" => library::used,
        "Write" => acts::write,
        "Spin" => acts::spin,
        "Sleep" => acts::sleep,
        "Panic" => acts::panics,
        "Trap" => acts::traps,
        "Hoard" => acts::hoards,
        "Recurse" => acts::recurses,
        "Decline" => acts::declines,
        "NoJson" => acts::no_json,
        "Exit" => acts::exits,
    },
}
