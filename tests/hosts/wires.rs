//! The lab's cables and switches: one bridge per LAN in a namespace of its own, a port per host, and the ways they fail.
//! It must not know what runs on the hosts.

use crate::sys::{Result, run, run_with_input};
use std::fmt::Write;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::Instant;

/// All namespaces of the lab carry this prefix: it is how a sweep finds them.
pub const PREFIX: &str = "hfl-";
pub const CLIENT: &str = "hfl-client";

/// The interface names that a host sees.
pub const SERVICE: &str = "eth0";
pub const HB0: &str = "hb0";
pub const HB1: &str = "hb1";
pub const LANS: [&str; 3] = [SERVICE, HB0, HB1];

/// A host's place in the lab. Its number makes its addresses and its interface indexes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seat {
    pub name: &'static str,
    pub number: u8,
}

pub const ALPHA: Seat = Seat { name: "alpha", number: 75 };
pub const BETA: Seat = Seat { name: "beta", number: 76 };

impl Seat {
    pub fn namespace(&self) -> String {
        format!("{PREFIX}{}", self.name)
    }

    pub fn address(&self, lan: &str) -> Ipv4Addr {
        on_lan(lan, self.number)
    }

    /// Not on the host of itself: who needs it adds it.
    pub fn address_v6(&self, lan: &str) -> Ipv6Addr {
        let [_, _, net, number] = on_lan(lan, self.number).octets().map(u16::from);
        Ipv6Addr::new(0xfd00, 0, 0, net, 0, 0, 0, number)
    }

    fn port(&self, lan: &str) -> String {
        format!("{}-{lan}", self.name)
    }
}

/// The address with this number on a LAN.
pub fn on_lan(lan: &str, number: u8) -> Ipv4Addr {
    match lan {
        SERVICE => Ipv4Addr::new(10, 0, 0, number),
        HB0 => Ipv4Addr::new(172, 16, 1, number),
        _ => Ipv4Addr::new(172, 16, 2, number),
    }
}

/// Which way through a switch port packets no longer pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// What the host sends is lost.
    From,
    /// What is sent to the host is lost.
    To,
}

/// Switches and the client's place; hosts are plugged in one by one.
#[derive(Debug)]
pub struct Wires;

impl Wires {
    /// The namespace of all switches.
    pub const SWITCHES: &str = "hfl-switches";

    pub fn lay() -> Result<Wires> {
        run("ip", &["netns", "add", Wires::SWITCHES])?;
        run("ip", &["netns", "add", CLIENT])?;
        let mut steps = String::new();
        for lan in LANS {
            // The bridges hear nothing of IPv6: its own chatter would be counted as traffic of ours.
            writeln!(steps, "link add name {lan} type bridge stp_state 0 mcast_snooping 0")?;
            writeln!(steps, "link set dev {lan} up")?;
        }
        writeln!(steps, "link add name client index 100 type veth peer name {SERVICE} index 200 netns {CLIENT}")?;
        writeln!(steps, "link set dev client master {SERVICE} up")?;
        run_with_input("ip", &["-n", Wires::SWITCHES, "-batch", "-"], &steps)?;
        let address = on_lan(SERVICE, 1);
        let steps = format!("addr add {address}/24 dev {SERVICE}\nlink set dev {SERVICE} up\nlink set dev lo up\n");
        run_with_input("ip", &["-n", CLIENT, "-batch", "-"], &steps)?;
        Ok(Wires)
    }

    /// Makes the host's namespace with its interfaces, addresses and plugged cables.
    pub fn plug(&self, seat: &Seat) -> Result {
        let namespace = seat.namespace();
        run("ip", &["netns", "add", &namespace])?;
        let (mut ports, mut interfaces) = (String::new(), String::new());
        for (index, lan) in LANS.iter().enumerate() {
            // Equal indexes at both ends would delay the carrier's event by half a second.
            let near = 1000 + u32::from(seat.number) * 10 + index as u32;
            let (port, far) = (seat.port(lan), near + 5000);
            writeln!(
                ports,
                "link add name {port} index {near} type veth peer name {lan} index {far} netns {namespace}"
            )?;
            writeln!(ports, "link set dev {port} master {lan} up")?;
            writeln!(interfaces, "addr add {}/24 brd + dev {lan}", seat.address(lan))?;
            writeln!(interfaces, "link set dev {lan} up")?;
        }
        run_with_input("ip", &["-n", Wires::SWITCHES, "-batch", "-"], &ports)?;
        run_with_input("ip", &["-n", &namespace, "-batch", "-"], &interfaces)?;
        Ok(())
    }

    /// Deletes the host's namespace, and with it cables and addresses.
    pub fn unplug(&self, seat: &Seat) -> Result {
        // The ports first: the namespace itself lives on until the last socket in it is closed.
        let ports: String = LANS.iter().map(|lan| format!("link del dev {}\n", seat.port(lan))).collect();
        let gone = run_with_input("ip", &["-n", Wires::SWITCHES, "-batch", "-"], &ports);
        run("ip", &["netns", "del", &seat.namespace()])?;
        gone.map(drop)
    }

