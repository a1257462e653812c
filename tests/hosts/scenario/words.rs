//! Operators' words on booted hosts: Heartbeat's standby and takeover, standby that stays, maintenance.

use crate::ensure;
use crate::host::Host;
use crate::pair::{Lab, Pair, SETTLE, vip};
use crate::settings::{Group, Settings};
use crate::sys::{Result, wait_for};
use std::time::{Duration, Instant};

const NGINX: &str = "nginx.service";
const HERE: [&str; 2] = ["alpha", "beta"];
/// Longer than a takeover at the timing of these rows.
const QUIET: Duration = Duration::from_millis(1500);
/// Long enough for a group that would go elsewhere once it is where it was asked to be.
const STILL: Duration = Duration::from_millis(300);
/// Longer than the daemon waits with anything that it does by itself.
const LONG: Duration = Duration::from_secs(5);

/// `web` prefers alpha, `db` beta; addresses only.
fn two_groups() -> Settings {
    let mut settings = Settings::new(100, 300);
    let web = Group { more: vec!["Nodes=alpha beta", "Failback=yes"], ..Group::new("web", 77) };
    let db = Group { more: vec!["Nodes=beta alpha", "Failback=yes"], ..Group::new("db", 78) };
    settings.groups = vec![web, db];
    settings
}

fn ctl(host: &Host, words: &[&str]) -> Result<(i32, String)> {
    host.attempt(&[&["hafailoverctl"], words].concat())
}

fn done(host: &Host, words: &[&str]) -> Result<String> {
    host.run(&[&["hafailoverctl"], words].concat())
}

/// The host that has the address of each group, as the network sees it.
fn holders(pair: &Pair) -> Vec<String> {
    let both = [77, 78].map(|number| pair.watch.holders(vip(number)));
    both.iter().map(|holders| holders.join("+")).collect()
}

fn wait_holders(pair: &Pair, wanted: [&str; 2], what: &str) -> Result {
    let mut last = Vec::new();
    let seen = wait_for("the groups where they belong", SETTLE, || {
        last = holders(pair);
        (last == wanted).then_some(())
    });
    seen.map_err(|error| format!("{what}: {error}; they are on {last:?}, not on {wanted:?}").into())
}

/// Puts both groups where a case begins: what is elsewhere is asked for where it shall be.
fn arrange(pair: &Pair, wanted: [&str; 2]) -> Result {
    for (index, group) in ["web", "db"].into_iter().enumerate() {
        if holders(pair)[index] != wanted[index] {
            done(pair.host(wanted[index]), &["move", group, wanted[index]])?;
        }
    }
    wait_holders(pair, wanted, "before the case")
}

/// Nothing moves for a while: neither elsewhere, nor there and back.
fn stay(pair: &Pair, wanted: [&str; 2], span: Duration, what: &str) -> Result {
    let changes = || [77, 78].map(|number| pair.watch.changes(vip(number)).len());
    let before = changes();
    std::thread::sleep(span);
    let now = holders(pair);
    ensure!(now == wanted, "{what}: groups moved by themselves from {wanted:?} to {now:?}");
    ensure!(changes() == before, "{what}: groups moved by themselves, and came back to {now:?}");
    Ok(())
}

pub fn row36_standby_and_takeover(lab: &Lab) -> Result<String> {
    let pair = lab.pair(two_groups())?;
    pair.settled()?;
    let (mut cases, mut slowest) = (0, Duration::ZERO);
    let mut last = ["", ""];
    for begin in [["alpha", "beta"], ["alpha", "alpha"], ["beta", "beta"], ["beta", "alpha"]] {
        for node in HERE {
            for command in ["standby", "takeover"] {
                for word in ["all", "local", "foreign", "failback"] {
                    arrange(&pair, begin)?;
                    let other = pair.other(node).name();
                    let ends = [0, 1].map(|group| {
                        let home = HERE[group] == node;
                        let meant = match (command, word) {
                            (_, "all") => true,
                            (_, "local") | ("takeover", "failback") => home,
                            _ => !home,
                        };
                        match (command, begin[group] == node) {
                            ("takeover", _) if meant => node,
                            ("standby", true) if meant => other,
                            _ => begin[group],
                        }
                    });
                    let case = format!("{command} {word} on {node} with web and db on {begin:?}");
                    let from = Instant::now();
                    let text = done(pair.host(node), &[command, word])?;
                    slowest = slowest.max(from.elapsed());
                    wait_holders(&pair, ends, &format!("{case} ({})", text.trim()))?;
                    // Once, and no more: nothing goes back by itself.
                    stay(&pair, ends, STILL, &case)?;
                    (cases, last) = (cases + 1, ends);
                }
            }
        }
    }
    stay(&pair, last, LONG, "after the last case")?;
    let (exit, text) = ctl(pair.alpha(), &["standby", "mine"])?;
    ensure!(exit == 2, "an unknown word: exit {exit}: {text}");
    pair.never_two_owners()?;
    Ok(format!("{cases} cases; the slowest command took {} ms", slowest.as_millis()))
}

