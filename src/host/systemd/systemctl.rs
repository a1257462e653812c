//! Asking systemd by running `systemctl`, and waiting for it: what follows a daemon's death asks so where the bus is dead. A daemon that
//! lives must not wait, and asks in `without_bus`; beside these two, this program starts no process.
//! It must not know what an answer means for a group.

use std::io::Read;
use std::process::{Command, Stdio};
use std::sync::mpsc::sync_channel;
use std::time::Duration;

/// The unit this program is installed as.
pub const OWN_UNIT: &str = "hafailover.service";
/// systemd answers at once, or has troubles of its own.
const PATIENCE: Duration = Duration::from_secs(5);

/// What systemd is about to do with this unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Job {
    None,
    Restart,
    /// Of this unit, or of the whole host.
    Stop,
    /// systemd does not say.
    Unknown,
}

/// Who systemd says is the daemon.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Main {
    pub pid: String,
    /// The unit is up, or about to be: not on its way down.
    pub live: bool,
}

/// What `systemctl` printed, or why there is no answer.
pub fn run(arguments: &[&str]) -> Result<String, String> {
    run_program("systemctl", arguments, PATIENCE)
}

fn run_program(program: &str, arguments: &[&str], patience: Duration) -> Result<String, String> {
    let mut command = Command::new(program);
    command.args(arguments).env("LC_ALL", "C").stdin(Stdio::null()).stdout(Stdio::piped());
    let mut child = command.spawn().map_err(|error| format!("{program}: {error}"))?;
    let mut stdout = child.stdout.take().ok_or("its answer cannot be read")?;
    let (done, printed) = sync_channel(1);
    std::thread::spawn(move || {
        let mut text = String::new();
        // What could be read of it counts. Nobody waits any more if it is late.
        let _ = stdout.read_to_string(&mut text);
        let _ = done.try_send(text);
    });
    let Ok(text) = printed.recv_timeout(patience) else {
        // Its end is not waited for: it may be as stuck as what it asks.
        let _ = child.kill();
        return Err(format!("{program} did not answer within {patience:?}"));
    };
    match child.wait() {
        Ok(status) if status.success() => Ok(text),
        Ok(status) => Err(format!("{program} {}: {status}", arguments.join(" "))),
        Err(error) => Err(format!("{program}: {error}")),
    }
}

pub fn own_job() -> Job {
    run(&["list-jobs", "--no-legend", "--no-pager", "--full"]).map_or(Job::Unknown, |text| job_among(&text))
}

/// The type of a unit's job, of lines such as `123 hafailover.service stop running`.
pub(super) fn job_type<'a>(jobs: &'a str, unit: &str) -> Option<&'a str> {
    let mut lines = jobs.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    lines.find_map(|words| words.iter().position(|word| *word == unit).and_then(|at| words.get(at + 1).copied()))
}

/// The type of the job with this number.
pub(super) fn job_by_id<'a>(jobs: &'a str, id: &str) -> Option<&'a str> {
    let mut lines = jobs.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    lines.find_map(|words| words.iter().position(|word| *word == id).and_then(|at| words.get(at + 2).copied()))
}

/// A host that goes down has a job for `shutdown.target`.
fn job_among(jobs: &str) -> Job {
    if job_type(jobs, "shutdown.target") == Some("start") {
        return Job::Stop;
    }
    match job_type(jobs, OWN_UNIT) {
        None => Job::None,
        Some("stop") => Job::Stop,
        Some(_) => Job::Restart,
    }
}

pub fn main_process() -> Result<Main, String> {
    run(&["show", "--property=MainPID,ActiveState", OWN_UNIT]).map(|text| main_among(&text))
}

fn main_among(properties: &str) -> Main {
    let value = |key: &str| properties.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
    let pid = value("MainPID").filter(|pid| *pid != "0").unwrap_or_default();
    Main { pid: pid.to_owned(), live: is_live(value("ActiveState").unwrap_or_default()) }
}

pub fn is_live(active: &str) -> bool {
    matches!(active, "active" | "activating" | "reloading" | "refreshing")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    #[test]
    fn the_job_of_this_unit_is_found_among_all() {
        let jobs = "1203 nginx.service                  stop    waiting\n1202 hafailover.service             stop    running\n";
        assert_eq!(job_among(jobs), Job::Stop);
        assert_eq!(job_among("7 hafailover.service restart running\n"), Job::Restart);
        assert_eq!(
            job_among("7 not-hafailover.service stop running\n8 hafailover.service.d stop waiting\n"),
            Job::None
        );
        assert_eq!(job_among(""), Job::None);
        assert_eq!(job_among("No jobs running.\n"), Job::None);
    }

    #[test]
    fn a_host_that_goes_down_stops_this_unit_too() {
        let jobs = "90 hafailover.service restart waiting\n91 shutdown.target start waiting\n";
        assert_eq!(job_among(jobs), Job::Stop);
    }

    #[test]
    fn the_daemon_is_who_systemd_says_and_lives_while_its_unit_does() {
        assert_eq!(main_among("MainPID=412\nActiveState=active\n"), Main { pid: "412".into(), live: true });
        assert_eq!(main_among("ActiveState=deactivating\nMainPID=412\n"), Main { pid: "412".into(), live: false });
        assert_eq!(main_among("MainPID=0\nActiveState=inactive\n"), Main::default());
        assert_eq!(main_among(""), Main::default());
    }

    #[test]
    fn what_does_not_answer_is_not_waited_for_and_what_fails_says_so() {
        let begun = Instant::now();
        assert!(run_program("sleep", &["60"], Duration::from_millis(50)).unwrap_err().contains("did not answer"));
        assert!(begun.elapsed() < Duration::from_secs(30));
        assert!(run_program("false", &[], PATIENCE).unwrap_err().contains("exit status"));
        assert_eq!(run_program("echo", &["word"], PATIENCE), Ok("word\n".into()));
    }
}
