//! The state of one attempt of an activity: WASI within its grants, a log, a memory limit.

use std::sync::{Arc, Mutex};

use wasmtime::component::ResourceTable;
use wasmtime_wasi::{FsPerms, WasiCtx, WasiCtxView, WasiView};

use super::code;
use super::guest_log::{GuestLog, HasLog, Output};
use super::limiter::MemoryLimiter;
use super::output::Lines;
use crate::engine::executor::{Attempt, Fault, Grants, Heart, Shortage};
use crate::guest_lines::GuestLines;
use crate::limits::ATTEMPT_RESOURCES;

/// The state of one attempt.
pub(super) struct Ambient {
    wasi: WasiCtx,
    pub(super) table: ResourceTable,
    pub(super) files_said: bool,
    pub(super) log: GuestLog,
    pub(super) limiter: MemoryLimiter,
    pub(super) heart: Heart,
}

impl Ambient {
    /// The initial state of an attempt: the grants of its module, and outputs that become log lines.
    ///
    /// # Errors
    /// An error if a granted directory cannot be opened.
    pub(super) fn new(
        attempt: &Attempt,
        grants: &Grants,
        memory_bytes: u64,
        lines: &Arc<Mutex<GuestLog>>,
        kept: Option<&Arc<GuestLines>>,
    ) -> Result<Self, Fault> {
        let mut wasi = WasiCtx::builder();
        // Only attempts with granted directories have operations that block, and those run on a blocking thread.
        wasi.allow_blocking_current_thread(true);
        wasi.envs(&grants.env);
        wasi.stdout(Lines::new(lines, Output::Out));
        wasi.stderr(Lines::new(lines, Output::Err));
        for dir in &grants.dirs {
            let permissions = if dir.writable {
                FsPerms::ReadWrite
            } else {
                FsPerms::ReadOnly
            };
            wasi.preopened_dir(&dir.host, &dir.guest, permissions)
                .map_err(|error| {
                    let what = format!(
                        "the granted directory {} cannot be opened: {error:#}",
                        dir.host.display()
                    );
                    match code::lacks(&error).filter(|resource| resource.is_of_process()) {
                        Some(resource) => Fault::Host(Shortage::new(resource, what)),
                        None => Fault::Module(what),
                    }
                })?;
        }
        let mut table = ResourceTable::new();
        table.set_max_capacity(ATTEMPT_RESOURCES);
        Ok(Self {
            wasi: wasi.build(),
            table,
            files_said: false,
            log: GuestLog::loud(attempt.instance_id.as_str()).kept_in(kept),
            limiter: MemoryLimiter::new(memory_bytes),
            heart: attempt.heart.clone(),
        })
    }
}

impl HasLog for Ambient {
    fn log(&mut self) -> &mut GuestLog {
        &mut self.log
    }
}

impl WasiView for Ambient {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView {
            ctx: &mut self.wasi,
            table: &mut self.table,
        }
    }
}
