//! The wasmtime engines: one for orchestrations, one for activities.
//!
//! Whatever could make two runs of one orchestration differ is switched off here, or made deterministic: threads do not exist, the bits
//! of a NaN are canonical, relaxed SIMD has one meaning, and what stops a turn is fuel, which counts instructions, and never a clock.

use wasmtime::{Config, Enabled, Engine, InstanceAllocationStrategy, PoolingAllocationConfig};

use super::WasmConfig;

/// Instances that may exist beyond the resident ones: those whose turn is running, and those that are about to be evicted.
const POOL_HEADROOM: u32 = 64;

/// Core instances of one component: the module itself, the WASI adapter, and what `wit-component` puts between them, with some to spare.
/// They are only counted; what takes room in the pool is memories and tables.
const CORE_INSTANCES_PER_COMPONENT: u32 = 8;

/// Tables of one component: the module's, and the one of the shim.
const TABLES_PER_COMPONENT: u32 = 2;

/// Elements of one table in the pool. A component with a larger one runs outside the pool.
const POOL_TABLE_ELEMENTS: usize = 20_000;

/// Address space for one linear memory. All that a 32-bit memory can address: compiled code needs no bounds checks, and whatever limit an
/// execution carries fits. It costs nothing until it is touched.
const MEMORY_RESERVATION_BYTES: u64 = 4 << 30;

/// As [`MEMORY_RESERVATION_BYTES`], for a system that does not hand out so much address space.
const SMALL_MEMORY_RESERVATION_BYTES: u64 = 64 << 20;

/// Bytes of a linear memory or a table that are cleared by hand when its instance goes, so that the next one in its place takes no page
/// fault. For a linear memory only where the system can tell which pages were written to (Linux 6.7): clearing its first pages on a guess
/// costs more than it saves.
const KEEP_RESIDENT_BYTES: usize = 256 << 10;

/// Stack of a guest. A Rust guest keeps its own stack of 1 MiB in linear memory; this one holds return addresses and spilled registers.
const WASM_STACK_BYTES: usize = 512 << 10;

/// Frames of a trap's backtrace.
const BACKTRACE_FRAMES_MAX: usize = 20;

/// The engines of one [`Wasm`](super::Wasm).
pub(super) struct Engines {
    /// Runs orchestrations in a pool of slots, so that making an instance takes no system call in the common case.
    pub(super) pooled: Engine,
    /// Runs orchestrations that find the pool full, or do not fit into a slot. Compiled code is the same for both.
    pub(super) spare: Engine,
    /// Runs activities in a pool: an attempt takes a slot and a stack that are there already.
    pub(super) activities: Engine,
    /// Runs activities that do not fit into a slot. Compiled code is the same for both.
    pub(super) spare_activities: Engine,
}

impl Engines {
    /// Makes them, with less address space where the system has not enough for the usual amount.
    pub(super) fn new(config: &WasmConfig) -> wasmtime::Result<Self> {
        let slots = config.resident_max.saturating_add(POOL_HEADROOM);
        Self::sized(config, slots, MEMORY_RESERVATION_BYTES).or_else(|error| {
            tracing::debug!(%error, "no address space for full reservations; guests run with bounds checks");
            Self::sized(config, slots, SMALL_MEMORY_RESERVATION_BYTES)
        })
    }

    fn sized(config: &WasmConfig, slots: u32, reservation: u64) -> wasmtime::Result<Self> {
        let attempts = config.activities_max.max(1);
        let of_attempt = config.activity_memory_bytes.min(MEMORY_RESERVATION_BYTES);
        let activity_reservation = reservation.max(of_attempt);
        let mut orchestrations = base(reservation);
        orchestrations
            .consume_fuel(config.meters_fuel)
            .cranelift_nan_canonicalization(true)
            .relaxed_simd_deterministic(true);
        let mut activities = base(activity_reservation);
        activities.epoch_interruption(true);
        Ok(Self {
            spare: Engine::new(&orchestrations)?,
            // A guest's turn is a plain call on the worker's own stack.
            pooled: pooled(orchestrations, slots, 1, reservation)?,
            spare_activities: Engine::new(&activities)?,
            activities: pooled(activities, attempts, attempts, activity_reservation)?,
        })
    }
}

fn pooled(
    mut config: Config,
    slots: u32,
    stacks: u32,
    reservation: u64,
) -> wasmtime::Result<Engine> {
    let scans = PoolingAllocationConfig::is_pagemap_scan_available();
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(slots)
        .total_core_instances(slots.saturating_mul(CORE_INSTANCES_PER_COMPONENT))
        .total_memories(slots)
        .total_tables(slots.saturating_mul(TABLES_PER_COMPONENT))
        .total_stacks(stacks)
        .table_elements(POOL_TABLE_ELEMENTS)
        .max_memory_size(usize::try_from(reservation).unwrap_or(usize::MAX))
        .linear_memory_keep_resident(if scans { KEEP_RESIDENT_BYTES } else { 0 })
        .table_keep_resident(KEEP_RESIDENT_BYTES);
    if scans {
        pool.pagemap_scan(Enabled::Yes);
    }
    config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
    Engine::new(&config)
}

fn base(reservation: u64) -> Config {
    let mut config = Config::new();
    config
        .memory_reservation(reservation)
        .memory_may_move(false)
        .memory_init_cow(true)
        .max_wasm_stack(WASM_STACK_BYTES)
        .wasm_backtrace_max_frames(std::num::NonZeroUsize::new(BACKTRACE_FRAMES_MAX));
    config
}

#[cfg(test)]
mod tests {
    use std::hash::{DefaultHasher, Hash, Hasher};

    use super::*;

    fn compatibility(engine: &Engine) -> u64 {
        let mut hasher = DefaultHasher::new();
        engine.precompile_compatibility_hash().hash(&mut hasher);
        hasher.finish()
    }

    #[test]
    fn code_that_counts_no_fuel_is_other_code() {
        let metered = Engines::new(&WasmConfig::default()).unwrap();
        let config = WasmConfig {
            meters_fuel: false,
            ..WasmConfig::default()
        };
        let unmetered = Engines::new(&config).unwrap();
        assert_ne!(
            compatibility(&metered.spare),
            compatibility(&unmetered.spare)
        );
        assert_ne!(
            compatibility(&unmetered.spare),
            compatibility(&unmetered.spare_activities)
        );
    }

    #[test]
    fn a_pool_and_its_spare_run_the_same_code_and_activities_other_code() {
        let engines = Engines::new(&WasmConfig::default()).unwrap();
        assert_eq!(
            compatibility(&engines.pooled),
            compatibility(&engines.spare)
        );
        assert_eq!(
            compatibility(&engines.activities),
            compatibility(&engines.spare_activities)
        );
        assert_ne!(
            compatibility(&engines.pooled),
            compatibility(&engines.activities)
        );
    }
}
