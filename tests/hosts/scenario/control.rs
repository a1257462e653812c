//! Who may do what over the bus: every method, said by root, by a user with nothing, and by one with each polkit action alone.

use crate::ensure;
use crate::host::Host;
use crate::pair::{Lab, Pair};
use crate::settings::Settings;
use crate::sys::{Result, wait_for};
use std::time::{Duration, Instant};

const MANAGER: &str = include_str!("../../../packaging/interfaces/org.hafailover1.Manager.xml");

const GROUPS: &str = "org.hafailover1.manage-groups";
const NODE: &str = "org.hafailover1.manage-node";
const RELOAD: &str = "org.hafailover1.reload";

/// What a method is called with, and the action that allows it; none for reading. In an order in which each can be done.
const METHODS: [(&str, &[&str], Option<&str>); 14] = [
    ("Status", &[], None),
    ("Why", &["s", "web"], None),
    ("Clear", &["s", "web"], Some(GROUPS)),
    ("Stop", &["s", "web"], Some(GROUPS)),
    ("Start", &["s", "web"], Some(GROUPS)),
    ("Move", &["ss", "web", "beta"], Some(GROUPS)),
    ("Reload", &[], Some(RELOAD)),
    ("Record", &["s", "on"], Some(NODE)),
    ("Record", &["s", "off"], Some(NODE)),
    ("Standby", &["sb", "all", "true"], Some(NODE)),
    ("Takeover", &["s", "foreign"], Some(NODE)),
    ("SetMaintenance", &["b", "true"], Some(NODE)),
    ("SetMaintenance", &["b", "false"], Some(NODE)),
    ("Online", &[], Some(NODE)),
];

/// Longer than the daemon waits between two looks at what changed.
const PUBLISHED_WITHIN: Duration = Duration::from_millis(150);

/// Users, and the actions that the rules below give them.
const CALLERS: [(&str, &[&str]); 5] = [
    ("root", &[GROUPS, NODE, RELOAD]),
    ("plain", &[]),
    ("forgroups", &[GROUPS]),
    ("fornode", &[NODE]),
    ("forreload", &[RELOAD]),
];

/// `onlyweb` shows that rules see which group is meant, `slow` that a rule may take its time.
const RULES: &str = r#"
polkit.addRule(function(action, subject) {
    var allowed = {
        "forgroups": "org.hafailover1.manage-groups",
        "fornode": "org.hafailover1.manage-node",
        "forreload": "org.hafailover1.reload"
    };
    if (allowed[subject.user] == action.id)
        return polkit.Result.YES;
    if (subject.user == "onlyweb" && action.id == "org.hafailover1.manage-groups" && action.lookup("group") == "web")
        return polkit.Result.YES;
    if (subject.user == "slow" && action.id == "org.hafailover1.manage-groups") {
        polkit.spawn(["/bin/sleep", "5"]);
        return polkit.Result.YES;
    }
});
"#;

const NOT_ALLOWED: &str = "may not do this";

pub fn row37_polkit(lab: &Lab) -> Result<String> {
    let mut settings = Settings::new(100, 300);
    settings.groups.push(crate::settings::Group::new("db", 78));
    let mut pair = lab.pair_off(settings)?;
    pair.alpha().write("etc/polkit-1/rules.d/50-lab.rules", RULES)?;
    pair.switch_both_on()?;
    pair.settled()?;
    let host = pair.alpha();
    let users = CALLERS.iter().map(|(user, _)| *user).filter(|user| *user != "root");
    users.chain(["onlyweb", "slow"]).try_for_each(|user| host.run(&["useradd", "--no-create-home", user]).map(drop))?;
    // What another user sees meanwhile, and how late.
    let watch =
        ["systemd-run", "--quiet", "--unit=watch", "--uid=plain", "--property=StandardOutput=file:/tmp/watched"];
    host.run(&[&watch[..], &["hafailoverctl", "monitor"]].concat())?;
    let calls = every_method_by_every_caller(host)?;
    seen_by_a_monitor(host)?;
    one_group_alone(host)?;
    as_a_shell_sees_it(host)?;
    let meanwhile = slow_rules_hold_nobody_up(host)?;
    without_polkit(host)?;
    said_in_the_journal(host)?;
    nothing_refused_was_done(host)?;
    back_to_order(&pair)?;
    Ok(format!("{calls} calls as the table says; status took {meanwhile:?} while polkit thought; none without polkitd"))
}

fn call(host: &Host, user: &str, method: &str, arguments: &[&str]) -> Result<(i32, String)> {
    let mut command = vec!["runuser", "-u", user, "--", "busctl", "--system", "call"];
    command.extend(["org.hafailover1", "/org/hafailover1", "org.hafailover1.Manager", method]);
    command.extend(arguments);
    host.attempt(&command)
}

