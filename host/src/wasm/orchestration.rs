//! Orchestrations: component instances that wait in memory between their turns.

use perennial_core::{
    Answer, Digest, Failure, Guest, GuestEvent, Json, Limits, Mode, Stop, TaskId, Timestamp,
};
use wasmtime::{Engine, PoolConcurrencyLimitError, Store};

use super::answer::{check_payloads, check_tasks};
use super::code;
use super::contract::{Orchestrations, OrchestrationsPre};
use super::fuel::refuel;
use super::guest_log::GuestLog;
use super::held::Touched;
use super::host::Wasm;
use super::inspect::START_FUEL;
use super::random::Random;
use super::sandbox::Sandbox;
use super::stop;
use crate::engine::executor::{Executor, Fault, Proposal, ResidentGuest, Resource, Shortage};

/// Bytes that the host copies out of a guest in one call at most. A guest's strings may overlap, so its memory is no bound.
const ANSWER_BYTES_MAX: usize = 64 << 20;

/// Memory of an instance beyond its guest's touched pages: page tables, and the host's records.
const INSTANCE_BYTES: usize = 64 << 10;

impl Wasm {
    /// Makes an instance of the component of a module.
    fn instance(
        &self,
        module: Digest,
        limits: &Limits,
        instance_id: &str,
        began: Timestamp,
    ) -> Result<Instance, Fault> {
        let start = |pre: &OrchestrationsPre<Sandbox>, engine: &Engine| {
            let log = GuestLog::holding(instance_id).kept_in(self.shared.lines.as_ref());
            let sandbox = Sandbox::new(began, log, limits.memory_bytes);
            let mut store = sandbox.into_store(engine, START_FUEL)?;
            let mut touched = Touched::default();
            let started = touched.by(|| pre.instantiate(&mut store));
            wasmtime::error::Ok((store, started, touched))
        };
        let pooled = self.shared.pooled(module)?;
        if let Some(pre) = &*pooled {
            let (store, started, touched) =
                start(pre, &self.shared.engines.pooled).map_err(|error| shortage(&error))?;
            let full = matches!(&started, Err(error) if error.is::<PoolConcurrencyLimitError>());
            if !full {
                return Instance::new(store, started, touched);
            }
            tracing::debug!("the instance pool is full; an instance is made outside it");
        }
        let spare = self.shared.spare(module)?;
        let (store, started, touched) =
            start(&spare, &self.shared.engines.spare).map_err(|error| shortage(&error))?;
        Instance::new(store, started, touched)
    }
}

impl Executor for Wasm {
    fn instantiate(
        &self,
        module: Digest,
        limits: &Limits,
        instance_id: &str,
        began: Timestamp,
    ) -> Result<Box<dyn ResidentGuest>, Fault> {
        Ok(Box::new(self.instance(
            module,
            limits,
            instance_id,
            began,
        )?))
    }

    fn validate(
        &self,
        module: Digest,
        limits: &Limits,
        proposal: &Proposal<'_>,
    ) -> Result<Result<(), Failure>, Fault> {
        // It sees no instance and no time, so that its judgement depends on the request alone.
        let mut instance = self.instance(module, limits, "", Timestamp(0))?;
        let bytes = proposal.name.len() + proposal.input.map_or(0, Json::size);
        let judged = instance.validate(proposal, limits.fuel(1, bytes))?;
        Ok(judged.map_err(|failure| failure.bounded(limits.payload_bytes)))
    }

    fn prepare(&self, module: Digest) {
        // Creating a guest reports the error.
        drop(self.shared.pooled(module));
    }

    fn ready(&self, module: Digest, component: &[u8]) {
        if let Err(error) = Self::ready(self, module, component) {
            tracing::warn!(%module, %error, "a module that is deployed is not ready to run");
        }
    }

    fn forget(&self, module: Digest) {
        Self::forget(self, module);
    }
}

/// The shortage behind a failed instantiation of a prepared component: there is no other possible cause.
fn shortage(error: &wasmtime::Error) -> Shortage {
    let resource = code::lacks(error).unwrap_or(Resource::Memory);
    Shortage::new(
        resource,
        format!("the component cannot be instantiated: {error:#}"),
    )
}

/// The component instance of an execution.
struct Instance {
    store: Store<Sandbox>,
    guest: Life,
    /// The number of the guest's next task.
    next_task: TaskId,
    touched: Touched,
}

enum Life {
    Ready(Orchestrations),
    /// The start failed; the first turn reports it.
    StillBorn(Failure),
    Over,
}

