//! SO_PRIORITY, which neither rustix nor socket2 offers. It must not know what a link is.
#![allow(unsafe_code)] // one setsockopt with an integer

use std::io;
use std::os::fd::{AsFd, AsRawFd};

/// What `tc` calls interactive; 7 would need CAP_NET_ADMIN and is the kernel's own.
const TC_PRIO_INTERACTIVE: libc::c_int = 6;

/// Puts heartbeats into the first band of priority-aware queues. After IP_TOS, which resets it.
pub(super) fn raise(socket: &impl AsFd) -> io::Result<()> {
    let priority = TC_PRIO_INTERACTIVE;
    // SAFETY: the descriptor is borrowed and open; the pointer and length describe a live c_int.
    let result = unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PRIORITY,
            (&raw const priority).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