    /// Takes one interface out of a host: it is gone, with its addresses.
    pub fn take(&self, seat: &Seat, lan: &str) -> Result {
        run("ip", &["-n", Wires::SWITCHES, "link", "del", "dev", &seat.port(lan)]).map(drop)
    }

    /// Puts a new interface into a host, under the old name, with its IPv4 address and a plugged cable.
    pub fn give(&self, seat: &Seat, lan: &str) -> Result {
        let (port, namespace) = (seat.port(lan), seat.namespace());
        let near = format!("link add name {port} type veth peer name {lan} netns {namespace}\n");
        let steps = format!("{near}link set dev {port} master {lan} up\n");
        run_with_input("ip", &["-n", Wires::SWITCHES, "-batch", "-"], &steps)?;
        let address = seat.address(lan);
        let steps = format!("addr add {address}/24 brd + dev {lan}\nlink set dev {lan} up\n");
        run_with_input("ip", &["-n", &namespace, "-batch", "-"], &steps).map(drop)
    }

    /// Joins a namespace of its own to a LAN, beside the hosts, under this address there. It goes with the lab.
    pub fn join(&self, namespace: &str, lan: &str, number: u8) -> Result {
        run("ip", &["netns", "add", namespace])?;
        let near = 9000 + u32::from(number);
        let port = format!("n{number}-{lan}");
        let far = near + 5000;
        let steps = format!(
            "link add name {port} index {near} type veth peer name {lan} index {far} netns {namespace}\n\
             link set dev {port} master {lan} up\n"
        );
        run_with_input("ip", &["-n", Wires::SWITCHES, "-batch", "-"], &steps)?;
        let address = on_lan(lan, number);
        let steps = format!("addr add {address}/24 brd + dev {lan}\nlink set dev {lan} up\nlink set dev lo up\n");
        run_with_input("ip", &["-n", namespace, "-batch", "-"], &steps).map(drop)
    }

    /// Removes what `join` made.
    pub fn part(&self, namespace: &str, lan: &str, number: u8) -> Result {
        run("ip", &["-n", Wires::SWITCHES, "link", "del", "dev", &format!("n{number}-{lan}")])?;
        run("ip", &["netns", "del", namespace]).map(drop)
    }

    /// The switch's port dies silently, carrier intact. Returns when it was certainly done.
    pub fn cut(&self, seat: &Seat, lans: &[&str]) -> Result<Instant> {
        self.port_states(seat, lans, 0)
    }

    pub fn heal(&self, seat: &Seat, lans: &[&str]) -> Result<Instant> {
        self.port_states(seat, lans, 3)
    }

    fn port_states(&self, seat: &Seat, lans: &[&str], state: u8) -> Result<Instant> {
        let port = |lan: &&str| format!("link set dev {} state {state}\n", seat.port(lan));
        let steps: String = lans.iter().map(port).collect();
        run_with_input("ip", &["netns", "exec", Wires::SWITCHES, "bridge", "-batch", "-"], &steps)?;
        Ok(Instant::now())
    }

    /// Pulls the host's cable: the carrier goes.
    pub fn pull(&self, seat: &Seat, lan: &str) -> Result {
        run("ip", &["-n", Wires::SWITCHES, "link", "set", "dev", &seat.port(lan), "down"]).map(drop)
    }

    pub fn push(&self, seat: &Seat, lan: &str) -> Result {
        run("ip", &["-n", Wires::SWITCHES, "link", "set", "dev", &seat.port(lan), "up"]).map(drop)
    }

    /// Loses everything that passes the host's port in one direction.
    pub fn lose(&self, seat: &Seat, lan: &str, direction: Direction) -> Result {
        let side = if direction == Direction::From { "iifname" } else { "oifname" };
        let rules = format!(
            "add table bridge lab\n\
             add chain bridge lab lost {{ type filter hook forward priority 0; }}\n\
             add rule bridge lab lost {side} \"{}\" drop\n",
            seat.port(lan)
        );
        run_with_input("ip", &["netns", "exec", Wires::SWITCHES, "nft", "-f", "-"], &rules).map(drop)
    }

    /// Ends every `lose`.
    pub fn lose_nothing(&self) -> Result {
        run("ip", &["netns", "exec", Wires::SWITCHES, "nft", "delete", "table", "bridge", "lab"]).map(drop)
    }

    /// Gives the lab a foot on a LAN, next to the hosts, to send what an intruder would.
    pub fn intrude(&self, lan: &str) -> Result {
        let address = format!("{}/24", on_lan(lan, 254));
        run("ip", &["-n", Wires::SWITCHES, "addr", "replace", &address, "dev", lan]).map(drop)
    }
}
