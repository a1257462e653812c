//! What systemd is told: the whole of it for one configuration, and that no member is ever left unguarded.

use crate::tree::{CLUSTER, DB, KEYS, SOUND, Tree, WEB};
use hafailover::host::systemd::generator::{DIGEST_FILE, Generated, Loaded, ordered, render, says, write};
use std::path::Path;
use std::process::Command;

fn rendered(tree: &Tree) -> Generated {
    render(&tree.paths(), "alpha")
}

/// The settings of one unit's drop-in, without its comment.
fn settings(generated: &Generated, unit: &str) -> Option<String> {
    let text = generated.files.get(&Path::new(&format!("{unit}.d")).join("50-hafailover.conf"))?;
    Some(text.lines().filter(|line| !line.starts_with('#')).map(|line| format!("{line}\n")).collect())
}

fn guarded(generated: &Generated, unit: &str, group: &str) -> bool {
    let assert = format!("\nAssertPathExists=/run/hafailover/grant/{group}\n");
    settings(generated, unit).is_some_and(|text| text.starts_with("[Unit]\n") && text.contains(&assert))
}

#[test]
fn targets_want_their_members_and_members_follow_each_other() {
    let generated = rendered(&Tree::sound());
    let units: Vec<_> = generated.files.keys().map(|file| file.display().to_string()).collect();
    let expected = [
        "hafailover-group@db.target",
        "hafailover-group@web.target",
        "hafailover.service",
        "nginx.service",
        "postgresql@15-main.service",
        "srv-www.mount",
    ];
    assert_eq!(units, expected.map(|unit| format!("{unit}.d/50-hafailover.conf")));
    assert_eq!(
        settings(&generated, "hafailover-group@web.target").as_deref(),
        Some(
            "[Unit]\nAssertPathExists=/run/hafailover/grant/web\nAfter=hafailover.service\nIgnoreOnIsolate=yes\n\
             Wants=srv-www.mount\nAfter=srv-www.mount\nWants=nginx.service\nAfter=nginx.service\n"
        )
    );
    // So that systemd keeps them loaded.
    let before = "[Unit]\nBefore=hafailover-group@db.target\nBefore=hafailover-group@web.target\n";
    assert_eq!(settings(&generated, "hafailover.service").as_deref(), Some(before));
    assert_eq!(
        settings(&generated, "srv-www.mount").as_deref(),
        Some(
            "[Unit]\nAssertPathExists=/run/hafailover/grant/web\nPartOf=hafailover-group@web.target\n\
             After=hafailover.service\nIgnoreOnIsolate=yes\n\
             DefaultDependencies=no\nConflicts=umount.target\nBefore=umount.target\n"
        )
    );
    assert_eq!(
        settings(&generated, "nginx.service").as_deref(),
        Some(
            "[Unit]\nAssertPathExists=/run/hafailover/grant/web\nPartOf=hafailover-group@web.target\n\
             After=hafailover.service\nIgnoreOnIsolate=yes\nRequires=srv-www.mount\nAfter=srv-www.mount\n"
        )
    );
}

#[test]
fn what_starts_early_by_default_is_taken_out_of_the_early_boot() {
    let tree = Tree::sound();
    tree.replace(WEB, "srv-www.mount nginx.service", "a.socket b.path c.timer d.swap e.automount f.target g.service");
    let generated = rendered(&tree);
    let stop = |by| format!("DefaultDependencies=no\nConflicts={by}\nBefore={by}\n");
    for (unit, stopped_by) in [
        ("a.socket", "shutdown.target"),
        ("b.path", "shutdown.target"),
        ("c.timer", "shutdown.target"),
        ("d.swap", "umount.target"),
        ("e.automount", "umount.target"),
    ] {
        assert!(settings(&generated, unit).is_some_and(|text| text.contains(&stop(stopped_by))), "{unit}");
    }
    for unit in ["f.target", "g.service"] {
        assert!(settings(&generated, unit).is_some_and(|text| !text.contains("DefaultDependencies")), "{unit}");
    }
    let before_us = generated.files.values().any(|text| text.contains("Before=hafailover.service"));
    assert!(!before_us, "Before= the daemon deadlocks its stop");
}

