//! The wasmtime engines: one for orchestrations, one for activities.
//!
//! Everything that could make two runs of one orchestration differ is disabled or deterministic: there are no threads, NaN bits are
//! canonical, relaxed SIMD has one meaning, and only fuel ends a turn, which counts instructions and does not depend on a clock.

use std::sync::Once;

use wasmtime::{Config, Enabled, Engine, InstanceAllocationStrategy, PoolingAllocationConfig};

use super::WasmConfig;

/// Pool slots beyond the resident instances, for those that run a turn or are about to be evicted.
const POOL_HEADROOM: u32 = 64;

/// Core instances of one component: the module, the WASI adapter, the glue of `wit-component`, and a few to spare. They only count;
/// memories and tables take the space in the pool.
const CORE_INSTANCES_PER_COMPONENT: u32 = 8;

/// Tables of one component: the module's, and the shim's.
const TABLES_PER_COMPONENT: u32 = 2;

/// Elements of one table in the pool. A component with a larger one runs outside the pool.
const POOL_TABLE_ELEMENTS: usize = 20_000;

/// Address space for one linear memory: all that a 32-bit memory can address. So compiled code needs no bounds checks, and every memory
/// limit fits. It costs nothing until it is touched.
const MEMORY_RESERVATION_BYTES: u64 = 4 << 30;

/// As [`MEMORY_RESERVATION_BYTES`], if the machine lacks the address space for that many slots.
const SMALL_MEMORY_RESERVATION_BYTES: u64 = 64 << 20;

/// A process whose address space is limited below this reserves none. A pool of the usual size takes 17 TiB, and the rest would be too
/// little for everything else.
const ADDRESS_SPACE_MIN: u64 = 32 << 40;

/// Growth step of a memory without reservation, and the size of its guard.
const GROWTH_BYTES: u64 = 1 << 20;
const SMALL_GUARD_BYTES: u64 = 64 << 10;

/// Bytes of a linear memory or table that are cleared in place when its instance is dropped, so that the slot's next instance takes no page
/// faults. Used for linear memories only if the system can tell which pages were written (Linux 6.7): clearing the first pages on a guess
/// costs more than it saves.
const KEEP_RESIDENT_BYTES: usize = 256 << 10;

/// Native stack of a guest: return addresses and spilled registers. A Rust guest keeps its own stack of 1 MiB in linear memory.
const WASM_STACK_BYTES: usize = 512 << 10;

/// Maximum frames of a trap's backtrace.
const BACKTRACE_FRAMES_MAX: usize = 20;

/// How much address space guests can reserve.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Room {
    /// A memory reserves its maximum size.
    Full,
    /// A memory reserves the default limit of an orchestration, and moves if it grows further.
    Small,
    /// A memory reserves nothing, and there is no pool: each instance allocates its own.
    Tight,
}

/// Said once: a host whose hub cannot be opened yet makes engines at each try.
static SAID: Once = Once::new();

impl Room {
    /// The initial choice of this process. Every process with the same limits chooses alike, so that they can share compiled code.
    fn here() -> Self {
        match address_space() {
            Some(bytes) if bytes < ADDRESS_SPACE_MIN => Self::Tight,
            Some(_) | None => Self::Full,
        }
    }

    fn reservation(self) -> u64 {
        match self {
            Self::Full => MEMORY_RESERVATION_BYTES,
            Self::Small => SMALL_MEMORY_RESERVATION_BYTES,
            Self::Tight => 0,
        }
    }
}

/// The process's limit of address space in bytes, if it has one (`ulimit -v`).
fn address_space() -> Option<u64> {
    #[cfg(unix)]
    {
        use rustix::process::{Resource, getrlimit};
        getrlimit(Resource::As).current
    }
    #[cfg(not(unix))]
    None
}

/// Engines without a pool, for inspecting modules.
#[derive(Clone)]
pub(super) struct PlainEngines {
    /// Runs orchestrations.
    pub(super) orchestrations: Engine,
    /// Runs activities.
    pub(super) activities: Engine,
}

impl PlainEngines {
    /// Engines whose code hosts on this machine can run, unless they use another configuration.
    pub(super) fn new() -> wasmtime::Result<Self> {
        let (orchestrations, activities) = configs(&WasmConfig::default(), Room::here());
        Ok(Self {
            orchestrations: Engine::new(&orchestrations)?,
            activities: Engine::new(&activities)?,
        })
    }
}

