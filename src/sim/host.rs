//! One host: power, kernel, service manager, disk, and the daemon with the heart in it. It carries out what the heart asks
//! for and must not know why, nor the other host.

use super::clock::Clock;
use super::files::{self, ADDRESSES, MOST_GROUPS, Parts};
use super::happening::Packet;
use super::parts::{JobEnd, JobKind, Order, Up, done, failed};
use super::random::Random;
use super::scenario::{MOST_NODES, Rough};
use super::{MS, Nanos};
use crate::cluster::{
    Actual, BootId, Cluster, Event, Grant, Held, HeldPhase, Identity, Incarnation, OpId, Outcome, Saved, Time,
};
use crate::config::model::{Config, GroupConfig, GroupId, LinkId};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

/// What waits to be read.
#[derive(Clone, Debug)]
pub enum News {
    Event(Event),
    Packet(LinkId, Rc<Packet>),
    /// Somebody else answers for an address, or it is here no more: whose that is depends on the configuration it is read under.
    Answer {
        address: usize,
        mac: [u8; 6],
    },
    Lost {
        address: usize,
    },
}

/// A group as this host's daemon runs it, in the world's numbers.
#[derive(Clone, Debug)]
pub struct Form {
    pub group: usize,
    pub addresses: Vec<usize>,
    pub members: Vec<usize>,
}

impl Form {
    fn new(config: &GroupConfig) -> Form {
        Form {
            group: files::number(config.tag),
            addresses: config.addresses.iter().map(|it| files::address_number(&it.address)).collect(),
            members: config.members.iter().filter_map(|name| files::member_number(name)).collect(),
        }
    }
}

/// A run of the daemon.
#[derive(Debug)]
pub struct Daemon {
    pub cluster: Cluster,
    pub incarnation: Incarnation,
    /// Stopped by a signal until then.
    pub paused_until: Nanos,
    /// What waits in sockets and channels.
    pub inbox: Vec<News>,
    /// Packets among it.
    pub packets: usize,
    /// When it will look at the time.
    pub wake_at: Option<Nanos>,
    /// It has read, and is held up before it decides.
    pub deciding: bool,
    /// Since when something waits that it has not read, by its own clock.
    pub unread_since: Option<Time>,
    /// The newest packet it read of each host.
    newest: [Option<(Incarnation, u64)>; MOST_NODES],
}

impl Daemon {
    pub fn reads(&mut self, packet: &Packet) {
        let message = &packet.message;
        let newest = &mut self.newest[packet.from];
        if newest.is_none_or(|(last, sequence)| last != message.incarnation || sequence < message.sequence) {
            *newest = Some((message.incarnation, message.sequence));
        }
    }

    /// A copy that another link brought before, while nothing is due: it only shows that its link works, and a decision that
    /// comes of nothing new is not worth its time.
    pub fn knows(&self, packet: &Packet, clock: Time) -> bool {
        let copy = self.newest[packet.from] == Some((packet.message.incarnation, packet.message.sequence));
        copy && self.cluster.next_deadline().is_some_and(|next| next > clock)
    }
}

/// What a step of a host brings about later.
#[derive(Clone, Debug)]
pub enum Later {
    Tell(Event),
    News(News),
    Job { group: usize, number: u64, end: JobEnd },
    Written(Saved),
}

#[derive(Debug)]
pub struct Host {
    /// What its daemon runs by, or ran by last.
    pub config: Arc<Config>,
    forms: Vec<Form>,
    /// Since when each group's addresses have been what they are, for the daemon.
    pub formed: [Nanos; MOST_GROUPS],
    /// The adopted configuration in /run, and on the disk.
    noted: Option<Arc<Config>>,
    kept: Option<Arc<Config>>,
    pub powered: bool,
    pub boot: BootId,
    /// The whole host stands still until then.
    pub frozen_until: Nanos,
    pub clock: Clock,
    pub carrier: bool,
    /// Since when its kernel answers ARP questions.
    pub answers_since: Option<Nanos>,
    pub up: Up,
    pub daemon: Option<Box<Daemon>>,
    disk: Saved,
    run_saved: Option<Saved>,
    held: BTreeMap<String, Held>,
    /// Guards that systemd has not loaded, for so many reasons.
    pub unguarded: [u8; MOST_GROUPS],
    /// Injected fault: it says that it stopped, and does not.
    pub lies: bool,
    /// Injected fault: no step of it is ever answered.
    pub mute: bool,
    /// There is no room in its /run, for so many reasons.
    pub full: u8,
    /// Spells in which its steps fail, hang or take long, and in which it wakes up late.
    pub trouble: Trouble,
    /// Its kernel answers no question for addresses.
    pub unanswering: u8,
}

