//! Replays recorded histories on a module, without a hub.

use std::path::Path;
use std::sync::Arc;

use perennial_core::{Quarantine, Start};

use crate::client::{Client, Error, Module, RecordedHistory, Result};
use crate::engine::{LoadError, Replaying};
use crate::runtime::check::{CheckOutcome, bring, defines, executor_of};
use crate::wasm::Wasm;

/// Replays recorded histories on a module, in the way in which a host takes executions over: on a fresh guest, with exactly the recorded
/// events of each turn, comparing what it asks for. Needs no hub, and writes nothing.
///
/// ```no_run
/// # fn example() -> perennial::Result<()> {
/// use perennial::{CheckOutcome, Module, RecordedHistory, Replayer};
///
/// let replayer = Replayer::new(Module::from_file("orders.wasm")?)?;
/// let text = std::fs::read("histories/order-17.json").unwrap();
/// match replayer.replay(&RecordedHistory::from_json(&text)?)? {
///     CheckOutcome::Compatible { turns } => println!("fits {turns} turns"),
///     CheckOutcome::Differs(why) => println!("{}", why.reason),
///     other => println!("{other:?}"),
/// }
/// # Ok(())
/// # }
/// ```
pub struct Replayer {
    module: Module,
    executor: Arc<Wasm>,
}

impl std::fmt::Debug for Replayer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Replayer")
            .field("module", &self.module)
            .finish_non_exhaustive()
    }
}

impl Replayer {
    /// Prepares a module for replays. It is compiled unless this process has done so while it inspected the module;
    /// [`Client::replayer`] also uses what a hub has compiled.
    ///
    /// # Errors
    /// [`Error::is_invalid`] if WebAssembly cannot be run here.
    pub fn new(module: Module) -> Result<Self> {
        Self::with_cache(module, None)
    }

    fn with_cache(module: Module, data_dir: Option<&Path>) -> Result<Self> {
        let executor = executor_of(&module, data_dir, 1)?;
        Ok(Self { module, executor })
    }

    /// The module.
    pub fn module(&self) -> &Module {
        &self.module
    }

    /// Replays a history, live or ended. Blocks until that is done.
    ///
    /// # Errors
    /// [`Error::is_invalid`] if a remote worker ran the execution, which has no module; an error of the machine, if that lacks something.
    pub fn replay(&self, history: &RecordedHistory) -> Result<CheckOutcome> {
        if history.module.is_none() {
            return Err(Error::invalid(format!(
                "a remote worker runs {:?}, and no module: only its own program can replay it",
                history.name
            )));
        }
        if !defines(&self.module, &history.name) {
            return Ok(CheckOutcome::NotDefined);
        }
        let mut bring = |start: &Start| bring(&*self.executor, &self.module, start);
        let mut replaying = Replaying::new(history.generation, Some(&mut bring));
        for turn in history.turns() {
            let turn = turn.map_err(Error::invalid)?;
            match replaying.turn(&turn) {
                Ok(()) => {}
                Err(LoadError::Store(error)) => {
                    return Err(match error.shortage() {
                        Some(shortage) => Error::lacking(shortage),
                        None => Error::module(error.to_string()),
                    });
                }
                Err(LoadError::Panicked(why)) => {
                    return Ok(CheckOutcome::Differs(Box::new(Quarantine::because(why))));
                }
                Err(LoadError::Quarantine(why)) => return Ok(CheckOutcome::Differs(why)),
            }
        }
        let turns = replaying.state().turns;
        Ok(CheckOutcome::Compatible { turns })
    }
}

impl Client {
    /// As [`Replayer::new`], with the code cache of this hub, where its stored modules are compiled already. Nothing is deployed.
    ///
    /// # Errors
    /// As [`Replayer::new`].
    pub fn replayer(&self, module: Module) -> Result<Replayer> {
        Replayer::with_cache(module, self.data_dir())
    }
}
