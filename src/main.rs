fn main() -> std::process::ExitCode {
    armilla::cli::main()
}
