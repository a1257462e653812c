//! A host's clock, as far as it differs from the world's. It must not know who reads it.

use super::Nanos;
use crate::cluster::Time;

/// A clock that goes by its own rate from a moment on.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    shows: u64,
    /// The moment, of the world's time.
    at: Nanos,
    /// Millionths that it goes fast by.
    fast: i64,
}

const MILLION: i64 = 1_000_000;

impl Clock {
    pub fn new(shows: u64, fast: i64) -> Clock {
        Clock { shows, at: 0, fast }
    }

    pub fn rate(&self) -> i64 {
        self.fast
    }

    pub fn set_rate(&mut self, now: Nanos, fast: i64) {
        *self = Clock { shows: self.time(now).0, at: now.max(self.at), fast };
    }

    /// It stands still no longer.
    pub fn go_on(&mut self, now: Nanos) {
        *self = Clock { shows: self.time(now).0, at: now, ..*self };
    }

    pub fn hold(&mut self, now: Nanos, span: Nanos) {
        *self = Clock { shows: self.time(now).0, at: now.max(self.at) + span, ..*self };
    }

    pub fn time(&self, now: Nanos) -> Time {
        let passed = now.saturating_sub(self.at);
        let gained = passed as i64 / 1000 * self.fast / 1000;
        Time((self.shows + passed).saturating_add_signed(gained))
    }

    /// The world's time at which it shows `time` for sure.
    pub fn world_time(&self, time: Time) -> Nanos {
        let to_pass = time.0.saturating_sub(self.shows);
        if self.fast == 0 {
            return self.at + to_pass;
        }
        let real = i128::from(to_pass) * i128::from(MILLION) / i128::from(MILLION + self.fast);
        // Of two roundings, and of the microseconds that `time` counts in.
        self.at + real as u64 + 2000
    }
}