/// Counts the faults that bring each trouble about: they overlap.
#[derive(Clone, Copy, Debug, Default)]
pub struct Trouble {
    pub fail: u8,
    pub hang: u8,
    pub slow: u8,
    pub late: u8,
}

impl Host {
    pub fn new(config: Config, fast: i64, random: &mut Random) -> Host {
        Host {
            up: Up::new(0),
            forms: Vec::new(),
            formed: [0; MOST_GROUPS],
            noted: None,
            kept: None,
            unguarded: [0; MOST_GROUPS],
            config: Arc::new(config),
            powered: false,
            boot: BootId(0),
            frozen_until: 0,
            clock: Clock::new(random.below(1 << 50), fast),
            carrier: true,
            answers_since: None,
            daemon: None,
            disk: Saved::default(),
            run_saved: None,
            held: BTreeMap::new(),
            lies: false,
            mute: false,
            full: 0,
            trouble: Trouble::default(),
            unanswering: 0,
        }
    }

    pub fn clock(&self, now: Nanos) -> Time {
        self.clock.time(now)
    }

    /// The world's time at which this host's clock shows `time`.
    pub fn world_time(&self, time: Time) -> Nanos {
        self.clock.world_time(time)
    }

    /// From now on it goes fast by so many millionths.
    pub fn set_clock_rate(&mut self, now: Nanos, fast: i64) {
        self.clock.set_rate(now, fast);
    }

    /// It stands still, as a paused virtual machine's does.
    pub fn hold_clock(&mut self, now: Nanos, span: Nanos) {
        self.clock.hold(now, span);
    }

    /// Whether its kernel would answer for one of these addresses.
    pub fn answers(&self, addresses: &[usize], now: Nanos) -> bool {
        self.powered
            && self.carrier
            && self.unanswering == 0
            && self.frozen_until <= now
            && addresses.iter().any(|address| self.up.has(*address))
    }

    /// All that is up here.
    pub fn parts(&self) -> Parts {
        if self.powered { self.up.parts } else { 0 }
    }

    pub fn owns(&self, group: usize) -> bool {
        self.powered && self.up.owns(group)
    }

    /// All of a group's parts are up, as its daemon runs it.
    pub fn is_whole(&self, group: usize) -> bool {
        self.form_of(group).is_some_and(|form| {
            form.addresses.iter().all(|address| self.up.has(*address))
                && form.members.iter().all(|member| self.up.is_active(*member))
        })
    }

    /// The place of a group that this daemon knows of.
    pub fn id(&self, group: usize) -> Option<GroupId> {
        let place = self.forms.iter().position(|form| form.group == group)?;
        Some(GroupId(place as u16))
    }

    pub fn form(&self, id: GroupId) -> &Form {
        &self.forms[usize::from(id.0)]
    }

    pub fn form_of(&self, group: usize) -> Option<&Form> {
        self.forms.iter().find(|form| form.group == group)
    }

    /// By which digest it runs a group.
    pub fn digest(&self, group: usize) -> u32 {
        self.id(group).map_or(0, |id| self.config.group(id).digest)
    }

    /// Whose an address is, as this daemon runs.
    pub fn whose(&self, address: usize) -> Option<(GroupId, usize)> {
        let mut forms = self.forms.iter().enumerate();
        forms.find_map(|(id, form)| {
            let index = form.addresses.iter().position(|it| *it == address)?;
            Some((GroupId(id as u16), index))
        })
    }

    /// From here on this is what its daemon runs by.
    pub fn configure(&mut self, now: Nanos, config: Arc<Config>) {
        let forms: Vec<Form> = config.groups.iter().map(Form::new).collect();
        for form in &forms {
            if self.form_of(form.group).is_none_or(|before| before.addresses != form.addresses) {
                self.formed[form.group] = now;
            }
        }
        self.forms = forms;
        self.config = config;
    }

    /// What it runs by, and what it would run by after its next start or boot.
    pub fn configs(&self) -> impl Iterator<Item = &Arc<Config>> {
        [Some(&self.config), self.noted.as_ref(), self.kept.as_ref()].into_iter().flatten()
    }

