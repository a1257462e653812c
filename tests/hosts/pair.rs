//! Two booted hosts with one configuration, the client beside them, and what scenarios ask and do. It must not know rows.

use crate::client::Client;
use crate::figures::Judge;
use crate::host::Host;
use crate::netwatch::NetWatch;
use crate::root::Root;
use crate::sentinel::Sentinels;
use crate::settings::Settings;
use crate::sys::{Result, wait_for};
use crate::wires::{ALPHA, BETA, CLIENT, SERVICE, Wires, on_lan};
use crate::{ensure, lock};
use hafailover::cluster::status::{GroupStatus, Status};
use std::cell::RefCell;
use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::{Duration, Instant};

/// The address of the first group.
pub const VIP: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 77);
/// The address of the second group, where there is one.
pub const VIP2: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 78);

pub const SETTLE: Duration = Duration::from_secs(20);

/// What outlives single scenarios.
#[derive(Debug)]
pub struct Lab {
    root: Root,
    pub wires: Rc<Wires>,
    pub sentinels: Sentinels,
    /// Long counts.
    pub full: bool,
    report: RefCell<Report>,
}

/// Where the hosts of the running row leave their journals, and the last lines of them.
#[derive(Debug, Default)]
struct Report {
    directory: PathBuf,
    tail: String,
}

impl Lab {
    pub fn open(root: Root, full: bool) -> Result<Lab> {
        Ok(Lab { root, wires: Rc::new(Wires::lay()?), sentinels: Sentinels::post()?, full, report: RefCell::default() })
    }

    /// For figures of a cluster with these settings.
    pub fn judge(&self, settings: &Settings) -> Judge<'_> {
        Judge { sentinels: &self.sentinels, deadtime: settings.deadtime }
    }

    /// From now on hosts leave their journals in `build/lab/ROW`.
    pub fn report_to(&self, row: &str) {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("build/lab").join(row);
        *self.report.borrow_mut() = Report { directory, tail: String::new() };
    }

    /// The end of the journals of the row's last hosts.
    pub fn last_words(&self) -> String {
        let report = self.report.borrow();
        format!("{}(all of it: {})", report.tail, report.directory.display())
    }

    /// Boots both hosts with our service enabled and waits until they have made up their minds.
    pub fn pair(&self, settings: Settings) -> Result<Pair<'_>> {
        let mut pair = self.pair_off(settings)?;
        pair.switch_both_on()?;
        pair.settled()?;
        Ok(pair)
    }

    /// Two fresh hosts with their configuration, still off.
    pub fn pair_off(&self, settings: Settings) -> Result<Pair<'_>> {
        lock::clear()?;
        let watch = Rc::new(NetWatch::start()?);
        watch.add_client(CLIENT)?;
        let make = |seat| Host::make(seat, &self.root, self.wires.clone(), watch.clone(), vec![VIP, VIP2]);
        let hosts = [make(ALPHA)?, make(BETA)?];
        for host in &hosts {
            settings.write_to(host)?;
            enable(host)?;
        }
        Ok(Pair { lab: self, settings, hosts, watch, begun: Instant::now() })
    }
}

/// Starts our service at boot, as `systemctl enable` would.
fn enable(host: &Host) -> Result {
    let wants = host.path("etc/systemd/system/multi-user.target.wants");
    fs::create_dir_all(&wants)?;
    let link = wants.join("hafailover.service");
    Ok(std::os::unix::fs::symlink("/usr/lib/systemd/system/hafailover.service", link)?)
}

#[derive(Debug)]
pub struct Pair<'lab> {
    pub lab: &'lab Lab,
    pub settings: Settings,
    pub hosts: [Host; 2],
    pub watch: Rc<NetWatch>,
    begun: Instant,
}

impl<'lab> Pair<'lab> {
    pub fn switch_both_on(&mut self) -> Result {
        for host in &mut self.hosts {
            host.switch_on()?;
        }
        self.hosts.iter().try_for_each(Host::wait_booted)
    }

    pub fn alpha(&self) -> &Host {
        &self.hosts[0]
    }

    pub fn beta(&self) -> &Host {
        &self.hosts[1]
    }

    pub fn host(&self, name: &str) -> &Host {
        &self.hosts[self.index(name)]
    }

    pub fn host_mut(&mut self, name: &str) -> &mut Host {
        let index = self.index(name);
        &mut self.hosts[index]
    }

    pub fn other(&self, name: &str) -> &Host {
        &self.hosts[1 - self.index(name)]
    }

    fn index(&self, name: &str) -> usize {
        usize::from(self.hosts[0].name() != name)
    }

    /// What the daemon of a host says, or why there is no answer.
    pub fn status(&self, host: &Host) -> Result<Status> {
        let (_, text) = host.attempt(&["hafailoverctl", "status", "--json"])?;
        serde_json::from_str(&text).map_err(|error| format!("status of {}: {error}: {text}", host.name()).into())
    }

