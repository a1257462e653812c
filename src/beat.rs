//! The beat thread: links, netlink, neighbours, timers and the heart. Realtime where allowed; it waits for no other thread,
//! disk, bus or journal. Where it changes addresses it waits for the kernel, whose lock on network configuration is not
//! ours to bound. It must not know how units or files are handled.
//!
//! One round: wait until something is readable or due → the heart begins → everything that waits is drained and folded →
//! the heart decides → its actions are performed, and what ended at once is folded and decided again.

use crate::cluster::status::LinkSeen;
use crate::cluster::{Action, Cluster, Event, Heard, Time};
use crate::config::model::{GroupId, LinkId, LinkKind, MOST_LINKS};
use crate::host::address::NetChange;
use crate::host::clock;
use crate::host::orders::{BeatInbox, HostMoves, ToBeat, ToHost};
use crate::links::UdpLink;
use crate::perform::Edges;
use crate::perform::addresses::SLICE;
use crate::record::{Recorder, Sink};
use crate::wire::{codec, seal::SealError};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::collections::BTreeSet;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// The thread wakes at least this often, so that progress shows.
const IDLE_MAX: Duration = Duration::from_secs(1);
/// Packets taken from one link in one round: a flood must not starve the other links or the timers.
const PACKETS_PER_ROUND: usize = 256;
/// What ends at once leads to further actions, at most this many times a round. Starting a group takes four.
const ROUNDS_MAX: usize = 64;
/// What is waited for beside the links: netlink, the inbox, ARP, neighbour discovery.
const OTHERS: usize = 4;
/// A bind or a repair that failed has no other sign of when to be tried again.
const RETRY_INTERVAL: Duration = Duration::from_secs(3);
/// The same for a link that waits for what netlink does not tell: an IPv6 address that is not yet known to be unique.
const LINK_RETRY_INTERVAL: Duration = Duration::from_millis(200);

/// What one run of the thread needs.
#[derive(Debug)]
pub struct BeatThread {
    heart: Recorder,
    edges: Edges,
    inbox: BeatInbox,
    /// Rises with every round: shows that this thread lives.
    progress: Arc<AtomicU64>,
    headline: String,
    /// As it was told last.
    peers_in_standby: u64,
    /// The host thread knows that the status changed, and has not asked for it yet.
    change_told: bool,
    /// Each link as it was told last.
    told: Vec<LinkTold>,
    host_moves: HostMoves,
    retry_due: Time,
    /// While a link waits so.
    link_retry_due: Option<Time>,
    leaving_groups: bool,
    /// Something came in this round that the heart has not decided on.
    news: bool,
}

/// What the heart and the journal know of a link. To the heart it is of no use until it is told otherwise.
#[derive(Clone, Debug, Default)]
struct LinkTold {
    usable: bool,
    trouble: Option<String>,
}

/// What the last wait found readable, of what can wait for the next round.
#[derive(Clone, Copy, Debug, Default)]
struct Ready {
    netlink: bool,
    inbox: bool,
    neighbours: bool,
    links: [bool; MOST_LINKS],
}

impl BeatThread {
    /// `host_moves` is raised by the host thread.
    pub fn new(
        heart: Cluster,
        edges: Edges,
        inbox: BeatInbox,
        progress: Arc<AtomicU64>,
        host_moves: Arc<AtomicU64>,
    ) -> BeatThread {
        let told = vec![LinkTold::default(); edges.links.len()];
        let now = clock::now();
        BeatThread {
            heart: Recorder::new(heart),
            edges,
            inbox,
            progress,
            headline: String::new(),
            peers_in_standby: 0,
            change_told: false,
            told,
            host_moves: HostMoves::new(host_moves, now),
            retry_due: now,
            link_retry_due: None,
            leaving_groups: false,
            news: true,
        }
    }

    /// Everything from its first round on goes there.
    pub fn record(&mut self, sink: Sink) {
        self.heart.record(Some(sink));
    }

    /// Until the heart is done, or the daemon is restarted. `first` is folded before anything is decided.
    pub fn run(mut self, first: Vec<Event>) {
        self.watch_neighbours();
        self.heart.begin(clock::now());
        first.into_iter().for_each(|event| self.heart.fold(event));
        self.refresh_interfaces();
        loop {
            self.act();
            self.progress.fetch_add(1, Ordering::Relaxed);
            if self.edges.exit || self.leaving_groups {
                return self.edges.finish();
            }
            let ready = self.wait();
            let now = clock::now();
            self.heart.begin(now);
            self.drain(ready, now);
        }
    }

