//! The binary `perennial`: deploys modules, runs hubs, and manages instances from a command line.

mod cli;

/// What one thread allocates another frees here, from client to worker to writer, which the system's allocator on Linux makes them wait
/// for. A library leaves the choice to its program; this is the program.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    cli::main()
}
