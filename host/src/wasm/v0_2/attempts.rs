//! `perennial:workflow/attempts@0.2`.

use perennial_core::Json;
use wasmtime::StoreContextMut;
use wasmtime::component::{ComponentType, LinkerInstance, Lower};

use crate::engine::executor::{Heart, HeartbeatError};
use crate::wasm::answer::is_json;
use crate::wasm::interface::Name;

/// Whether this is the imported name of the interface.
pub(in crate::wasm) fn is_attempts(interface: Name<'_>) -> bool {
    interface.base == "perennial:workflow/attempts" && interface.track() == super::CONTRACT
}

/// Defines a function of the interface. Returns whether it exists.
pub(in crate::wasm) fn define_attempts<T: 'static>(
    to: &mut LinkerInstance<'_, T>,
    function: &str,
    heart: fn(&T) -> &Heart,
) -> wasmtime::Result<bool> {
    if function != "heartbeat" {
        return Ok(false);
    }
    to.func_wrap(
        function,
        move |cx: StoreContextMut<'_, T>, (details,): (Option<String>,)| {
            Ok((beat(heart(cx.data()), details),))
        },
    )?;
    Ok(true)
}

fn beat(heart: &Heart, details: Option<String>) -> Result<WitAdvice, String> {
    if details.as_ref().is_some_and(|text| !is_json(text)) {
        return Err("the details of a heartbeat are no JSON".to_owned());
    }
    match heart.beat(details.map(Json::from_text)) {
        Ok(()) => Ok(WitAdvice::GoOn),
        Err(HeartbeatError::Canceled) => Ok(WitAdvice::Canceled),
        Err(HeartbeatError::Draining) => Ok(WitAdvice::Draining),
        Err(refused) => Err(refused.to_string()),
    }
}

#[derive(Clone, Copy, ComponentType, Lower)]
#[component(enum)]
#[repr(u8)]
enum WitAdvice {
    #[component(name = "go-on")]
    GoOn,
    #[component(name = "canceled")]
    Canceled,
    #[component(name = "draining")]
    Draining,
}
