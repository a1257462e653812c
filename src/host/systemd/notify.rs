//! What systemd is told about this process: ready, status, alive, stopping. Without systemd, nothing.

use sd_notify::NotifyState;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// A service's start and stop may take this much longer each time it says so.
const EXTENSION: Duration = Duration::from_secs(30);

/// Feeds the unit's watchdog, and only if the beat thread made progress since the last time.
#[derive(Debug)]
pub struct Watchdog {
    progress: Arc<AtomicU64>,
    fed_at: Option<u64>,
    interval: Option<Duration>,
}

impl Watchdog {
    pub fn new(progress: Arc<AtomicU64>) -> Watchdog {
        Watchdog { progress, fed_at: None, interval: sd_notify::watchdog_enabled().map(|timeout| timeout / 3) }
    }

    /// How often to feed, and at least once in `longest`: others see by it that the host thread moves, however patient systemd is.
    pub fn interval(&self, longest: Duration) -> Duration {
        self.interval.map_or(longest, |wanted| wanted.min(longest))
    }

    pub fn feed(&mut self) {
        if self.moved() {
            tell(&[NotifyState::Watchdog]);
        }
    }

    fn moved(&mut self) -> bool {
        let progress = self.progress.load(Ordering::Relaxed);
        self.fed_at.replace(progress) != Some(progress)
    }
}

pub fn ready() {
    tell(&[NotifyState::Ready]);
}

pub fn status(text: &str) {
    tell(&[NotifyState::Status(text)]);
}

pub fn stopping() {
    tell(&[NotifyState::Stopping]);
}

/// Said again and again while groups are handed over: a stop that makes progress is not cut short.
pub fn extend_timeout() {
    tell(&[NotifyState::ExtendTimeoutUsec(EXTENSION.as_micros() as u32)]);
}

fn tell(state: &[NotifyState<'_>]) {
    // Without NOTIFY_SOCKET it does nothing; an error is nothing that could be mended here.
    let _ = sd_notify::notify(state);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_beat_thread_that_stands_still_is_not_fed_for() {
        let progress = Arc::new(AtomicU64::new(1));
        let mut watchdog = Watchdog { progress: progress.clone(), fed_at: None, interval: None };
        assert!(watchdog.moved());
        assert!(!watchdog.moved());
        progress.store(2, Ordering::Relaxed);
        assert!(watchdog.moved());
    }

    #[test]
    fn a_patient_watchdog_makes_nobody_seem_to_stand_still() {
        let of = |interval| Watchdog { progress: Arc::default(), fed_at: None, interval };
        let (short, longest, long) = (Duration::from_secs(1), Duration::from_millis(1500), Duration::from_secs(10));
        assert_eq!(of(Some(short)).interval(longest), short);
        assert_eq!(of(Some(long)).interval(longest), longest);
        assert_eq!(of(None).interval(longest), longest, "systemd does not watch");
    }
}
