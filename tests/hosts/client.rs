//! What a user of the address sees: one datagram every millisecond, and which of them were answered; and the responder on
//! each host that answers them. It must not know the daemon.

use crate::sys::{INSTRUMENT, Result, become_realtime, inside, sleep_until, wait_for};
use socket2::{Domain, Protocol, Socket, Type};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

const ECHO_PORT: u16 = 7;
const EVERY: Duration = Duration::from_millis(1);
/// How long an answer may be under way when the client stops sending.
const LINGER: Duration = Duration::from_millis(30);

/// One datagram: when it went out, and when its answer came.
#[derive(Clone, Copy, Debug)]
pub struct Probe {
    pub sent: Instant,
    pub answered: Option<Instant>,
}

#[derive(Debug)]
pub struct Client {
    probes: Arc<Mutex<Vec<Probe>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Client {
    /// Begins to ask `address` from within `namespace`.
    pub fn start(namespace: &str, address: impl Into<IpAddr>) -> Result<Client> {
        let address = address.into();
        let socket = inside(namespace, || {
            let any =
                if address.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { IpAddr::from(Ipv6Addr::UNSPECIFIED) };
            let socket = UdpSocket::bind((any, 0))?;
            socket.set_nonblocking(true)?;
            Ok(socket)
        })?;
        let mut client = Client { probes: Arc::default(), stop: Arc::default(), thread: None };
        let (probes, stop) = (client.probes.clone(), client.stop.clone());
        let target = SocketAddr::from((address, ECHO_PORT));
        let thread = std::thread::Builder::new().name("client".into());
        client.thread = Some(thread.spawn(move || ask(&socket, target, &probes, &stop))?);
        Ok(client)
    }

    /// Waits for the answer to a datagram that was sent after `since`, and returns when that was sent.
    pub fn wait_for_answer(&self, since: Instant, limit: Duration) -> Result<Instant> {
        wait_for("an answer to the client", limit, || {
            let probes = self.probes.lock().expect("the client does not panic");
            let sent_since = probes.iter().rev().take_while(|probe| probe.sent >= since);
            sent_since.filter(|probe| probe.answered.is_some()).last().map(|probe| probe.sent)
        })
    }

    pub fn finish(mut self) -> Trace {
        self.halt();
        Trace { probes: std::mem::take(&mut *self.probes.lock().expect("the client has ended")) }
    }

    fn halt(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.halt();
    }
}

fn ask(socket: &UdpSocket, target: SocketAddr, probes: &Mutex<Vec<Probe>>, stop: &AtomicBool) {
    // Without realtime the figures get worse, never better.
    let _ = become_realtime(INSTRUMENT);
    let mut due = Instant::now();
    while !stop.load(Ordering::Relaxed) {
        due += EVERY;
        sleep_until(due);
        let number = {
            let mut probes = probes.lock().expect("readers do not panic");
            probes.push(Probe { sent: Instant::now(), answered: None });
            (probes.len() - 1) as u64
        };
        // An error is an answer of the network ("no such host"): it counts as none of the service.
        let _ = socket.send_to(&number.to_be_bytes(), target);
        gather(socket, probes);
    }
    let end = Instant::now() + LINGER;
    while Instant::now() < end {
        gather(socket, probes);
        std::thread::sleep(EVERY);
    }
}

fn gather(socket: &UdpSocket, probes: &Mutex<Vec<Probe>>) {
    let mut number = [0; 8];
    loop {
        match socket.recv_from(&mut number) {
            Ok((8, _)) => {
                let mut probes = probes.lock().expect("readers do not panic");
                if let Some(probe) = probes.get_mut(u64::from_be_bytes(number) as usize) {
                    probe.answered.get_or_insert(Instant::now());
                }
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
            // Errors of earlier sends are reported here, one by one.
            Ok(_) | Err(_) => {}
        }
    }
}

/// Everything one client saw.
#[derive(Debug)]
pub struct Trace {
    probes: Vec<Probe>,
}

impl Trace {
    pub fn lost(&self) -> usize {
        self.probes.iter().filter(|probe| probe.answered.is_none()).count()
    }

    /// The longest time without service: from the first datagram that stayed without an answer to the next that got one.
    pub fn outage(&self) -> Duration {
        let (mut longest, mut since) = (Duration::ZERO, None);
        for probe in &self.probes {
            match (probe.answered, since) {
                (None, None) => since = Some(probe.sent),
                (Some(_), Some(start)) => {
                    longest = longest.max(probe.sent - start);
                    since = None;
                }
                _ => {}
            }
        }
        match (since, self.probes.last()) {
            (Some(start), Some(last)) => longest.max(last.sent - start),
            _ => longest,
        }
    }

    /// How long the client asked.
    pub fn seconds(&self) -> f64 {
        match (self.probes.first(), self.probes.last()) {
            (Some(first), Some(last)) => (last.sent - first.sent).as_secs_f64(),
            _ => 0.0,
        }
    }
}

/// Answers the client on one host, from whatever of the given addresses the host has at that time.
#[derive(Debug)]
pub struct Responder {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Responder {
    pub fn start<A: Copy + Into<IpAddr>>(namespace: &str, addresses: &[A]) -> Result<Responder> {
        let mut responder = Responder { stop: Arc::default(), threads: Vec::new() };
        for address in addresses.iter().map(|address| (*address).into()) {
            let socket = inside(namespace, || echo_socket(address))?;
            let stop = responder.stop.clone();
            let thread = std::thread::Builder::new().name(format!("echo-{address}"));
            responder.threads.push(thread.spawn(move || echo(&socket, &stop))?);
        }
        Ok(responder)
    }
}

impl Drop for Responder {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// Bound to an address that need not be there yet: the kernel delivers once it is, and answers come from that address.
fn echo_socket(address: IpAddr) -> io::Result<UdpSocket> {
    let domain = if address.is_ipv4() { Domain::IPV4 } else { Domain::IPV6 };
    let socket = Socket::new(domain, Type::DGRAM, Some(Protocol::UDP))?;
    if address.is_ipv4() {
        socket.set_freebind_v4(true)?
    } else {
        socket.set_freebind_v6(true)?
    };
    socket.bind(&SocketAddr::new(address, ECHO_PORT).into())?;
    socket.set_read_timeout(Some(Duration::from_millis(20)))?;
    Ok(socket.into())
}

fn echo(socket: &UdpSocket, stop: &AtomicBool) {
    let _ = become_realtime(INSTRUMENT);
    let mut datagram = [0; 64];
    while !stop.load(Ordering::Relaxed) {
        if let Ok((length, from)) = socket.recv_from(&mut datagram) {
            let _ = socket.send_to(&datagram[..length], from);
        }
    }
}