impl Instance {
    /// The result of a start. A guest's mistake becomes its verdict; a problem of the host is an error.
    fn new(
        mut store: Store<Sandbox>,
        started: wasmtime::Result<Orchestrations>,
        touched: Touched,
    ) -> Result<Self, Fault> {
        let guest = match started {
            Ok(guest) => Life::Ready(guest),
            Err(error) => {
                let sandbox = store.data_mut();
                let is_guests = stop::is_guests(&error) || sandbox.limiter.refused();
                if !is_guests || sandbox.limiter.starved() {
                    return Err(shortage(&error).into());
                }
                Life::StillBorn(stop::failure_of(&error, &mut sandbox.log, &sandbox.limiter))
            }
        };
        Ok(Self {
            guest,
            next_task: TaskId(0),
            touched,
            store,
        })
    }

    /// Calls `validate` on a guest that does nothing else. One that traps has judged too: nobody could answer.
    fn validate(
        &mut self,
        proposal: &Proposal<'_>,
        fuel: u64,
    ) -> Result<Result<(), Failure>, Shortage> {
        let guest = match std::mem::replace(&mut self.guest, Life::Over) {
            Life::Ready(guest) => guest,
            Life::StillBorn(failure) => return Ok(Err(failure)),
            Life::Over => unreachable!("it was just made"),
        };
        self.prepare(&[], Mode::Live { fuel })
            .map_err(|error| shortage(&error))?;
        guest.validate(&mut self.store, proposal).or_else(|error| {
            let sandbox = self.store.data_mut();
            if sandbox.limiter.starved() || code::lacks(&error).is_some() {
                return Err(shortage(&error));
            }
            Ok(Err(stop::failure_of(
                &error,
                &mut sandbox.log,
                &sandbox.limiter,
            )))
        })
    }

    fn prepare(&mut self, events: &[GuestEvent], mode: Mode) -> wasmtime::Result<()> {
        let (fuel, host_bytes, silent) = match mode {
            Mode::Live { fuel } => (fuel, ANSWER_BYTES_MAX, false),
            Mode::Replay => (u64::MAX, usize::MAX, true),
        };
        self.store.set_hostcall_fuel(host_bytes);
        let sandbox = self.store.data_mut();
        sandbox.log.mute(silent);
        sandbox.limiter.forget_refusal();
        for event in events {
            match event {
                GuestEvent::TurnStarted { now, .. } => sandbox.now = *now,
                GuestEvent::ExecutionStarted { seed, .. } => sandbox.random = Random::seeded(*seed),
                GuestEvent::TaskCompleted { .. }
                | GuestEvent::TimerFired(_)
                | GuestEvent::ExternalEventRaised { .. }
                | GuestEvent::RequestReceived(_)
                | GuestEvent::CancellationRequested(_) => {}
            }
        }
        refuel(&mut self.store, fuel)
    }

    fn check(&mut self, answer: &Answer, mode: Mode) -> Result<(), Failure> {
        check_tasks(answer, &mut self.next_task)?;
        match mode {
            Mode::Live { .. } => check_payloads(answer),
            // The payloads were checked when the turn ran first; the replay checks that they are the same.
            Mode::Replay => Ok(()),
        }
    }
}

impl Guest for Instance {
    fn advance(&mut self, events: &[GuestEvent], mode: Mode) -> Result<Answer, Stop> {
        let guest = match std::mem::replace(&mut self.guest, Life::Over) {
            Life::Ready(guest) => guest,
            Life::StillBorn(failure) => return Err(Stop::Verdict(failure)),
            Life::Over => {
                return Err(Stop::Host(
                    "the component instance has come to its end already".to_owned(),
                ));
            }
        };
        self.prepare(events, mode)
            .map_err(|error| Stop::Host(error.to_string()))?;
        let answered = self.touched.by(|| guest.advance(&mut self.store, events));
        let answer = answered.map_err(|error| {
            let sandbox = self.store.data_mut();
            if sandbox.limiter.starved() || code::lacks(&error).is_some() {
                return Stop::Host(format!("there is no memory for the guest: {error:#}"));
            }
            Stop::Verdict(stop::failure_of(&error, &mut sandbox.log, &sandbox.limiter))
        })?;
        self.store.data_mut().log.flush();
        self.check(&answer, mode).map_err(Stop::Verdict)?;
        self.guest = Life::Ready(guest);
        Ok(answer)
    }
}

impl ResidentGuest for Instance {
    /// The touched bytes of its memories and tables, and a flat amount for the rest.
    fn resident_bytes(&self) -> usize {
        INSTANCE_BYTES + self.touched.bytes(self.store.data().limiter.used())
    }

    fn committed(&mut self) {
        self.store.data_mut().log.let_go();
    }
}
