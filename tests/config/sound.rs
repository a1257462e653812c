//! What a sound configuration means: defaults, digests, this host's own names, drop-ins merged as by systemd.

use crate::tree::{CLUSTER, DB, KEYS, LOCAL, Tree, WEB};
use hafailover::config::load;
use hafailover::config::model::{Config, Failback, LinkKind, NodeId};
use std::net::IpAddr;
use std::time::Duration;

fn digests(config: &Config) -> (u32, Vec<u32>) {
    (config.cluster_digest, config.groups.iter().map(|group| group.digest).collect())
}

fn drop_in(directory: &str, name: &str) -> String {
    format!("{directory}/systemd/system/hafailover-group@web.target.d/{name}")
}

#[test]
fn all_parts_of_an_example_are_read() {
    let loaded = Tree::sound().loaded();
    let config = &loaded.config;
    assert_eq!(loaded.warnings, []);
    assert_eq!(config.me, NodeId(0));
    assert_eq!(config.nodes.iter().map(|node| node.name.as_str()).collect::<Vec<_>>(), ["alpha", "beta"]);
    assert_eq!((config.links[0].name.as_str(), config.links[0].interface.as_str()), ("hb0", "enp3s0"));
    assert_eq!(config.links[1].interface, "hb1");
    let peers: Vec<String> = config.links[1].peers().map(|(_, address)| address.to_string()).collect();
    assert_eq!(peers, ["172.16.2.75", "172.16.2.76"]);
    let [db, web] = config.groups.as_slice() else { panic!("{:?}", config.groups) };
    assert_eq!((db.name.as_str(), web.name.as_str()), ("db", "web"));
    assert_eq!(db.nodes, [NodeId(1), NodeId(0)]);
    assert_eq!(web.description, "Public web site");
    assert_eq!(web.members, ["srv-www.mount", "nginx.service"]);
    assert_eq!(web.interfaces, ["eth0"]);
    assert_eq!((web.timeout_start, web.failback), (Duration::from_secs(90), Failback::No));
}

#[test]
fn all_kinds_of_links_are_read_and_named_apart() {
    let tree = Tree::sound();
    let text = r#"[[link]]
kind = "ucast"
interface = "hb1"
peers = { alpha = "FE80::75", beta = "fe80::76" }

[[link]]
kind = "mcast"
interface = "hb1"
group = "239.0.0.75"

[[link]]
kind = "mcast"
interface = "hb0"
group = "FF02:0::4:75"
port = 695
ttl = 255
loop = true

[[link]]
kind = "bcast"
interface = "hb2"

[takeover]"#;
    tree.replace(CLUSTER, "[[link]]\nkind = \"ucast\"\ninterface = \"hb1\"\nport = 694\n", "");
    tree.replace(CLUSTER, "peers = { alpha = \"172.16.2.75\", beta = \"172.16.2.76\" }\n\n[takeover]", text);
    let config = tree.loaded().config;
    let links = || config.links.iter();
    let names: Vec<_> = links().map(|link| (link.name.as_str(), link.interface.as_str(), link.port)).collect();
    let expected = [
        ("hb0:694", "enp3s0", 694),
        ("hb1:ucast", "hb1", 694),
        ("hb1:mcast", "hb1", 694),
        ("hb0:695", "enp3s0", 695),
        ("hb2", "hb2", 694),
    ];
    assert_eq!(names, expected);
    let ip = |text: &str| text.parse::<IpAddr>().expect("an address");
    assert_eq!(config.links[1].peers().map(|(_, peer)| peer).collect::<Vec<_>>(), [ip("fe80::75"), ip("fe80::76")]);
    assert_eq!(config.links[2].kind, LinkKind::Mcast { group: ip("239.0.0.75"), ttl: 1, loops: false });
    assert_eq!(config.links[3].kind, LinkKind::Mcast { group: ip("ff02::4:75"), ttl: 255, loops: true });
    assert_eq!(config.links[4].kind, LinkKind::Bcast);

    // What the packets' way depends on is the cluster's; what only they look like is not.
    let before = config.cluster_digest;
    tree.replace(CLUSTER, "FF02:0::4:75", "ff02::4:75");
    tree.replace(CLUSTER, "group = \"239.0.0.75\"", "group = \"239.0.0.75\"\nttl = 1\nloop = false");
    assert_eq!(tree.loaded().config.cluster_digest, before);
    for (old, new) in [("ttl = 255", "ttl = 254"), ("loop = true", "loop = false"), ("239.0.0.75", "239.0.0.76")] {
        let before = tree.loaded().config.cluster_digest;
        tree.replace(CLUSTER, old, new);
        assert_ne!(tree.loaded().config.cluster_digest, before, "{new}");
    }
}