#[test]
fn what_a_member_triggers_needs_the_grant_too_but_is_not_started() {
    let tree = Tree::sound();
    tree.replace(WEB, "srv-www.mount nginx.service", "web.socket web.timer srv-www.automount job.timer job.service");
    let generated = rendered(&tree);
    let guard = "[Unit]\nAssertPathExists=/run/hafailover/grant/web\nPartOf=hafailover-group@web.target\n\
                 After=hafailover.service\nIgnoreOnIsolate=yes\n";
    assert_eq!(settings(&generated, "web.service").as_deref(), Some(guard), "once, though two members trigger it");
    let mount = format!("{guard}DefaultDependencies=no\nConflicts=umount.target\nBefore=umount.target\n");
    assert_eq!(settings(&generated, "srv-www.mount"), Some(mount));
    let target = settings(&generated, "hafailover-group@web.target").expect("the group's own");
    assert!(!target.contains("web.service") && !target.contains("srv-www.mount"), "{target}");
    let job = settings(&generated, "job.service").expect("a member");
    assert!(job.contains("Requires=job.timer\n"), "a member keeps its own drop-in: {job}");
}

#[test]
fn guards_need_neither_cluster_nor_keys_nor_a_sound_group() {
    let tree = Tree::sound();
    let sound = rendered(&tree);
    tree.remove(KEYS);
    tree.write(CLUSTER, "[cluster\n");
    assert_eq!(rendered(&tree), sound);
    for (old, new) in [
        ("[X-HAFailover]", "[X-HAFailover"),
        ("[X-HAFailover]", "[Install]"),
        ("[X-HAFailover]\n", ""),
        ("Nodes=alpha beta", "Nodes=nobody"),
        ("Address=10.0.0.77/24 dev eth0", "\u{fffd}garbage"),
        ("dev eth0", "dev eth0 \\"),
        ("Start=srv-www.mount nginx.service", "start = srv-www.mount 'nginx.service"),
        ("Start=srv-www.mount nginx.service", "Start=srv-www.mount %q.service nginx"),
        ("Start=srv-www.mount nginx.service", "Start=srv-www.mount\nStart=\"nginx.service\" \\"),
    ] {
        let tree = Tree::sound();
        tree.replace(WEB, old, new);
        let generated = rendered(&tree);
        for unit in ["hafailover-group@web.target", "srv-www.mount", "nginx.service"] {
            assert!(guarded(&generated, unit, "web"), "{unit} is unguarded with {new:?}: {generated:#?}");
        }
    }
}

#[test]
fn every_member_of_whatever_can_be_loaded_is_guarded() {
    let tree = Tree::sound();
    for (index, unit) in ["a", "x%i.service", "b.mount c.socket", "'d.service' e@%H.service"].iter().enumerate() {
        let file = format!("run/systemd/system/hafailover-group@g{index}.target.d/g.conf");
        tree.write(&file, format!("[X-HAFailover]\nAddress=10.3.0.{}/24 dev eth0\nStart={unit}\n", index + 1));
    }
    tree.replace(
        "run/systemd/system/hafailover-group@g0.target.d/g.conf",
        "Start=a",
        "Start=gone.service\nStart=\nStart=a.service",
    );
    let generated = rendered(&tree);
    let config = tree.loaded().config;
    for group in &config.groups {
        assert!(guarded(&generated, &group.target(), &group.name), "{}", group.name);
        assert!(group.members.iter().all(|unit| guarded(&generated, unit, &group.name)), "{group:?}");
    }
    let members: usize = config.groups.iter().map(|group| group.members.len()).sum();
    assert!(guarded(&generated, "c.service", "g2"), "what a member triggers");
    // And the daemon's own, which guards nothing.
    let all = config.groups.len() + members + 2;
    assert_eq!(generated.files.len(), all, "and nothing else: {:?}", generated.files.keys());
}

