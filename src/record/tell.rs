//! A recording as a timeline for people: when, what came, what was decided, and why each group is where it is.
//! It must not compare anything.

use super::{Header, Line};
use crate::cluster::{Action, Actual, Answer, Cluster, Command, Event, Heard, HeldPhase, Outcome, Time};
use crate::config::model::{Config, GroupId};
use crate::journal::render;
use crate::wire::{Message, Role};
use std::collections::BTreeMap;

/// Collects lines of text while a recording is run.
#[derive(Debug)]
pub struct Timeline {
    header: Header,
    /// Heartbeats and rounds in which nothing came of them, too.
    all: bool,
    pub text: Vec<String>,
    /// What came since the last decision, and whether it is more than a heartbeat.
    inputs: Vec<(bool, String)>,
    why: BTreeMap<String, String>,
}

impl Timeline {
    pub fn new(header: &Header, all: bool) -> Timeline {
        Timeline { header: header.clone(), all, text: Vec::new(), inputs: Vec::new(), why: BTreeMap::new() }
    }

    /// The next line, and the heart behind it.
    pub fn take(&mut self, line: &Line, heart: &Cluster) {
        let config = heart.config();
        match line {
            Line::Hear { message, heard, link } => {
                let link = config.links.get(usize::from(link.0)).map_or("?", |link| &link.name);
                let text = format!("{} over {link}: {}", heard_as(*heard, message, config), says(message, config));
                self.inputs.push((!matches!(heard, Heard::News(_) | Heard::Duplicate), text));
            }
            Line::Fold(event) => self.inputs.push((true, came(event, config))),
            Line::LeaveUnread => self.inputs.push((true, "a link brings more than a round reads".into())),
            Line::Decide { now, actions } => self.decided(*now, actions, heart),
            Line::Begin { .. } | Line::Recording(_) | Line::Heart(_) | Line::End { .. } => {}
        }
    }

    fn decided(&mut self, now: Time, actions: &[Action], heart: &Cluster) {
        let inputs = std::mem::take(&mut self.inputs);
        let telling = |action: &&Action| self.all || !matches!(action, Action::Send(_) | Action::Probe { .. });
        let done: Vec<&Action> = actions.iter().filter(telling).collect();
        // Which heartbeat tipped the scales shows only beside what came of it.
        let inputs = inputs.into_iter().filter(|(telling, _)| self.all || *telling || !done.is_empty());
        let inputs: Vec<String> = inputs.map(|(_, text)| text).collect();
        if inputs.is_empty() && done.is_empty() {
            return;
        }
        let mut at = self.time(now);
        let mut push = |sign: &str, text: &str| {
            self.text.push(format!("{at:15}  {sign} {text}"));
            at.clear();
        };
        inputs.iter().for_each(|text| push("<", text));
        done.iter().for_each(|action| push(">", &did(action, heart.config())));
        for group in heart.status().groups {
            if self.why.get(&group.name) != Some(&group.why) {
                push("=", &format!("{}: {}", group.name, group.why));
                self.why.insert(group.name, group.why);
            }
        }
    }

    /// The time of day, in UTC, as far as the host's clock was right when this file was begun.
    pub fn time(&self, at: Time) -> String {
        let micros =
            i128::from(self.header.wall_ms) * 1000 + (i128::from(at.0) - i128::from(self.header.boottime.0)) / 1000;
        let micros = u64::try_from(micros).unwrap_or(0);
        let seconds = micros / 1_000_000;
        let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
        format!("{hour:02}:{minute:02}:{second:02}.{:06}", micros % 1_000_000)
    }
}

/// `2026-11-21 02:14:07 UTC`
pub fn utc(wall_ms: u64) -> String {
    let seconds = wall_ms / 1000;
    let (year, month, day) = date(seconds / 86_400);
    let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    format!("{year}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02} UTC")
}

/// Days since 1970 in the calendar, counted in years that begin in March: a leap day is their last.
pub fn date(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (year_of_era + era * 400 + u64::from(month <= 2), month, day)
}