#[test]
fn timing_has_the_manuals_defaults_and_warntime_follows_the_deadtime() {
    let tree = Tree::sound();
    let timing = "[timing]\nkeepalive = \"100ms\"\nwarntime = \"150ms\"\ndeadtime = \"300ms\"\ninitdead = \"10s\"\n";
    let milliseconds = |tree: &Tree| {
        let timing = tree.loaded().config.timing;
        [timing.keepalive, timing.warntime, timing.deadtime, timing.initdead].map(|time| time.as_millis())
    };
    tree.replace(CLUSTER, timing, "");
    assert_eq!(milliseconds(&tree), [200, 500, 1000, 30_000]);
    tree.replace(CLUSTER, "[[link]]", "[timing]\ndeadtime = 4\n[[link]]");
    assert_eq!(milliseconds(&tree), [200, 2000, 4000, 30_000]);
    tree.replace(CLUSTER, "deadtime = 4", "deadtime = \"30ms\"\nkeepalive = 0.01");
    assert_eq!(milliseconds(&tree), [10, 15, 30, 30_000]);
}

#[test]
fn digests_are_of_the_meaning_alone() {
    let tree = Tree::sound();
    let before = digests(&tree.loaded().config);
    tree.replace(CLUSTER, "name = \"shop\"", "# a comment\nname     =   'shop'");
    tree.replace(CLUSTER, "\"300ms\"", "0.3");
    tree.replace(CLUSTER, "\"beta\"]", "\"BETA\"]");
    tree.replace(LOCAL, "hb0 = \"enp3s0\"", "eth0 = \"enp9s0\"");
    tree.replace(WEB, "nginx.service", "\\\n# comment\n \"nginx.service\"");
    tree.replace(WEB, "Public web site", "Our shop");
    tree.replace(DB, "[X-HAFailover]", "[X-HAFailover]\nStart=old.service\nStart=\nTimeoutStopSec=1min 30s");
    assert_eq!(digests(&tree.loaded().config), before);
}

#[test]
fn a_digest_changes_with_its_own_files_only() {
    let tree = Tree::sound();
    let before = digests(&tree.loaded().config);
    tree.replace(CLUSTER, "\"10s\"", "\"11s\"");
    let cluster = digests(&tree.loaded().config);
    assert!(cluster.0 != before.0 && cluster.1 == before.1);
    tree.replace(WEB, "Start=", "TimeoutStopSec=91\nStart=");
    let groups = digests(&tree.loaded().config);
    assert!(groups.0 == cluster.0 && groups.1 != cluster.1);
}

#[test]
fn both_hosts_compute_the_same_digests_from_the_same_files() {
    let tree = Tree::sound();
    tree.replace(WEB, "nginx.service", "agent@%H.service nginx.service");
    tree.replace(WEB, "dev eth0", "dev svc");
    let alpha = tree.loaded().config;
    tree.write(LOCAL, "node = \"beta\"\n[interfaces]\nsvc = \"enp7s0\"\n");
    let beta = load(&tree.paths(), "vm-4711.example").expect("sound").config;
    assert_eq!((alpha.me, beta.me), (NodeId(0), NodeId(1)));
    assert_eq!(digests(&alpha), digests(&beta));
    assert_eq!(alpha.groups[1].members[1], "agent@alpha.service");
    assert_eq!(beta.groups[1].members[1], "agent@vm-4711.example.service");
    assert_eq!(beta.groups[1].interfaces, ["enp7s0"]);
}

