//! The service manager: units over D-Bus, guards by the generator, notifications.

pub mod bus;
pub mod cgroup;
mod explain;
pub mod generator;
pub mod guard;
pub mod notify;
pub mod systemctl;
mod triggered;
pub mod units;
pub mod watch;
