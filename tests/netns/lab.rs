//! Two network namespaces, `a` and `b`, joined by a veth pair with an end `v0` in each. They vanish with the test,
//! also when it fails.

use hafailover::config::model::VirtualAddress;
use hafailover::host::address::{ClaimSeen, Neighbours, NetChange, Netlink};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use std::fs::File;
use std::io::Write;
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, BorrowedFd};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{Duration, Instant};

static LABS: AtomicU32 = AtomicU32::new(0);

/// All namespaces share the kernel's lock on network configuration: a test that measures runs alone.
static MACHINE: RwLock<()> = RwLock::new(());

pub(crate) struct Lab {
    names: [String; 2],
    a: File,
    b: File,
    _machine: Share,
}

enum Share {
    Shared { _guard: RwLockReadGuard<'static, ()> },
    Alone { _guard: RwLockWriteGuard<'static, ()> },
}

impl Lab {
    /// The calling thread is in namespace `a` from here on; 10.0.0.1/24 is there, 10.0.0.2/24 in `b`.
    pub(crate) fn new() -> Lab {
        Lab::make(Share::Shared { _guard: MACHINE.read().unwrap_or_else(PoisonError::into_inner) })
    }

    /// For a test that measures time: no other test beside it, and the thread realtime as the beat thread is.
    pub(crate) fn alone() -> Lab {
        let thread = rustix::thread::gettid().to_string();
        let realtime = Command::new("chrt").args(["--fifo", "--reset-on-fork", "--pid", "20", &thread]).status();
        assert!(realtime.is_ok_and(|status| status.success()), "chrt makes this thread realtime (util-linux, root)");
        Lab::make(Share::Alone { _guard: MACHINE.write().unwrap_or_else(PoisonError::into_inner) })
    }

    fn make(machine: Share) -> Lab {
        assert!(
            rustix::process::geteuid().is_root(),
            "these tests need root: network namespaces, netlink, raw sockets"
        );
        let number = LABS.fetch_add(1, Ordering::Relaxed);
        let names = ["a", "b"].map(|side| format!("hfl-{}-{number}{side}", std::process::id()));
        let namespace = |name: &String| {
            ip(&["netns", "add", name]);
            File::open(format!("/run/netns/{name}")).expect("namespace was just made")
        };
        let lab = Lab { a: namespace(&names[0]), b: namespace(&names[1]), names, _machine: machine };
        lab.ip_a("link set lo up");
        lab.ip_b("link set lo up");
        lab.make_pair();
        enter(&lab.a);
        // What Debian 12 has; other systems start with 1.
        lab.write("/proc/sys/net/ipv4/conf/all/promote_secondaries", "0");
        lab.write("/proc/sys/net/ipv4/conf/v0/promote_secondaries", "0");
        lab
    }

    /// Deletes both `v0` and makes them anew, with other indexes.
    pub(crate) fn recreate_pair(&self) {
        self.ip_a("link del v0");
        self.make_pair();
    }

    /// The same with an index for the new `v0` in `a`.
    pub(crate) fn recreate_pair_as(&self, index: u32) {
        self.ip_a("link del v0");
        self.make_pair_with(&format!("link add v0 index {index} type veth peer name v1"));
    }

    fn make_pair(&self) {
        // Both ends are made in one namespace, so that they get different indexes: equal ones delay carrier events.
        self.make_pair_with("link add v0 type veth peer name v1");
    }

    fn make_pair_with(&self, add: &str) {
        self.ip_a(add);
        self.ip_a(&format!("link set v1 netns {} name v0", self.names[1]));
        // No addresses of the kernel's own making, which come at times of their own.
        self.ip_a("link set v0 addrgenmode none");
        self.ip_b("link set v0 addrgenmode none");
        self.ip_a("link set v0 up");
        self.ip_b("link set v0 up");
        self.ip_a("addr add 10.0.0.1/24 dev v0");
        self.ip_b("addr add 10.0.0.2/24 dev v0");
    }

    /// Joins the namespaces once more, by a `w0` in each.
    pub(crate) fn second_pair(&self) {
        self.ip_a("link add w0 type veth peer name w1");
        self.ip_a(&format!("link set w1 netns {} name w0", self.names[1]));
        self.ip_a("link set w0 up");
        self.ip_b("link set w0 up");
        self.ip_a("addr add 10.1.0.1/24 dev w0");
        self.ip_b("addr add 10.1.0.2/24 dev w0");
    }

    pub(crate) fn ip_a(&self, arguments: &str) {
        self.ip("a", arguments);
    }

    pub(crate) fn ip_b(&self, arguments: &str) {
        self.ip("b", arguments);
    }

    pub(crate) fn show_a(&self, arguments: &str) -> String {
        self.show("a", arguments)
    }

    pub(crate) fn show_b(&self, arguments: &str) -> String {
        self.show("b", arguments)
    }

    /// Runs `ip -batch` in `a`.
    pub(crate) fn batch_a(&self, commands: &str) {
        let mut child = Command::new("ip")
            .args(["-n", &self.names[0], "-batch", "-"])
            .stdin(Stdio::piped())
            .spawn()
            .expect("ip is installed");
        child.stdin.take().expect("piped").write_all(commands.as_bytes()).expect("ip reads");
        assert!(child.wait().expect("own child").success(), "ip -batch");
    }

    /// Runs `open` in namespace `b`; a socket it returns belongs there for ever.
    pub(crate) fn in_b<T>(&self, open: impl FnOnce() -> T) -> T {
        enter(&self.b);
        let result = open();
        enter(&self.a);
        result
    }

    pub(crate) fn write(&self, path: &str, value: &str) {
        std::fs::write(path, value).unwrap_or_else(|error| panic!("{path}: {error}"));
    }

    fn ip(&self, side: &str, arguments: &str) {
        self.show(side, arguments);
    }

    fn show(&self, side: &str, arguments: &str) -> String {
        let name = &self.names[usize::from(side == "b")];
        ip(&["-n", name].into_iter().chain(arguments.split(' ')).collect::<Vec<_>>())
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        for name in &self.names {
            let _ = Command::new("ip").args(["netns", "del", name]).status();
        }
    }
}

fn enter(namespace: &File) {
    move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network)).expect("root may");
}

