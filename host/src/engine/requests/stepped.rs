//! Requests in several steps, as this engine carries them out: on a blocking thread, of which there is a limited number.

use std::cell::Cell;
use std::sync::Arc;

use crate::engine::requests::intake::About;
use crate::engine::requests::owner::Owner;
use crate::engine::requests::request::{Preparation, Request};
use crate::engine::requests::steps::carry_out;
use crate::engine::workers::threads::UnderWay;
use crate::engine::{Engine, Known};
use crate::store::{Change, Partition, Reader, Reply, StoreError, Write};

/// An engine that carries out a request.
struct Stepper {
    engine: Arc<Engine>,
    /// What the engine knew of the hub when the next change was prepared.
    knew: Cell<Known>,
}

impl Engine {
    /// Carries out a request that takes steps. If there is a token, the reply is recorded as the answer to the command of another process.
    pub(super) async fn in_steps(
        self: &Arc<Self>,
        request: Request,
        token: Option<String>,
    ) -> Result<Reply, StoreError> {
        let engine = Arc::clone(self);
        let steps = move || {
            let knew = Cell::new(engine.known());
            carry_out(&Stepper { engine, knew }, request, token)
        };
        self.blocking(&self.requests.steps, steps).await
    }

    /// Waits for another host to carry out a step.
    fn step_there(&self, to: Partition, request: Request) -> Result<Reply, StoreError> {
        let peers = self.peers.as_ref().ok_or(StoreError::Closed)?;
        let Ok(_one) = self.requests.passed_on.try_acquire() else {
            return Err(StoreError::NotTaken {
                owner: "another host of the task hub".to_owned(),
                why: "too many requests of this host wait for others".to_owned(),
            });
        };
        let (tell, told) = std::sync::mpsc::channel();
        // What the other host does may need a step here: the place of this one is free meanwhile.
        self.requests.steps.add_permits(1);
        peers.submit(to, request, Box::new(move |answer| drop(tell.send(answer))));
        let answer = told.recv().unwrap_or(Err(StoreError::Closed));
        // The semaphore is never closed.
        if let Ok(place) = self.runtime.block_on(self.requests.steps.acquire()) {
            place.forget();
        }
        answer
    }
}

impl Owner for Stepper {
    fn reader(&self) -> &Reader {
        &self.engine.hub.reader
    }

    fn write(&self, change: Change, token: Option<String>) -> Result<Reply, StoreError> {
        let about = About::of(&change);
        let (tell, told) = std::sync::mpsc::channel();
        let under_way = UnderWay::new(&self.engine);
        let write = Write::new(change, self.engine.clock.now(), move |_, result| {
            drop(tell.send(result));
            drop(under_way);
        });
        let write = self.engine.stamped(self.knew.get(), write);
        self.engine.hub.writer.submit(write.answering_if(token));
        let outcome = told.recv().unwrap_or(Err(StoreError::Closed))?;
        Ok(self.engine.answered(about, outcome))
    }

    fn prepared<T>(&self, make: impl FnOnce(&Preparation<'_>) -> T) -> Result<T, StoreError> {
        self.knew.set(self.engine.known());
        Ok(self.engine.preparing(make))
    }

    fn elsewhere(&self, id: &str) -> Option<Partition> {
        self.engine.hub.partitions.elsewhere(id)
    }

    fn pass_on(&self, to: Partition, request: Request) -> Result<Reply, StoreError> {
        self.engine.step_there(to, request)
    }
}
