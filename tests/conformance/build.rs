//! Builds the guest of the cases that need a host, and tells the runner where it is.

#[path = "../../sdk/build-guests.rs"]
mod guests;

fn main() {
    for component in guests::build(&["guest-scripted"], &["tests/guests/scripted"]) {
        println!("cargo::rustc-env=GUEST_SCRIPTED={}", component.display());
    }
}
