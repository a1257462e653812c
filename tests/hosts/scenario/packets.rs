//! An intruder on a heartbeat link: forged, altered, replayed, random; and messages that come late or twice.

use crate::ensure;
use crate::pair::{Lab, Pair, VIP};
use crate::settings::Settings;
use crate::sys::Result;
use crate::wires::{Direction, HB0, HB1};
use crate::wiretap::{Intruder, Packet, Wiretap};
use hafailover::cluster::status::LinkCounters;
use hafailover::wire::codec;
use hafailover::wire::seal::{Key, KeySet, Method};
use std::collections::BTreeMap;
use std::time::Duration;

const SECRET: &[u8] = b"the-lab-has-no-secrets";

pub fn row16_forged_packets(lab: &Lab) -> Result<String> {
    let pair = lab.pair(Settings::new(100, 300))?;
    let owner = pair.settled()?;
    let changes = pair.watch.changes(VIP).len();
    let tap = Wiretap::start()?;
    std::thread::sleep(Duration::from_secs(4));
    let captured = tap.packets();
    // What alpha says to beta: the attacks are against beta, in alpha's name.
    let (alpha, beta) = (pair.alpha().seat.address(HB0), pair.beta().seat.address(HB0));
    let heard: Vec<&Packet> = captured.iter().filter(|packet| packet.from == alpha && packet.to == beta).collect();
    let sample = *heard.last().ok_or("no heartbeat of alpha was seen")?;
    let intruder = Intruder::enter(&lab.wires)?;
    let mut said = Vec::new();
    for (name, payloads, count) in attacks(sample)? {
        let before = counters(&pair)?;
        for payload in &payloads {
            intruder.send(&Packet { payload: payload.clone(), ..sample.clone() })?;
        }
        unimpressed(&pair, &owner, changes, name)?;
        let counted = count(&counters(&pair)?) - count(&before);
        ensure!(counted >= payloads.len() as u64, "{name}: {} sent, {counted} counted", payloads.len());
        said.push(format!("{name} {}", payloads.len()));
    }
    replays(&pair, &intruder, &heard, &owner, changes)?;
    after_a_restart(&pair, &intruder, &heard, &owner, changes)?;
    releases(&pair, &intruder, &tap)?;
    pair.never_two_owners()?;
    Ok(format!("{}, replays, replays after a restart, releases lost and doubled: no change of state", said.join(", ")))
}

