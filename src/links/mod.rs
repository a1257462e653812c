//! Heartbeat links: sockets that carry opaque packets to the peers and back.
//! They must not know what a packet says.

mod open;
mod priority;
pub mod udp;

pub use udp::UdpLink;
