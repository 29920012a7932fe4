//! WASI functions that are not granted: they return an error wherever their signature has one.
//!
//! A library that only tries a socket gets an error and continues without it. So sockets and HTTP, which WASI 0.2 defines and no guest is
//! granted, exist as types: building a request succeeds with an empty resource, and any access to the outside is denied. The answers depend
//! on the types alone, so they are the same in every replay, and for every version of these interfaces.

use wasmtime::StoreContextMut;
use wasmtime::component::{Resource, ResourceType, Type, Val, types};

use super::interface::Name;

/// Error cases that mean a denied access, the clearest first.
const REFUSALS: [&str; 5] = [
    "access-denied",
    "HTTP-request-denied",
    "forbidden",
    "not-supported",
    "internal-error",
];

/// The content of a resource without an implementation.
pub(super) struct Denied;

/// Whether calls to an interface that is not provided are answered instead of trapping.
pub(super) fn answers(interface: Name<'_>) -> bool {
    interface.track() == "0.2"
        && ["wasi:sockets/", "wasi:http/"]
            .iter()
            .any(|package| interface.base.starts_with(package))
}

/// Whether an interface only builds values for another one, and has no effect itself.
fn describes(interface: Name<'_>) -> bool {
    interface.base == "wasi:http/types"
}

/// How calls of a function are answered.
#[derive(Clone, Copy)]
pub(super) struct Denial {
    /// Calls succeed if that creates nothing but a [`Denied`].
    succeeds: bool,
}

impl Denial {
    /// The denial for the functions of an interface, if they are [answered](answers).
    pub(super) fn of(interface: Name<'_>) -> Option<Self> {
        answers(interface).then(|| Self {
            succeeds: describes(interface),
        })
    }

    /// Whether the answer denies an access, and does not only build a value.
    pub(super) fn is_final(self) -> bool {
        !self.succeeds
    }

    /// Answers a call; returns `false` if its types have no answer.
    ///
    /// # Errors
    /// Only if wasmtime itself fails.
    pub(super) fn answer<T: 'static>(
        self,
        cx: &mut StoreContextMut<'_, T>,
        function: &types::ComponentFunc,
        parameters: &[Val],
        results: &mut [Val],
    ) -> wasmtime::Result<bool> {
        for parameter in parameters {
            if !give_back(cx, parameter)? {
                return Ok(false);
            }
        }
        if results.is_empty() {
            return Ok(self.succeeds);
        }
        for (ty, result) in function.results().zip(results) {
            match self.value(cx, &ty)? {
                Some(value) => *result = value,
                None => return Ok(false),
            }
        }
        Ok(true)
    }

    fn value<T: 'static>(
        self,
        cx: &mut StoreContextMut<'_, T>,
        ty: &Type,
    ) -> wasmtime::Result<Option<Val>> {
        Ok(match ty {
            Type::Result(of) => {
                if self.succeeds {
                    match of.ok() {
                        None => return Ok(Some(Val::Result(Ok(None)))),
                        Some(ok) => {
                            if let Some(value) = made(cx, &ok)? {
                                return Ok(Some(Val::Result(Ok(Some(Box::new(value))))));
                            }
                        }
                    }
                }
                match of.err() {
                    None => Some(Val::Result(Err(None))),
                    Some(error) => {
                        refusal(&error).map(|error| Val::Result(Err(Some(Box::new(error)))))
                    }
                }
            }
            Type::Option(_) => Some(Val::Option(None)),
            Type::List(_) => Some(Val::List(Vec::new())),
            Type::Bool => Some(Val::Bool(false)),
            other => made(cx, other)?,
        })
    }
}

/// An empty resource, if the type asks for one.
fn made<T: 'static>(cx: &mut StoreContextMut<'_, T>, ty: &Type) -> wasmtime::Result<Option<Val>> {
    match ty {
        Type::Own(resource) if *resource == ResourceType::host::<Denied>() => {
            let resource = Resource::<Denied>::new_own(0);
            Ok(Some(Val::Resource(resource.try_into_resource_any(cx)?)))
        }
        _ => Ok(None),
    }
}

/// The value of an error type that means a denied access.
fn refusal(ty: &Type) -> Option<Val> {
    match ty {
        Type::Enum(of) => REFUSALS
            .into_iter()
            .find(|refusal| of.names().any(|name| name == *refusal))
            .map(|name| Val::Enum(name.to_owned())),
        Type::Variant(of) => REFUSALS.into_iter().find_map(|refusal| {
            let case = of.cases().find(|case| case.name == refusal)?;
            let payload = match case.ty {
                None => None,
                Some(Type::Option(_)) => Some(Box::new(Val::Option(None))),
                Some(_) => return None,
            };
            Some(Val::Variant(refusal.to_owned(), payload))
        }),
        _ => None,
    }
}

/// Drops the resources in a parameter; `false` if it contains resources of others.
fn give_back<T: 'static>(
    cx: &mut StoreContextMut<'_, T>,
    parameter: &Val,
) -> wasmtime::Result<bool> {
    match parameter {
        Val::Resource(resource) => {
            if resource.ty() != ResourceType::host::<Denied>() {
                return Ok(false);
            }
            resource.try_into_resource::<Denied>(cx)?;
            Ok(true)
        }
        Val::Option(Some(inner)) => give_back(cx, inner),
        _ => Ok(true),
    }
}
