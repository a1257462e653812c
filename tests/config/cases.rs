//! A sound configuration, and mistakes to be made in it, one each. It must not know who reads the files.

pub(crate) const CLUSTER: &str = "etc/hafailover/hafailover.toml";
pub(crate) const LOCAL: &str = "etc/hafailover/local.toml";
pub(crate) const KEYS: &str = "etc/hafailover/authkeys";
pub(crate) const WEB: &str = "etc/systemd/system/hafailover-group@web.target.d/web.conf";
pub(crate) const DB: &str = "etc/systemd/system/hafailover-group@db.target.d/db.conf";

pub(crate) const SOUND: [(&str, &str); 5] = [
    (
        CLUSTER,
        r#"[cluster]
name = "shop"
nodes = ["alpha", "beta"]

[timing]
keepalive = "100ms"
warntime = "150ms"
deadtime = "300ms"
initdead = "10s"

[[link]]
kind = "ucast"
interface = "hb0"
port = 694
peers = { alpha = "172.16.1.75", beta = "172.16.1.76" }

[[link]]
kind = "ucast"
interface = "hb1"
port = 694
peers = { alpha = "172.16.2.75", beta = "172.16.2.76" }

[takeover]
proof = "silence"
"#,
    ),
    (LOCAL, "[interfaces]\nhb0 = \"enp3s0\"\n"),
    (KEYS, "auth 1\n1 sha256 a8fdc205a9f19cc1c7507a60c4f01b13\n"),
    (
        WEB,
        "[Unit]\nDescription=Public web site\n\n[X-HAFailover]\nNodes=alpha beta\nAddress=10.0.0.77/24 dev eth0\n\
         Start=srv-www.mount nginx.service\n",
    ),
    (DB, "[X-HAFailover]\nNodes=beta alpha\nAddress=10.0.0.78/24 dev eth0\nStart=postgresql@15-main.service\n"),
];

/// One mistake: `old` of a sound file becomes `new`, in which `¦` stands where the message must point to.
pub(crate) struct Case {
    pub(crate) file: &'static str,
    old: &'static str,
    pub(crate) new: &'static str,
    pub(crate) what: &'static str,
    pub(crate) remedy: &'static str,
}

/// A file with its mistake, and where that stands.
pub(crate) struct Broken {
    pub(crate) text: String,
    pub(crate) line: usize,
    pub(crate) column: usize,
}

impl Case {
    pub(crate) fn broken(&self) -> Broken {
        let (_, sound) = SOUND.iter().find(|(file, _)| *file == self.file).expect("a file of the sound ones");
        assert!(sound.contains(self.old), "{} holds no {:?}", self.file, self.old);
        let marked = sound.replacen(self.old, self.new, 1);
        let (before, after) = marked.split_once('¦').expect("every case marks a place");
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        Broken { text: format!("{before}{after}"), line, column }
    }
}

const fn case(
    file: &'static str,
    old: &'static str,
    new: &'static str,
    what: &'static str,
    remedy: &'static str,
) -> Case {
    Case { file, old, new, what, remedy }
}

/// A mistake in a link of kind `mcast`: its group, and what else stands there.
macro_rules! mcast {
    ($group:literal, $more:literal, $what:literal, $remedy:literal) => {
        case(
            CLUSTER,
            HB1,
            concat!("[[link]]\nkind = \"mcast\"\ninterface = \"hb1\"\ngroup = ", $group, "\n", $more, "\n"),
            $what,
            $remedy,
        )
    };
}

/// The second link of the sound file.
const HB1: &str = r#"[[link]]
kind = "ucast"
interface = "hb1"
port = 694
peers = { alpha = "172.16.2.75", beta = "172.16.2.76" }
"#;

const TOO_MANY_NODES: &str = r#"¦nodes = ["alpha", "beta", "n3", "n4", "n5", "n6", "n7", "n8", "n9", "n10", "n11", "n12", "n13", "n14", "n15", "n16", "n17",
"n18", "n19", "n20", "n21", "n22", "n23", "n24", "n25", "n26", "n27", "n28", "n29", "n30", "n31", "n32", "n33"]"#;

