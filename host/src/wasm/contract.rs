//! The versions of the contract, behind one face.

use perennial_core::{Answer, Failure, GuestEvent, Json};
use wasmtime::component::{Component, Instance, InstancePre, LinkerInstance};
use wasmtime::{AsContextMut, Store};

use super::definition::Definition;
use super::guest_log::HasLog;
use super::interface::Name;
use super::{v0_1, v0_2};
use crate::engine::executor::{Attempt, Proposal};

/// A version of the contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Contract {
    V0_1,
    V0_2,
}

impl Contract {
    /// All of them, the newest first.
    const ALL: [Self; 2] = [Self::V0_2, Self::V0_1];

    /// Its version, as shown for a module.
    pub(super) fn version(self) -> &'static str {
        match self {
            Self::V0_1 => v0_1::CONTRACT,
            Self::V0_2 => v0_2::CONTRACT,
        }
    }

    /// The contract of this version.
    pub(super) fn of_version(version: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|contract| contract.version() == version)
    }

    /// The exported interface of orchestrations.
    pub(super) fn orchestrations(self) -> &'static str {
        match self {
            Self::V0_1 => v0_1::ORCHESTRATIONS,
            Self::V0_2 => v0_2::ORCHESTRATIONS,
        }
    }

    /// The exported interface of activities.
    pub(super) fn activities(self) -> &'static str {
        match self {
            Self::V0_1 => v0_1::ACTIVITIES,
            Self::V0_2 => v0_2::ACTIVITIES,
        }
    }

    /// As [`among`](Self::among), for a compiled component. One that exports no such interface gets the oldest, whose bindings then say
    /// what is missing.
    pub(super) fn of(component: &Component, interface: fn(Self) -> &'static str) -> Self {
        let ty = component.component_type();
        let exports = ty.exports(component.engine());
        let names: Vec<String> = exports.map(|(name, _)| name.to_owned()).collect();
        Self::among(&names, interface).unwrap_or(Self::V0_1)
    }

    /// The newest contract of which these exports have an interface, which `interface` names.
    pub(super) fn among(exports: &[String], interface: fn(Self) -> &'static str) -> Option<Self> {
        Self::ALL.into_iter().find(|contract| {
            let wanted = Name::of(interface(*contract));
            let mut exports = exports.iter().map(|name| Name::of(name));
            exports.any(|name| name.base == wanted.base && name.track() == wanted.track())
        })
    }
}

/// Whether a module may import this interface of the contract.
pub(super) fn is_known_import(interface: Name<'_>) -> bool {
    v0_1::is_known_import(interface) || v0_2::is_known_import(interface)
}

/// Whether this is the imported name of the interface for log lines.
pub(super) fn is_logging(interface: Name<'_>) -> bool {
    v0_1::is_logging(interface) || v0_2::is_logging(interface)
}

/// Defines a function of the interface for log lines. Returns whether it exists.
pub(super) fn define_logging<T: HasLog + 'static>(
    to: &mut LinkerInstance<'_, T>,
    interface: Name<'_>,
    function: &str,
) -> wasmtime::Result<bool> {
    if v0_1::is_logging(interface) {
        v0_1::define_logging(to, function)
    } else {
        v0_2::define_logging(to, function)
    }
}

/// A component with orchestrations, ready to be instantiated.
pub(super) enum OrchestrationsPre<T: 'static> {
    V0_1(v0_1::OrchestrationsPre<T>),
    V0_2(v0_2::OrchestrationsPre<T>),
}

impl<T: 'static> OrchestrationsPre<T> {
    /// Looks up the exports of the contract.
    pub(super) fn new(contract: Contract, component: InstancePre<T>) -> wasmtime::Result<Self> {
        Ok(match contract {
            Contract::V0_1 => Self::V0_1(v0_1::OrchestrationsPre::new(component)?),
            Contract::V0_2 => Self::V0_2(v0_2::OrchestrationsPre::new(component)?),
        })
    }

    /// Creates a fresh instance.
    pub(super) fn instantiate(&self, store: &mut Store<T>) -> wasmtime::Result<Orchestrations> {
        Ok(match self {
            Self::V0_1(pre) => Orchestrations::V0_1(pre.instantiate(store)?),
            Self::V0_2(pre) => Orchestrations::V0_2(pre.instantiate(store)?),
        })
    }
}

