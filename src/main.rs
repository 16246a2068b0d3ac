use std::process::ExitCode;

fn main() -> ExitCode {
    armilla::cli::main()
}
