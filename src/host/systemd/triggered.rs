//! Units that run because of a member without being one: what a socket, timer, path or automount triggers, and what is part of a
//! target. Nothing stops the former with the member, so whoever stops or judges a group must know them.
//! It must not know what is done with them.

use super::bus::{BusError, Systemd, UnitState};
use crate::config::member::kind_of;
use std::collections::BTreeSet;

/// What the members set going, and what that sets going in turn. `others`: units that are not this group's to touch.
pub(super) async fn by_members(
    systemd: &Systemd,
    members: &[UnitState],
    others: &BTreeSet<String>,
) -> Result<Vec<UnitState>, BusError> {
    let mut known = others.clone();
    known.extend(members.iter().map(|state| state.name.clone()));
    let mut found: Vec<UnitState> = Vec::new();
    let mut look = members.to_vec();
    loop {
        let mut new = Vec::new();
        for state in &look {
            let Some(property) = property_of(&state.name) else { continue };
            let named = systemd.names(&state.path, property).await?.unwrap_or_default();
            new.extend(unknown(named, &mut known));
        }
        if new.is_empty() {
            return Ok(found);
        }
        look = systemd.list(&new).await?;
        found.extend(look.iter().cloned());
    }
}

/// Where systemd tells what runs because of a unit; nothing for kinds that set nothing going.
fn property_of(unit: &str) -> Option<&'static str> {
    match unit.rsplit_once('.')?.1 {
        "socket" | "timer" | "path" | "automount" => Some("Triggers"),
        // What it only wants may belong to others; what calls itself a part of it goes with it.
        "target" => Some("ConsistsOf"),
        _ => None,
    }
}

/// A timer may well start a reboot: what could not be a member is not stopped with one.
fn unknown(named: Vec<String>, known: &mut BTreeSet<String>) -> Vec<String> {
    named.into_iter().filter(|name| kind_of(name).is_ok() && known.insert(name.clone())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_sets_others_going_is_asked() {
        for unit in ["a.socket", "a.timer", "a.path", "a.automount"] {
            assert_eq!(property_of(unit), Some("Triggers"), "{unit}");
        }
        assert_eq!(property_of("a.target"), Some("ConsistsOf"));
        for unit in ["a.service", "a.mount", "a.swap"] {
            assert_eq!(property_of(unit), None, "{unit}");
        }
    }

    #[test]
    fn what_is_anothers_or_the_hosts_is_left_alone_and_nothing_comes_twice() {
        let mut known = BTreeSet::from(["theirs.service".to_owned()]);
        let named = ["a.service", "theirs.service", "reboot.target", "hafailover.service", "a.service", "b@1.service"];
        let named = named.map(str::to_owned).to_vec();
        assert_eq!(unknown(named.clone(), &mut known), ["a.service", "b@1.service"]);
        assert_eq!(unknown(named, &mut known), Vec::<String>::new());
    }
}
