//! Every operation ends: an operator is answered, a start comes to an end, one way or the other. It must not know how.

use super::Violation;
use crate::cluster::RequestId;
use crate::sim::scenario::MOST_NODES;
use crate::sim::{MS, Nanos, SECOND};

/// An operator is answered by then: the times of the group, what is waited beyond them, and as much again.
const ANSWER: Nanos = 20 * SECOND;
/// A start has ended by then: each step has its own time.
const START: Nanos = 30 * SECOND;

#[derive(Debug)]
pub struct Operations {
    /// What late wake-ups and held-up rounds may add.
    slack: Nanos,
    asked: Vec<(usize, RequestId, Nanos)>,
    starting: Vec<[Option<Nanos>; MOST_NODES]>,
}

impl Operations {
    pub fn new(groups: usize, slack: Nanos) -> Operations {
        Operations { slack, asked: Vec::new(), starting: vec![[None; MOST_NODES]; groups] }
    }

    pub fn asked(&mut self, now: Nanos, host: usize, request: RequestId) {
        self.asked.push((host, request, now));
    }

    pub fn answered(&mut self, host: usize, request: RequestId) {
        self.asked.retain(|(other, asked, _)| (*other, *asked) != (host, request));
    }

    /// A daemon ended, and with it what was asked of it.
    pub fn gone(&mut self, host: usize) {
        self.asked.retain(|(other, ..)| *other != host);
        self.starting.iter_mut().for_each(|starting| starting[host] = None);
    }

    /// It stood still for a while, which is nobody's fault.
    pub fn was_away(&mut self, span: Nanos, host: usize) {
        for (_, _, at) in self.asked.iter_mut().filter(|(other, ..)| *other == host) {
            *at += span;
        }
        for since in self.starting.iter_mut().filter_map(|starting| starting[host].as_mut()) {
            *since += span;
        }
    }

    pub fn is_starting(&mut self, now: Nanos, host: usize, group: usize, starts: bool) -> Result<(), Violation> {
        let since = &mut self.starting[group][host];
        if !starts {
            *since = None;
            return Ok(());
        }
        let span = now.saturating_sub(*since.get_or_insert(now));
        if span > START + self.slack {
            return self.violation(now, format!("host {host} has been starting group {group} for {} ms", span / MS));
        }
        Ok(())
    }

    pub fn waiting(&self, now: Nanos, host: usize) -> Result<(), Violation> {
        let overdue = |at: Nanos| now.saturating_sub(at) > ANSWER + self.slack;
        match self.asked.iter().find(|(other, _, at)| *other == host && overdue(*at)) {
            Some((_, _, at)) => {
                let span = (now - at) / MS;
                self.violation(now, format!("an operator waits for an answer of host {host} for {span} ms"))
            }
            None => Ok(()),
        }
    }

    fn violation(&self, at: Nanos, what: String) -> Result<(), Violation> {
        Err(Violation { at, checker: "operations", what })
    }
}
