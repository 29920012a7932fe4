//! The engine on a real hub: guests and activities are closures, the clock stands still until a test moves it.

mod activities;
mod ailing;
mod attempts;
mod clocks;
mod control;
mod crashes;
mod ends;
mod families;
mod faults;
mod foreign;
mod hostile;
mod lifecycle;
mod modules;
mod order;
mod power;
pub(crate) mod programs;
mod quarantine;
mod random;
mod requests;
mod rewind;
mod sdk;
mod seeds;
mod simulation;
mod timers;
mod turns;
mod wants;
mod world;
