//! The engines of a host, when several share a hub.

use std::sync::{Arc, Mutex, Weak};

use super::world::Host;
use crate::engine::{Engine, Peers, Request, Tell};
use crate::store::{Partition, Place, StoreError};

/// The other engines of a divided hub.
pub(super) struct Others(pub(super) Arc<Mutex<Vec<Weak<Engine>>>>);

impl Peers for Others {
    fn submit(&self, to: Partition, request: Request, tell: Tell) {
        let engines = self.0.lock().unwrap().clone();
        let mut engines = engines.iter().filter_map(Weak::upgrade);
        let owner = engines.find(|engine| engine.partitions().has(to) && !engine.is_stopping());
        let Some(owner) = owner else {
            return tell(Err(StoreError::Closed));
        };
        let runtime = owner.runtime.clone();
        runtime.spawn(async move { tell(owner.submit(request).await) });
    }
}

impl Host<'_> {
    /// Another engine takes over the partitions of one, which is told nothing of it. Returns the one that was replaced.
    pub(crate) fn replace(&mut self, number: usize) -> Arc<Engine> {
        let world = self.world;
        let Place::Memory(hub, running, own) = world.shares().remove(number) else {
            panic!("the hub is not divided");
        };
        // It is on another machine.
        let running = running.with_extension(format!("{}", self.peers.lock().unwrap().len()));
        let place = Place::Memory(hub, running, own);
        let parts = world.parts(Arc::new(Others(Arc::clone(&self.peers))));
        let engine = Engine::start(&place, world.config.clone(), parts).unwrap();
        self.peers
            .lock()
            .unwrap()
            .insert(0, Arc::downgrade(&engine));
        std::mem::replace(&mut self.engines[number], engine)
    }

    /// The engine that runs the instance with an id.
    pub(crate) fn of(&self, id: &str) -> &Arc<Engine> {
        let runs = |engine: &&Arc<Engine>| {
            let own = engine.partitions();
            own.has(own.of_id(id))
        };
        self.engines.iter().find(runs).unwrap()
    }
}
