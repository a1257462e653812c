//! The service manager: how it is reached (`bus`, `calls`, and `without_bus` where that is dead), its units (`units`, `news` of them, `watch`,
//! `cgroup`, `triggered`, `explain`), guards written by the `generator` and checked by `guard`, notifications (`notify`), looks `together`
//! where there is no bus, and `systemctl` for what follows a daemon's death.

pub mod bus;
mod calls;
pub mod cgroup;
mod explain;
pub mod generator;
pub mod guard;
mod news;
pub mod notify;
#[cfg(test)]
mod silent;
pub mod systemctl;
mod together;
mod triggered;
pub mod units;
pub mod watch;
mod without_bus;
