//! Links components of activities: WASI, and refusals for everything that cannot be granted.

use wasmtime::component::{Component, Linker, LinkerInstance, ResourceType};

use super::ambient::Ambient;
use super::contract::{self, ActivitiesPre, Contract};
use super::denied::Denied;
use super::files;
use super::interface::Name;
use super::link::{LinkError, Provide, link};
use super::sandbox::{define_timezone, harmless};
use super::v0_2;

/// Links a component with WASI, as far as it can be granted, and with refusals for the rest.
pub(super) fn prepare(component: &Component) -> wasmtime::Result<ActivitiesPre<Ambient>> {
    let mut linker = Linker::new(component.engine());
    wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
    linker.allow_shadowing(true);
    files::link(&mut linker)?;
    // Sockets are linked but never granted: creating one fails.
    link(&mut linker, component, &Granted).map_err(|error| match error {
        LinkError::Wasmtime(error) => error,
        LinkError::NotAFunction(..) => wasmtime::Error::msg(error.to_string()),
    })?;
    let contract = Contract::of(component, Contract::activities);
    ActivitiesPre::new(contract, linker.instantiate_pre(component)?)
}

/// Provides the imports of activities that the WASI linker lacks.
struct Granted;

impl Provide for Granted {
    type Data = Ambient;

    const REFUSAL: &'static str = "not granted to the activities of this module";

    fn linked(&self, interface: Name<'_>) -> bool {
        harmless(interface)
            && !["wasi:clocks/timezone", "wasi:clocks/types"].contains(&interface.base)
    }

    fn define(
        &self,
        to: &mut LinkerInstance<'_, Ambient>,
        interface: Name<'_>,
        function: &str,
    ) -> wasmtime::Result<bool> {
        if contract::is_logging(interface) {
            return contract::define_logging(to, interface, function);
        }
        if v0_2::is_attempts(interface) {
            return v0_2::define_attempts(to, function, |ambient: &Ambient| &ambient.heart);
        }
        let wasi = interface.base.strip_prefix("wasi:");
        match wasi.filter(|_| harmless(interface)) {
            Some(interface) => define_timezone(to, interface, function),
            None => Ok(false),
        }
    }

    fn define_resource(
        &self,
        to: &mut LinkerInstance<'_, Ambient>,
        name: &str,
    ) -> wasmtime::Result<()> {
        to.resource(name, ResourceType::host::<Denied>(), |_, _| Ok(()))
    }
}