fn every_method_by_every_caller(host: &Host) -> Result<usize> {
    for method in MANAGER.split("<method name=\"").skip(1).filter_map(|rest| rest.split('"').next()) {
        ensure!(METHODS.iter().any(|(known, ..)| *known == method), "{method} is not in this row's table");
    }
    for (user, actions) in CALLERS {
        for (method, arguments, needed) in METHODS {
            let before = orders(host)?;
            changed_file(host, method == "Reload")?;
            let (code, text) = call(host, user, method, arguments)?;
            // Changes that follow each other faster are told as one.
            std::thread::sleep(PUBLISHED_WITHIN);
            let allowed = needed.is_none_or(|needed| actions.contains(&needed));
            let refused = text.contains(NOT_ALLOWED);
            ensure!(allowed != refused, "{user} says {method}: {code} {text}");
            // A move may be refused by the heart, where the group is; all else is done.
            ensure!(refused || method == "Move" || code == 0, "{user} says {method}, and it fails: {code} {text}");
            ensure!(!refused || code != 0, "{user} says {method}: a refusal ends with {code}");
            let after = orders(host)?;
            ensure!(!refused || after == before, "{user} says {method}: refused, and something happened");
            if method == "Reload" {
                ensure!(
                    refused != after.file_was_read,
                    "{user} says Reload: allowed, and the changed file was not read"
                );
                changed_file(host, false)?;
                host.run(&["hafailoverctl", "reload"])?;
            }
        }
    }
    Ok(CALLERS.len() * METHODS.len())
}

/// A file that no daemon has read shows who makes it read.
fn changed_file(host: &Host, changed: bool) -> Result {
    let mut group = crate::settings::Group::new("db", 78);
    group.more.extend(changed.then_some("TimeoutStopSec=77s"));
    host.write(&group.drop_in(), &group.text())
}

/// What a method that was refused could have changed.
#[derive(PartialEq)]
struct Orders {
    /// Each group's owner, epoch, and whether it was stopped: whatever is done to one changes one of them.
    groups: Vec<(String, Option<String>, u32, bool)>,
    maintenance: bool,
    standby: Vec<bool>,
    recording: String,
    file_was_read: bool,
}

fn orders(host: &Host) -> Result<Orders> {
    let (_, text) = host.attempt(&["hafailoverctl", "status", "--json"])?;
    let status: hafailover::cluster::status::Status = serde_json::from_str(&text)?;
    let groups = status.groups.into_iter().map(|it| (it.name, it.owner, it.epoch, it.stopped_by_operator));
    Ok(Orders {
        groups: groups.collect(),
        maintenance: status.maintenance,
        file_was_read: !status.rollout.is_empty(),
        standby: status.nodes.iter().map(|node| node.standby).collect(),
        recording: host.run(&["hafailoverctl", "record", "status"])?,
    })
}

/// Root's stop, start and move, by the daemon's own signals.
fn seen_by_a_monitor(host: &Host) -> Result {
    let lines = [
        "group web: owner alpha (alpha owns it)",
        "group web: owner nobody, was alpha",
        "group web: stopped here, was running",
        "group web: owner alpha, was nobody",
        "group web: running here, was stopped",
        "group web: owner beta, was alpha",
    ];
    let watched = host.run(&["cat", "/tmp/watched"])?;
    let mut rest = watched.as_str();
    for line in lines {
        let Some((_, after)) = rest.split_once(line) else {
            return Err(format!("the monitor does not say \"{line}\" in its place: {watched}").into());
        };
        rest = after;
    }
    Ok(())
}

fn one_group_alone(host: &Host) -> Result {
    let (code, text) = call(host, "onlyweb", "Clear", &["s", "web"])?;
    ensure!(code == 0, "a rule that allows web does not: {text}");
    let (code, text) = call(host, "onlyweb", "Clear", &["s", "db"])?;
    ensure!(code != 0 && text.contains(NOT_ALLOWED), "a rule that allows web allows db: {code} {text}");
    Ok(())
}

