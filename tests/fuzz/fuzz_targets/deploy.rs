//! Bytes that somebody deploys.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use perennial_fuzz::Bench;

static BENCH: LazyLock<Bench> = LazyLock::new(Bench::new);

fuzz_target!(
    init: perennial_fuzz::prepare(perennial_fuzz::modules()),
    |bytes: &[u8]| perennial_fuzz::deploy(&BENCH, bytes)
);
