//! Builds the hostile guest and tells the tests where it is.

#[path = "../../sdk/build-guests.rs"]
mod guests;

fn main() {
    for component in guests::build(&["guest-hostile"], &["tests/guests/hostile"]) {
        println!("cargo::rustc-env=GUEST_HOSTILE={}", component.display());
    }
}
