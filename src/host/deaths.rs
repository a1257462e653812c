//! How often the daemon died lately. The unit sets no start limit (systemd would count an operator's restarts too, and run no
//! `ExecStopPost=` at it), so this count alone ends a row of deaths. It must not know how groups are stopped.

use crate::cluster::Time;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// At this many deaths within [`WINDOW`] the daemon is not started again.
pub const BUDGET: usize = 5;
pub const WINDOW: Duration = Duration::from_secs(60);

/// Exit status of a daemon that finds its budget spent; `RestartPreventExitStatus=` names it.
pub const EXIT_GAVE_UP: u8 = 78;

/// How many deaths there were within the window before `now`.
pub fn count(run: &Path, now: Time) -> usize {
    within_window(run, now).len()
}

/// Notes a death at `now`; answers with the number within the window, this one included. The file holds no more
/// than these.
pub fn record(run: &Path, now: Time) -> io::Result<usize> {
    let mut deaths = within_window(run, now);
    deaths.push(now);
    let text: String = deaths.iter().map(|death| format!("{}\n", death.0)).collect();
    let new = run.join(".deaths");
    std::fs::write(&new, text)?;
    std::fs::rename(new, deaths_file(run))?;
    Ok(deaths.len())
}

/// Notes that the budget was spent and the groups were stopped: the next start says so and ends.
pub fn give_up(run: &Path) -> io::Result<()> {
    std::fs::write(mark_file(run), "")
}

/// Whether it was given up. Asking clears the mark and the count: the start after that is an administrator's.
pub fn gave_up(run: &Path) -> bool {
    let marked = std::fs::remove_file(mark_file(run)).is_ok();
    if marked {
        // What remains of it only makes the next budget smaller.
        let _ = std::fs::remove_file(deaths_file(run));
    }
    marked
}

/// A file that cannot be read or understood counts no deaths; a time ahead of now is of no clock of this boot.
fn within_window(run: &Path, now: Time) -> Vec<Time> {
    let text = std::fs::read_to_string(deaths_file(run)).unwrap_or_default();
    let times = text.lines().filter_map(|line| line.parse().ok().map(Time));
    times.filter(|death| *death <= now && now.since(*death) < WINDOW).collect()
}

fn deaths_file(run: &Path) -> PathBuf {
    run.join("deaths")
}

fn mark_file(run: &Path) -> PathBuf {
    run.join("gave-up")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::held::tests::TempPlaces;

    fn at(seconds: u64) -> Time {
        Time(1_000_000_000_000) + Duration::from_secs(seconds)
    }

    #[test]
    fn deaths_count_within_the_window_only() {
        let places = TempPlaces::new("deaths");
        assert_eq!(count(&places.run, at(0)), 0);
        for second in 0..4 {
            assert_eq!(record(&places.run, at(second)).unwrap(), second as usize + 1);
        }
        assert_eq!(record(&places.run, at(59)).unwrap(), BUDGET);
        assert_eq!(count(&places.run, at(62)), 2);
        assert_eq!(record(&places.run, at(200)).unwrap(), 1);
        assert_eq!(std::fs::read_to_string(places.run.join("deaths")).unwrap().lines().count(), 1);
    }

    #[test]
    fn giving_up_is_told_once() {
        let places = TempPlaces::new("gave-up");
        record(&places.run, at(0)).unwrap();
        assert!(!gave_up(&places.run));
        give_up(&places.run).unwrap();
        assert!(gave_up(&places.run));
        assert!(!gave_up(&places.run));
        assert_eq!(count(&places.run, at(1)), 0);
    }

    #[test]
    fn a_broken_file_counts_nothing_and_is_replaced() {
        let places = TempPlaces::new("deaths-broken");
        std::fs::write(places.run.join("deaths"), "x\n99999999999999999999999\n").unwrap();
        assert_eq!(record(&places.run, at(0)).unwrap(), 1);
    }
}
