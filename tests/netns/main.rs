//! Links, addresses and ARP against the real kernel, in private network namespaces. Needs root.

mod addresses;
mod arp;
mod asks;
mod bare;
mod firewall;
mod interfaces;
mod lab;
mod links;
mod mass;
mod ndp;