    pub fn group(&self, host: &Host, name: &str) -> Result<GroupStatus> {
        let groups = self.status(host)?.groups;
        let found = groups.into_iter().find(|group| group.name == name);
        found.ok_or_else(|| format!("{} knows no group {name}", host.name()).into())
    }

    /// Waits until all hosts that are on have joined, hear each other and agree on one running owner of every group, and
    /// returns the owner of the first in the settings.
    pub fn settled(&self) -> Result<String> {
        let mut last = String::new();
        let owners = wait_for("the cluster to settle", SETTLE + self.settings.initdead, || match self.agreement() {
            Ok(owners) => Some(owners),
            Err(error) => {
                last = error.to_string();
                None
            }
        });
        let owners = owners.map_err(|error| format!("{error}; last: {last}"))?;
        let first = self.settings.groups[0].name;
        let owner = owners.into_iter().find(|(group, _)| group == first);
        owner.map(|(_, owner)| owner).ok_or_else(|| format!("no host knows group {first}").into())
    }

    /// The owner of each group, if all hosts that are on agree and are at rest.
    fn agreement(&self) -> Result<Vec<(String, String)>> {
        let mut agreed: Option<Vec<(String, String)>> = None;
        let on: Vec<_> = self.hosts.iter().filter(|host| host.is_on()).collect();
        for host in &on {
            let status = self.status(host)?;
            let name = host.name();
            ensure!(status.state == "joined", "{name} is {}", status.state);
            let heard = status.nodes.iter().filter(|node| node.me || node.state == "alive").count();
            ensure!(heard == on.len(), "{name} hears {heard} of {}: {:?}", on.len(), status.nodes);
            let mut owners = Vec::new();
            for group in &status.groups {
                let owner =
                    group.owner.clone().ok_or_else(|| format!("{name}: nobody owns {}: {}", group.name, group.why))?;
                let right = if owner == name { "running" } else { "inactive" };
                ensure!(
                    group.state == right,
                    "{name}: {} of {owner} is {} here: {}",
                    group.name,
                    group.state,
                    group.why
                );
                owners.push((group.name.clone(), owner));
            }
            let agreed = agreed.get_or_insert_with(|| owners.clone());
            ensure!(*agreed == owners, "the hosts disagree: {agreed:?} and {owners:?}");
        }
        agreed.ok_or_else(|| "no host is on".into())
    }

    /// For figures of this pair. Of its own lifetime, so that a run may have the pair for itself.
    pub fn judge(&self) -> Judge<'lab> {
        self.lab.judge(&self.settings)
    }

    pub fn client(&self) -> Result<Client> {
        Client::start(CLIENT, VIP)
    }

    /// A running client that has service.
    pub fn served_client(&self) -> Result<Client> {
        let client = self.client()?;
        client.wait_for_answer(Instant::now(), SETTLE)?;
        Ok(client)
    }

    /// Fails if two hosts had the first address at once at any time since the pair was made.
    pub fn never_two_owners(&self) -> Result {
        self.never_two_owners_of([VIP])
    }

    /// The same for these addresses.
    pub fn never_two_owners_of<A: Into<IpAddr>>(&self, addresses: impl IntoIterator<Item = A>) -> Result {
        for address in addresses {
            let overlap = self.watch.overlap(address, self.begun);
            ensure!(overlap.is_none(), "{}", overlap.unwrap_or_default());
        }
        lock::never_shared()
    }

    /// Switches a lost host on again and waits until both are at rest.
    pub fn return_of(&mut self, name: &str) -> Result<String> {
        self.host_mut(name).switch_on()?;
        self.host(name).wait_booted()?;
        self.settled()
    }

    /// Writes down what the hosts said and what was seen of them.
    fn leave_report(&self, report: &mut Report) -> Result {
        fs::create_dir_all(&report.directory)?;
        report.tail.clear();
        for host in &self.hosts {
            let all = host.journal(&["-o", "short-monotonic"]).unwrap_or_else(|error| error.to_string());
            fs::write(report.directory.join(format!("{}.log", host.name())), all)?;
            let ours = host.journal(&["-o", "short-monotonic", "-u", "hafailover.service", "-n", "25"]);
            let ours = ours.unwrap_or_else(|error| error.to_string());
            report.tail.push_str(&format!("--- {}\n{ours}", host.name()));
        }
        let mut seen = String::new();
        for change in self.watch.changes(VIP) {
            let what = if change.added { "has" } else { "lost" };
            let at = change.at.saturating_duration_since(self.begun).as_secs_f64();
            seen.push_str(&format!("{at:10.6} {} {what} {}\n", change.host, change.address));
        }
        Ok(fs::write(report.directory.join("addresses.txt"), seen)?)
    }
}

impl Drop for Pair<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.leave_report(&mut self.lab.report.borrow_mut()) {
            eprintln!("lab: no report: {error}");
        }
    }
}

/// An address on the service LAN in the lab's numbering.
pub fn vip(number: u8) -> Ipv4Addr {
    on_lan(SERVICE, number)
}
