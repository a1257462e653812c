//! The service manager: units over D-Bus (`bus`, `units`, `watch`, `cgroup`, `triggered`, `explain`), guards written by the `generator` and
//! checked by `guard`, notifications (`notify`), and `systemctl` where the bus is dead.

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
