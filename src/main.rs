use std::process::ExitCode;

/// It gives memory back to the system some seconds after it was freed. The C library's keeps it where anything behind
/// it lives: 10,000 connections that came and went left 79 MB resident for 23 MB in use, here 22 MB.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    armilla::cli::main()
}
