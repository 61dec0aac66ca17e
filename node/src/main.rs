//! The `amcp` binary: the node's command line on an allocator of its own.

/// Messages are allocated on one thread and freed on another, which glibc serialises (ADR-0007).
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    amcp::main()
}
