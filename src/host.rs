//! The host thread (tokio, one thread): the bus both ways, units, files, signals, the service manager.
//! It decides nothing about groups: it carries out orders and tells what it sees.

pub mod address;
pub mod clock;
pub mod deaths;
pub mod held;
pub mod lock;
pub mod orders;
pub mod realtime;
pub mod running;
pub mod state;
pub mod systemd;