#[test]
fn an_address_without_dev_means_the_same_on_all_hosts_and_requires_no_interface_yet() {
    let tree = Tree::sound();
    let with = digests(&tree.loaded().config);
    tree.replace(WEB, "10.0.0.77/24 dev eth0", "10.0.0.77/24\nAddress=2001:DB8:0::77/64 dev eth1");
    let alpha = tree.loaded().config;
    tree.write(LOCAL, "node = \"beta\"\n[interfaces]\neth1 = \"enp7s0\"\n");
    let beta = load(&tree.paths(), "vm-4711.example").expect("sound").config;
    assert_ne!(digests(&alpha), with);
    assert_eq!(digests(&alpha), digests(&beta));
    assert_eq!(
        (&alpha.groups[1].interfaces, &beta.groups[1].interfaces),
        (&vec!["eth1".into()], &vec!["enp7s0".into()])
    );
    let web =
        alpha.groups[1].addresses.iter().map(|address| (address.address.to_string(), address.interface.as_deref()));
    assert_eq!(web.collect::<Vec<_>>(), [("10.0.0.77".into(), None), ("2001:db8::77".into(), Some("eth1"))]);
    tree.replace(WEB, "2001:DB8:0::77", "2001:db8::77");
    assert_eq!(digests(&tree.loaded().config), digests(&alpha), "spelled otherwise it is the same address");
    tree.replace(WEB, "2001:db8::77/64 dev eth1", "2001:db8::77/64\nRequireInterface=eth1");
    assert_ne!(digests(&tree.loaded().config), digests(&alpha), "not named is not the same as required");
}

#[test]
fn more_than_two_nodes_are_taken_each_with_its_address_on_each_link() {
    let tree = Tree::sound();
    tree.replace(CLUSTER, "[\"alpha\", \"beta\"]", "[\"alpha\", \"beta\", \"gamma\"]");
    tree.replace(CLUSTER, "beta = \"172.16.1.76\"", "beta = \"172.16.1.76\", gamma = \"172.16.1.77\"");
    tree.replace(CLUSTER, "beta = \"172.16.2.76\"", "beta = \"172.16.2.76\", gamma = \"172.16.2.77\"");
    let config = tree.loaded().config;
    assert_eq!(config.nodes.len(), 3);
    assert_eq!(config.links[1].peers().nth(2).expect("three").1.to_string(), "172.16.2.77");
    assert_eq!(config.groups[1].nodes, [NodeId(0), NodeId(1)], "the group's own Nodes=");
}

#[test]
fn a_reordered_list_of_nodes_changes_the_preference_and_nobodys_number() {
    let tree = Tree::sound();
    let before = tree.loaded().config;
    tree.replace(CLUSTER, "[\"alpha\", \"beta\"]", "[\"beta\", \"alpha\"]");
    tree.replace(DB, "Nodes=beta alpha\n", "");
    let after = tree.loaded().config;
    assert_eq!((before.me, before.nodes), (after.me, after.nodes));
    assert_ne!(before.cluster_digest, after.cluster_digest);
    assert_eq!(after.groups[0].nodes, [NodeId(1), NodeId(0)], "the default preference is the file's order");
}

