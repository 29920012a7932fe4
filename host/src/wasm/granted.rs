//! What a component of activities is linked with: WASI, and refusals of what no module is granted.

use wasmtime::component::{Component, Linker, LinkerInstance, ResourceType};

use super::ambient::Ambient;
use super::denied::Denied;
use super::files;
use super::interface::Name;
use super::link::{LinkError, Provide, link};
use super::sandbox::{define_timezone, harmless};
use super::v0_1::{self, ActivitiesPre};

/// Readies a component whose imports are satisfied with WASI, as far as anything can be granted, and with refusals.
pub(super) fn prepare(component: &Component) -> wasmtime::Result<ActivitiesPre<Ambient>> {
    let mut linker = Linker::new(component.engine());
    wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
    linker.allow_shadowing(true);
    files::link(&mut linker)?;
    // Sockets are there, but are not granted: not one of them is made, and each attempt is denied.
    link(&mut linker, component, &Granted).map_err(|error| match error {
        LinkError::Wasmtime(error) => error,
        LinkError::NotAFunction(..) => wasmtime::Error::msg(error.to_string()),
    })?;
    ActivitiesPre::new(linker.instantiate_pre(component)?)
}

/// Provides to activities what the WASI linker does not.
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
        if v0_1::is_logging(interface) {
            return v0_1::define_logging(to, function);
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
