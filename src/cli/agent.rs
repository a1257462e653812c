//! Lets polkit ask for a password on this terminal, by polkit's own agent. It must not know what the password is for.

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{FdFlags, fcntl_setfd};
use std::io::{self, IsTerminal, PipeReader};
use std::os::fd::AsRawFd;
use std::process::{Child, Command};

/// How long the agent may take until polkit knows it, in seconds. Without it a password cannot be asked for, which polkit then says.
const READY_PATIENCE: i64 = 5;

/// Runs until it is dropped.
#[derive(Debug)]
pub(super) struct Agent(Child);

impl Agent {
    /// None where nobody needs it (root), nobody is there to be asked, or polkit is not installed.
    pub(super) fn start() -> Option<Agent> {
        if rustix::process::geteuid().is_root() || !io::stdin().is_terminal() || !io::stderr().is_terminal() {
            return None;
        }
        let (child, ready) = spawn().ok()?;
        let agent = Agent(child);
        // It closes its end when polkit knows it, and also when it ends.
        let patience = Timespec { tv_sec: READY_PATIENCE, tv_nsec: 0 };
        let _ = poll(&mut [PollFd::new(&ready, PollFlags::IN)], Some(&patience));
        Some(agent)
    }
}

fn spawn() -> io::Result<(Child, PipeReader)> {
    let (ready, told) = io::pipe()?;
    // The agent inherits this end, by its number.
    fcntl_setfd(&told, FdFlags::empty())?;
    let mut command = Command::new("pkttyagent");
    command.arg("--notify-fd").arg(told.as_raw_fd().to_string());
    // An agent of the desktop comes first.
    command.args(["--fallback", "--process"]).arg(std::process::id().to_string());
    Ok((command.spawn()?, ready))
}

impl Drop for Agent {
    fn drop(&mut self) {
        // It may have ended by itself. SIGTERM, not SIGKILL: it may have switched the terminal's echo off.
        let pid = rustix::process::Pid::from_child(&self.0);
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        let _ = self.0.wait();
    }
}
