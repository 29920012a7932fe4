//! Memory that a guest answers with.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use perennial_fuzz::{Bench, Echo};

static ECHO: LazyLock<Echo> = LazyLock::new(|| Echo::new(Bench::new()));

fuzz_target!(
    init: perennial_fuzz::prepare(perennial_fuzz::answers()),
    |bytes: &[u8]| perennial_fuzz::advance(&ECHO, bytes)
);