fn ip(arguments: &[&str]) -> String {
    let output = Command::new("ip").args(arguments).output().expect("ip is installed");
    assert!(output.status.success(), "ip {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

pub(crate) fn address(text: &str) -> VirtualAddress {
    let (address, prefix) = text.split_once('/').expect("ADDR/PREFIX");
    VirtualAddress {
        address: address.parse().expect("an address"),
        prefix: prefix.parse().expect("a prefix"),
        interface: Some("v0".to_owned()),
        label: None,
        broadcast: None,
    }
}

/// 10.0.0.101/24 and so on.
pub(crate) fn addresses(count: u8) -> Vec<VirtualAddress> {
    (0..count).map(|n| address(&format!("10.0.0.{}/24", 101 + n))).collect()
}

pub(crate) fn removed(address: &VirtualAddress) -> NetChange {
    NetChange::AddressRemoved { interface: "v0".into(), address: address.address, prefix: address.prefix }
}

pub(crate) fn added(address: &VirtualAddress) -> NetChange {
    NetChange::AddressAdded { interface: "v0".into(), address: address.address, prefix: address.prefix }
}

pub(crate) fn interface_changed(name: &str) -> NetChange {
    NetChange::Interface { name: name.into() }
}

pub(crate) fn ipv4(text: &str) -> Ipv4Addr {
    text.parse().expect("an address")
}

pub(crate) fn readable_within(fd: BorrowedFd<'_>, span: Duration) -> bool {
    let timeout = Timespec { tv_sec: span.as_secs() as i64, tv_nsec: i64::from(span.subsec_nanos()) };
    poll(&mut [PollFd::new(&fd, PollFlags::IN)], Some(&timeout)).expect("poll") == 1
}

/// Reads changes, as the beat thread does, until `met` or the time is over. How long it took.
pub(crate) fn wait_until(
    netlink: &mut Netlink,
    span: Duration,
    mut met: impl FnMut(&Netlink) -> bool,
) -> Option<Duration> {
    let start = Instant::now();
    while start.elapsed() < span {
        netlink.drain();
        if met(netlink) {
            return Some(start.elapsed());
        }
        readable_within(netlink.fd(), Duration::from_millis(5));
    }
    None
}

/// All claims that wait.
pub fn claims(neighbours: &mut Neighbours, netlink: &Netlink) -> Vec<ClaimSeen> {
    let mut claims = Vec::new();
    while !neighbours.drain(netlink.table(), |claim| claims.push(claim)) {}
    claims
}
