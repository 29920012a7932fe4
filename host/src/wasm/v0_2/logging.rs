//! `perennial:workflow/logging@0.2`.

use wasmtime::StoreContextMut;
use wasmtime::component::{ComponentType, Lift, LinkerInstance};

use crate::wasm::fuel::charge;
use crate::wasm::guest_log::{HasLog, Level, Panicking};
use crate::wasm::interface::Name;

/// Whether this is the imported name of the interface.
pub(in crate::wasm) fn is_logging(interface: Name<'_>) -> bool {
    interface.base == "perennial:workflow/logging" && interface.track() == super::CONTRACT
}

/// Defines a function of the interface. Returns whether it exists.
pub(in crate::wasm) fn define_logging<T: HasLog + 'static>(
    to: &mut LinkerInstance<'_, T>,
    function: &str,
) -> wasmtime::Result<bool> {
    match function {
        "log" => to.func_wrap(
            function,
            |mut cx: StoreContextMut<'_, T>, (level, message): (WitLevel, String)| {
                charge(&mut cx, message.len())?;
                cx.data_mut().log().line(level.into(), &message);
                Ok(())
            },
        )?,
        "panicking" => to.func_wrap(
            function,
            |mut cx: StoreContextMut<'_, T>, (message, location): (String, String)| {
                charge(&mut cx, message.len() + location.len())?;
                cx.data_mut()
                    .log()
                    .panicking(Panicking { message, location });
                Ok(())
            },
        )?,
        _ => return Ok(false),
    }
    Ok(true)
}

#[derive(Clone, Copy, ComponentType, Lift)]
#[component(enum)]
#[expect(dead_code, reason = "made by lifting, which goes by the number")]
#[repr(u8)]
enum WitLevel {
    #[component(name = "trace")]
    Trace,
    #[component(name = "debug")]
    Debug,
    #[component(name = "info")]
    Info,
    #[component(name = "warn")]
    Warn,
    #[component(name = "error")]
    Error,
}

impl From<WitLevel> for Level {
    fn from(level: WitLevel) -> Self {
        match level {
            WitLevel::Trace => Self::Trace,
            WitLevel::Debug => Self::Debug,
            WitLevel::Info => Self::Info,
            WitLevel::Warn => Self::Warn,
            WitLevel::Error => Self::Error,
        }
    }
}
