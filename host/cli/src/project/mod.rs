//! The commands around guest projects: `new`, `build`, `inspect`, `dev`, `doctor`; and those about the program, `completions` and `man`.

mod about;
mod build;
mod dev;
mod doctor;
mod inspect;
mod scaffold;
mod toolchain;

pub(crate) use about::{completions, man};
pub(crate) use build::build;
pub(crate) use dev::dev;
pub(crate) use doctor::doctor;
pub(crate) use inspect::inspect;
pub(crate) use scaffold::new;
