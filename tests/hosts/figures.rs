//! Repeated measurements: which count, and what they say. It must not know what was measured.

use crate::sentinel::Sentinels;
use crate::sys::Result;
use std::fmt;
use std::time::{Duration, Instant};

/// One run's figure and the time in which this machine had to be punctual for it to count.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    pub value: f64,
    pub from: Instant,
    pub to: Instant,
}

#[derive(Debug)]
pub struct Figures {
    unit: &'static str,
    values: Vec<f64>,
    tried: usize,
}

/// Whose punctuality is asked for, and how late this machine must have been for a failure to be its own: the cluster's deadtime.
/// What is later than 10 ms spoils a figure; it makes no daemon choose the wrong owner.
#[derive(Clone, Copy, Debug)]
pub struct Judge<'lab> {
    pub sentinels: &'lab Sentinels,
    pub deadtime: Duration,
}

impl Judge<'_> {
    fn late_by_a_deadtime(&self, from: Instant, to: Instant) -> Option<Duration> {
        self.sentinels.late_between(from, to).filter(|late| *late >= self.deadtime)
    }

    /// Runs until `wanted` samples count, at most twice as many times. Answers with those, and with how many were tried.
    fn counted<T>(self, wanted: usize, mut run: impl FnMut() -> Result<(Sample, T)>) -> Result<(Vec<(f64, T)>, usize)> {
        let (mut counted, mut tried) = (Vec::new(), 0);
        while counted.len() < wanted {
            if tried == wanted * 2 {
                return Err(format!("this machine was late in all but {} of {tried} runs", counted.len()).into());
            }
            tried += 1;
            let begun = Instant::now();
            match run() {
                Ok((sample, beside)) if self.sentinels.late_between(sample.from, sample.to).is_none() => {
                    counted.push((sample.value, beside));
                }
                Ok(_) => {}
                Err(error) => match self.late_by_a_deadtime(begun, Instant::now()) {
                    Some(late) => println!("run {tried} failed while this machine was late by {late:.0?}: {error}"),
                    None => return Err(format!("run {tried}: {error}").into()),
                },
            }
        }
        Ok((counted, tried))
    }
}

impl Figures {
    /// As many figures as `wanted`, of runs in which this machine was punctual.
    pub fn gather(
        judge: Judge<'_>,
        unit: &'static str,
        wanted: usize,
        mut run: impl FnMut() -> Result<Sample>,
    ) -> Result<Figures> {
        let (counted, tried) = judge.counted(wanted, || run().map(|sample| (sample, ())))?;
        Ok(Figures::of(unit, counted.iter().map(|(value, ())| *value), tried))
    }

    /// The same, and beside it what the same work cost without us, in just the runs that count.
    pub fn gather_beside(
        judge: Judge<'_>,
        unit: &'static str,
        wanted: usize,
        run: impl FnMut() -> Result<(Sample, f64)>,
    ) -> Result<(Figures, Figures)> {
        let (counted, tried) = judge.counted(wanted, run)?;
        let bare = Figures::of(unit, counted.iter().map(|(_, bare)| *bare), tried);
        Ok((Figures::of(unit, counted.iter().map(|(value, _)| *value), tried), bare))
    }

    fn of(unit: &'static str, values: impl Iterator<Item = f64>, tried: usize) -> Figures {
        let mut values: Vec<f64> = values.collect();
        values.sort_by(f64::total_cmp);
        Figures { unit, values, tried }
    }

    pub fn median(&self) -> f64 {
        let middle = self.values.len() / 2;
        if self.values.len() % 2 == 1 {
            self.values[middle]
        } else {
            (self.values[middle - 1] + self.values[middle]) / 2.0
        }
    }

    pub fn worst(&self) -> f64 {
        *self.values.last().expect("at least one run counts")
    }

    /// Fails with the figures if one of them is above its bound.
    pub fn at_most(self, median: Option<f64>, worst: f64) -> Result<String> {
        let text = self.to_string();
        if median.is_some_and(|bound| self.median() > bound) || self.worst() > worst {
            let median = median.map_or(String::new(), |bound| format!("median {bound:.1}, "));
            return Err(format!("{text}; bound: {median}worst {worst:.1}; all: {:.1?}", self.values).into());
        }
        Ok(text)
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let left_out = self.tried - self.values.len();
        let (runs, unit) = (self.values.len(), self.unit);
        write!(f, "{runs} runs: median {:.1} {unit}, worst {:.1} {unit}", self.median(), self.worst())?;
        write!(f, ", left out {left_out} of {}", self.tried)
    }
}

pub fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}
