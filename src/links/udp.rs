//! A heartbeat link over UDP (`ucast`, `mcast`, `bcast`), bound to its interface.
//! It must not know what a packet says, nor when to send one. Sending and receiving never wait. Opening and closing do where another
//! process changes the host's network: leaving a group takes the kernel's lock on its configuration (RTNL), as joining one does.
//!
//! The socket exists only while the interface exists and has the address that the link needs. Who watches
//! netlink calls [`UdpLink::refresh`] whenever the interface changed; one that vanished is waited for.

use super::open::Place;
use crate::cluster::status::{LinkCounters, LinkSeen};
use crate::config::model::{LinkConfig, LinkKind, NodeId};
use crate::host::address::InterfaceState;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recv, sendto};
use socket2::Socket;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd};

/// Pending socket errors (ICMP) come once each; more than this in a row is a broken socket, left to the next round.
const ERRORS_PER_RECEIVE: u32 = 8;
/// With how many messages, after it was opened or came back, a link wants its peers' hardware addresses asked for: those of two
/// seconds at the default keepalive. The kernel asks once a second by itself.
const ASKS: u32 = 10;

#[derive(Debug)]
pub struct UdpLink {
    config: LinkConfig,
    /// This node's own address on a `ucast` link.
    own: Option<IpAddr>,
    others: Vec<IpAddr>,
    open: Option<Open>,
    carrier: bool,
    /// How often the interface had lost its carrier when it was last looked at.
    losses: u32,
    /// Messages yet to be sent with such a question.
    asks: u32,
    fault: Option<String>,
    /// Nothing that netlink tells will show when the fault is over.
    retries: bool,
    failing: Option<Failure>,
    /// A failure worth a word.
    complaint: Option<Failure>,
    counters: LinkCounters,
}

#[derive(Debug)]
struct Open {
    socket: Socket,
    /// A socket stays bound to the interface it was bound to, even when another one took over its name. One that took over
    /// its number too has another link address, and knows nothing of the groups that were joined on the old one.
    identity: (u32, Option<[u8; 6]>),
    targets: Vec<SocketAddr>,
}

/// A message that could not be sent.
#[derive(Clone, Copy, Debug)]
struct Failure {
    error: Errno,
    bytes: usize,
}

impl UdpLink {
    /// Opens nothing yet: that is for the first [`UdpLink::refresh`].
    pub fn new(config: &LinkConfig, me: NodeId) -> UdpLink {
        UdpLink {
            own: config.peers().find(|(node, _)| *node == me).map(|(_, address)| address),
            others: match config.kind {
                LinkKind::Ucast { .. } => config.peers().filter(|(node, _)| *node != me).map(|(_, at)| at).collect(),
                LinkKind::Mcast { group, .. } => vec![group],
                LinkKind::Bcast => vec![Ipv4Addr::BROADCAST.into()],
            },
            open: None,
            carrier: false,
            losses: 0,
            asks: 0,
            fault: Some(format!("interface {} was not looked at yet", config.interface)),
            retries: false,
            failing: None,
            complaint: None,
            counters: LinkCounters::default(),
            config: config.clone(),
        }
    }

    /// Opens, keeps or closes the socket by what the interface is now (`None`: it does not exist). Cheap when
    /// nothing changed; what failed is tried again at each call.
    pub fn refresh(&mut self, state: Option<&InterfaceState>) {
        let carrier = state.is_some_and(|interface| interface.carrier);
        let losses = state.map_or(self.losses, |interface| interface.carrier_losses);
        // Down and up may have come in one moment, or while nothing could be read; the kernel counts them.
        let returned = carrier && (!self.carrier || self.losses != losses);
        (self.carrier, self.losses, self.retries) = (carrier, losses, false);
        if returned {
            self.asks = ASKS;
        }
        let Some(interface) = state else {
            return self.close(format!("interface {} does not exist", self.config.interface));
        };
        let place = Place { interface: &interface.name, index: interface.index };
        if let Some(missing) = self.missing(interface, &place) {
            return self.close(missing);
        }
        // Behind a returned carrier there may be another switch: it has to be told anew who listens.
        let identity = (interface.index, interface.mac);
        let joins = returned && matches!(self.config.kind, LinkKind::Mcast { .. });
        if self.open.as_ref().is_some_and(|open| open.identity == identity && !joins) {
            return;
        }
        // The old socket must let go of the port first.
        self.open = None;
        match self.open_socket(&place) {
            Ok(socket) => {
                let targets = self.others.iter().map(|address| place.end(*address, self.config.port)).collect();
                self.open = Some(Open { socket, identity, targets });
                self.asks = ASKS;
                self.fault = None;
            }
            Err(error) => {
                let bound = self.own.or(self.others.first().copied());
                let end = bound.map_or(String::new(), |address| SocketAddr::new(address, self.config.port).to_string());
                self.retries = true;
                self.fault = Some(format!("cannot bind {end} on {}: {error}", interface.name));
            }
        }
    }

    /// The address without which the link cannot speak, if the interface lacks it.
    fn missing(&mut self, interface: &InterfaceState, place: &Place<'_>) -> Option<String> {
        let name = &interface.name;
        // The kernel is asked: an address of IPv6 is of no use before it was found to be nobody else's.
        let (here, what) = match (&self.config.kind, self.own) {
            (LinkKind::Ucast { .. }, None) => {
                return Some(format!("this node has no address in peers of link {}", self.config.name));
            }
            (LinkKind::Ucast { .. }, Some(IpAddr::V4(own))) => {
                (interface.holds(own), format!("{name} does not hold this node's address {own}"))
            }
            (LinkKind::Ucast { .. }, Some(IpAddr::V6(own))) => {
                self.retries = !place.holds_v6(own);
                (!self.retries, format!("{name} does not hold this node's address {own}, or not yet"))
            }
            (LinkKind::Mcast { group: IpAddr::V6(group), .. }, _) => {
                self.retries = !place.reaches_v6(*group, self.config.port);
                (!self.retries, format!("{name} has no IPv6 address from which to reach {group}, or not yet"))
            }
            (LinkKind::Mcast { .. } | LinkKind::Bcast, _) => (
                interface.addresses.iter().any(|address| address.local.is_ipv4()),
                format!("{name} has no IPv4 address"),
            ),
        };
        (!here).then_some(what)
    }