#[test]
fn the_host_is_never_cut_off_and_a_shared_unit_needs_both_grants() {
    let tree = Tree::sound();
    tree.replace(WEB, "nginx.service", "dbus.service hafailover.service sysinit.target nginx.service");
    tree.replace(DB, "postgresql@15-main.service", "postgresql@15-main.service nginx.service");
    let generated = rendered(&tree);
    for unit in ["dbus.service", "sysinit.target"] {
        assert_eq!(settings(&generated, unit), None, "{unit}");
    }
    let own = settings(&generated, "hafailover.service").expect("it keeps targets loaded");
    assert!(own.lines().all(|line| line == "[Unit]" || line.starts_with("Before=hafailover-group@")), "{own}");
    let words: Vec<&str> = generated.unguarded.iter().map(|(_, word)| word.as_str()).collect();
    assert_eq!(words, ["dbus.service", "hafailover.service", "sysinit.target"]);
    assert!(guarded(&generated, "nginx.service", "web") && guarded(&generated, "nginx.service", "db"));
}

#[test]
fn a_group_of_an_impossible_name_is_never_granted() {
    for (name, grant) in [("..", "??"), ("we.b", "we?b"), ("a b\nc", "a?b?c")] {
        let tree = Tree::empty();
        tree.write(
            &format!("etc/systemd/system/hafailover-group@{name}.target.d/a.conf"),
            "[X-HAFailover]\nStart=x.service\n",
        );
        assert!(guarded(&rendered(&tree), "x.service", grant), "{name:?}: {:#?}", rendered(&tree));
    }
}

#[test]
fn a_drop_in_that_cannot_be_written_hinders_no_other_and_leaves_no_digest() {
    let tree = Tree::sound();
    let output = tree.path("out");
    tree.write("out/hafailover-group@db.target.d", "a file in the way");
    write(&rendered(&tree), &output).expect_err("something is in the way");
    assert!(output.join("nginx.service.d/50-hafailover.conf").exists());
    assert!(!output.join(DIGEST_FILE).exists());
}

#[test]
fn the_digest_follows_what_systemd_must_know_and_nothing_else() {
    let tree = Tree::sound();
    let before = rendered(&tree).digest;
    tree.replace(WEB, "10.0.0.77", "10.0.0.79");
    tree.replace(WEB, "[Unit]", "# comment\n[Unit]");
    assert_eq!(rendered(&tree).digest, before);
    tree.replace(WEB, "srv-www.mount nginx.service", "nginx.service srv-www.mount");
    assert_ne!(rendered(&tree).digest, before);
}

#[test]
fn the_binary_writes_below_its_directory_what_the_daemon_will_compute() {
    let tree = Tree::sound();
    let output = tree.path("run/systemd/generator");
    std::fs::create_dir_all(&output).expect("systemd makes it");
    let run = Command::new(env!("CARGO_BIN_EXE_hafailover-generator"))
        .args([&output, &tree.path("early"), &tree.path("late")])
        .env("HAFAILOVER_ROOT", tree.path(""))
        .output()
        .expect("the generator runs");
    assert!(run.status.success() && run.stderr.is_empty(), "{run:?}");
    let generated = render(&tree.paths(), &hafailover::config::hostname().expect("/proc is there"));
    assert_eq!(std::fs::read_to_string(tree.paths().generator_digest).expect("a digest").trim(), generated.digest);
    for (file, content) in &generated.files {
        assert_eq!(&std::fs::read_to_string(output.join(file)).expect("a drop-in"), content);
    }
    assert!(!tree.path("early").exists() && !tree.path("late").exists());
    let entries = output.read_dir().expect("its directory").count();
    assert_eq!(entries, generated.files.len() + 1, "drop-ins and the digest, nothing else");
}

