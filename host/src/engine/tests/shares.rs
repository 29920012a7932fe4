//! The engines of a host, when several share a hub.

use std::sync::{Arc, Mutex, Weak};
use std::time::Instant;

use super::world::{Host, World, patience};
use crate::engine::{Engine, Peers, Request, Tell};
use crate::store::{Outside, Partition, Place, Reply, StoreError, decode, encode};
use perennial_core::Timestamp;

/// The other engines of a divided hub. A request goes to them as to hosts: as a command in the hub.
pub(super) struct Others {
    peers: Arc<Mutex<Vec<Weak<Engine>>>>,
    place: Place,
}

impl Others {
    pub(super) fn of(world: &World, peers: &Arc<Mutex<Vec<Weak<Engine>>>>) -> Arc<Self> {
        Arc::new(Self {
            peers: Arc::clone(peers),
            place: world.place.clone(),
        })
    }
}

impl Peers for Others {
    fn submit(&self, to: Partition, request: Request, tell: Tell) {
        let (peers, outside) = (Arc::clone(&self.peers), Outside::new(self.place.clone()));
        std::thread::spawn(move || tell(answer_of(&peers, &outside, to, &request)));
    }
}

/// Leaves a command, tells whoever has the partition of it, and waits for the answer.
fn answer_of(
    peers: &Mutex<Vec<Weak<Engine>>>,
    outside: &Outside,
    to: Partition,
    request: &Request,
) -> Result<Reply, StoreError> {
    let token = uuid::Uuid::new_v4().to_string();
    outside.append(to, &token, &encode(request)?, Timestamp(0))?;
    let begun = Instant::now();
    loop {
        let engines = peers.lock().unwrap().clone();
        let mut engines = engines.iter().filter_map(Weak::upgrade);
        let owner = engines.find(|engine| engine.partitions().has(to) && !engine.is_stopping());
        if let Some(owner) = &owner {
            // What fails is tried again.
            let _ = owner.runtime.block_on(owner.take_commands());
        }
        if let Some(answer) = outside.answer(&token)? {
            outside.forget(&token)?;
            return decode(&answer, "an answer");
        }
        let is_late = begun.elapsed() > patience();
        if (owner.is_none() || is_late) && outside.take_back(&token)? {
            return Err(match is_late {
                true => panic!("nobody has answered {request:?}"),
                false => StoreError::Closed,
            });
        }
        std::thread::yield_now();
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
        let parts = world.parts(Others::of(world, &self.peers));
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