const NOT_BUILT: &str = "not built yet in this version";

pub(crate) const CLUSTER_CASES: &[Case] = &[
    // syntax and keys
    case(CLUSTER, "name = \"shop\"", "name = ¦shop", "string", "TOML"),
    case(CLUSTER, "[timing]", "[timing¦\n", "table", "TOML"),
    case(
        CLUSTER,
        "keepalive = \"100ms\"",
        "¦keepalvie = \"100ms\"",
        "unknown key \"keepalvie\" in [timing]",
        "did you mean \"keepalive\"?",
    ),
    case(
        CLUSTER,
        "[takeover]",
        "¦color = 1\n[takeover]",
        "unknown key \"color\" in [[link]]",
        "possible here: kind, interface, port, peers",
    ),
    case(CLUSTER, "[timing]", "[¦timings]", "unknown key \"timings\" in this file", "did you mean \"timing\"?"),
    case(CLUSTER, "port = 694", "port = ¦\"694\"", "\"port\" is a string, not a whole number", "a whole number"),
    case(
        CLUSTER,
        "[takeover]\nproof = \"silence\"",
        "[takeover]\nproof = ¦true",
        "\"proof\" is true or false",
        "string",
    ),
    // cluster and nodes
    case(
        CLUSTER,
        "[cluster]\nname = \"shop\"\n",
        "[¦cluster]\n",
        "[cluster] has no \"name\"",
        "give the cluster a name",
    ),
    case(CLUSTER, "\"shop\"", "¦\"my shop\"", "other characters", "short name"),
    case(CLUSTER, "[\"alpha\", \"beta\"]", "[\"alpha\", ¦\"Alpha\"]", "\"alpha\" is listed twice", "remove one"),
    case(CLUSTER, "[\"alpha\", \"beta\"]", "[\"alpha\", ¦\"be ta\"]", "other characters", "uname -n"),
    case(CLUSTER, "[\"alpha\", \"beta\"]", "[\"alpha\", ¦7]", "is a number", "string in quotes"),
    case(CLUSTER, "nodes = [\"alpha\", \"beta\"]", "¦nodes = [\"alpha\"]", "cannot fail over", "at least two"),
    case(CLUSTER, "nodes = [\"alpha\", \"beta\"]", TOO_MANY_NODES, "33 nodes are more than 32", "at most 32"),
    case(CLUSTER, "[timing]", "¦witnesses = [\"gamma\"]\n[timing]", "witnesses", "remove it"),
    // timing
    case(CLUSTER, "\"100ms\"", "¦\"100 ms of time\"", "unknown unit \"of\"", "\"200ms\""),
    case(CLUSTER, "\"100ms\"", "¦-1", "not a duration", "number with a unit"),
    case(
        CLUSTER,
        "deadtime = \"300ms\"",
        "deadtime = ¦\"200ms\"",
        "not above two keepalives of 100ms",
        "three keepalives",
    ),
    case(CLUSTER, "\"100ms\"", "¦\"1ms\"", "shorter than 5ms", "10ms"),
    case(CLUSTER, "\"150ms\"", "¦\"300ms\"", "warntime of 300ms", "above 100ms and below 300ms"),
    case(CLUSTER, "\"10s\"", "¦0.2", "initdead of 200ms is shorter", "initdead"),
    // links
    case(CLUSTER, "[[link]]\nkind = \"ucast\"\n", "¦[[link]]\n", "[[link]] has no \"kind\"", "ucast"),
    case(CLUSTER, "kind = \"ucast\"", "kind = ¦\"serial\"", NOT_BUILT, "ucast"),
    case(CLUSTER, "kind = \"ucast\"", "kind = ¦\"unicast\"", "unknown kind", "did you mean \"ucast\"?"),
    case(CLUSTER, "\"hb1\"", "¦\"heartbeat-interface\"", "longer than 15", "ip link"),
    case(
        CLUSTER,
        "\"hb1\"",
        "¦\"hb0\"",
        "another ucast link uses interface hb0 and port 694 already",
        "another interface",
    ),
    case(CLUSTER, "port = 694", "port = ¦0", "not a UDP port", "1 to 65535"),
    case(CLUSTER, "port = 694", "port = ¦65536", "not a UDP port", "1 to 65535"),
    case(
        CLUSTER,
        "beta = \"172.16.1.76\"",
        "¦gamma = \"172.16.1.77\", beta = \"172.16.1.76\"",
        "\"gamma\" is not among the nodes",
        "alpha, beta",
    ),
    case(
        CLUSTER,
        "peers = { alpha = \"172.16.1.75\", beta",
        "¦peers = { beta",
        "\"alpha\" has no address",
        "add alpha",
    ),
    case(CLUSTER, "\"172.16.1.76\"", "¦\"172.16.1.75\"", "address of \"alpha\" already", "address of its own"),
    case(CLUSTER, "\"172.16.2.76\"", "¦\"172.16.1.76\"", "another link already", "own network"),
    case(CLUSTER, "\"172.16.1.76\"", "¦\"fd00::76\"", "cannot talk to 172.16.1.75", "of one kind"),
    case(CLUSTER, "\"172.16.1.76\"", "¦\"fe80::76%hb0\"", "names an interface", "the key interface"),
    case(CLUSTER, "\"172.16.1.76\"", "¦\"::ffff:172.16.1.76\"", "in IPv6's clothes", "the IPv4 address itself"),
    case(CLUSTER, "\"172.16.1.76\"", "¦\"ff02::75\"", "not the address of one host", "own"),
    case(CLUSTER, "\"172.16.1.76\"", "¦\"beta.example\"", "not an IP address", "not resolved"),
    case(CLUSTER, "\"172.16.1.76\"", "¦\"239.0.0.75\"", "not the address of one host", "own"),
    // links of other kinds
    case(
        CLUSTER,
        HB1,
        "[[link]]\nkind = \"bcast\"\ninterface = \"hb1\"\n¦group = \"239.0.0.75\"\n",
        "unknown key \"group\"",
        "interface",
    ),
    mcast!("\"239.0.0.75\"", "¦peers = {}", "unknown key \"peers\"", "ttl"),
    case(CLUSTER, HB1, "¦[[link]]\nkind = \"mcast\"\ninterface = \"hb1\"\n", "[[link]] has no \"group\"", "239.0.0.75"),
    case(CLUSTER, HB1, "¦[[link]]\nkind = \"mcast\"\ngroup = \"ff02::4:75\"\n", "has no \"interface\"", "eth1"),
    case(CLUSTER, HB1, "¦[[link]]\nkind = \"bcast\"\n", "has no \"interface\"", "eth1"),
    mcast!("¦\"10.0.0.75\"", "", "10.0.0.75 is not a multicast group", "239.0.0.0/8"),
    mcast!("¦\"fd00::75\"", "", "fd00::75 is not a multicast group", "ff02::4:75"),
    mcast!("¦\"ff01::75\"", "", "never leaves this host", "ff02::4:75"),
    mcast!("¦\"ff02::75%hb1\"", "", "names an interface", "the key interface"),
    mcast!("¦\"all-nodes\"", "", "not an IP address", "239.0.0.75"),
    mcast!("¦75", "", "\"group\" is a number", "string"),
    mcast!("\"239.0.0.75\"", "ttl = ¦0", "a ttl of 0 is not between 1 and 255", "write 1"),
    mcast!("\"239.0.0.75\"", "ttl = ¦256", "a ttl of 256 is not between 1 and 255", "write 1"),
    mcast!("\"239.0.0.75\"", "ttl = ¦-1", "not between 1 and 255", "write 1"),
    mcast!("\"239.0.0.75\"", "ttl = ¦\"1\"", "\"ttl\" is a string", "whole number"),
    mcast!("\"239.0.0.75\"", "loop = ¦\"no\"", "\"loop\" is a string", "true or false"),
    mcast!("\"239.0.0.75\"", "loop = ¦0", "\"loop\" is a number", "true or false"),
    case(
        CLUSTER,
        HB1,
        "[[link]]\nkind = \"bcast\"\ninterface = \"hb1\"\n[[link]]\nkind = \"bcast\"\ninterface = ¦\"hb1\"\n",
        "another bcast link uses interface hb1 and port 694 already",
        "another interface",
    ),
    // takeover
    case(CLUSTER, "[takeover]\nproof = \"silence\"\n", "[¦takeover]\n", "There is no default", "proof = \"silence\""),
    case(CLUSTER, "\"silence\"", "¦\"quorum\"", "two nodes have no majority", "silence"),
    case(CLUSTER, "\"silence\"", "¦\"fencing\"", NOT_BUILT, "silence"),
    case(CLUSTER, "\"silence\"", "¦\"silent\"", "unknown proof", "did you mean \"silence\"?"),
    case(CLUSTER, "\"silence\"", "\"silence\"\ndelay = ¦\"5s\"", "delay between alarm", "0s"),
    case(CLUSTER, "\"silence\"", "\"silence\"\nhang = ¦\"fence\"", "hang = \"fence\"", "block"),
    case(CLUSTER, "[takeover]", "[[¦ping]]\nname = \"gw\"\n[takeover]", "ping targets", "remove"),
    case(CLUSTER, "[takeover]", "[¦quorum]\nlease = \"1s\"\n[takeover]", "[quorum]", "remove"),
    case(CLUSTER, "[takeover]", "[¦watchdog]\n[takeover]", "watchdog", "remove"),
    case(CLUSTER, "[takeover]", "[[¦fence]]\n[takeover]", "fencing", "remove"),
    case(CLUSTER, "[takeover]", "[¦alerts]\n[takeover]", "alerts", "remove"),
];

