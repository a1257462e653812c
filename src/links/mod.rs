//! Heartbeat links.

pub mod udp;