#[test]
fn the_binary_reports_what_is_broken_and_still_succeeds() {
    let tree = Tree::sound();
    tree.replace(WEB, "[X-HAFailover]", "[X-HAFailover");
    let run = Command::new(env!("CARGO_BIN_EXE_hafailover-generator"))
        .arg(tree.path("out"))
        .env("HAFAILOVER_ROOT", tree.path(""))
        .output()
        .expect("the generator runs");
    let said = String::from_utf8_lossy(&run.stderr).into_owned();
    assert!(run.status.success(), "{said}");
    assert!(said.contains("web.conf:4:1: a section begins but has no closing bracket"), "{said}");
    assert!(tree.path("out").join(DIGEST_FILE).exists());
}

const RUNNING: &str = "run/hafailover/running.json";
const ADOPTED: &str = "var/lib/hafailover/adopted.json";

/// As the daemon keeps it, from the files as they are.
fn adopt(tree: &Tree, file: &str) {
    tree.write(file, serde_json::to_vec_pretty(&tree.loaded().config).expect("plain data"));
}

fn members(words: &str) -> Vec<String> {
    words.split(' ').map(str::to_owned).collect()
}

#[test]
fn targets_go_by_what_was_adopted_and_guards_are_for_both() {
    let tree = Tree::sound();
    tree.replace(WEB, "srv-www.mount nginx.service", "srv-www.mount web.timer nginx.service");
    let without = rendered(&tree);
    adopt(&tree, RUNNING);
    assert_eq!(rendered(&tree), without, "where both say the same, once is enough");
    tree.replace(WEB, "srv-www.mount web.timer nginx.service", "srv-www.mount nginx.service php.service");
    tree.remove(DB);
    let both = rendered(&tree);
    for (unit, group) in [("web.timer", "web"), ("web.service", "web"), ("postgresql@15-main.service", "db")] {
        assert!(guarded(&both, unit, group), "{unit}: {both:#?}");
    }
    for (unit, group) in [("srv-www.mount", "web"), ("nginx.service", "web"), ("php.service", "web")] {
        assert!(guarded(&both, unit, group), "{unit}: {both:#?}");
        let text = settings(&both, unit).expect("guarded");
        assert_eq!(text.matches("AssertPathExists=").count(), 1, "{unit} once: {text}");
    }
    let timer = settings(&both, "web.timer").expect("guarded");
    assert!(timer.contains("PartOf=hafailover-group@web.target\n"), "{timer}");
    assert!(timer.contains("Requires=srv-www.mount\nAfter=srv-www.mount\n"), "as it runs: {timer}");
    let web = settings(&both, "hafailover-group@web.target").expect("its target");
    assert!(web.contains("Wants=web.timer\n") && !web.contains("php.service"), "not before it is adopted: {web}");
    let db = settings(&both, "hafailover-group@db.target").expect("its target");
    assert!(guarded(&both, "hafailover-group@db.target", "db") && db.contains("Wants=postgresql@15-main.service\n"));
    // The copy on disk is as good, where this boot has none; and an older one beside it counts for nothing.
    adopt(&tree, ADOPTED);
    let newer = rendered(&tree);
    assert_eq!(newer, both);
    tree.remove(RUNNING);
    let files = rendered(&tree);
    assert!(settings(&files, "web.timer").is_none() && settings(&files, "php.service").is_some());
    tree.remove(ADOPTED);
    assert_eq!(rendered(&tree), files, "before /var is there: the files");
}

