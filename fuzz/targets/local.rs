//! Any bytes as this host's own file.
#![no_main]

#[path = "../../tests/properties/holds.rs"]
#[allow(dead_code, reason = "shared with the property tests; each target is for one parser")]
mod holds;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| holds::configuration(holds::LOCAL, bytes));
