//! An intruder on the heartbeat links: forged, altered, replayed, random; and releases that are lost, late or doubled.

use crate::ensure;
use crate::pair::{Lab, Pair, SETTLE, VIP};
use crate::settings::{Settings, write_keys};
use crate::sys::{Result, sleep_until, wait_for};
use crate::wires::{ALPHA, BETA, Direction, HB0, HB1, Seat};
use crate::wiretap::{Intruder, Packet, Wiretap};
use hafailover::cluster::status::LinkCounters;
use hafailover::wire::seal::{Key, KeySet, Method};
use hafailover::wire::{Message, codec};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// One key of each method. The first signs, all are accepted.
const KEYS: [(u8, Method, &str, &str); 3] = [
    (1, Method::Sha256, "sha256", "the-lab-has-no-secrets"),
    (2, Method::Sha1, "sha1", "nor-does-its-second-key"),
    (3, Method::Md5, "md5", "nor-does-its-third-key"),
];
/// Bytes of a packet that tell what it is, and those of the cluster's tag behind them.
const MAGIC_BYTES: usize = 2;
const CLUSTER_BYTES: std::ops::Range<usize> = 4..12;
/// How far behind the newest a packet may be and still pass for the copy that a slower link brings.
const WINDOW: u32 = 16;

pub fn row16_forged_packets(lab: &Lab) -> Result<String> {
    // A deadtime above what the commands of a lost release take.
    let mut pair = lab.pair_off(Settings::new(100, 600))?;
    let keys: String = KEYS.iter().map(|(index, _, method, secret)| format!("{index} {method} {secret}\n")).collect();
    for host in &pair.hosts {
        write_keys(host, &format!("auth 1\n{keys}"))?;
    }
    pair.switch_both_on()?;
    let siege = Siege::begin(&pair)?;
    std::thread::sleep(Duration::from_secs(2));
    let mut sent = 0;
    for to in [&BETA, &ALPHA] {
        for link in [HB0, HB1] {
            sent += siege.forge(&Place { to, link })?;
        }
    }
    let mut replayed = 0;
    for place in [Place { to: &BETA, link: HB0 }, Place { to: &ALPHA, link: HB1 }] {
        replayed += siege.replay(&place)?;
        replayed += siege.replay_after_restarts(&place)?;
    }
    let mut said = Vec::new();
    for loss in [Loss::None, Loss::BelowDeadtime, Loss::BeyondDeadtime] {
        said.push(siege.releases(loss)?);
    }
    pair.never_two_owners()?;
    let said = said.join(", ");
    Ok(format!(
        "{sent} forged and {replayed} replayed packets at both hosts and links, each counted as what it is; {said}"
    ))
}

/// One place to attack: a receiver on a link, in its peer's name.
#[derive(Clone, Debug)]
struct Place {
    to: &'static Seat,
    link: &'static str,
}

impl Place {
    fn from(&self) -> &'static Seat {
        if *self.to == ALPHA { &BETA } else { &ALPHA }
    }
}

/// What a link counted of packets that it did not take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Refused {
    garbage: u64,
    key: u64,
    cluster: u64,
    sender: u64,
    replay: u64,
    stranger: u64,
}

impl Refused {
    fn of(counters: &LinkCounters) -> Refused {
        Refused {
            garbage: counters.dropped_garbage,
            key: counters.dropped_key,
            cluster: counters.dropped_other_cluster,
            sender: counters.dropped_sender,
            replay: counters.dropped_replay,
            stranger: counters.strangers,
        }
    }

    fn since(self, before: Refused) -> Refused {
        Refused {
            garbage: self.garbage - before.garbage,
            key: self.key - before.key,
            cluster: self.cluster - before.cluster,
            sender: self.sender - before.sender,
            replay: self.replay - before.replay,
            stranger: self.stranger - before.stranger,
        }
    }
}

/// How much of a release is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Loss {
    None,
    BelowDeadtime,
    BeyondDeadtime,
}

/// The attacked pair, and what must not change of it.
struct Siege<'a> {
    pair: &'a Pair<'a>,
    intruder: Intruder,
    tap: Wiretap,
    /// Of alpha and beta: these processes and no others.
    daemons: RefCell<Vec<u32>>,
}