    /// Written to /run, without the places of groups that are gone. Answers with what is to be told.
    pub fn note(&mut self, op: OpId, config: &Arc<Config>, fails: bool) -> Event {
        if fails || self.full > 0 {
            return failed(op, "no room in /run");
        }
        let mut config = (**config).clone();
        config.groups.retain(|group| !group.is_gone());
        self.noted = Some(Arc::new(config));
        Event::Finished { op, outcome: Outcome::Done }
    }

    /// What is to be on the disk some day.
    pub fn to_keep(&self) -> Option<Arc<Config>> {
        self.noted.clone()
    }

    pub fn keep(&mut self, config: Arc<Config>) {
        self.kept = Some(config);
    }

    pub fn runs(&self, now: Nanos) -> bool {
        self.powered
            && now >= self.frozen_until
            && self.daemon.as_ref().is_some_and(|daemon| now >= daemon.paused_until && !daemon.deciding)
    }

    pub fn boot(&mut self, now: Nanos, random: &mut Random) {
        self.powered = true;
        self.boot = BootId(random.next());
        self.frozen_until = 0;
        self.clock.go_on(now);
        self.carrier = true;
        self.answers_since = Some(now);
        self.up = Up::new(self.up.numbers());
        self.run_saved = None;
        self.noted = None;
        self.held.clear();
    }

    /// Everything but the disk is gone.
    pub fn power_loss(&mut self) {
        self.powered = false;
        self.daemon = None;
        self.answers_since = None;
    }

    /// By what was adopted, of this boot or another one; else by the files. Answers whether there was anything to go by.
    pub fn start_daemon(&mut self, now: Nanos, read: Result<Vec<GroupConfig>, String>, random: &mut Random) -> bool {
        let adopted = self.noted.clone().or(self.kept.clone());
        let Some(files) = read.ok().or(adopted.is_some().then(Vec::new)) else { return false };
        let config = Arc::new(files::at_start((*self.config).clone(), adopted.as_deref(), files));
        self.configure(now, config.clone());
        self.formed = [now; MOST_GROUPS];
        self.noted = Some(config);
        let incarnation = Incarnation(random.next());
        let saved = self.run_saved.clone().unwrap_or_else(|| self.disk.clone());
        let held: Vec<Held> = self.held.values().cloned().collect();
        let identity = Identity { incarnation, boot: self.boot };
        let cluster = Cluster::new(self.config.clone(), identity, &saved, &held, self.clock(now));
        self.daemon = Some(Box::new(Daemon {
            cluster,
            incarnation,
            paused_until: 0,
            inbox: Vec::new(),
            packets: 0,
            wake_at: None,
            deciding: false,
            unread_since: None,
            newest: [None; MOST_NODES],
        }));
        true
    }

    /// A daemon that leaves in order has its disk written.
    pub fn flush(&mut self) {
        if let Some(saved) = self.run_saved.clone() {
            self.disk = saved;
        }
    }

    pub fn save(&mut self, saved: Saved, random: &mut Random, rough: &Rough) -> (Nanos, Later) {
        self.run_saved = Some(saved.clone());
        (random.between(MS / 2, rough.disk), Later::Written(saved))
    }

    pub fn written(&mut self, saved: Saved) {
        self.disk = saved;
    }

    pub fn hold(&mut self, op: OpId, group: GroupId, grant: Grant, phase: HeldPhase, fails: bool) -> Later {
        // To take a grant back needs no room: the missing file says it.
        if fails || (self.full > 0 && phase == HeldPhase::Granted) {
            return Later::Tell(failed(op, "no room in /run"));
        }
        let group = self.config.group(group).name.clone();
        if self.full > 0 {
            // The note stays as it was; where there is none, nothing was started.
            if let Some(held) = self.held.get_mut(&group) {
                held.phase = phase;
            }
            return done(op);
        }
        self.held.insert(group.clone(), Held { group, grant, phase });
        done(op)
    }

    pub fn forget(&mut self, group: GroupId) {
        self.held.remove(&self.config.group(group).name);
    }

    fn active(&self, id: GroupId) -> bool {
        self.form(id).members.iter().any(|member| self.up.has(ADDRESSES + member))
    }

    pub fn inspect(&self, op: OpId, id: GroupId, fails: bool) -> Later {
        if fails {
            let outcome = Outcome::Unknown("the bus does not answer".into());
            return Later::Tell(Event::Finished { op, outcome });
        }
        let form = self.form(id);
        let addresses = form.addresses.iter().enumerate().filter(|(_, address)| self.up.has(**address));
        let actual = Actual {
            all_active: form.members.iter().all(|member| self.up.is_active(*member)),
            any_active: self.active(id),
            addresses: addresses.map(|(index, _)| index).collect(),
        };
        Later::Tell(Event::Finished { op, outcome: Outcome::Inspected(actual) })
    }

