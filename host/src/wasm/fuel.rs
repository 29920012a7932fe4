//! Fuel: the budget of a guest, and the charge for the host's work on its behalf.

use wasmtime::{Store, StoreContextMut, Trap};

/// Fuel for each byte that the host handles for a guest: copying takes time but no guest instructions.
const FUEL_PER_HOST_BYTE: u64 = 1;

/// Fuel for a call into the host, regardless of its size.
const FUEL_PER_HOST_CALL: u64 = 500;

/// Sets a guest's fuel, if fuel is metered.
pub(super) fn refuel<T>(store: &mut Store<T>, fuel: u64) -> wasmtime::Result<()> {
    match store.get_fuel() {
        Ok(_) => store.set_fuel(fuel),
        Err(_) => Ok(()),
    }
}

/// Charges fuel for the host's work on behalf of a guest, if fuel is metered.
///
/// # Errors
/// [`Trap::OutOfFuel`] if the guest has less.
pub(super) fn charge<T>(cx: &mut StoreContextMut<'_, T>, bytes: usize) -> wasmtime::Result<()> {
    let Ok(fuel) = cx.get_fuel() else {
        return Ok(());
    };
    let price = FUEL_PER_HOST_CALL.saturating_add(FUEL_PER_HOST_BYTE.saturating_mul(bytes as u64));
    match fuel.checked_sub(price) {
        Some(left) => cx.set_fuel(left),
        None => Err(Trap::OutOfFuel.into()),
    }
}
