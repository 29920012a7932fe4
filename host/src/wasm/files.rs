//! How activities open files: so many in one attempt, and never with the descriptors that the host needs itself.

use wasmtime::component::{Linker, Resource};
use wasmtime_wasi::filesystem::WasiFilesystemView as _;
use wasmtime_wasi::p2::bindings::filesystem::types;
use wasmtime_wasi::p2::bindings::filesystem::types::{Host as _, HostDescriptor as _};

use super::activity::Ambient;
use crate::descriptors;
use crate::engine::executor::Want;
use crate::want;

/// What an attempt may have open at once: files, directories, streams of them, and what it waits for.
pub(super) const OPEN_MAX: usize = 512;

/// The interface whose function is another one here, as the linker has it.
const FILES: &str = "wasi:filesystem/types@0.2.12";

/// What `open-at` takes.
type OpenAt = (
    Resource<types::Descriptor>,
    types::PathFlags,
    String,
    types::OpenFlags,
    types::DescriptorFlags,
);

/// Has files opened here. The linker has the rest of WASI, and lets what it has be replaced.
pub(super) fn link(linker: &mut Linker<Ambient>) -> wasmtime::Result<()> {
    linker.instance(FILES)?.func_wrap_async(
        "[method]descriptor.open-at",
        |mut cx, (dir, path_flags, path, open_flags, flags): OpenAt| {
            Box::new(async move {
                if descriptors::are_short() {
                    // No answer to the guest: it is tried again when there are some.
                    let message =
                        "an activity opens a file, and the last descriptors are the host's";
                    return Err(Want::new(want::Resource::Descriptors, message).into());
                }
                let mut files = cx.data_mut().filesystem();
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