/// The orchestrations of one component instance.
pub(super) enum Orchestrations {
    V0_1(v0_1::Orchestrations),
    V0_2(v0_2::Orchestrations),
}

impl Orchestrations {
    /// The orchestrations of an existing instance.
    pub(super) fn of(
        contract: Contract,
        store: impl AsContextMut,
        instance: &Instance,
    ) -> wasmtime::Result<Self> {
        Ok(match contract {
            Contract::V0_1 => Self::V0_1(v0_1::Orchestrations::of(store, instance)?),
            Contract::V0_2 => Self::V0_2(v0_2::Orchestrations::of(store, instance)?),
        })
    }

    /// The orchestrations that the component defines.
    pub(super) fn definitions(
        &self,
        store: impl AsContextMut,
    ) -> wasmtime::Result<Vec<Definition>> {
        match self {
            Self::V0_1(guest) => guest.definitions(store),
            Self::V0_2(guest) => guest.definitions(store),
        }
    }

    /// Judges a request by nothing but itself. Contract 0.1 knows no requests.
    pub(super) fn validate(
        &self,
        store: impl AsContextMut,
        proposal: &Proposal<'_>,
    ) -> wasmtime::Result<Result<(), Failure>> {
        match self {
            Self::V0_1(_) => Ok(Ok(())),
            Self::V0_2(guest) => guest.validate(store, proposal),
        }
    }

    /// Runs a turn.
    pub(super) fn advance(
        &self,
        store: impl AsContextMut,
        events: &[GuestEvent],
    ) -> wasmtime::Result<Answer> {
        match self {
            Self::V0_1(guest) => guest.advance(store, events),
            Self::V0_2(guest) => guest.advance(store, events),
        }
    }
}

/// A component with activities, ready to be instantiated.
pub(super) enum ActivitiesPre<T: 'static> {
    V0_1(v0_1::ActivitiesPre<T>),
    V0_2(v0_2::ActivitiesPre<T>),
}

impl<T: Send + 'static> ActivitiesPre<T> {
    /// Looks up the exports of the contract.
    pub(super) fn new(contract: Contract, component: InstancePre<T>) -> wasmtime::Result<Self> {
        Ok(match contract {
            Contract::V0_1 => Self::V0_1(v0_1::ActivitiesPre::new(component)?),
            Contract::V0_2 => Self::V0_2(v0_2::ActivitiesPre::new(component)?),
        })
    }

    /// Creates a fresh instance.
    pub(super) async fn instantiate(&self, store: &mut Store<T>) -> wasmtime::Result<Activities> {
        Ok(match self {
            Self::V0_1(pre) => Activities::V0_1(pre.instantiate(store).await?),
            Self::V0_2(pre) => Activities::V0_2(pre.instantiate(store).await?),
        })
    }
}

/// The activities of one component instance.
pub(super) enum Activities {
    V0_1(v0_1::Activities),
    V0_2(v0_2::Activities),
}

impl Activities {
    /// The activities of an existing instance.
    pub(super) fn of(
        contract: Contract,
        store: impl AsContextMut,
        instance: &Instance,
    ) -> wasmtime::Result<Self> {
        Ok(match contract {
            Contract::V0_1 => Self::V0_1(v0_1::Activities::of(store, instance)?),
            Contract::V0_2 => Self::V0_2(v0_2::Activities::of(store, instance)?),
        })
    }

    /// The activities that the component defines.
    pub(super) fn definitions(
        &self,
        store: impl AsContextMut,
    ) -> wasmtime::Result<Vec<Definition>> {
        match self {
            Self::V0_1(guest) => guest.definitions(store),
            Self::V0_2(guest) => guest.definitions(store),
        }
    }

    /// Runs an attempt. The outer result is the host's, the inner one the guest's.
    pub(super) async fn run<T: Send>(
        &self,
        store: &mut Store<T>,
        attempt: &Attempt,
    ) -> wasmtime::Result<Result<Option<Json>, Failure>> {
        match self {
            Self::V0_1(guest) => guest.run(store, attempt).await,
            Self::V0_2(guest) => guest.run(store, attempt).await,
        }
    }
}
