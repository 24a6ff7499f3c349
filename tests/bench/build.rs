//! Builds the guest that is measured, and hands its bytes to the crate.

#[path = "../../sdk/build-guests.rs"]
mod guests;

fn main() {
    guests::build(&["guest-bench"], &["tests/guests/bench"]);
}
