//! What happened, in two columns, for people who look for the reason of a violation. It must not know what matters.

use super::{MS, Nanos};
use std::fmt::Write;

#[derive(Clone, Debug, Default)]
pub struct Timeline {
    on: bool,
    lines: Vec<(Nanos, Option<usize>, String)>,
}

const WIDTH: usize = 88;

impl Timeline {
    pub fn new(on: bool) -> Timeline {
        Timeline { on, lines: Vec::new() }
    }

    /// The text is only made when somebody will read it.
    pub fn note(&mut self, at: Nanos, host: Option<usize>, text: impl FnOnce() -> String) {
        if self.on {
            self.lines.push((at, host, text()));
        }
    }

    pub fn render(&self) -> String {
        let mut out = String::new();
        for (at, host, text) in &self.lines {
            let millis = *at as f64 / MS as f64;
            let indent = if *host == Some(1) { WIDTH } else { 0 };
            let mark = if host.is_none() { "== " } else { "" };
            let mut rest = format!("{mark}{text}");
            let mut stamp = format!("{millis:12.3}");
            while !rest.is_empty() {
                let cut = rest.char_indices().nth(WIDTH - 2).map_or(rest.len(), |(index, _)| index);
                let tail = rest.split_off(cut);
                // Writing to a String cannot fail.
                let _ = writeln!(out, "{stamp:12}  {:indent$}{rest}", "");
                stamp.clear();
                rest = tail;
            }
        }
        out
    }
}