fn heard_as(heard: Heard, message: &Message, config: &Config) -> String {
    let node = config.node_by_tag(message.sender).map_or("an unknown node", |id| &config.node(id).name);
    let what = match heard {
        Heard::News(_) => "hears",
        Heard::Duplicate => "hears once more",
        Heard::Stranger { .. } => "drops (it shows no sign of having heard this daemon)",
        Heard::Replay => "drops (older than what was heard)",
        Heard::UnknownSender => "drops (not of this cluster)",
        Heard::OwnName => "drops (this node's own name, from another daemon)",
        Heard::OwnCopy => "drops (what this node said, given back)",
    };
    format!("{what} {node} #{}", message.sequence)
}

fn says(message: &Message, config: &Config) -> String {
    let flags = [("joining", !message.flags.joined), ("leaving", message.flags.leaving), ("left", message.flags.left)];
    let flags = flags.iter().filter(|(_, set)| *set).map(|(word, _)| (*word).to_owned());
    let groups = message.groups.iter().map(|says| {
        let name = config.group_by_tag(says.group).map_or("?", |id| &config.group(id).name);
        let role = match says.role {
            Role::Idle => "idle",
            Role::Unknown => "unknown",
            Role::Starting => "starting",
            Role::Running => "running",
            Role::Stopping => "stopping",
        };
        let record = says.record.map_or(String::new(), |record| {
            let node = config.node_by_tag(record.node).map_or("?", |id| &config.node(id).name);
            let over = if record.released { ", released" } else { "" };
            format!(", epoch {} of {node}{over}", record.epoch.0)
        });
        format!("{name} {role}{record}")
    });
    flags.chain(groups).collect::<Vec<_>>().join("; ")
}

fn name(group: GroupId, config: &Config) -> &str {
    config.groups.get(usize::from(group.0)).map_or("?", |group| &group.name)
}

fn came(event: &Event, config: &Config) -> String {
    let link = |id: &crate::config::model::LinkId| config.links.get(usize::from(id.0)).map_or("?", |link| &link.name);
    match event {
        Event::Heartbeat { message, .. } => format!("a heartbeat: {}", says(message, config)),
        Event::Link { link: id, usable } => {
            format!("link {} is {}", link(id), if *usable { "usable" } else { "unusable" })
        }
        Event::Interface { interface, up } => {
            format!("interface {interface} has {} carrier", if *up { "a" } else { "no" })
        }
        Event::AddressLost { group, index } => format!("address {index} of {} is gone", name(*group, config)),
        Event::AddressFlushed { group, index } => {
            format!("address {index} of {} went with its interface, which is back", name(*group, config))
        }
        Event::Placed { group, fault: Some(fault), .. } => format!("{}: {fault}", name(*group, config)),
        Event::Placed { group, interfaces, .. } => {
            let found = interfaces.iter().map(|name| name.as_deref().unwrap_or("-"));
            format!("interfaces of {}: {}", name(*group, config), found.collect::<Vec<_>>().join(" "))
        }
        Event::ProbeAnswer { group, index, mac } => {
            let mac = mac.map(|byte| format!("{byte:02x}")).join(":");
            format!("{mac} answers for address {index} of {}", name(*group, config))
        }
        Event::ProbeFailed { group, reason } => {
            format!("the network cannot be asked for {}: {reason}", name(*group, config))
        }
        Event::Guard { group, fault } => {
            let fault = fault.as_deref().unwrap_or("in place");
            format!("guards of {}: {fault}", name(*group, config))
        }
        Event::MemberDown { group, unit, reason } => format!("{unit} of {} is down: {reason}", name(*group, config)),
        Event::TargetStopped { group } => format!("the target of {} was stopped by hand", name(*group, config)),
        Event::HostStopping => "the host is going down".into(),
        Event::Leave => "the daemon was told to stop".into(),
        Event::DaemonDied => "the daemon had died for good".into(),
        Event::HostThread { answering: true } => "the part of the daemon that speaks to systemd answers again".into(),
        Event::HostThread { answering: false } => {
            "the part of the daemon that speaks to systemd does not answer".into()
        }
        Event::Pending(what) => format!("the files on disk: {}", what.as_deref().unwrap_or("as what runs")),
        Event::Files { groups, .. } => {
            let names: Vec<&str> = groups.iter().map(|group| group.name.as_str()).collect();
            format!("the files on disk have the groups {}", names.join(" "))
        }
        Event::Command { command, .. } => match command {
            Command::Move { group, to } => {
                let to = config.nodes.get(usize::from(to.0)).map_or("?", |node| &node.name);
                format!("an operator: move {} {to}", name(*group, config))
            }
            Command::Stop { group } => format!("an operator: stop {}", name(*group, config)),
            Command::Start { group } => format!("an operator: start {}", name(*group, config)),
            Command::Clear { group } => format!("an operator: clear {}", name(*group, config)),
            Command::Standby { which, stay } => {
                format!("an operator: standby {}{}", which.word(), if *stay { " --stay" } else { "" })
            }
            Command::Takeover { which } => format!("an operator: takeover {}", which.word()),
            Command::Online => "an operator: online".into(),
            Command::Maintenance { on } => format!("an operator: maintenance {}", if *on { "on" } else { "off" }),
        },
        Event::Finished { op, outcome } => format!("step {} ended: {}", op.0, ended(outcome)),
    }
}