pub(crate) const HOST_CASES: &[Case] = &[
    case(LOCAL, "[interfaces]", "¦nod = \"alpha\"\n[interfaces]", "unknown key \"nod\"", "did you mean \"node\"?"),
    case(LOCAL, "[interfaces]", "node = ¦\"\"\n[interfaces]", "empty", "[cluster] nodes"),
    case(LOCAL, "\"enp3s0\"", "¦\"enp3s0/1\"", "other characters", "on this host"),
    case(LOCAL, "[interfaces]\n", "[interfaces]\nhb1 = ¦\"enp3s0\"\n", "stands for hb0 already", "cannot be one"),
    case(KEYS, "auth 1", "auth ¦2", "key 2, which is not in this file", "2 sha256"),
    case(KEYS, "auth 1\n", "¦# nothing\n", "which key signs", "auth N"),
    case(KEYS, "sha256", "¦sha265", "unknown method", "did you mean \"sha256\"?"),
    case(KEYS, "sha256 a8fdc205a9f19cc1c7507a60c4f01b13", "¦crc", "crc proves nothing", "sha256"),
    case(KEYS, "1 sha256 a8fdc205a9f19cc1c7507a60c4f01b13", "¦1 sha256", "no secret", "one word"),
    case(KEYS, "auth 1\n", "auth 1\n¦99 sha1 x\n", "not the number of a key", "0 to 15"),
];

