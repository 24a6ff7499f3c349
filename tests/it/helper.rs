//! The helper program of the tests' hosts: compiles what they install.

#![forbid(unsafe_code)]

fn main() -> std::process::ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.split_first() {
        Some((word, rest)) if word == "helper" => midplane::helper_main(rest).into(),
        _ => std::process::ExitCode::from(2),
    }
}