    /// Until something is readable or due. Answers with what is readable.
    fn wait(&self) -> Ready {
        let mut ready = Ready { netlink: self.edges.netlink.has_news(), ..Ready::default() };
        let now = clock::now();
        let next = [self.heart.next_deadline(), self.link_retry_due].into_iter().flatten().min();
        let next = next.map_or(IDLE_MAX, |at| at.since(now)).min(IDLE_MAX);
        // Acting on addresses reads what changed meanwhile: that must not wait for the next packet.
        let next = if ready.netlink || self.edges.addresses.is_busy() { Duration::ZERO } else { next };
        let timeout = Timespec { tv_sec: next.as_secs() as i64, tv_nsec: i64::from(next.subsec_nanos()) };
        // A link without a socket leaves its place to a copy of this one, which nobody looks at.
        let netlink = self.edges.netlink.fd();
        let [arp, ndp] = self.edges.neighbours.fds();
        let link = |index: usize| self.edges.links.get(index).and_then(|link| link.fd());
        let mut fds: [PollFd<'_>; OTHERS + MOST_LINKS] = std::array::from_fn(|place| match place {
            0 => watch(netlink),
            1 => watch(self.inbox.as_fd()),
            2 => watch(arp),
            3 => watch(ndp),
            place => watch(link(place - OTHERS).unwrap_or(netlink)),
        });
        let used = OTHERS + self.edges.links.len();
        // An interrupted wait is a short one.
        let _ = poll(&mut fds[..used], Some(&timeout));
        let readable = |place: usize| !fds[place].revents().is_empty();
        ready.netlink |= readable(0);
        (ready.inbox, ready.neighbours) = (readable(1), readable(2) || readable(3));
        for index in 0..self.edges.links.len() {
            ready.links[index] = readable(OTHERS + index);
        }
        ready
    }

    /// Everything that waits, before anything is decided.
    fn drain(&mut self, ready: Ready, now: Time) {
        if ready.netlink || self.edges.netlink.wants_resync() {
            self.drain_netlink();
        }
        // Silence is judged by what was read since the heart began its round: where some may be due, a look before it
        // does not count.
        let due = self.heart.next_deadline().is_some_and(|at| at <= now);
        for index in (0..self.edges.links.len()).filter(|index| due || ready.links[*index]) {
            self.drain_link(LinkId(index as u8));
        }
        if ready.neighbours || self.heart.is_probing() {
            self.drain_neighbours();
        }
        if let Some(answering) = self.host_moves.look(now) {
            self.news = true;
            self.heart.fold(Event::HostThread { answering });
        }
        if now >= self.retry_due {
            self.news = true;
            self.retry_due = now + RETRY_INTERVAL;
            self.refresh_interfaces();
            let every = self.edges.addresses.every();
            self.look_for_addresses(every, &[]);
        } else if self.link_retry_due.is_some_and(|at| now >= at) {
            self.refresh_interfaces();
        }
        // Last: it may bring the heart another configuration, in which a place that was looked at above means another address.
        if ready.inbox {
            self.drain_inbox();
        }
    }

    fn drain_netlink(&mut self) {
        self.news = true;
        let changes = self.edges.netlink.drain();
        if changes.is_empty() {
            return;
        }
        let concerned = self.edges.addresses.concerned(&changes);
        self.look_for_addresses(concerned, &changes);
        self.refresh_interfaces();
    }

    fn watch_neighbours(&mut self) {
        if let Err(error) = self.edges.neighbours.watch(self.edges.addresses.all()) {
            let text = format!("cannot watch for answers to probes: {error}; takeovers by silence are not protected");
            self.edges.journal.note(crate::journal::Level::Error, text);
        }
    }

    /// Where addresses belong that name no interface.
    fn place(&mut self) {
        let heart = &self.heart;
        let events = self.edges.place(|id| heart.has_its_addresses(id));
        if !events.is_empty() {
            self.watch_neighbours();
        }
        events.into_iter().for_each(|event| self.heart.fold(event));
    }

    /// What interfaces mean for links and groups. The heart ignores what it knows.
    fn refresh_interfaces(&mut self) {
        self.place();
        let config = self.edges.config.clone();
        let named = config.groups.iter().flat_map(|group| &group.interfaces).map(String::as_str);
        let interfaces: BTreeSet<&str> = named.chain(self.edges.addresses.found(&config)).collect();
        for interface in interfaces {
            let up = self.edges.netlink.interface(interface).is_some_and(|state| state.carrier);
            self.heart.fold(Event::Interface { interface: interface.to_owned(), up });
        }
        for (index, link) in self.edges.links.iter_mut().enumerate() {
            link.refresh(self.edges.netlink.interface(&config.links[index].interface));
            let now = LinkTold { usable: link.usable(), trouble: link.trouble() };
            let before = std::mem::replace(&mut self.told[index], now.clone());
            if before.usable != now.usable {
                self.news = true;
                self.heart.fold(Event::Link { link: LinkId(index as u8), usable: now.usable });
            }
            if let Some(trouble) = now.trouble.filter(|trouble| before.trouble.as_ref() != Some(trouble)) {
                let text = format!("link {}: {trouble}", config.links[index].name);
                self.edges.journal.note(crate::journal::Level::Notice, text);
            }
        }
        let waits = self.edges.links.iter().any(UdpLink::retries);
        self.link_retry_due = waits.then(|| clock::now() + LINK_RETRY_INTERVAL);
    }

    /// Which of these addresses are missing where they should be. Without its interface one cannot be put back.
    fn look_for_addresses(&mut self, concerned: BTreeSet<(GroupId, usize)>, changes: &[NetChange]) {
        let changed = |dev: &str| changes.iter().any(|it| matches!(it, NetChange::Interface { name } if name == dev));
        for (id, index) in concerned {
            let edges = &mut self.edges;
            let vip = &edges.addresses.of(id)[index];
            let gone = !edges.netlink.has(vip) || self.heart.misses(id, index);
            if edges.netlink.interface(vip.dev()).is_none() || !gone || !self.heart.has_its_addresses(id) {
                continue;
            }
            let interface_changed = changed(vip.dev());
            if edges.addresses.note_flushed((id, index), &edges.netlink, interface_changed) {
                continue;
            }
            self.heart.fold(match edges.addresses.take_flushed(id, index) {
                true => Event::AddressFlushed { group: id, index },
                false => Event::AddressLost { group: id, index },
            });
        }
    }

    fn drain_link(&mut self, id: LinkId) {
        let mut buffer = [0; codec::MAX_LEN];
        let index = usize::from(id.0);
        for _ in 0..PACKETS_PER_ROUND {
            let Some(length) = self.edges.links[index].receive(&mut buffer) else { return };
            self.packet(id, &buffer[..length]);
        }
        self.heart.leave_unread();
    }

    fn packet(&mut self, id: LinkId, packet: &[u8]) {
        let cluster_tag = self.edges.config.cluster_tag;
        let body = &packet[..packet.len().saturating_sub(crate::wire::seal::SEAL_LEN)];
        // Before the seal, which takes longer: on a LAN that clusters share, most of what comes may be of others.
        let other_cluster = codec::peek_cluster(body).is_some_and(|tag| tag != cluster_tag);
        let message = match (!other_cluster).then(|| self.edges.keys.open(packet)) {
            None => Err(Dropped::OtherCluster),
            Some(Err(SealError::Short)) => Err(Dropped::Garbage),
            Some(Err(_)) if codec::peek_cluster(body).is_none() => Err(Dropped::Garbage),
            Some(Err(SealError::UnknownKey(_) | SealError::WrongTag)) => Err(Dropped::Key),
            Some(Ok(body)) => codec::decode(body).map_err(|_| Dropped::Garbage),
        };
        let dropped = match message {
            Ok(message) => match self.heart.hear(id, &message) {
                Heard::News(_) => None,
                // The other link's copy changes nothing: no reason to decide anew.
                Heard::Duplicate => return,
                Heard::OwnCopy if self.edges.links[usize::from(id.0)].gives_back() => {
                    self.edges.links[usize::from(id.0)].counters_mut().own += 1;
                    return;
                }
                Heard::Stranger { .. } => Some(Dropped::Stranger),
                Heard::Replay | Heard::OwnCopy => Some(Dropped::Replay),
                Heard::UnknownSender | Heard::OwnName => Some(Dropped::Sender),
            },
            Err(dropped) => Some(dropped),
        };
        // Others on the same LAN are none of the heart's business.
        self.news |= !matches!(dropped, Some(Dropped::OtherCluster));
        self.count(id, dropped);
    }

    fn count(&mut self, id: LinkId, dropped: Option<Dropped>) {
        let counters = self.edges.links[usize::from(id.0)].counters_mut();
        let counter = match dropped {
            None => return,
            Some(Dropped::Garbage) => &mut counters.dropped_garbage,
            Some(Dropped::Key) => &mut counters.dropped_key,
            Some(Dropped::OtherCluster) => &mut counters.dropped_other_cluster,
            Some(Dropped::Sender) => &mut counters.dropped_sender,
            Some(Dropped::Replay) => &mut counters.dropped_replay,
            // Every acquaintance begins so: worth a count, not a word.
            Some(Dropped::Stranger) => {
                counters.strangers += 1;
                return;
            }
        };
        *counter += 1;
        // The first one, then each time their number has doubled: evidence without a flood.
        if let (true, Some(dropped)) = (counter.is_power_of_two(), dropped) {
            let (total, link) = (*counter, self.edges.config.link(id));
            let text = format!("link {}: dropped a packet ({}); {total} so far", link.name, dropped.reason());
            let expected = matches!(dropped, Dropped::OtherCluster) && !matches!(link.kind, LinkKind::Ucast { .. });
            let level = if expected { crate::journal::Level::Info } else { crate::journal::Level::Warning };
            self.edges.journal.note(level, text);
        }
    }

    fn drain_neighbours(&mut self) {
        self.news = true;
        let (heart, Edges { neighbours, netlink, addresses, .. }) = (&mut self.heart, &mut self.edges);
        let all = neighbours.drain(netlink.table(), |claim| {
            if let Some((group, index)) = addresses.claimed(&claim) {
                heart.fold(Event::ProbeAnswer { group, index, mac: claim.mac });
            }
        });
        if !all {
            // The answer for another group may be among the rest.
            self.heart.leave_unread();
        }
    }

    fn drain_inbox(&mut self) {
        self.news = true;
        let messages: Vec<ToBeat> = self.inbox.drain().collect();
        for message in messages {
            match message {
                ToBeat::Event(event) => self.heart.fold(event),
                ToBeat::Inspected { op, all_active, any_active } => {
                    if let Some(event) = self.edges.inspected(op, all_active, any_active) {
                        self.heart.fold(event);
                    }
                }
                ToBeat::Status { request } => {
                    self.change_told = false;
                    let seen: Vec<LinkSeen> = self.edges.links.iter().map(UdpLink::seen).collect();
                    let status = self.heart.status_with(&seen);
                    self.edges.tell(ToHost::Status { request, status: Box::new(status) });
                }
                ToBeat::Keys(keys) => self.edges.keys = keys,
                ToBeat::Record(sink) => self.heart.record(sink),
                ToBeat::ExitLeavingGroups => self.leaving_groups = true,
            }
        }
    }

    /// Decides and performs until nothing more follows at once. What addresses need longer for goes on in the next round.
    fn act(&mut self) {
        let until = Instant::now() + SLICE;
        for event in self.edges.work(until) {
            self.news = true;
            self.heart.fold(event);
        }
        let due = self.heart.next_deadline().is_some_and(|at| at <= clock::now());
        if !std::mem::take(&mut self.news) && !due {
            return;
        }
        self.edges.retry();
        for _ in 0..ROUNDS_MAX {
            let actions = self.heart.decide(clock::now());
            let changed = actions.iter().any(|action| !matches!(action, Action::Send(_) | Action::Probe { .. }));
            let configured = actions.iter().any(|action| matches!(action, Action::Configure(_)));
            let mut ended: Vec<Event> = actions.into_iter().filter_map(|action| self.edges.perform(action)).collect();
            if configured {
                // A group may need an interface that none needed before.
                self.refresh_interfaces();
            }
            if Instant::now() < until {
                ended.extend(self.edges.work(until));
            }
            let standby = self.heart.peers_in_standby();
            if changed || std::mem::replace(&mut self.peers_in_standby, standby) != standby {
                self.tell_headline();
                self.tell_change();
            }
            if ended.is_empty() && !configured {
                return;
            }
            for event in ended {
                self.heart.fold(event);
            }
        }
    }

    fn tell_headline(&mut self) {
        let headline = self.heart.headline();
        // What found no room is told with the next change.
        if headline != self.headline && self.edges.host.try_send(ToHost::Headline(headline.clone())).is_ok() {
            self.headline = headline;
        }
    }

    /// One word, however much changes; what it is is made only where somebody asks.
    fn tell_change(&mut self) {
        self.change_told = self.change_told || self.edges.host.try_send(ToHost::Changed).is_ok();
    }
}

fn watch(fd: BorrowedFd<'_>) -> PollFd<'_> {
    PollFd::from_borrowed_fd(fd, PollFlags::IN)
}

/// Why a packet was not heard.
#[derive(Clone, Copy, Debug)]
enum Dropped {
    Garbage,
    Key,
    OtherCluster,
    Sender,
    Replay,
    Stranger,
}

impl Dropped {
    fn reason(self) -> &'static str {
        match self {
            Dropped::Garbage => "no hafailover packet, or of another version",
            Dropped::Key => "its key is unknown or its seal is wrong: compare authkeys on all nodes",
            Dropped::OtherCluster => "of another cluster: its name differs",
            Dropped::Sender => "its sender is no other node of this cluster",
            Dropped::Replay => "older than what was heard before",
            Dropped::Stranger => "its sender has not heard this daemon",
        }
    }
}

#[cfg(test)]
mod tests;