fn as_a_shell_sees_it(host: &Host) -> Result {
    let say = |words: &[&str]| host.attempt(&[&["runuser", "-u", "plain", "--", "hafailoverctl"], words].concat());
    for reading in [&["status"][..], &["why", "web"], &["status", "--json"]] {
        let (code, text) = say(reading)?;
        ensure!(code <= 1 && text.contains("web"), "a plain user cannot read: {reading:?}: {code} {text}");
    }
    let (code, text) = say(&["stop", "web"])?;
    ensure!(code == 3 && text.contains("polkit") && text.contains(GROUPS), "refused, but: {code} {text}");
    // A method of another interface, and what is no method, are not ways around it.
    for (interface, method) in [("org.hafailover1.Manager", "Nonsense"), ("org.hafailover1.Group", "Stop")] {
        let command = ["runuser", "-u", "plain", "--", "busctl", "call", "org.hafailover1", "/org/hafailover1"];
        let (code, text) = host.attempt(&[&command[..], &[interface, method]].concat())?;
        ensure!(code != 0, "{interface}.{method}: {text}");
    }
    // Nobody else can pretend to be the daemon.
    let own = ["runuser", "-u", "plain", "--", "busctl", "call", "org.freedesktop.DBus", "/org/freedesktop/DBus"];
    let request = ["org.freedesktop.DBus", "RequestName", "su", "org.hafailover1", "2"];
    let (code, text) = host.attempt(&[&own[..], &request].concat())?;
    ensure!(code != 0 && text.contains("Access denied"), "a plain user takes the name: {code} {text}");
    Ok(())
}

/// polkitd itself thinks of one thing at a time; whoever does not need it is not held up.
fn slow_rules_hold_nobody_up(host: &Host) -> Result<Duration> {
    let mut slow = host.begin(&["runuser", "-u", "slow", "--", "hafailoverctl", "clear", "web"])?;
    wait_for("polkit to think", Duration::from_secs(10), || {
        host.attempt(&["pgrep", "sleep"]).ok().filter(|(code, _)| *code == 0)
    })?;
    let from = Instant::now();
    let (code, text) = call(host, "plain", "Status", &[])?;
    let status = from.elapsed();
    ensure!(code == 0, "no status while polkit thinks: {text}");
    let (code, text) = call(host, "root", "Clear", &["s", "web"])?;
    ensure!(code == 0, "root cannot clear while polkit thinks: {text}");
    ensure!(slow.try_wait()?.is_none(), "the slow call ended before it was allowed");
    ensure!(slow.wait()?.success(), "the slow call was not allowed in the end");
    Ok(status)
}

fn without_polkit(host: &Host) -> Result {
    host.run(&["systemctl", "mask", "--runtime", "--now", "polkit.service"])?;
    for user in ["plain", "forgroups"] {
        let (code, text) = host.attempt(&["runuser", "-u", user, "--", "hafailoverctl", "clear", "web"])?;
        ensure!(code == 3 && text.contains("polkit could not be asked"), "{user} without polkit: {code} {text}");
        let (code, text) = host.attempt(&["runuser", "-u", user, "--", "hafailoverctl", "why", "web"])?;
        ensure!(code == 0, "{user} cannot read without polkit: {code} {text}");
    }
    host.run(&["hafailoverctl", "clear", "web"])?;
    host.run(&["systemctl", "unmask", "--runtime", "polkit.service"])?;
    let (code, text) = call(host, "forgroups", "Clear", &["s", "web"])?;
    ensure!(code == 0, "polkit is back and is not asked: {text}");
    Ok(())
}

fn said_in_the_journal(host: &Host) -> Result {
    let journal = host.journal(&["-o", "cat", "-t", "hafailoverd"])?;
    let says = [
        ("forgroups", GROUPS, "Stop group=web"),
        ("fornode", NODE, "Record word=off"),
        ("fornode", NODE, "Standby groups=all stay=true"),
        ("fornode", NODE, "Takeover groups=foreign"),
        ("fornode", NODE, "SetMaintenance on=false"),
    ];
    for (user, action, what) in says {
        let uid = host.run(&["id", "-u", user])?;
        let wanted = format!("user {} says {what} ({action}", uid.trim());
        ensure!(journal.contains(&wanted), "the journal does not say \"{wanted}\"");
    }
    Ok(())
}

/// A call leaves its line when it is allowed, before it is done. Some leave nothing else behind.
fn nothing_refused_was_done(host: &Host) -> Result {
    let journal = host.journal(&["-o", "cat", "-t", "hafailoverd"])?;
    for (user, actions) in CALLERS.into_iter().filter(|(user, _)| *user != "root") {
        let uid = host.run(&["id", "-u", user])?;
        for (method, _, needed) in METHODS.into_iter().filter_map(|(it, rest, needed)| Some((it, rest, needed?))) {
            let line = format!("user {} says {method} ", uid.trim());
            let line = journal.lines().find(|said| format!("{said} ").contains(&line));
            let allowed = actions.contains(&needed);
            ensure!(allowed == line.is_some(), "{user} may {method}: {allowed}; in the journal: {line:?}");
        }
    }
    let db = format!("user {} says Clear group=db", host.run(&["id", "-u", "onlyweb"])?.trim());
    ensure!(!journal.contains(&db), "the journal says \"{db}\", which was refused");
    Ok(())
}

fn back_to_order(pair: &Pair) -> Result {
    pair.alpha().run(&["hafailoverctl", "start", "web"])?;
    pair.settled()?;
    pair.never_two_owners()
}
