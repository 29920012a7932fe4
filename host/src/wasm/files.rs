//! File access of activities: bounds the open files of an attempt, and keeps descriptors free for the host.

use wasmtime::component::{Linker, Resource};
use wasmtime_wasi::filesystem::WasiFilesystemView as _;
use wasmtime_wasi::p2::bindings::filesystem::types;
use wasmtime_wasi::p2::bindings::filesystem::types::{Host as _, HostDescriptor as _};

use super::ambient::Ambient;
use super::guest_log::Level;
use crate::descriptors;
use crate::engine::executor::Shortage;
use crate::limits::ATTEMPT_FILES;
use crate::shortage;

/// The interface whose `open-at` is replaced here, as the linker names it.
const FILES: &str = "wasi:filesystem/types@0.2.12";

/// The parameters of `open-at`.
type OpenAt = (
    Resource<types::Descriptor>,
    types::PathFlags,
    String,
    types::OpenFlags,
    types::DescriptorFlags,
);

/// Replaces the linker's `open-at`; the other functions of WASI stay.
pub(super) fn link(linker: &mut Linker<Ambient>) -> wasmtime::Result<()> {
    linker.instance(FILES)?.func_wrap_async(
        "[method]descriptor.open-at",
        |mut cx, (dir, path_flags, path, open_flags, flags): OpenAt| {
            Box::new(async move {
                if descriptors::are_short() {
                    // A shortage ends the attempt, and is not reported to the guest: the attempt is repeated later.
                    let message =
                        "an activity opens a file, and the last descriptors are the host's";
                    return Err(Shortage::new(shortage::Resource::Descriptors, message).into());
                }
                let ambient = cx.data_mut();
                if ambient.table.iter_mut().count() >= ATTEMPT_FILES {
                    if !std::mem::replace(&mut ambient.files_said, true) {
                        let why = format!("an attempt may have {ATTEMPT_FILES} files open at once");
                        ambient.log.line(Level::Warn, &why);
                    }
                    // WASI has no error for too many open files.
                    return Ok((Err(types::ErrorCode::Quota),));
                }
                let mut files = ambient.filesystem();
                let opened = files
                    .open_at(dir, path_flags, path, open_flags, flags)
                    .await;
                let opened = match opened {
                    Ok(file) => Ok(file),
                    Err(error) => Err(files.convert_error_code(error)?),
                };
                Ok((opened,))
            })
        },
    )
}