type Attack = (&'static str, Vec<Vec<u8>>, fn(&LinkCounters) -> u64);

fn attacks(sample: &Packet) -> Result<Vec<Attack>> {
    let key = |secret: &[u8]| {
        let key = Key { method: Method::Sha256, secret: secret.to_vec() };
        KeySet::new(1, BTreeMap::from([(1, key)])).ok_or("key 1 is among the keys")
    };
    let body = key(SECRET)?.open(&sample.payload).map_err(|error| format!("the lab's own key: {error}"))?.to_vec();
    let altered = (0..sample.payload.len()).map(|place| {
        let mut bytes = sample.payload.clone();
        bytes[place] ^= 0x20;
        bytes
    });
    let mut elsewhere = codec::decode(&body).map_err(|error| format!("{error:?}"))?;
    elsewhere.cluster_tag ^= 1;
    let mut stranger = codec::decode(&body).map_err(|error| format!("{error:?}"))?;
    stranger.sender.0 ^= 0x5555;
    let random = (0_u64..200).map(|seed| noise(seed, (seed as usize * 7) % 300));
    let any_drop =
        |counters: &LinkCounters| counters.dropped_garbage + counters.dropped_key + counters.dropped_other_cluster;
    Ok(vec![
        ("wrong key", vec![key(b"a guess")?.seal(body.clone()); 5], |counters| counters.dropped_key),
        ("altered", altered.collect(), any_drop),
        ("other cluster", vec![key(SECRET)?.seal(codec::encode(&elsewhere)); 5], |counters| {
            counters.dropped_other_cluster
        }),
        ("unknown sender", vec![key(SECRET)?.seal(codec::encode(&stranger)); 5], |counters| counters.dropped_sender),
        ("random", random.collect(), any_drop),
    ])
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

fn counters(pair: &Pair) -> Result<LinkCounters> {
    let links = pair.status(pair.beta())?.links;
    links.into_iter().find(|link| link.name == HB0).map(|link| link.counters).ok_or_else(|| "no link hb0".into())
}

fn unimpressed(pair: &Pair, owner: &str, changes: usize, what: &str) -> Result {
    std::thread::sleep(pair.settings.keepalive * 2);
    ensure!(pair.settled()? == owner, "{what}: another owner");
    let moved = pair.watch.changes(VIP);
    ensure!(moved.len() == changes, "{what}: the address moved: {:?}", &moved[changes..]);
    Ok(())
}

fn replays(pair: &Pair, intruder: &Intruder, heard: &[&Packet], owner: &str, changes: usize) -> Result {
    let before = counters(pair)?.dropped_replay;
    for packet in heard {
        intruder.send(packet)?;
    }
    unimpressed(pair, owner, changes, "replay")?;
    // The newest ones pass for the copies that the other link brings.
    let old = heard.len() as u64 / 2;
    let counted = counters(pair)?.dropped_replay - before;
    ensure!(counted >= old, "{old} old ones replayed, {counted} counted");
    Ok(())
}

/// With alpha cut off, its recorded voice must not keep it alive in beta's eyes.
fn a_recording_is_not_alive(pair: &Pair, intruder: &Intruder, heard: &[&Packet]) -> Result {
    for _ in 0..10 {
        for packet in heard {
            intruder.send(packet)?;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    let nodes = pair.status(pair.beta())?.nodes;
    let alive = nodes.iter().find(|node| !node.me && node.state == "alive");
    ensure!(alive.is_none(), "recorded packets keep a silent peer alive: {alive:?}");
    Ok(())
}

/// The receiver has forgotten what it heard, and the sender is gone: only the echo tells that this is an old story.
fn after_a_restart(pair: &Pair, intruder: &Intruder, heard: &[&Packet], owner: &str, changes: usize) -> Result {
    pair.beta().run(&["systemctl", "restart", "hafailover"])?;
    pair.settled()?;
    for packet in heard {
        intruder.send(packet)?;
    }
    unimpressed(pair, owner, changes, "replay after a restart of the receiver")?;
    let wires = &pair.lab.wires;
    wires.cut(&pair.alpha().seat, &[HB0, HB1])?;
    a_recording_is_not_alive(pair, intruder, heard)?;
    pair.beta().run(&["systemctl", "restart", "hafailover"])?;
    a_recording_is_not_alive(pair, intruder, heard)?;
    wires.heal(&pair.alpha().seat, &[HB0, HB1])?;
    unimpressed(pair, owner, changes, "after the heal")
}

/// The release of a move is lost on one link, then both ways for a while; then everything of it comes once more.
fn releases(pair: &Pair, intruder: &Intruder, tap: &Wiretap) -> Result {
    let wires = &pair.lab.wires;
    for round in 0..4 {
        let owner = pair.settled()?;
        let heir = pair.other(&owner).name();
        let seen = tap.packets().len();
        if round % 2 == 0 {
            wires.lose(&pair.host(&owner).seat, HB0, Direction::From)?;
        }
        pair.host(&owner).run(&["hafailoverctl", "move", "web", heir])?;
        if round % 2 == 0 {
            wires.lose_nothing()?;
        }
        ensure!(pair.settled()? == heir, "the move of round {round} did not arrive");
        let changes = pair.watch.changes(VIP).len();
        for packet in tap.packets()[seen..].iter().filter(|packet| packet.on(HB0)) {
            intruder.send(packet)?;
        }
        unimpressed(pair, heir, changes, "a release, doubled and late")?;
    }
    Ok(())
}
