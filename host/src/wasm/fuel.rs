//! Fuel: gives it to guests, and takes it for what the host does for them.

use wasmtime::{Store, StoreContextMut, Trap};

/// Fuel for each byte that the host handles for a guest: copying is not free, and is not counted as instructions.
const FUEL_PER_HOST_BYTE: u64 = 1;

/// Fuel for a call of the host, whatever it moves.
const FUEL_PER_HOST_CALL: u64 = 500;

/// Gives a guest so much fuel, where guests run on fuel.
pub(super) fn refuel<T>(store: &mut Store<T>, fuel: u64) -> wasmtime::Result<()> {
    match store.get_fuel() {
        Ok(_) => store.set_fuel(fuel),
        Err(_) => Ok(()),
    }
}

/// Takes fuel for work that the host does on behalf of a guest, where guests run on fuel.
///
/// # Errors
/// [`Trap::OutOfFuel`] if that was more than it had.
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
