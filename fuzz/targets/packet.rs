//! Any bytes as a packet from the network.
#![no_main]

#[path = "../../tests/properties/holds.rs"]
#[allow(dead_code, reason = "shared with the property tests; each target is for one parser")]
mod holds;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| holds::packet(bytes));
