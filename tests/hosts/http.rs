//! What a user of the web site sees: one request after another, each on a fresh connection. It must not know the daemon.

use crate::sys::{INSTRUMENT, Result, become_realtime, enter, sleep_until, wait_for};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

const EVERY: Duration = Duration::from_millis(5);
/// Far above what an answer takes on a LAN of one machine, and short: a lost request must not hide the next good one.
const PATIENCE: Duration = Duration::from_millis(15);

#[derive(Clone, Copy, Debug)]
struct Request {
    begun: Instant,
    good: bool,
}

#[derive(Debug)]
pub struct Browser {
    requests: Arc<Mutex<Vec<Request>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Browser {
    pub fn start(namespace: &str, address: Ipv4Addr) -> Result<Browser> {
        let mut browser = Browser { requests: Arc::default(), stop: Arc::default(), thread: None };
        let (requests, stop) = (browser.requests.clone(), browser.stop.clone());
        let (namespace, target) = (namespace.to_string(), SocketAddr::from((address, 80)));
        let thread = std::thread::Builder::new().name("browser".into());
        browser.thread = Some(thread.spawn(move || {
            if enter(&namespace).is_ok() {
                browse(target, &requests, &stop);
            }
        })?);
        Ok(browser)
    }

    pub fn wait_for_answer(&self, since: Instant, limit: Duration) -> Result {
        wait_for("an answer to the browser", limit, || {
            let requests = self.requests.lock().expect("the browser does not panic");
            requests.iter().rev().take_while(|request| request.begun >= since).any(|request| request.good).then_some(())
        })
    }

    /// The longest time from a failed request to the next good one, and how many failed.
    pub fn finish(mut self) -> (Duration, usize) {
        self.halt();
        let requests = self.requests.lock().expect("the browser has ended");
        let (mut longest, mut since) = (Duration::ZERO, None);
        for request in requests.iter() {
            if !request.good {
                since.get_or_insert(request.begun);
            } else if let Some(start) = since.take() {
                longest = longest.max(request.begun - start);
            }
        }
        if let (Some(start), Some(last)) = (since, requests.last()) {
            longest = longest.max(last.begun - start);
        }
        (longest, requests.iter().filter(|request| !request.good).count())
    }

    fn halt(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        self.halt();
    }
}

fn browse(target: SocketAddr, requests: &Mutex<Vec<Request>>, stop: &AtomicBool) {
    let _ = become_realtime(INSTRUMENT);
    let mut due = Instant::now();
    while !stop.load(Ordering::Relaxed) {
        due = (due + EVERY).max(Instant::now());
        sleep_until(due);
        let begun = Instant::now();
        let good = fetch(target).is_ok_and(|answer| answer.starts_with(b"HTTP/1.1 200"));
        requests.lock().expect("readers do not panic").push(Request { begun, good });
    }
}

fn fetch(target: SocketAddr) -> std::io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect_timeout(&target, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_nodelay(true)?;
    stream.write_all(b"HEAD / HTTP/1.1\r\nHost: lab\r\nConnection: close\r\n\r\n")?;
    let mut answer = Vec::new();
    // To the end: the server closes first, and keeps the port's TIME_WAIT to itself.
    stream.read_to_end(&mut answer)?;
    Ok(answer)
}
