//! Any bytes as the configuration that a daemon kept for the next one.
#![no_main]

#[path = "../../tests/properties/holds.rs"]
#[allow(dead_code, reason = "shared with the property tests; each target is for one parser")]
mod holds;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| holds::kept_configuration(bytes));