impl<'a> Siege<'a> {
    fn begin(pair: &'a Pair<'a>) -> Result<Siege<'a>> {
        pair.settled()?;
        let intruder = Intruder::enter(&pair.lab.wires, &[HB0, HB1])?;
        let siege = Siege { pair, intruder, tap: Wiretap::start()?, daemons: RefCell::default() };
        *siege.daemons.borrow_mut() = siege.running()?;
        Ok(siege)
    }

    fn running(&self) -> Result<Vec<u32>> {
        let pid = |host: &crate::host::Host| host.main_pid("hafailover.service")?.ok_or("a daemon is gone".into());
        self.pair.hosts.iter().map(pid).collect()
    }

    fn refused(&self, place: &Place) -> Result<Refused> {
        let links = self.pair.status(self.pair.host(place.to.name))?.links;
        let link = links.into_iter().find(|link| link.name == place.link);
        Ok(Refused::of(&link.ok_or_else(|| format!("no link {}", place.link))?.counters))
    }

    /// What the peer's present daemon said lately to the receiver over this link, oldest first, without forgeries.
    fn heard(&self, place: &Place) -> Result<Vec<Packet>> {
        let key = lab_key(KEYS[0])?;
        let (from, to) = (place.from().address(place.link), place.to.address(place.link));
        let tapped = self.tap.packets().into_iter().filter(|packet| (packet.from, packet.to) == (from, to));
        let read = |packet: Packet| Some((codec::decode(key.open(&packet.payload).ok()?).ok()?, packet));
        let mut heard: Vec<(Message, Packet)> = tapped.filter_map(read).collect();
        let newest = heard.iter().max_by_key(|(said, _)| said.sent_at).ok_or("no heartbeat was seen")?.0.incarnation;
        heard.retain(|(said, _)| said.incarnation == newest);
        // The original came before everything that was made of it.
        heard.sort_by_key(|(said, _)| said.sequence);
        heard.dedup_by_key(|(said, _)| said.sequence);
        ensure!(heard.len() >= 10, "only {} heartbeats from {from} to {to} were seen", heard.len());
        Ok(heard.split_off(heard.len().saturating_sub(40)).into_iter().map(|(_, packet)| packet).collect())
    }

    /// Runs an attack, after which owner, address and processes must be what they were, and the link must have counted
    /// exactly `expected`.
    fn withstand(&self, what: &str, place: &Place, expected: Refused, attack: impl FnOnce() -> Result) -> Result {
        let what = format!("{what} to {} on {}", place.to.name, place.link);
        let (owner, changes) = (self.pair.settled()?, self.pair.watch.changes(VIP).len());
        let before = self.refused(place)?;
        attack().map_err(|error| format!("{what}: {error}"))?;
        std::thread::sleep(self.pair.settings.keepalive * 2);
        let counted = self.refused(place)?.since(before);
        ensure!(counted == expected, "{what}: counted {counted:?}, not {expected:?}");
        self.unchanged(&what, &owner, changes)
    }

    fn unchanged(&self, what: &str, owner: &str, changes: usize) -> Result {
        ensure!(self.pair.settled()? == owner, "{what}: another owner");
        let moved = self.pair.watch.changes(VIP);
        ensure!(moved.len() == changes, "{what}: the address moved: {:?}", &moved[changes..]);
        let (now, before) = (self.running()?, self.daemons.borrow());
        ensure!(now == *before, "{what}: the daemons were {before:?}, are {now:?}");
        Ok(())
    }

    fn forge(&self, place: &Place) -> Result<usize> {
        let sample = self.heard(place)?.pop().ok_or("no sample")?;
        let mut sent = 0;
        for (what, payloads, expected) in forgeries(&sample.payload)? {
            sent += payloads.len();
            self.withstand(what, place, expected, || {
                payloads
                    .iter()
                    .try_for_each(|bytes| self.intruder.send(&Packet { payload: bytes.clone(), ..sample.clone() }))
            })?;
        }
        Ok(sent)
    }

    fn send_all(&self, packets: &[Packet]) -> Result {
        packets.iter().try_for_each(|packet| self.intruder.send(packet))
    }

    /// Packets that were heard before, once when they are old and once when the other link might still bring them.
    fn replay(&self, place: &Place) -> Result<usize> {
        std::thread::sleep(self.pair.settings.keepalive * WINDOW);
        let heard = self.heard(place)?;
        std::thread::sleep(self.pair.settings.keepalive * (WINDOW + 2));
        let all = Refused { replay: heard.len() as u64, ..Refused::default() };
        self.withstand("replay", place, all, || self.send_all(&heard))?;
        let copies = || -> Result<u64> {
            let links = self.pair.status(self.pair.host(place.to.name))?.links;
            let peers = links.into_iter().find(|link| link.name == place.link).map(|link| link.peers);
            Ok(peers.unwrap_or_default().iter().map(|peer| peer.duplicates).sum())
        };
        let before = copies()?;
        self.withstand("copies", place, Refused::default(), || {
            let fresh = self.heard(place)?;
            self.send_all(&fresh[fresh.len() - 3..])
        })?;
        ensure!(copies()? == before + 3, "3 copies sent, {} counted", copies()? - before);
        Ok(heard.len() + 3)
    }

    /// The receiver forgets what it heard; then the sender is gone too: only the echo tells that this is an old story.
    fn replay_after_restarts(&self, place: &Place) -> Result<usize> {
        let heard = self.heard(place)?;
        let count = heard.len() as u64;
        self.restart(place)?;
        self.pair.settled()?;
        let replays = Refused { replay: count, ..Refused::default() };
        self.withstand("replay after a restart", place, replays, || self.send_all(&heard))?;
        let (owner, changes) = (self.pair.settled()?, self.pair.watch.changes(VIP).len());
        self.pair.lab.wires.cut(place.from(), &[HB0, HB1])?;
        std::thread::sleep(self.pair.settings.deadtime);
        let replays = Refused { replay: count * 10, ..Refused::default() };
        self.is_not_alive(place, &heard, replays)?;
        self.restart(place)?;
        // Nothing of the peer was heard by this daemon: it can only know that these are no words to itself.
        let strangers = Refused { stranger: count * 10, ..Refused::default() };
        self.is_not_alive(place, &heard, strangers)?;
        self.pair.lab.wires.heal(place.from(), &[HB0, HB1])?;
        self.unchanged("replay to a host that was cut off and restarted", &owner, changes)?;
        Ok(heard.len() * 21)
    }

    /// On purpose, so the daemon may be another one afterwards.
    fn restart(&self, place: &Place) -> Result {
        self.pair.host(place.to.name).run(&["systemctl", "restart", "hafailover"])?;
        *self.daemons.borrow_mut() = self.running()?;
        Ok(())
    }

    /// With the peer cut off, its recorded voice must not keep it alive.
    fn is_not_alive(&self, place: &Place, heard: &[Packet], expected: Refused) -> Result {
        let before = self.refused(place)?;
        for _ in 0..10 {
            self.send_all(heard)?;
            std::thread::sleep(self.pair.settings.keepalive);
            let nodes = self.pair.status(self.pair.host(place.to.name))?.nodes;
            let alive = nodes.iter().find(|node| !node.me && ["alive", "late"].contains(&node.state.as_str()));
            ensure!(alive.is_none(), "recorded packets keep a silent peer alive: {alive:?}");
        }
        let counted = self.refused(place)?.since(before);
        ensure!(counted == expected, "recorded packets of a silent peer: counted {counted:?}, not {expected:?}");
        Ok(())
    }

    /// Two moves, there and back, of which that much is lost; and everything said meanwhile comes once more.
    fn releases(&self, loss: Loss) -> Result<String> {
        let (mut counted, mut tried) = (0, 0);
        while counted < 2 {
            ensure!(tried < 6, "this machine was too slow to lose a release for less than a deadtime");
            tried += 1;
            let owner = self.pair.settled()?;
            let heir = self.pair.other(&owner).name();
            let seen = self.tap.packets().len();
            counted += usize::from(self.release(&owner, heir, loss)?);
            ensure!(self.pair.settled()? == heir, "the move to {heir} did not arrive ({loss:?})");
            let changes = self.pair.watch.changes(VIP).len();
            self.send_all(&self.tap.packets()[seen..])?;
            std::thread::sleep(self.pair.settings.keepalive * 2);
            self.unchanged("a release, doubled and late", heir, changes)?;
            self.pair.never_two_owners()?;
        }
        Ok(format!("{counted} of {tried} releases with loss {loss:?} doubled"))
    }

    /// False if the loss was not what it had to be.
    fn release(&self, owner: &str, heir: &str, loss: Loss) -> Result<bool> {
        let (pair, wires) = (self.pair, &self.pair.lab.wires);
        let (keepalive, deadtime) = (pair.settings.keepalive, pair.settings.deadtime);
        let from = Instant::now();
        if loss != Loss::None {
            for link in [HB0, HB1] {
                wires.lose(&pair.host(owner).seat, link, Direction::From)?;
            }
        }
        // The command waits for the end of the move; the loss must not.
        let order = format!("hafailoverctl move web {heir} >/dev/null 2>&1 &");
        pair.host(owner).run(&["sh", "-c", &order])?;
        let gone = || (!pair.watch.holders(VIP).contains(&owner.to_string())).then(Instant::now);
        let released = wait_for("the owner to let go", SETTLE, gone)?;
        let proof = match loss {
            Loss::None => "release",
            Loss::BelowDeadtime => {
                sleep_until(released + keepalive * 2);
                let (holders, at) = (pair.watch.holders(VIP), Instant::now());
                wires.lose_nothing()?;
                if from.elapsed() + keepalive >= deadtime {
                    return Ok(false);
                }
                ensure!(holders.is_empty(), "{holders:?} had the address {:?} after a lost release", at - released);
                "release"
            }
            Loss::BeyondDeadtime => {
                sleep_until(released + deadtime * 2);
                let holders = pair.watch.holders(VIP);
                wires.lose_nothing()?;
                ensure!(holders == [heir], "two deadtimes after a lost release {holders:?} have the address");
                "silence"
            }
        };
        let starting = || {
            let said = pair.host(heir).said(&["SYSLOG_IDENTIFIER=hafailoverd"], from).ok()?;
            let proof = said.iter().find_map(|entry| Some(entry.field("HAFAILOVER_PROOF")?.to_string()))?;
            Some((proof, said.iter().any(|entry| entry.message.contains("is dead"))))
        };
        let seen = wait_for("the heir's reason", SETTLE, starting)?;
        let right = (proof.to_string(), loss == Loss::BeyondDeadtime);
        ensure!(seen == right, "{heir} with a release {loss:?}: (proof, death said) {seen:?}, not {right:?}");
        Ok(true)
    }
}

