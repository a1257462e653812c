//! Watching a group that runs here: a member that stopped for good, a target stopped by hand.
//! What a shutdown of the host, rescue mode or the daemon's own stop takes along is nobody's fault, and not said here.

use super::bus::{Systemd, UnitState};
use super::explain::{describe_down, ended_well};
use super::together::PACE;
use super::units::{Units, is_down};
use crate::cluster::Event;
use crate::config::model::GroupId;
use crate::host::orders::{Beat, ToBeat};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use tokio::time::Instant;

/// Signals bring the news; this finds what a lost one would have brought.
const LOOK_AGAIN: Duration = Duration::from_secs(30);
/// While there is no bus nothing else brings news. Well before the next look at all groups, which keeps the pace.
const ASK_WITHOUT_BUS: Duration = PACE.checked_div(2).expect("not by zero");

/// Watches until it is aborted.
pub async fn watch(systemd: Systemd, units: Units, group: GroupId, beat: Beat) {
    let mut news = systemd.listen_to(units.names());
    let mut first = true;
    let mut told = BTreeSet::new();
    loop {
        news.read();
        news.forget_jobs(|_| true);
        // A bus that does not answer says nothing about members.
        if let Ok(states) = systemd.list_watched(units.names()).await {
            if std::mem::take(&mut first) && !units.has_members() {
                // Its target decides nothing: one that is not up was not stopped by anybody.
                newly_down(&states, &mut told);
            }
            news.follow(&states);
            for event in look(&systemd, group, &states, &mut told).await {
                beat.send(ToBeat::Event(event));
            }
        }
        let patience = if systemd.connected() { LOOK_AGAIN } else { ASK_WITHOUT_BUS };
        news.wait(Instant::now() + patience).await;
    }
}

/// What is new since the last look. `told` holds the units that were reported and did not come back since.
async fn look(systemd: &Systemd, group: GroupId, states: &[UnitState], told: &mut BTreeSet<String>) -> Vec<Event> {
    let down = newly_down(states, told);
    if down.is_empty() {
        return Vec::new();
    }
    // While we leave, and while that is not known, members going down mean nothing.
    if systemd.leaving().await != Ok(false) {
        told.retain(|name| !down.iter().any(|state| state.name == *name));
        return Vec::new();
    }
    let mut events = Vec::new();
    for state in down {
        if state.name == states[0].name {
            return vec![Event::TargetStopped { group }];
        }
        let reason = reason(systemd, state).await;
        events.push(Event::MemberDown { group, unit: state.name.clone(), reason });
    }
    events
}

async fn reason(systemd: &Systemd, state: &UnitState) -> String {
    if ended_well(systemd, state).await {
        return "stopped by hand, by a dependency or by itself".into();
    }
    describe_down(systemd, state, &BTreeMap::new()).await
}

/// The target stands first and speaks for its members: with it, they are stopped on purpose.
fn newly_down<'a>(states: &'a [UnitState], told: &mut BTreeSet<String>) -> Vec<&'a UnitState> {
    told.retain(|name| states.iter().any(|state| state.name == *name && is_down(state)));
    let target_down = is_down(&states[0]);
    let candidates = if target_down { &states[..1] } else { states };
    candidates.iter().filter(|state| is_down(state) && told.insert(state.name.clone())).collect()
}

#[cfg(test)]
mod tests {
    use super::super::units::tests::unit;
    use super::*;

    fn names(states: &[UnitState], told: &mut BTreeSet<String>) -> Vec<String> {
        newly_down(states, told).iter().map(|state| state.name.clone()).collect()
    }

    #[test]
    fn a_failed_member_is_told_once_until_it_came_back() {
        let mut told = BTreeSet::new();
        let good = [unit("g.target", "active", None), unit("a.service", "active", None)];
        let bad = [unit("g.target", "active", None), unit("a.service", "failed", None)];
        assert!(names(&good, &mut told).is_empty());
        assert_eq!(names(&bad, &mut told), ["a.service"]);
        assert!(names(&bad, &mut told).is_empty());
        assert!(names(&good, &mut told).is_empty());
        assert_eq!(names(&bad, &mut told), ["a.service"]);
    }

    #[test]
    fn a_restart_is_not_down() {
        let mut told = BTreeSet::new();
        for member in [
            unit("a.service", "activating", None),
            unit("a.service", "inactive", Some("start")),
            unit("a.service", "failed", Some("restart")),
            unit("a.service", "deactivating", None),
        ] {
            assert!(names(&[unit("g.target", "active", None), member], &mut told).is_empty());
        }
        let restarting =
            [unit("g.target", "inactive", Some("restart")), unit("a.service", "inactive", Some("restart"))];
        assert!(names(&restarting, &mut told).is_empty());
    }

    #[test]
    fn a_stopped_target_speaks_for_its_members() {
        let mut told = BTreeSet::new();
        let stopped = [unit("g.target", "inactive", None), unit("a.service", "inactive", None)];
        assert_eq!(names(&stopped, &mut told), ["g.target"]);
        assert!(names(&stopped, &mut told).is_empty());
    }
}