#[test]
fn drop_ins_merge_override_mask_and_reset() {
    let tree = Tree::sound();
    // By name: web.conf of /etc, then x of /run; the same name further down does not count, nor does a masked one.
    tree.write(&drop_in("run", "x.conf"), "[X-HAFailover]\nAddress=10.0.0.79/24 dev eth1\nStart=late.service\n");
    tree.write(&drop_in("usr/lib", "web.conf"), "[X-HAFailover]\nStart=overridden.service\n");
    tree.write(&drop_in("usr/lib", "y.conf"), "[X-HAFailover]\nStart=masked.service\n");
    std::os::unix::fs::symlink("/dev/null", tree.path(&drop_in("etc", "y.conf"))).expect("a link");
    tree.write("usr/lib/systemd/system/hafailover-group@.target", "[Unit]\nDescription=Group %i of %H\n");
    tree.write("etc/systemd/system/hafailover-group@.target.d/all.conf", "[X-HAFailover]\nTimeoutStopSec=5min\n");
    let web = tree.loaded().config.groups.remove(1);
    assert_eq!(web.members, ["srv-www.mount", "nginx.service", "late.service"]);
    assert_eq!(web.interfaces, ["eth0", "eth1"]);
    assert_eq!(web.timeout_stop, Duration::from_secs(300));
    tree.write(&drop_in("etc", "z.conf"), "[Unit]\nDescription=\n[X-HAFailover]\nStart=\nStart=%i-%j@%p.service\n");
    let web = tree.loaded().config.groups.remove(1);
    assert_eq!(web.members, ["web-group@hafailover-group.service"]);
    assert_eq!(web.description, "");
    // What `systemctl set-property` writes comes before everything else.
    let control = drop_in("run", "z.conf").replace("/system/", "/system.control/");
    tree.write(&control, "[X-HAFailover]\nTimeoutStopSec=7min\n");
    let web = tree.loaded().config.groups.remove(1);
    assert_eq!((web.members[2].as_str(), web.timeout_stop), ("late.service", Duration::from_secs(420)));
}

#[test]
fn a_target_of_its_own_may_carry_the_section_and_other_instances_are_no_groups() {
    let tree = Tree::sound();
    tree.write("etc/systemd/system/hafailover-group@mail.target", "[X-HAFailover]\nAddress=10.0.0.80/32 dev eth0\n");
    tree.write("etc/systemd/system/hafailover-group@none.target.d/a.conf", "[Unit]\nDescription=no group\n");
    let names: Vec<String> = tree.loaded().config.groups.into_iter().map(|group| group.name).collect();
    assert_eq!(names, ["db", "mail", "web"]);
}

#[test]
fn what_works_but_deserves_a_word_is_a_warning() {
    let tree = Tree::sound();
    tree.write(KEYS, "auth 1\n1 sha1 redhat\n");
    tree.replace(LOCAL, "hb0", "bh0");
    tree.replace(WEB, "alpha beta", "alpha");
    tree.replace(CLUSTER, "\"300ms\"", "\"1s\"");
    tree.replace(DB, "Address=10.0.0.78/24 dev eth0\n", "");
    tree.replace(WEB, "srv-www.mount nginx.service", "nginx.socket nginx.service job.timer");
    let warnings: Vec<String> = tree.loaded().warnings.iter().map(ToString::to_string).collect();
    let expected = [
        ("authkeys:2:8", "can be guessed"),
        ("local.toml:2:1", "did you mean \"hb0\"?"),
        ("db.conf:3:7", "cannot be probed"),
        ("web.conf:5:7", "cannot fail over"),
        ("web.conf:7:34", "job.timer triggers job.service"),
    ];
    assert_eq!(warnings.len(), expected.len(), "{warnings:#?}");
    for (warning, (place, words)) in warnings.iter().zip(expected) {
        assert!(warning.contains(place) && warning.contains(words), "{warning} lacks {place} or {words}");
    }
}

#[test]
fn a_credential_stands_for_the_file() {
    let tree = Tree::sound();
    tree.remove(KEYS);
    tree.write("credentials/authkeys", "auth 2\n2 sha256 bbbbbbbbbbbbbbbbbbbbbbbb\n");
    let paths = tree.paths().with_credentials(Some(&tree.path("credentials")));
    load(&paths, "alpha").expect("keys from the credential");
    load(&tree.paths().with_credentials(Some(&tree.path("elsewhere"))), "alpha")
        .expect_err("without one, the file counts, and it is gone");
}