fn ended(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Done => "done".into(),
        Outcome::Failed(why) => format!("failed: {why}"),
        Outcome::Refused(why) => format!("refused: {why}"),
        Outcome::Unknown(why) => format!("it is not known how: {why}"),
        Outcome::Inspected(Actual { all_active, any_active, addresses }) => {
            let members = match (all_active, any_active) {
                (true, _) => "all members are active",
                (false, true) => "some members are active",
                (false, false) => "no member is active",
            };
            format!("{members}, {} of its addresses are here", addresses.len())
        }
    }
}

fn did(action: &Action, config: &Config) -> String {
    let of = |group: &GroupId| name(*group, config).to_owned();
    match action {
        Action::Send(message) => format!("says #{}: {}", message.sequence, says(message, config)),
        Action::Hold { op, group, grant, phase } => {
            let what = match phase {
                HeldPhase::Granted => "writes",
                HeldPhase::Stopping => "removes",
            };
            format!("step {}: {what} the grant of {}, epoch {}", op.0, of(group), grant.epoch.0)
        }
        Action::Forget { group } => format!("forgets {}: it is confirmed stopped", of(group)),
        Action::Inspect { op, group } => format!("step {}: looks at {}", op.0, of(group)),
        Action::AddAddresses { op, group } => format!("step {}: adds the addresses of {}", op.0, of(group)),
        Action::RemoveAddresses { op, group } => format!("step {}: removes the addresses of {}", op.0, of(group)),
        Action::RepairAddress { op, group, index } => {
            format!("step {}: puts address {index} of {} back", op.0, of(group))
        }
        Action::Announce { group } => format!("announces {}", of(group)),
        Action::Probe { group } => format!("asks the network for {}", of(group)),
        Action::StartMembers { op, group } => format!("step {}: starts the members of {}", op.0, of(group)),
        Action::StopMembers { op, group } => format!("step {}: stops the members of {}", op.0, of(group)),
        Action::VerifyStopped { op, group } => format!("step {}: verifies that {} is stopped", op.0, of(group)),
        Action::CheckGuards { op, to } => format!("step {}: looks whether {} is guarded as changed", op.0, to.name),
        Action::DropAddresses { op, group, indexes } => {
            format!("step {}: removes {} addresses of {}", op.0, indexes.len(), of(group))
        }
        Action::DropMembers { op, group, units } => {
            format!("step {}: stops {} of {}", op.0, units.join(" "), of(group))
        }
        Action::Note { op, .. } => format!("step {}: writes down what it runs by", op.0),
        Action::Configure(config) => {
            format!("goes by another configuration, of {} groups", config.live_groups().count())
        }
        Action::Save(_) => "saves its records".into(),
        Action::Report(change) => format!("reports: {}", render(change, config).text),
        Action::Reply { answer, .. } => match answer {
            Answer::Done(text) => format!("answers: {text}"),
            Answer::Failed(text) => format!("answers: failed: {text}"),
            Answer::Refused(text) => format!("answers: refused: {text}"),
        },
        Action::Exit => "ends".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_counted_as_the_calendar_does() {
        // date -u -d @N
        assert_eq!(utc(0), "1970-01-01 00:00:00 UTC");
        assert_eq!(utc(951_782_399_000), "2000-02-28 23:59:59 UTC");
        assert_eq!(utc(951_782_400_000), "2000-02-29 00:00:00 UTC");
        assert_eq!(utc(1_795_253_647_999), "2026-11-21 09:34:07 UTC");
        assert!(utc(u64::MAX).ends_with("UTC"));
    }
}
