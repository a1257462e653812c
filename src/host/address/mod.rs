//! Virtual addresses: netlink (add, remove, watch), and what neighbours are told and asked (ARP, neighbour discovery).
//! Everything here runs on the beat thread: it waits for nothing but the kernel's own lock on network configuration.
//!
//! | file | what it is |
//! |---|---|
//! | [`netlink`] | the sockets: watch, dump, requests and answers |
//! | [`change`] | addresses added and removed, in slices |
//! | `request` | what is asked about a virtual address, and refusals in words |
//! | `message` | rtnetlink messages to and from bytes, by neli |
//! | [`table`] | PURE. the interfaces and addresses of this host as last seen, and what changed |
//! | [`place`] | PURE. the interface of an address that names none |
//! | [`neighbours`] | the packet sockets: announce, probe, see who else claims an address |
//! | `filter` | PURE. what the kernel passes to them |
//! | `arp`, `ndp` | PURE. ARP and neighbour discovery to and from bytes |
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
//!
//! # IPv6
//!
//! IPv6 knows no secondaries. An address is added without duplicate address detection, which would keep it from being used for
//! a second or more; the same question is asked before the takeover, and who claims the address later is seen all the same. It is
//! deprecated from the beginning (a preferred lifetime of zero, for ever valid): it serves its clients, yet is not chosen as the source of
//! what this host sends elsewhere, which in IPv4 secondaries are not either.
//!
//! The kernel takes all IPv6 addresses from an interface that is switched off. That is nobody's deletion, and they
//! are put back when it is switched on.

mod arp;
pub mod change;
mod filter;
mod message;
mod ndp;
pub mod neighbours;
pub mod netlink;
mod packet;
pub mod place;
mod request;
pub mod table;

pub use change::AddressChange;
pub use neighbours::{ClaimSeen, Neighbours};
pub use netlink::Netlink;
pub use packet::link_address;
pub use request::AddressError;
pub(crate) use request::label_of;
pub use table::{InterfaceAddress, InterfaceState, NetChange, Table};
