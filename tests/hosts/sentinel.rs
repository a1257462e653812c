//! Tells when this machine itself was late: one thread per core above everybody else, which asks for a millisecond and
//! looks at what it got. A run that overlaps such a lateness says nothing about the daemon. It must not know scenarios.

use crate::sys::{Result, SENTINEL, become_realtime};
use rustix::thread::{CpuSet, sched_setaffinity};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Less is the ordinary noise that the bounds of the scenarios allow for.
const LATE: Duration = Duration::from_millis(10);
const NAP: Duration = Duration::from_millis(1);

/// From when a core should have been there until it was.
#[derive(Clone, Copy, Debug)]
struct Lateness {
    from: Instant,
    to: Instant,
}

#[derive(Debug)]
pub struct Sentinels {
    seen: Arc<Mutex<Vec<Lateness>>>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Sentinels {
    pub fn post() -> Result<Sentinels> {
        let mut sentinels = Sentinels { seen: Arc::default(), stop: Arc::default(), threads: Vec::new() };
        let cores = std::thread::available_parallelism()?.get();
        for core in 0..cores {
            let (seen, stop) = (sentinels.seen.clone(), sentinels.stop.clone());
            let (posted, at_post) = std::sync::mpsc::channel();
            let body = move || {
                let ready = take_post(core);
                let watches = ready.is_ok();
                // The one who posts it waits for the answer.
                let _ = posted.send(ready);
                if watches {
                    watch(&seen, &stop);
                }
            };
            let thread = std::thread::Builder::new().name(format!("sentinel-{core}"));
            sentinels.threads.push(thread.spawn(body)?);
            // Without it nobody could tell a late machine from a late daemon.
            at_post.recv()?.map_err(|error| format!("no sentinel on core {core}: {error}"))?;
        }
        Ok(sentinels)
    }

    /// The worst lateness that overlaps the time between the two.
    pub fn late_between(&self, from: Instant, to: Instant) -> Option<Duration> {
        let seen = self.seen.lock().expect("a sentinel does not panic");
        let overlapping = seen.iter().filter(|late| late.from <= to && late.to >= from);
        overlapping.map(|late| late.to - late.from).max()
    }
}

impl Drop for Sentinels {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

fn take_post(core: usize) -> std::result::Result<(), String> {
    let mut cores = CpuSet::new();
    cores.set(core);
    sched_setaffinity(None, &cores).map_err(|error| error.to_string())?;
    become_realtime(SENTINEL).map_err(|error| error.to_string())
}

fn watch(seen: &Mutex<Vec<Lateness>>, stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        let due = Instant::now() + NAP;
        std::thread::sleep(NAP);
        let now = Instant::now();
        if now - due >= LATE {
            seen.lock().expect("readers do not panic").push(Lateness { from: due, to: now });
        }
    }
}
