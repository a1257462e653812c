//! What must hold for any input: messages, files, calls over the bus. `holds` says it for bytes, and the fuzzer in `fuzz/` chooses bytes by
//! coverage; here they are chosen at random, mutated from sound ones, or made from what the types allow.
//!
//! A failure prints the smallest input found. `PROPTEST_CASES=n` tries more.

#![allow(unreachable_pub)] // Nothing is reachable from outside a test program.

mod bus;
#[path = "../bus/daemon.rs"]
mod bus_daemon;
mod bytes;
mod configuration;
mod holds;
mod recordings;
mod wire;