    fn open_socket(&self, place: &Place<'_>) -> std::io::Result<Socket> {
        let port = self.config.port;
        match (&self.config.kind, self.own) {
            (LinkKind::Ucast { .. }, Some(own)) => place.ucast(own, port),
            (LinkKind::Ucast { .. }, None) => Err(std::io::ErrorKind::AddrNotAvailable.into()),
            (LinkKind::Mcast { group, ttl, loops }, _) => place.mcast(*group, port, *ttl, *loops),
            (LinkKind::Bcast, _) => place.bcast(port),
        }
    }

    /// The socket is open and the interface has carrier.
    pub fn usable(&self) -> bool {
        self.open.is_some() && self.carrier
    }

    /// There is no socket for a reason whose end is told by nobody: to be refreshed now and then.
    pub fn retries(&self) -> bool {
        self.retries
    }

    /// Why there is no socket, for people.
    pub fn fault(&self) -> Option<&str> {
        self.fault.as_deref()
    }

    /// Why the link is not usable, for people.
    pub fn trouble(&self) -> Option<String> {
        let remedy = "look at the cable, the switch and the other end";
        let carrier = || (!self.carrier).then(|| format!("{} has no carrier: {remedy}", self.config.interface));
        self.fault.clone().or_else(carrier)
    }

    /// What to poll for reading.
    pub fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.open.as_ref().map(|open| open.socket.as_fd())
    }

    /// To every peer. What fails is counted and not repeated: the next keepalive is the repetition.
    pub fn send(&mut self, packet: &[u8]) {
        let Some(open) = &self.open else { return };
        self.failing = None;
        for target in &open.targets {
            let Err(error) = sendto(&open.socket, packet, SendFlags::DONTWAIT | SendFlags::NOSIGNAL, target) else {
                self.counters.sent += 1;
                continue;
            };
            self.counters.send_errors += 1;
            self.failing = Some(Failure { error, bytes: packet.len() });
            // The first one, then each time their number has doubled. Without carrier the reason is known.
            if self.carrier && self.counters.send_errors.is_power_of_two() {
                self.complaint = self.failing;
            }
        }
    }

    /// This node's address and each peer's, whose hardware addresses are to be asked for beside the message just sent. A returned
    /// interface has forgotten them; the switch may not yet have passed the kernel's question, which it repeats only a second
    /// later, and meanwhile nothing goes out.
    pub fn asks(&mut self) -> impl Iterator<Item = (IpAddr, IpAddr)> {
        let own = self.own.filter(|_| self.usable() && self.asks > 0);
        self.asks -= u32::from(own.is_some());
        own.into_iter().flat_map(|own| self.others.iter().map(move |peer| (own, *peer)))
    }

    /// Why the last message could not be sent, for people.
    pub fn send_error(&self) -> Option<String> {
        self.failing.map(|failure| self.explain(failure))
    }

    /// The same as [`UdpLink::send_error`], where it is worth an entry in the journal; once.
    pub fn complaint(&mut self) -> Option<String> {
        let failure = self.complaint.take()?;
        let (name, count) = (&self.config.name, self.counters.send_errors);
        Some(format!("link {name}: {}; {count} so far", self.explain(failure)))
    }

    fn explain(&self, Failure { error, bytes }: Failure) -> String {
        let interface = &self.config.interface;
        match error {
            Errno::MSGSIZE => format!(
                "a message of {bytes} bytes is more than {interface} carries in one packet: set its MTU to 1280 or more"
            ),
            error => format!("a message could not be sent on {interface}: {error}"),
        }
    }

    /// The next datagram that waits, or `None`. One that does not fit the buffer is dropped and counted as garbage.
    pub fn receive(&mut self, buffer: &mut [u8]) -> Option<usize> {
        let open = self.open.as_ref()?;
        let mut errors = 0;
        while errors < ERRORS_PER_RECEIVE {
            // With TRUNC the kernel tells the datagram's true length.
            match recv(&open.socket, &mut *buffer, RecvFlags::DONTWAIT | RecvFlags::TRUNC) {
                Ok((_, length)) => {
                    self.counters.received += 1;
                    if length <= buffer.len() {
                        return Some(length);
                    }
                    self.counters.dropped_garbage += 1;
                }
                Err(Errno::AGAIN) => return None,
                Err(_) => errors += 1,
            }
        }
        None
    }

    /// Whether this host's own packets come back to it here.
    pub fn gives_back(&self) -> bool {
        matches!(self.config.kind, LinkKind::Bcast | LinkKind::Mcast { .. })
    }

    pub fn seen(&self) -> LinkSeen {
        LinkSeen { counters: self.counters, fault: self.trouble(), send_error: self.send_error() }
    }

    pub fn counters(&self) -> &LinkCounters {
        &self.counters
    }

    /// For what only the reader of a packet can tell: wrong key, other cluster, replay.
    pub fn counters_mut(&mut self) -> &mut LinkCounters {
        &mut self.counters
    }

    fn close(&mut self, why: String) {
        self.open = None;
        self.failing = None;
        self.fault = Some(why);
    }
}
