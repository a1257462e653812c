//! A bus of the test's own, which ends with it. It must not know who is on it.

#![allow(unreachable_pub)] // Two test programs have it.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

/// A `dbus-daemon`, and where it is reached.
#[derive(Debug)]
pub struct BusDaemon {
    daemon: Child,
    pub address: String,
}

impl BusDaemon {
    /// By the configuration that this option names.
    pub fn start(configuration: &str) -> BusDaemon {
        let mut daemon = Command::new("dbus-daemon")
            .args([configuration, "--nofork", "--nopidfile", "--print-address=1"])
            .stdout(Stdio::piped())
            .spawn()
            .expect("dbus-daemon is installed (its own Debian package)");
        let mut address = String::new();
        let out = daemon.stdout.take().expect("its output is a pipe");
        BufReader::new(out).read_line(&mut address).expect("it prints its address");
        BusDaemon { daemon, address: address.trim().to_owned() }
    }

    pub fn builder(&self) -> zbus::connection::Builder<'static> {
        zbus::connection::Builder::address(self.address.as_str())
    }
}

impl Drop for BusDaemon {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.daemon.kill();
        let _ = self.daemon.wait();
    }
}