    pub fn add_addresses(&mut self, now: Nanos, op: OpId, id: GroupId, fails: bool) -> Later {
        let Form { group, addresses, .. } = self.form(id).clone();
        if fails || addresses.iter().any(|address| self.up.has(*address)) {
            return Later::Tell(failed(op, "address is there already or refused"));
        }
        addresses.iter().for_each(|address| self.up.add_address(now, *address, group));
        done(op)
    }

    /// Those at `indexes`, or all.
    pub fn remove_addresses(&mut self, op: OpId, id: GroupId, indexes: Option<&[usize]>, fails: bool) -> Later {
        if fails {
            return Later::Tell(failed(op, "netlink refused"));
        }
        if !self.lies {
            let addresses = self.form(id).addresses.clone();
            let meant = |index: &usize| indexes.is_none_or(|indexes| indexes.contains(index));
            (0..addresses.len()).filter(meant).for_each(|index| self.up.remove_address(addresses[index]));
        }
        done(op)
    }

    pub fn repair_address(&mut self, now: Nanos, op: OpId, id: GroupId, index: usize, fails: bool) -> Later {
        if fails {
            return Later::Tell(failed(op, "netlink refused"));
        }
        let (group, address) = (self.form(id).group, self.form(id).addresses[index]);
        self.up.add_address(now, address, group);
        done(op)
    }

    /// Takes the first group, told by nobody.
    pub fn usurp(&mut self, now: Nanos) {
        let Some(Form { addresses, members, .. }) = self.form_of(0).cloned() else { return };
        match members.first() {
            Some(member) => self.up.usurp(*member, 0),
            None => self.up.add_address(now, addresses[0], 0),
        }
    }

    /// An address of a group is deleted by somebody else.
    pub fn lose_address(&mut self, group: usize) -> Option<News> {
        let address = *self.form_of(group)?.addresses.iter().find(|address| self.up.has(**address))?;
        self.up.remove_address(address);
        Some(News::Lost { address })
    }

    /// A member of a group stops for good, of itself.
    pub fn lose_member(&mut self, group: usize) -> Option<Event> {
        let member = *self.form_of(group)?.members.iter().find(|member| self.up.is_active(**member))?;
        self.up.lose_member(member);
        let unit = files::member_name(member);
        Some(Event::MemberDown { group: self.id(group)?, unit, reason: "exited with 1".into() })
    }

    /// Asks the service manager for a group's members, or for some of them (`units`).
    pub fn order(
        &mut self,
        (op, id, kind): (OpId, GroupId, JobKind),
        units: Option<&[String]>,
        random: &mut Random,
        rough: &Rough,
    ) -> Vec<(Nanos, Later)> {
        let held = self.held.get(&self.config.group(id).name);
        let granted = held.is_some_and(|held| held.phase == HeldPhase::Granted);
        let Form { group, members, .. } = self.form(id).clone();
        let some = units.map(|units| units.iter().filter_map(|unit| files::member_number(unit)).collect());
        let order = Order {
            op,
            group,
            kind,
            members: some.unwrap_or(members),
            granted,
            lies: self.lies,
            hang: if self.trouble.hang > 0 { 500 } else { rough.hang },
            fail: if self.trouble.fail > 0 { 500 } else { rough.fail },
            slow: self.trouble.slow > 0,
        };
        self.up.begin_job(order, random)
    }

    pub fn job_ended(&mut self, number: u64, end: JobEnd) -> Option<Later> {
        self.up.job_ended(number, end)
    }

    pub fn verify(&self, op: OpId, id: GroupId) -> Later {
        if self.active(id) && !self.lies {
            return Later::Tell(failed(op, "a member is active"));
        }
        done(op)
    }

    /// Whether systemd has loaded the guards of a group.
    pub fn check_guards(&self, op: OpId, to: &GroupConfig, fails: bool) -> Later {
        let outcome = match (fails, self.guard_fault(files::number(to.tag))) {
            (true, _) => Outcome::Unknown("the bus does not answer".into()),
            (false, Some(fault)) => Outcome::Refused(fault),
            (false, None) => Outcome::Done,
        };
        Later::Tell(Event::Finished { op, outcome })
    }

    pub fn guard_fault(&self, group: usize) -> Option<String> {
        (self.unguarded[group] > 0).then(|| "drop-in not loaded".to_string())
    }
}
