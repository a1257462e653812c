//! Realtime priority and locked memory for the beat thread, where this host allows it.
//! It must not know why.
#![allow(unsafe_code)] // rustix has no sched_setscheduler

use rustix::mm::{MlockAllFlags, mlockall};
use std::io;

/// Below the kernel's own threads that serve interrupts (50), above everything ordinary.
const PRIORITY: i32 = 40;

/// SCHED_FIFO for the calling thread; children would not inherit it.
pub fn become_realtime() -> io::Result<()> {
    let parameter = libc::sched_param { sched_priority: PRIORITY };
    // SAFETY: the pointer is to a live value of the type the call expects; 0 is the calling thread.
    let result = unsafe { libc::sched_setscheduler(0, libc::SCHED_FIFO | libc::SCHED_RESET_ON_FORK, &parameter) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Keeps what was touched in memory. On fault only: locking everything at once tripled the size of a small daemon.
pub fn lock_memory() -> io::Result<()> {
    Ok(mlockall(MlockAllFlags::CURRENT | MlockAllFlags::FUTURE | MlockAllFlags::ONFAULT)?)
}
