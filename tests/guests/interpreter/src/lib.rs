//! An orchestration whose program is its input. The tests of the engine run the same source natively, and compare.

// The tests make programs and know what they come to; here they are only run.
#[allow(dead_code, reason = "used by the tests that include this file")]
mod program;
mod run;

perennial_sdk::export! {
    orchestrations: { "Program" => run::program, "Fails" => run::fails },
}
