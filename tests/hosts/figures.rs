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

impl Figures {
    /// Runs until `wanted` samples count, at most twice as many times. A run that failed while this machine was late says
    /// nothing either.
    pub fn gather(
        sentinels: &Sentinels,
        unit: &'static str,
        wanted: usize,
        mut run: impl FnMut() -> Result<Sample>,
    ) -> Result<Figures> {
        let mut figures = Figures { unit, values: Vec::new(), tried: 0 };
        let mut failed = String::new();
        while figures.values.len() < wanted {
            if figures.tried == wanted * 2 {
                let counted = figures.values.len();
                return Err(
                    format!("this machine was late in all but {counted} of {} runs{failed}", figures.tried).into()
                );
            }
            figures.tried += 1;
            let begun = Instant::now();
            match run() {
                Ok(sample) if sentinels.late_between(sample.from, sample.to).is_none() => {
                    figures.values.push(sample.value);
                }
                Ok(_) => {}
                Err(error) if sentinels.late_between(begun, Instant::now()).is_some() => {
                    failed = format!("; run {} failed: {error}", figures.tried);
                }
                Err(error) => return Err(format!("run {}: {error}", figures.tried).into()),
            }
        }
        figures.values.sort_by(f64::total_cmp);
        Ok(figures)
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