#[test]
fn who_leaves_a_group_takes_nobody_along() {
    let tree = Tree::sound();
    tree.replace(WEB, "srv-www.mount nginx.service", "a.service b.service c.service d.service");
    adopt(&tree, RUNNING);
    tree.replace(WEB, "a.service b.service c.service d.service", "a.service d.service");
    let generated = rendered(&tree);
    let text = |unit| settings(&generated, unit).expect("guarded");
    assert!(text("b.service").contains("Requires=a.service\nAfter=a.service\n"), "{}", text("b.service"));
    assert!(text("c.service").contains("Requires=a.service\nAfter=a.service\nAfter=b.service\n"));
    let last = text("d.service");
    assert!(last.contains("Requires=a.service\nAfter=a.service\nAfter=c.service\n"), "{last}");
    // A group that goes as a whole goes as it is.
    tree.remove(WEB);
    let gone = settings(&rendered(&tree), "d.service").expect("guarded");
    assert!(gone.contains("Requires=c.service\n") && !gone.contains("Wants="), "{gone}");
}

#[test]
fn the_digest_tells_which_form_of_a_group_systemd_knows() {
    let tree = Tree::sound();
    adopt(&tree, RUNNING);
    let (old, new) = (members("srv-www.mount nginx.service"), members("srv-www.mount php.service"));
    let before = rendered(&tree).digest;
    assert_eq!((says(&before, "web", &old), says(&before, "web", &new)), (Loaded::Ordered, Loaded::Neither));
    tree.replace(WEB, "srv-www.mount nginx.service", "srv-www.mount php.service");
    let both = rendered(&tree);
    assert_eq!((says(&both.digest, "web", &old), says(&both.digest, "web", &new)), (Loaded::Ordered, Loaded::Guarded));
    assert_eq!(ordered(&both.digest).collect::<Vec<_>>(), ["db", "web"]);
    assert!(both.files_digest.iter().all(|line| both.digest.contains(line.as_str())), "{both:#?}");
    adopt(&tree, RUNNING);
    let after = rendered(&tree).digest;
    assert_eq!((says(&after, "web", &old), says(&after, "web", &new)), (Loaded::Neither, Loaded::Ordered));
    assert_eq!(says("", "web", &old), Loaded::Neither);
}

#[test]
fn a_running_configuration_that_cannot_be_read_changes_nothing_but_is_told() {
    let tree = Tree::sound();
    let files = rendered(&tree);
    for text in ["", "{}", "{\"groups\": [{\"name\": 7}]}", "\u{0}"] {
        tree.write(RUNNING, text);
        let generated = rendered(&tree);
        assert_eq!((&generated.files, &generated.digest), (&files.files, &files.digest), "{text:?}");
        assert!(generated.problems.iter().any(|problem| problem.to_string().contains("running.json")), "{text:?}");
    }
}

// The real parser is asked: a value that it would drop or misread guards nothing.
#[test]
fn systemd_loads_the_drop_ins_without_a_word() {
    let tree = Tree::sound();
    for (file, text) in SOUND.iter().filter(|(file, _)| file.starts_with("etc/systemd/system/")) {
        tree.write(file.strip_prefix("etc/systemd/system/").expect("filtered so"), text);
    }
    for unit in ["nginx.service", "postgresql@.service", "hafailover.service"] {
        tree.write(unit, "[Service]\nExecStart=/bin/true\n");
    }
    tree.write("srv-www.mount", "[Mount]\nWhat=tmpfs\nWhere=/srv/www\nType=tmpfs\n");
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("units/hafailover-group@.target");
    std::fs::copy(shipped, tree.path("hafailover-group@.target")).expect("the shipped template");
    write(&rendered(&tree), &tree.path("")).expect("written");
    let verify = Command::new("systemd-analyze")
        .args(["--man=no", "verify", "hafailover-group@web.target", "hafailover-group@db.target"])
        .env("SYSTEMD_UNIT_PATH", format!("{}:", tree.path("").display()))
        .output()
        .expect("systemd-analyze is there: this is a host with systemd");
    let said = String::from_utf8_lossy(&verify.stderr).into_owned();
    let ours: Vec<&str> = said.lines().filter(|line| line.contains("hafailover") || line.contains("cycle")).collect();
    assert!(verify.status.success() && ours.is_empty(), "{said}");
}
