//! The `keywright` program: opens the window, or does what the command line says.

fn main() -> std::process::ExitCode {
    keywright::cli::main()
}
