//! The configuration of a lab cluster, written as an administrator would. It must not know what a scenario does with it.

use crate::host::Host;
use crate::sys::Result;
use crate::wires::{ALPHA, BETA, LANS, SERVICE};
use std::fmt::Write;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

pub const KEYS: &str = "auth 1\n1 sha256 the-lab-has-no-secrets\n";

#[derive(Clone, Debug)]
pub struct Settings {
    pub keepalive: Duration,
    pub deadtime: Duration,
    pub initdead: Duration,
    /// The file says nothing of timing, and the daemon's own defaults hold.
    default_timing: bool,
    pub links: Vec<&'static str>,
    /// Links of other kinds, which stand in place of those of kind `ucast` over `links`, if there are any.
    pub tables: Vec<Kind>,
    pub groups: Vec<Group>,
}

/// A kind of link on a LAN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Ucast4(&'static str),
    Ucast6(&'static str),
    Mcast4(&'static str),
    Mcast6(&'static str),
    Bcast(&'static str),
}

impl Kind {
    /// As the cluster's file spells it.
    pub fn table(self) -> String {
        let peers = |alpha: String, beta: String| {
            format!("peers = {{ {} = \"{alpha}\", {} = \"{beta}\" }}\n", ALPHA.name, BETA.name)
        };
        let (kind, more) = match self {
            Kind::Ucast4(lan) => ("ucast", peers(ALPHA.address(lan).to_string(), BETA.address(lan).to_string())),
            Kind::Ucast6(lan) => ("ucast", peers(ALPHA.address_v6(lan).to_string(), BETA.address_v6(lan).to_string())),
            Kind::Mcast4(_) => ("mcast", "group = \"239.0.0.75\"\n".to_owned()),
            Kind::Mcast6(_) => ("mcast", "group = \"ff02::4:75\"\n".to_owned()),
            Kind::Bcast(_) => ("bcast", String::new()),
        };
        format!("\n[[link]]\nkind = \"{kind}\"\ninterface = \"{}\"\nport = 694\n{more}", self.lan())
    }

    pub fn lan(self) -> &'static str {
        match self {
            Kind::Ucast4(lan) | Kind::Ucast6(lan) | Kind::Mcast4(lan) | Kind::Mcast6(lan) | Kind::Bcast(lan) => lan,
        }
    }
}

#[derive(Clone, Debug)]
pub struct Group {
    pub name: &'static str,
    pub addresses: Vec<String>,
    pub start: Vec<&'static str>,
    /// Further lines of `[X-HAFailover]`.
    pub more: Vec<&'static str>,
}

impl Settings {
    /// One group with one address and no members.
    pub fn new(keepalive_ms: u64, deadtime_ms: u64) -> Settings {
        let deadtime = Duration::from_millis(deadtime_ms);
        Settings {
            keepalive: Duration::from_millis(keepalive_ms),
            deadtime,
            initdead: (deadtime * 3).max(Duration::from_secs(2)),
            default_timing: false,
            links: vec!["hb0", "hb1"],
            tables: Vec::new(),
            groups: vec![Group::new("web", 77)],
        }
    }

    /// The same with a file that has no `[timing]`.
    pub fn with_default_timing() -> Settings {
        Settings { initdead: Duration::from_secs(30), default_timing: true, ..Settings::new(200, 1000) }
    }

    pub fn warntime(&self) -> Duration {
        (self.keepalive + self.deadtime) / 2
    }

    pub fn members(mut self, start: &[&'static str]) -> Settings {
        self.groups[0].start = start.to_vec();
        self
    }

    pub fn cluster_file(&self) -> String {
        let mut text = format!("[cluster]\nname = \"lab\"\nnodes = [\"{}\", \"{}\"]\n", ALPHA.name, BETA.name);
        if !self.default_timing {
            text.push_str("\n[timing]\n");
            let times = [
                ("keepalive", self.keepalive),
                ("warntime", self.warntime()),
                ("deadtime", self.deadtime),
                ("initdead", self.initdead),
            ];
            for (key, time) in times {
                writeln!(text, "{key} = \"{}ms\"", time.as_millis()).expect("a string takes everything");
            }
        }
        let plain: Vec<Kind> = self.links.iter().map(|link| Kind::Ucast4(link)).collect();
        let tables = if self.tables.is_empty() { &plain } else { &self.tables };
        tables.iter().for_each(|kind| text.push_str(&kind.table()));
        text.push_str("\n[takeover]\nproof = \"silence\"\n");
        text
    }

    /// Writes everything to a host, which may be off; a running daemon or systemd is not told.
    pub fn write_to(&self, host: &Host) -> Result {
        debug_assert!(self.links.iter().all(|link| LANS.contains(link)));
        host.write("etc/hafailover/hafailover.toml", &self.cluster_file())?;
        write_keys(host, KEYS)?;
        for group in &self.groups {
            host.write(&group.drop_in(), &group.text())?;
        }
        Ok(())
    }
}

pub fn write_keys(host: &Host, keys: &str) -> Result {
    // Beside it and renamed over: the daemon must never find half a file, or one that others can read.
    host.write("etc/hafailover/authkeys.new", keys)?;
    let (new, path) = (host.path("etc/hafailover/authkeys.new"), host.path("etc/hafailover/authkeys"));
    fs::set_permissions(&new, fs::Permissions::from_mode(0o600))?;
    Ok(fs::rename(new, path)?)
}

impl Group {
    pub fn new(name: &'static str, number: u8) -> Group {
        let address = format!("10.0.0.{number}/24 dev {SERVICE}");
        Group { name, addresses: vec![address], start: Vec::new(), more: Vec::new() }
    }

    pub fn target(&self) -> String {
        format!("hafailover-group@{}.target", self.name)
    }

    pub fn drop_in(&self) -> String {
        format!("etc/systemd/system/{}.d/lab.conf", self.target())
    }

    pub fn text(&self) -> String {
        let mut text = format!("[Unit]\nDescription=Lab group {}\n\n[X-HAFailover]\n", self.name);
        for address in &self.addresses {
            writeln!(text, "Address={address}").expect("a string takes everything");
        }
        if !self.start.is_empty() {
            writeln!(text, "Start={}", self.start.join(" ")).expect("a string takes everything");
        }
        for line in &self.more {
            writeln!(text, "{line}").expect("a string takes everything");
        }
        text
    }
}
