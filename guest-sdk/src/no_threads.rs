//! Stubs for the thread functions that the C library of this target lacks: each reports that there are no threads.
//!
//! The standard library for `wasm32-wasip1` calls them, so whatever mentions `std::thread::spawn` would not link without. Who builds with a C
//! library that lacks them sets `--cfg perennial_no_pthreads`.
#![expect(
    unsafe_code,
    reason = "symbols for a linker, which know nothing of what they are given"
)]

use std::ffi::{c_int, c_void};

/// `ENOTSUP` of wasi-libc.
const NOT_SUPPORTED: c_int = 58;

type Pointer = *const c_void;

#[unsafe(no_mangle)]
extern "C" fn pthread_attr_init(_: Pointer) -> c_int {
    0
}

#[unsafe(no_mangle)]
extern "C" fn pthread_attr_setstacksize(_: Pointer, _: usize) -> c_int {
    0
}

#[unsafe(no_mangle)]
extern "C" fn pthread_attr_destroy(_: Pointer) -> c_int {
    0
}

#[unsafe(no_mangle)]
extern "C" fn pthread_create(_: Pointer, _: Pointer, _: Pointer, _: Pointer) -> c_int {
    NOT_SUPPORTED
}

#[unsafe(no_mangle)]
extern "C" fn pthread_detach(_: Pointer) -> c_int {
    NOT_SUPPORTED
}

#[unsafe(no_mangle)]
extern "C" fn pthread_join(_: Pointer, _: Pointer) -> c_int {
    NOT_SUPPORTED
}
