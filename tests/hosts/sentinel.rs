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
            let thread = std::thread::Builder::new().name(format!("sentinel-{core}"));
            sentinels.threads.push(thread.spawn(move || watch(core, &seen, &stop))?);
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

fn watch(core: usize, seen: &Mutex<Vec<Lateness>>, stop: &AtomicBool) {
    let mut cores = CpuSet::new();
    cores.set(core);
    // A core outside this process's set is not used by the hosts either: nothing to watch.
    if sched_setaffinity(None, &cores).is_err() || become_realtime(SENTINEL).is_err() {
        return;
    }
    while !stop.load(Ordering::Relaxed) {
        let due = Instant::now() + NAP;
        std::thread::sleep(NAP);
        let now = Instant::now();
        if now - due >= LATE {
            seen.lock().expect("readers do not panic").push(Lateness { from: due, to: now });
        }
    }
}
