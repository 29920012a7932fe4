//! The binary `perennial`: deploys modules, runs hubs, and manages instances from a command line.

mod cli;

fn main() -> std::process::ExitCode {
    cli::main()
}