type Forgery = (&'static str, Vec<Vec<u8>>, Refused);

fn forgeries(sample: &[u8]) -> Result<Vec<Forgery>> {
    let keys: Vec<KeySet> = KEYS.into_iter().map(lab_key).collect::<Result<_>>()?;
    let mut wrong: Vec<KeySet> =
        KEYS.iter().map(|(index, method, _, _)| key(*index, *method, "a guess")).collect::<Result<_>>()?;
    wrong.push(key(9, Method::Sha256, "the-lab-has-no-secrets")?);
    let body = keys[0].open(sample).map_err(|error| format!("the lab's own key: {error}"))?.to_vec();
    let message = codec::decode(&body).map_err(|error| format!("{error:?}"))?;
    let with = |change: fn(&mut Message)| {
        let mut message = message.clone();
        change(&mut message);
        keys.iter().map(|key| key.seal(codec::encode(&message))).collect::<Vec<_>>()
    };
    let altered: Vec<Vec<u8>> = (0..sample.len()).map(|place| flipped(sample, place)).collect();
    let altered_kinds = Refused {
        garbage: MAGIC_BYTES as u64,
        cluster: CLUSTER_BYTES.len() as u64,
        key: (sample.len() - MAGIC_BYTES - CLUSTER_BYTES.len()) as u64,
        ..Refused::default()
    };
    // One of them longer than any message.
    let random: Vec<_> =
        (0_u64..200).map(|seed| noise(seed, (seed as usize * 7) % 300)).chain([noise(7, 1300)]).collect();
    let random_kinds = Refused { garbage: random.len() as u64, ..Refused::default() };
    let wrong: Vec<_> = wrong.iter().map(|key| key.seal(body.clone())).collect();
    let wrong_kinds = Refused { key: wrong.len() as u64, ..Refused::default() };
    // Sealed with the right key, of each method: what is wrong is read from within.
    let all_keys = keys.len() as u64;
    Ok(vec![
        ("wrong key", wrong, wrong_kinds),
        ("altered", altered, altered_kinds),
        ("other cluster", with(|said| said.cluster_tag ^= 1), Refused { cluster: all_keys, ..Refused::default() }),
        ("unknown sender", with(|said| said.sender.0 ^= 0x5555), Refused { sender: all_keys, ..Refused::default() }),
        ("random", random, random_kinds),
    ])
}

fn lab_key((index, method, _, secret): (u8, Method, &str, &str)) -> Result<KeySet> {
    key(index, method, secret)
}

fn key(index: u8, method: Method, secret: &str) -> Result<KeySet> {
    let key = Key { method, secret: secret.into() };
    KeySet::new(index, BTreeMap::from([(index, key)])).ok_or_else(|| "the key is among the keys".into())
}

fn flipped(sample: &[u8], place: usize) -> Vec<u8> {
    let mut bytes = sample.to_vec();
    bytes[place] ^= 0x20;
    bytes
}

/// Bytes without meaning, the same for the same seed (xorshift).
fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let step = |_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    (0..length).map(step).collect()
}