pub fn row36_maintenance(lab: &Lab) -> Result<String> {
    let mut pair = lab.pair(two_groups().members(&[NGINX]))?;
    pair.settled()?;
    arrange(&pair, ["alpha", "beta"])?;
    stays_through_restart_and_reboot(&mut pair)?;
    left_alone(&mut pair)?;
    pair.never_two_owners()?;
    Ok("standby --stay and maintenance outlive restart and reboot, and end with a word".into())
}

/// `standby --stay`: owns nothing until `online`.
fn stays_through_restart_and_reboot(pair: &mut Pair) -> Result {
    done(pair.alpha(), &["standby", "--stay"])?;
    wait_holders(pair, ["beta", "beta"], "standby --stay")?;
    let (exit, text) = ctl(pair.beta(), &["move", "web", "alpha"])?;
    ensure!(exit == 3 && text.contains("in standby"), "a move to a node in standby: exit {exit}: {text}");
    pair.alpha().run(&["systemctl", "restart", "hafailover"])?;
    pair.settled()?;
    pair.host_mut("alpha").lose_power()?;
    std::thread::sleep(QUIET);
    pair.return_of("alpha")?;
    std::thread::sleep(QUIET);
    wait_holders(pair, ["beta", "beta"], "after a reboot in standby")?;
    let (exit, text) = ctl(pair.alpha(), &["status"])?;
    ensure!(exit == 1 && text.contains("alpha (this)  alive, standby"), "status: exit {exit}: {text}");
    done(pair.alpha(), &["online"])?;
    wait_holders(pair, ["alpha", "beta"], "after online, with Failback=yes")?;
    // The address comes before the member.
    pair.settled().map(drop)
}

/// Maintenance: whatever fails, nothing is done; a restart keeps groups running, a stop of the service stops them.
fn left_alone(pair: &mut Pair) -> Result {
    done(pair.beta(), &["maintenance", "on"])?;
    let (exit, text) = ctl(pair.alpha(), &["move", "web", "beta"])?;
    ensure!(exit == 3 && text.contains("maintenance off"), "a move in maintenance: exit {exit}: {text}");
    let text = pair.alpha().run(&["systemctl", "status", "hafailover"])?;
    ensure!(text.contains("maintenance; joined"), "its status: {text}");
    // A member that is stopped, and a daemon that is restarted meanwhile.
    pair.alpha().run(&["systemctl", "stop", NGINX])?;
    pair.alpha().run(&["systemctl", "restart", "hafailover"])?;
    pair.settled()?;
    std::thread::sleep(QUIET);
    wait_holders(pair, ["alpha", "beta"], "a member stopped in maintenance")?;
    // An address that is removed.
    pair.beta().run(&["ip", "address", "del", "10.0.0.78/24", "dev", crate::wires::SERVICE])?;
    std::thread::sleep(QUIET);
    wait_holders(pair, ["alpha", ""], "an address removed in maintenance")?;
    // A stop of the service stops its groups, and nobody starts them.
    pair.alpha().run(&["systemctl", "stop", "hafailover"])?;
    wait_holders(pair, ["", ""], "alpha left in maintenance")?;
    std::thread::sleep(QUIET);
    ensure!(holders(pair) == ["", ""], "somebody started a group: {:?}", holders(pair));
    done(pair.beta(), &["maintenance", "off"])?;
    wait_holders(pair, ["beta", "beta"], "maintenance is off")?;
    pair.alpha().run(&["systemctl", "start", "hafailover"])?;
    wait_holders(pair, ["alpha", "beta"], "alpha is back, with Failback=yes")?;
    pair.settled()?;
    a_dead_node(pair)
}

/// A node that dies in maintenance is taken over when that ends, and not before; a mended member moves nothing.
fn a_dead_node(pair: &mut Pair) -> Result {
    done(pair.alpha(), &["maintenance", "on"])?;
    pair.alpha().run(&["systemctl", "stop", NGINX])?;
    std::thread::sleep(Duration::from_millis(300));
    pair.alpha().run(&["systemctl", "start", NGINX])?;
    pair.host_mut("beta").lose_power()?;
    std::thread::sleep(QUIET);
    ensure!(!holders(pair)[1].contains("alpha"), "taken over in maintenance: {:?}", holders(pair));
    done(pair.alpha(), &["maintenance", "off"])?;
    wait_for("alpha to have both", SETTLE, || {
        holders(pair).iter().all(|holders| holders.contains("alpha")).then_some(())
    })?;
    pair.return_of("beta")?;
    wait_holders(pair, ["alpha", "beta"], "in the end")
}