pub(crate) const GROUP_CASES: &[Case] = &[
    // syntax
    case(WEB, "[Unit]", "¦[Unit", "no closing bracket", "]"),
    case(WEB, "[X-HAFailover]", "¦[X-HAfailover]", "unknown section [X-HAfailover]", "did you mean \"X-HAFailover\"?"),
    case(WEB, "Nodes=alpha beta", "¦Nodes alpha beta", "a line without =", "KEY=VALUE"),
    case(WEB, "nginx.service", "\\\n# why\n  ¦\"nginx.service", "nothing closes it", "close it"),
    case(WEB, "nginx.service", "¦nginx-%q.service", "unknown specifier %q", "%i"),
    // keys
    case(WEB, "Start=", "¦Strat=", "unknown key Strat=", "did you mean \"Start\"?"),
    case(WEB, "Start=", "¦CheckHTTP=http://10.0.0.77/\nStart=", NOT_BUILT, "Restart="),
    case(WEB, "Start=", "¦FailureLimitBurst=3\nStart=", NOT_BUILT, "Restart="),
    case(WEB, "Start=", "¦RequirePing=gateway\nStart=", NOT_BUILT, "RequireInterface="),
    case(WEB, "Start=", "TakeoverDelaySec=¦5\nStart=", "delay", "write 0"),
    case(WEB, "Start=", "Failback=¦maybe\nStart=", "neither yes nor no", "5min"),
    case(WEB, "Start=", "Failback=¦10 parsec\nStart=", "nor a time", "5min"),
    case(WEB, "Start=", "Proof=¦fencing\nStart=", NOT_BUILT, "silence"),
    case(WEB, "Start=", "TimeoutStopSec=¦infinity\nStart=", "for ever", "1min 30s"),
    case(WEB, "Start=", "TimeoutStartSec=¦0\nStart=", "is zero", "1min 30s"),
    case(WEB, "Start=", "RequireInterface=eth0 ¦eth/1\nStart=", "other characters", "ip link"),
    case(WEB, "alpha beta", "alpha ¦bata", "\"bata\" is not among the nodes", "did you mean \"beta\"?"),
    case(WEB, "alpha beta", "alpha ¦alpha", "listed twice", "remove one"),
    // addresses
    case(WEB, "10.0.0.77/24", "¦10.0.0.77", "no prefix length", "10.0.0.77/24"),
    case(WEB, "10.0.0.77/24", "¦10.0.0.77/33", "not a prefix length", "1 to 32"),
    case(WEB, "10.0.0.77/24", "¦10.0.0.777/24", "not an IP address", "ADDR/PREFIX"),
    case(WEB, "10.0.0.77/24", "¦2001:db8::77", "no prefix length", "2001:db8::77/64"),
    case(WEB, "10.0.0.77/24", "¦ff02::77/64", "a client could reach", "one host"),
    case(WEB, "10.0.0.77/24", "¦::1/128", "a client could reach", "one host"),
    case(WEB, "10.0.0.77/24", "¦::ffff:10.0.0.77/120", "10.0.0.77", "the IPv4 address itself"),
    case(WEB, "10.0.0.77/24 dev eth0", "2001:db8::77/64 dev eth0 ¦label web", "no label", "only IPv4"),
    case(WEB, "10.0.0.77/24", "¦10.0.0.255/24", "broadcast address", "one host"),
    case(WEB, "10.0.0.77/24 dev eth0", "¦fe80::77/64", "link-local", "write dev"),
    case(WEB, "10.0.0.77/24 dev eth0", "10.0.0.77/24 ¦deb eth0", "unknown word \"deb\"", "did you mean \"dev\"?"),
    case(WEB, "dev eth0", "dev eth0 ¦label", "nothing stands behind", "ADDR/PREFIX"),
    case(WEB, "dev eth0", "dev eth0 label ¦frontpage-01", "\"eth0:frontpage-01\" is longer than the 15", "shorten it"),
    case(WEB, "dev eth0", "dev eth0 broadcast ¦all", "not an IPv4 address", "10.0.0.255"),
    case(WEB, "10.0.0.77", "¦10.0.0.78", "belongs to group db already", "one group only"),
    case(WEB, "10.0.0.77", "¦172.16.1.76", "a node's own address on link hb0", "no node keeps"),
    // members
    case(WEB, "nginx.service", "¦nginx", "no suffix", "nginx.service"),
    case(WEB, "nginx.service", "¦nginx@.service", "is a template", "instance"),
    case(WEB, "nginx.service", "¦www.slice", "cannot be a member", "uses it"),
    case(WEB, "nginx.service", "¦hafailover.service", "belongs to hafailover", "application"),
    case(WEB, "nginx.service", "¦sysinit.target", "the host itself needs", "application"),
    case(WEB, "nginx.service", "nginx.service ¦nginx.service", "listed twice", "remove one"),
    case(WEB, "nginx.service", "¦postgresql@15-main.service", "member of group db already", "one group only"),
    case(DB, "Address=10.0.0.78/24 dev eth0\nStart=", "Start=¦", "cannot be probed", "deadtime at least 1s"),
    case(
        DB,
        "[X-HAFailover]\nNodes=beta alpha\nAddress=10.0.0.78/24 dev eth0\nStart=postgresql@15-main.service",
        "¦[X-HAFailover]",
        "neither an address nor a member",
        "Start=",
    ),
];
