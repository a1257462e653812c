//! hafailover: failover of virtual addresses and systemd units between Linux hosts.
//!
//! The map of the house:
//!
//! | folder or file | what it is |
//! |---|---|
//! | [`cluster`] | PURE. What this node knows and decides: the heart. No clock, no socket, no files |
//! | [`wire`] | PURE. Messages on the wire, and sealing them with keys |
//! | [`config`] | `hafailover.toml`, `local.toml`, `authkeys`, the groups' unit drop-ins |
//! | [`links`] | heartbeat sockets |
//! | [`host`] | the host thread and everything that touches the host: addresses, systemd, state, clock |
//! | [`daemon`] | puts the parts together; what follows a daemon's death |
//! | [`beat`] | the beat thread: links, netlink, timers and the heart; realtime, waits for no other thread, disk or bus |
//! | [`perform`] | an [`cluster::Action`] to the call on the thread it belongs to; its end to an [`cluster::Event`] |
//! | [`journal`] | every change, written where it can never block |
//! | [`record`] | what the heart was given and decided, written down by a thread of its own; and run again |
//! | [`dbus`], [`cli`] | `org.hafailover1`, and the command line that speaks to it |
//! | [`sim`] | a seeded world around the same heart |
//!
//! The flow of a packet: `links::udp` receives bytes → `wire::open` checks the key and decodes →
//! `Cluster::fold` puts it into the `view` → `Cluster::decide` expires silence, asks `placement` who
//! should own each group, `takeover` whether this node may, and `step` what comes next, which `group` (start), `stop` and `upkeep` put into
//! actions → `perform` → netlink, D-Bus, announcements → their ends come back as events.

pub mod beat;
pub mod cli;
pub mod cluster;
pub mod config;
pub mod daemon;
pub mod dbus;
pub mod host;
pub mod journal;
pub mod links;
pub mod perform;
pub mod record;
pub mod sim;
pub mod wire;