#[test]
fn the_shipped_example_is_sound() {
    let tree = Tree::sound();
    tree.remove(WEB);
    tree.remove(DB);
    tree.remove(LOCAL);
    let examples = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging/examples");
    let read = |name: &str| std::fs::read(examples.join(name)).expect("an example");
    tree.write(CLUSTER, read("hafailover.toml"));
    tree.write(KEYS, read("authkeys"));
    tree.write(WEB, read("hafailover-group@web.target.d/web.conf"));
    let loaded = tree.loaded();
    assert_eq!(loaded.warnings, []);
    assert_eq!(loaded.config.groups[0].members, ["nginx.service"]);
}

/// The code blocks of a manual page in one language.
fn blocks(page: &str, language: &str) -> Vec<String> {
    let page = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("man").join(page);
    let text = std::fs::read_to_string(page).expect("a manual page");
    let fenced = text.split("\n```").collect::<Vec<_>>();
    fenced.iter().filter_map(|block| block.strip_prefix(&format!("{language}\n"))).map(str::to_owned).collect()
}

#[test]
fn the_manuals_examples_are_sound() {
    let [cluster, local] = blocks("hafailover.toml.5.md", "toml").try_into().expect("two examples");
    let [web] = blocks("hafailover-group.5.md", "ini").try_into().expect("one example");
    let tree = Tree::sound();
    tree.remove(DB);
    tree.write(CLUSTER, cluster);
    tree.write(LOCAL, local);
    tree.write(WEB, web);
    let loaded = tree.loaded();
    assert_eq!(loaded.warnings, []);
    assert_eq!(loaded.config.groups[0].members, ["srv-www.mount", "nginx.service"]);
}

#[test]
fn the_manuals_links_of_each_kind_are_sound() {
    let [links] = blocks("hafailover.toml.5.md", "toml-links").try_into().expect("one example");
    let tree = Tree::sound();
    let (_, sound) = crate::tree::SOUND.iter().find(|(file, _)| *file == CLUSTER).expect("the cluster's file");
    let before = sound.find("[[link]]").expect("its links");
    let behind = sound.find("[takeover]").expect("what follows them");
    tree.write(CLUSTER, format!("{}{links}\n{}", &sound[..before], &sound[behind..]));
    let kinds: Vec<_> = tree.loaded().config.links.iter().map(|link| link.kind.name()).collect();
    assert_eq!(kinds, ["ucast", "mcast", "bcast"]);
}

#[test]
fn failback_is_no_or_yes_or_after_a_time_and_each_has_a_digest_of_its_own() {
    let tree = Tree::sound();
    let mut last = "Start=".to_owned();
    let mut seen = Vec::new();
    for (word, meaning) in [
        ("no", Failback::No),
        ("yes", Failback::Yes),
        ("5min", Failback::After(Duration::from_secs(300))),
        ("300.5", Failback::After(Duration::from_millis(300_500))),
    ] {
        let line = format!("Failback={word}\nStart=");
        tree.replace(WEB, &last, &line);
        last = line;
        let config = tree.loaded().config;
        assert_eq!(config.groups[1].failback, meaning, "{word}");
        seen.push(config.groups[1].digest);
    }
    // A zero is no time, and 1 and 0 are systemd's yes and no.
    for (word, meaning) in [("0s", Failback::Yes), ("1", Failback::Yes), ("0", Failback::No)] {
        let line = format!("Failback={word}\nStart=");
        tree.replace(WEB, &last, &line);
        last = line;
        assert_eq!(tree.loaded().config.groups[1].failback, meaning, "{word}");
    }
    seen.sort_unstable();
    seen.dedup();
    assert_eq!(seen.len(), 4);
}