/// The engines of one [`Wasm`](super::Wasm).
pub(super) struct Engines {
    /// Runs orchestrations in a pool of slots, so that instantiation usually takes no system call.
    pub(super) pooled: Engine,
    /// Runs orchestrations if the pool is full, or if they do not fit into a slot. Shares compiled code with `pooled`.
    pub(super) spare: Engine,
    /// Runs activities in a pool: an attempt uses a slot and a stack that exist already.
    pub(super) activities: Engine,
    /// Runs activities that do not fit into a slot. Shares compiled code with `activities`.
    pub(super) spare_activities: Engine,
}

impl Engines {
    /// Creates the engines, with less address space if the system lacks it.
    pub(super) fn new(config: &WasmConfig) -> wasmtime::Result<Self> {
        if Room::here() == Room::Tight {
            SAID.call_once(|| {
                tracing::warn!(
                    limit = address_space(),
                    "this process may use little address space: guests run with bounds checks, and each is given memory when it is made"
                );
            });
            return Self::sized(config, Room::Tight);
        }
        let rooms = [Room::Small, Room::Tight];
        rooms
            .into_iter()
            .fold(Self::sized(config, Room::Full), |made, next| {
                made.or_else(|error| {
                    SAID.call_once(|| {
                        tracing::warn!(
                            error = format!("{error:#}"),
                            "no address space for the usual reservations; guests run with bounds checks"
                        );
                    });
                    Self::sized(config, next)
                })
            })
    }

    fn sized(config: &WasmConfig, room: Room) -> wasmtime::Result<Self> {
        let (orchestrations, activities) = configs(config, room);
        let spare = Engine::new(&orchestrations)?;
        let spare_activities = Engine::new(&activities)?;
        if room == Room::Tight {
            return Ok(Self {
                pooled: spare.clone(),
                activities: spare_activities.clone(),
                spare,
                spare_activities,
            });
        }
        let slots = config.resident_max.saturating_add(POOL_HEADROOM);
        let attempts = config.activities_max.max(1);
        Ok(Self {
            // A turn is a plain call on the worker's own stack, so the pool needs no stacks.
            pooled: pooled(orchestrations, slots, 1, room.reservation())?,
            activities: pooled(
                activities,
                attempts,
                attempts,
                activity_reservation(config, room),
            )?,
            spare,
            spare_activities,
        })
    }
}

/// The settings for orchestrations, and those for activities.
fn configs(config: &WasmConfig, room: Room) -> (Config, Config) {
    let mut orchestrations = base(room, room.reservation());
    orchestrations
        .consume_fuel(config.meters_fuel)
        .cranelift_nan_canonicalization(true)
        .relaxed_simd_deterministic(true);
    let mut activities = base(room, activity_reservation(config, room));
    activities.epoch_interruption(true);
    (orchestrations, activities)
}

fn activity_reservation(config: &WasmConfig, room: Room) -> u64 {
    let of_attempt = config.activity_memory_bytes.min(MEMORY_RESERVATION_BYTES);
    match room {
        Room::Full | Room::Small => room.reservation().max(of_attempt),
        Room::Tight => 0,
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

fn base(room: Room, reservation: u64) -> Config {
    let mut config = Config::new();
    config
        .memory_reservation(reservation)
        .memory_may_move(room != Room::Full)
        .memory_init_cow(true)
        .max_wasm_stack(WASM_STACK_BYTES)
        .wasm_backtrace_max_frames(std::num::NonZeroUsize::new(BACKTRACE_FRAMES_MAX));
    if room == Room::Tight {
        config
            .memory_reservation_for_growth(GROWTH_BYTES)
            .memory_guard_size(SMALL_GUARD_BYTES)
            .guard_before_linear_memory(false);
    }
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

    #[test]
    fn who_looks_at_a_module_makes_the_code_that_hosts_run() {
        let engines = Engines::new(&WasmConfig::default()).unwrap();
        let plain = PlainEngines::new().unwrap();
        assert_eq!(
            compatibility(&plain.orchestrations),
            compatibility(&engines.pooled)
        );
        assert_eq!(
            compatibility(&plain.activities),
            compatibility(&engines.activities)
        );
    }

    #[test]
    fn every_room_has_engines_and_tight_ones_share_no_code_with_others() {
        let config = WasmConfig {
            resident_max: 4,
            activities_max: 2,
            ..WasmConfig::default()
        };
        let made = [Room::Full, Room::Small, Room::Tight]
            .map(|room| Engines::sized(&config, room).unwrap());
        let [full, small, tight] = made
            .each_ref()
            .map(|engines| compatibility(&engines.pooled));
        assert!(full != small && small != tight && tight != full);
    }
}
