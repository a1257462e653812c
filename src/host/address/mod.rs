//! Virtual addresses: netlink (add, remove, watch), and what neighbours are told and asked (ARP).

pub mod announce;
pub mod netlink;
