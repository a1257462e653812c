//! Whether a fault would change anything at this moment, or reach anybody: only then it strikes, and counts. It must not know what
//! comes of it.

use super::faults::Fault;
use super::host::Host;
use super::strike::{cuts, cuts_service};
use super::world::World;

impl World {
    /// What hits parts of a group is aimed at whoever has some: the group and the host that it was drawn for, or the next ones.
    pub fn aimed(&self, fault: Fault) -> Fault {
        let whose = |host: usize, group: usize, has: fn(&Host, usize) -> bool| {
            let (hosts, groups) = (self.scenario.nodes, self.scenario.groups.len());
            let turns = (0..groups).flat_map(|turn| (0..hosts).map(move |next| (turn, next)));
            let mut places = turns.map(|(turn, next)| ((host + next) % hosts, (group + turn) % groups));
            let found = places.find(|(host, group)| self.hosts[*host].powered && has(&self.hosts[*host], *group));
            found.unwrap_or((host, group))
        };
        match fault {
            Fault::MemberFails { host, group } => {
                let (host, group) = whose(host, group, has_member);
                Fault::MemberFails { host, group }
            }
            Fault::AddressDeleted { host, group } => {
                let (host, group) = whose(host, group, has_address);
                Fault::AddressDeleted { host, group }
            }
            fault => fault,
        }
    }

    /// Whether it changes something, or reaches a living daemon. Of files that is seen by changing them.
    pub fn would_strike(&self, fault: Fault) -> bool {
        let lives = |host: usize| self.hosts[host].powered && self.hosts[host].daemon.is_some();
        let moves = |host: usize| self.hosts[host].powered && self.hosts[host].frozen_until <= self.now;
        if let Some((host, _)) = self.said(fault) {
            return lives(host);
        }
        match fault {
            Fault::Move { .. } | Fault::Stop { .. } | Fault::Start { .. } | Fault::Clear { .. } => false,
            Fault::PowerLoss { host } => self.hosts[host].powered,
            Fault::PowerLossAll => self.hosts.iter().any(|host| host.powered),
            Fault::Reboot { host } | Fault::LeaveDaemon { host } | Fault::HostThreadStuck { host } => lives(host),
            Fault::KillDaemon { host } | Fault::RestartDaemon { host } | Fault::DaemonDies { host } => lives(host),
            Fault::OtherFiles { host } => lives(host) && !self.files.is_turned(host),
            Fault::PauseDaemon { host } => {
                moves(host) && self.hosts[host].daemon.as_ref().is_some_and(|daemon| daemon.paused_until <= self.now)
            }
            Fault::PauseHost { host } | Fault::PauseMachine { host } => moves(host),
            Fault::MemberFails { host, group } => self.hosts[host].powered && has_member(&self.hosts[host], group),
            Fault::AddressDeleted { host, group } => self.hosts[host].powered && has_address(&self.hosts[host], group),
            Fault::Replay { to } => lives(to) && self.recorded.iter().any(|(for_whom, ..)| *for_whom == to),
            Fault::ForeignAnswers { group } => {
                let asked = |host: &Host| host.form_of(group).is_some_and(|form| !form.addresses.is_empty());
                self.foreign[group] == 0 && self.hosts.iter().any(asked)
            }
            Fault::GuardMissing { host, group } => {
                lives(host) && self.hosts[host].unguarded[group] == 0 && self.known(host, group).is_some()
            }
            Fault::Lossy => self.network.lossy == 0,
            Fault::Doubling => self.network.doubling == 0,
            Fault::SlowNetwork => self.network.slow == 0,
            Fault::LinkDown { host, link } => self.hosts[host].powered && self.links[host][link],
            fault => self.would_trouble(fault).unwrap_or_else(|| self.would_cut(fault)),
        }
    }

    /// Of a host that is on: what is not so yet.
    fn would_trouble(&self, fault: Fault) -> Option<bool> {
        let of = |host: usize, is_new: fn(&Host) -> bool| Some(self.hosts[host].powered && is_new(&self.hosts[host]));
        match fault {
            Fault::CableOut { host } => of(host, |host| host.carrier),
            Fault::AnswersNothing { host } => of(host, |host| host.unanswering == 0),
            Fault::RunFull { host } => of(host, |host| host.full == 0),
            Fault::ActionsFail { host } => of(host, |host| host.trouble.fail == 0),
            Fault::ActionsHang { host } => of(host, |host| host.trouble.hang == 0),
            Fault::ActionsSlow { host } => of(host, |host| host.trouble.slow == 0),
            Fault::LateDaemon { host } => of(host, |host| host.trouble.late == 0),
            Fault::WrongClock { host, .. } => {
                Some(self.hosts[host].powered && self.hosts[host].clock.rate() == self.scenario.drift[host])
            }
            // Changed files are tried.
            Fault::Files { .. } => Some(true),
            _ => None,
        }
    }

    fn would_cut(&self, fault: Fault) -> bool {
        let nodes = self.scenario.nodes;
        let ways = (0..nodes).flat_map(|from| (0..nodes).map(move |to| (from, to)));
        let mut ways = ways.filter(|(from, to)| from != to);
        ways.any(|(from, to)| {
            let mut links = (0..self.scenario.links).filter(|link| cuts(fault, from, to, *link));
            links.any(|link| !self.network.is_cut(from, to, link))
                || (cuts_service(fault, from, to) && self.network.arp_since(from, to).is_some())
        })
    }
}

fn has_address(host: &Host, group: usize) -> bool {
    host.form_of(group).is_some_and(|form| form.addresses.iter().any(|address| host.up.has(*address)))
}

fn has_member(host: &Host, group: usize) -> bool {
    host.form_of(group).is_some_and(|form| form.members.iter().any(|member| host.up.is_active(*member)))
}
