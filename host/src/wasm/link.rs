//! Links the imports of a component; functions that are not granted refuse at run time.
//!
//! Each imported function is either provided, or returns an error if its type has one ([`Denial`]), or else traps with [`NotProvided`] and
//! its name: a component may import more than it ever uses, as everything built on a standard library does.

use wasmtime::Engine;
use wasmtime::component::types::{ComponentInstance, ComponentItem};
use wasmtime::component::{Component, Linker, LinkerInstance, ResourceType};

use super::denied::Denial;
use super::fuel::charge;
use super::guest_log::{HasLog, Level};
use super::interface::Name;

/// The message for an orchestration that calls a function with side effects or a wait.
pub(super) const NO_EFFECTS: &str =
    "an orchestration has no effects but the actions of its turns, so it must not call";

/// The trap for a call of an import that is not provided.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{refusal}: {function}")]
pub(super) struct NotProvided {
    /// `interface#function`, as the component imports it.
    function: String,
    /// The reason.
    refusal: &'static str,
}

impl NotProvided {
    /// The trap for a function, as `interface#function`, with the reason.
    pub(super) fn new(function: impl Into<String>, refusal: &'static str) -> Self {
        let function = function.into();
        Self { function, refusal }
    }
}

/// The trap for a call of an exit function.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the guest ended its program instead of returning")]
pub(super) struct Exited;

/// An import that no function can satisfy.
#[derive(Debug, thiserror::Error)]
pub(super) enum LinkError {
    #[error("it imports {0} as a whole {1}, which no host can provide")]
    NotAFunction(String, &'static str),
    #[error("{0:#}")]
    Wasmtime(wasmtime::Error),
}

impl From<wasmtime::Error> for LinkError {
    fn from(error: wasmtime::Error) -> Self {
        Self::Wasmtime(error)
    }
}

/// Provides the imports of one kind of guest.
pub(super) trait Provide {
    /// The data in the guest's store.
    type Data: HasLog + 'static;

    /// The message for a call of a function that is not provided.
    const REFUSAL: &'static str;

    /// Whether the linker already has this whole interface.
    fn linked(&self, interface: Name<'_>) -> bool;

    /// Defines a function; returns whether it is provided.
    fn define(
        &self,
        to: &mut LinkerInstance<'_, Self::Data>,
        interface: Name<'_>,
        function: &str,
    ) -> wasmtime::Result<bool>;

    /// Defines a resource of this name. A [`Denied`](super::denied::Denied) suffices if no function creates one.
    fn define_resource(
        &self,
        to: &mut LinkerInstance<'_, Self::Data>,
        name: &str,
    ) -> wasmtime::Result<()>;
}

/// Adds all missing imports of `component` to `linker`.
pub(super) fn link<P: Provide>(
    linker: &mut Linker<P::Data>,
    component: &Component,
    provider: &P,
) -> Result<(), LinkError> {
    let engine = linker.engine().clone();
    let mut linking = Linking {
        provider,
        engine: &engine,
        seen: Vec::new(),
    };
    for (name, import) in component.component_type().imports(&engine) {
        if let ComponentItem::ComponentInstance(instance) = import.ty {
            let interface = Name::of(name);
            if provider.linked(interface) {
                linking.remember_resources(&instance);
            } else {
                linking.instance(linker.instance(name)?, &instance, interface)?;
            }
        } else {
            linking.item(&mut linker.root(), name, import.ty, None)?;
        }
    }
    Ok(())
}

struct Linking<'a, P> {
    provider: &'a P,
    engine: &'a Engine,
    /// Resources that were already imported. An interface that uses another's resource imports it again, but it is defined once.
    seen: Vec<ResourceType>,
}

impl<P: Provide> Linking<'_, P> {
    fn instance(
        &mut self,
        mut to: LinkerInstance<'_, P::Data>,
        instance: &ComponentInstance,
        interface: Name<'_>,
    ) -> Result<(), LinkError> {
        for (name, export) in instance.exports(self.engine) {
            if let ComponentItem::ComponentInstance(inner) = export.ty {
                self.instance(to.instance(name)?, &inner, interface)?;
            } else {
                self.item(&mut to, name, export.ty, Some(interface))?;
            }
        }
        Ok(())
    }

    /// Defines an item that is not an instance.
    fn item(
        &mut self,
        to: &mut LinkerInstance<'_, P::Data>,
        name: &str,
        item: ComponentItem,
        interface: Option<Name<'_>>,
    ) -> Result<(), LinkError> {
        let qualified = || {
            interface.map_or_else(
                || name.to_owned(),
                |interface| format!("{}#{name}", interface.full),
            )
        };
        match item {
            ComponentItem::ComponentFunc(_) => {
                let provided = match interface {
                    Some(interface) => self.provider.define(to, interface, name)?,
                    None => false,
                };
                if !provided {
                    let denial = interface.and_then(Denial::of);
                    refuse(to, name, NotProvided::new(qualified(), P::REFUSAL), denial)?;
                }
                Ok(())
            }
            ComponentItem::Resource(resource) => {
                if !self.seen.contains(&resource) {
                    self.seen.push(resource);
                    self.provider.define_resource(to, name)?;
                }
                Ok(())
            }
            ComponentItem::Type(_) | ComponentItem::ComponentInstance(_) => Ok(()),
            ComponentItem::Module(_) | ComponentItem::CoreFunc(_) => {
                Err(LinkError::NotAFunction(qualified(), "core module"))
            }
            ComponentItem::Component(_) => Err(LinkError::NotAFunction(qualified(), "component")),
        }
    }

    fn remember_resources(&mut self, instance: &ComponentInstance) {
        for (_, export) in instance.exports(self.engine) {
            if let ComponentItem::Resource(resource) = export.ty {
                self.seen.push(resource);
            }
        }
    }
}

fn refuse<T: HasLog + 'static>(
    to: &mut LinkerInstance<'_, T>,
    name: &str,
    refused: NotProvided,
    denial: Option<Denial>,
) -> wasmtime::Result<()> {
    to.func_new(name, move |mut cx, ty, parameters, results| {
        if let Some(denial) = denial {
            charge(&mut cx, 0)?;
            if denial.answer(&mut cx, &ty, parameters, results)? {
                if denial.is_final() {
                    cx.data_mut().log().line(Level::Warn, &refused.to_string());
                }
                return Ok(());
            }
        }
        Err(wasmtime::Error::new(refused.clone()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_apart() {
        let track = |name| Name::of(name).track();
        assert_eq!(Name::of("wasi:io/poll@0.2.6").base, "wasi:io/poll");
        assert_eq!(track("wasi:io/poll@0.2.6"), "0.2");
        assert_eq!(track("wasi:io/poll@1.4.0"), "1");
        assert_eq!(track("wasi:io/poll"), "");
        assert_eq!(track("a:b/c@0.2"), "0.2");
    }
}
