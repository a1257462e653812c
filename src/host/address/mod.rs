//! Virtual addresses: netlink (add, remove, watch), and what neighbours are told and asked (ARP).
//! Everything here runs on the beat thread: it waits for nothing but the kernel's own lock on network configuration.
//!
//! | file | what it is |
//! |---|---|
//! | [`netlink`] | the sockets: watch, dump, add, remove |
//! | `request` | what is asked about a virtual address, and refusals in words |
//! | `message` | rtnetlink messages to and from bytes, by neli |
//! | [`table`] | PURE. the interfaces and addresses of this host as last seen, and what changed |
//! | [`announce`] | the ARP socket: announce, probe, see who else claims an address |
//! | `arp` | PURE. ARP packets to and from bytes |
//! | `packet` | the edge to AF_PACKET that needs `unsafe` |
//!
//! # Primary and secondary addresses
//!
//! In IPv4 the kernel makes the first address of a network on an interface its *primary* and later ones its
//! *secondaries*, and deletes all secondaries with their primary unless `promote_secondaries` is set. A virtual
//! address that came first would so take the host's own address, or other groups' addresses, with it when its
//! group leaves; and deleting the host's address would take the virtual ones. Therefore `promote_secondaries` is switched on, by
//! netlink and in the same batch, on each interface an address is added to or removed from, where it is not on already.
//! Then every address comes and goes alone, exactly as `ADDR/PREFIX` says. It is left on: systemd's own sysctl
//! defaults set it too (Debian 12 ships without them). Installing as /32 would avoid the question as well, but leaves an
//! interface without a network of its own with no route to its clients.

pub mod announce;
mod arp;
mod message;
pub mod netlink;
mod packet;
mod request;
pub mod table;

pub use announce::{ArpSeen, ArpSocket};
pub use netlink::Netlink;
pub use request::AddressError;
pub use table::{InterfaceAddress, InterfaceState, NetChange, Table};
