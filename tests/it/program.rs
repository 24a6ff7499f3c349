//! The program that plays a vendor's program; see `tests/guests/program`.

#![forbid(unsafe_code)]

fn main() -> std::process::ExitCode {
    guest_program::main()
}
