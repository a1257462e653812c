//! What is asked of systemd while there is no bus: one short run of `systemctl` for each question, which reaches systemd all the same.
//! What it does not say clearly is unknown. It must not know who asks, nor when the bus is asked instead.

use super::bus::{BusError, UnitState};
use super::systemctl;
use std::collections::BTreeMap;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;
use tokio::process::Command;
use tokio::sync::Semaphore;

/// systemd answers in milliseconds; a daemon-reload of a large host may take seconds. As long as a call over the bus may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// Hundreds of groups may ask in one moment, and the unit's `TasksMax=` is for all of its processes and threads.
const AT_ONCE: usize = 16;
static ROOM: Semaphore = Semaphore::const_new(AT_ONCE);
/// For what is asked of systemd itself: what a SIGTERM means is not told behind hundreds of units.
static ROOM_FOR_ITSELF: Semaphore = Semaphore::const_new(4);
/// Unit tests run on a developer's host, whose units are not theirs to touch.
const PROGRAM: &str = if cfg!(test) { "false" } else { "systemctl" };
/// A job may come and go between the look at units and the look at jobs.
const LOOKS: usize = 4;
const UNITS: &str = "/org/freedesktop/systemd1/unit/";

pub(super) async fn start(unit: &str) -> Result<(), BusError> {
    ask(&["start", "--no-block", "--quiet", "--job-mode=fail", "--", unit]).await.map(drop)
}

pub(super) async fn stop(unit: &str) -> Result<(), BusError> {
    ask(&["stop", "--no-block", "--quiet", "--job-mode=replace", "--", unit]).await.map(drop)
}

/// systemctl 252 insists on the bus for this one.
pub(super) async fn thaw(unit: &str) -> Result<(), BusError> {
    ask(&["thaw", "--", unit]).await.map(drop)
}

pub(super) async fn reset_failed(unit: &str) -> Result<(), BusError> {
    ask(&["reset-failed", "--", unit]).await.map(drop)
}

pub(super) async fn reload() -> Result<(), BusError> {
    ask(&["daemon-reload"]).await.map(drop)
}

pub(super) async fn reboot() -> Result<(), BusError> {
    ask(&["reboot", "--force"]).await.map(drop)
}

/// The state of every unit of `names`, in that order.
pub(super) async fn list(names: &[String]) -> Result<Vec<UnitState>, BusError> {
    for _ in 0..LOOKS {
        if let Some(states) = show(names).await?.states(names)? {
            return Ok(states);
        }
    }
    Err(BusError::Unreachable("systemctl does not tell what jobs are queued".into()))
}

/// One look at these units and at the jobs.
pub(super) async fn show(names: &[String]) -> Result<Shown, BusError> {
    let mut arguments = vec!["show", "--property=Id,LoadState,ActiveState,SubState,Job", "--"];
    arguments.extend(names.iter().map(String::as_str));
    let shown = ask(&arguments).await?;
    let queued = shown.lines().any(|line| line.strip_prefix("Job=").is_some_and(|id| !matches!(id, "" | "0")));
    let jobs = if queued { ask(&["list-jobs", "--no-legend", "--plain", "--full"]).await? } else { String::new() };
    Shown::read(names, &shown, jobs)
}

/// One property of a unit, as text; nothing where it has none of that name.
pub(super) async fn property(path: &str, name: &str) -> Result<Option<String>, BusError> {
    let unit = unit_of(path).ok_or_else(|| BusError::Unreachable(format!("{path} names no unit")))?;
    let shown = ask(&["show", &format!("--property={name}"), "--", &unit]).await?;
    Ok(value(&shown, name).map(str::to_owned))
}

/// One property of systemd itself.
pub(super) async fn manager_property(name: &str) -> Result<Option<String>, BusError> {
    let shown = run(&ROOM_FOR_ITSELF, PROGRAM, &["show", &format!("--property={name}")], PATIENCE).await?;
    Ok(value(&shown, name).map(str::to_owned))
}

/// The type of the job queued for the unit, if there is one.
pub(super) async fn job_of(unit: &str) -> Result<Option<String>, BusError> {
    let arguments = ["list-jobs", "--no-legend", "--plain", "--full"];
    let jobs = run(&ROOM_FOR_ITSELF, PROGRAM, &arguments, PATIENCE).await?;
    Ok(systemctl::job_type(&jobs, unit).map(str::to_owned))
}

async fn ask(arguments: &[&str]) -> Result<String, BusError> {
    run(&ROOM, PROGRAM, arguments, PATIENCE).await
}

/// `patience` is for the answer: each of those before it in `room` ends within the same.
async fn run(room: &Semaphore, program: &str, arguments: &[&str], patience: Duration) -> Result<String, BusError> {
    let _room = room.acquire().await.map_err(|_| BusError::Unreachable("no process is run any more".into()))?;
    let what = format!("{program} {}", arguments.join(" "));
    let mut command = Command::new(program);
    command.args(["--no-pager", "--no-ask-password"].iter().filter(|_| program == "systemctl")).args(arguments);
    command.env("LC_ALL", "C").env("SYSTEMD_COLORS", "0").env_remove("SYSTEMD_LOG_LEVEL");
    // Whoever gives up on the answer, or is given up, leaves no process behind.
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let unknown = |why: String| BusError::Unreachable(format!("{what}: {why}"));
    let child = command.spawn().map_err(|error| unknown(error.to_string()))?;
    let ended = tokio::time::timeout(patience, child.wait_with_output()).await;
    let output = match ended {
        Ok(Ok(output)) => output,
        Ok(Err(error)) => return Err(unknown(error.to_string())),
        Err(_) => return Err(unknown(format!("no answer within {patience:?}"))),
    };
    if output.status.success() {
        return String::from_utf8(output.stdout).map_err(|_| unknown("its answer is no text".into()));
    }
    Err(sort_failure(&what, output.status, &String::from_utf8_lossy(&output.stderr)))
}

/// Only what is known to be systemd's own answer counts as one; after everything else it is open what was done.
fn sort_failure(what: &str, status: ExitStatus, said: &str) -> BusError {
    let said = said.trim();
    let refused = |name: &str| {
        let name = format!("org.freedesktop.systemd1.{name}");
        BusError::Refused { name, text: said.lines().next().unwrap_or_default().to_owned() }
    };
    let ends = |end: &str| said.lines().any(|line| line.trim_end().trim_end_matches('.').ends_with(end));
    if ends(" not found") || ends(" not loaded") {
        return refused("NoSuchUnit");
    }
    // systemctl's own numbers for what systemd refused, and two refusals that have none.
    if matches!(status.code(), Some(2..=6)) || ends(" is masked") || ends(" has a bad unit file setting") {
        return refused("Refused");
    }
    BusError::Unreachable(format!("{what}: {status}: {said}"))
}

/// What `systemctl show` said of each unit, with the jobs that `list-jobs` told of.
#[derive(Debug)]
pub(super) struct Shown {
    blocks: BTreeMap<String, String>,
    jobs: String,
}

impl Shown {
    pub(super) fn read(names: &[String], shown: &str, jobs: String) -> Result<Shown, BusError> {
        let blocks: Vec<&str> = shown.trim_end().split("\n\n").collect();
        if blocks.len() != names.len() {
            return Err(unclear(format!("asked for {} units, told of {}", names.len(), blocks.len())));
        }
        let blocks = names.iter().cloned().zip(blocks.into_iter().map(str::to_owned)).collect();
        Ok(Shown { blocks, jobs })
    }

    /// The states of some of the units. Nothing where units and jobs do not fit together.
    pub(super) fn states(&self, names: &[String]) -> Result<Option<Vec<UnitState>>, BusError> {
        let mut states = Vec::new();
        for name in names {
            let block = self.blocks.get(name).ok_or_else(|| unclear(format!("nothing of {name}")))?;
            let field = |key: &str| {
                let found = value(block, key).filter(|value| !value.is_empty());
                found.ok_or_else(|| unclear(format!("no {key} of {name}"))).map(str::to_owned)
            };
            let id = value(block, "Job").ok_or_else(|| unclear(format!("no Job of {name}")))?;
            let job = match id {
                "" | "0" => None,
                id => match systemctl::job_by_id(&self.jobs, id) {
                    Some(kind) => Some(kind.to_owned()),
                    None => return Ok(None),
                },
            };
            let (load, active, sub) = (field("LoadState")?, field("ActiveState")?, field("SubState")?);
            states.push(UnitState { name: name.clone(), load, active, sub, path: path_of(&field("Id")?), job });
        }
        Ok(Some(states))
    }
}

fn unclear(why: String) -> BusError {
    BusError::Unreachable(format!("what systemctl shows cannot be read: {why}"))
}

fn value<'a>(shown: &'a str, key: &str) -> Option<&'a str> {
    shown.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='))
}

/// The words of a list as `systemctl show` prints it: apart by spaces, and in quotes where a word holds a backslash or the like.
pub(super) fn words(list: &str) -> Vec<String> {
    let word = |word: &str| {
        let inner = word.strip_prefix("$'").and_then(|word| word.strip_suffix('\''));
        let inner = inner.or_else(|| word.strip_prefix('"').and_then(|word| word.strip_suffix('"')));
        let Some(inner) = inner else { return word.to_owned() };
        let mut plain = String::new();
        let mut letters = inner.chars();
        while let Some(letter) = letters.next() {
            plain.extend(if letter == '\\' { letters.next() } else { Some(letter) });
        }
        plain
    };
    list.split_ascii_whitespace().map(word).collect()
}

/// The object path that the bus has for a unit, so that what was listed one way can be asked about the other.
pub(super) fn path_of(unit: &str) -> String {
    let mut path = UNITS.to_owned();
    for (index, byte) in unit.bytes().enumerate() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' => path.push(char::from(byte)),
            b'0'..=b'9' if index > 0 => path.push(char::from(byte)),
            byte => path.push_str(&format!("_{byte:02x}")),
        }
    }
    path
}

fn unit_of(path: &str) -> Option<String> {
    let mut bytes = path.strip_prefix(UNITS)?.bytes();
    let mut unit = Vec::new();
    while let Some(byte) = bytes.next() {
        unit.push(match byte {
            b'_' => {
                let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
                u8::try_from(digit(bytes.next())? * 16 + digit(bytes.next())?).ok()?
            }
            byte => byte,
        });
    }
    String::from_utf8(unit).ok().filter(|unit| !unit.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::held::tests::TempPlaces;
    use std::os::unix::process::ExitStatusExt;
    use std::time::Instant;
    use tokio::task::JoinSet;

    const SHOWN: &str = "Id=nginx.service\nLoadState=loaded\nActiveState=activating\nSubState=start-pre\nJob=76\n\n\
                         Id=hafailover-group@web.target\nLoadState=loaded\nActiveState=active\nSubState=active\nJob=\n";
    const JOBS: &str = "75 a.service stop waiting\n76 nginx.service start running\n";

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    fn states(names: &[String], shown: &str, jobs: &str) -> Result<Option<Vec<UnitState>>, BusError> {
        Shown::read(names, shown, jobs.to_owned())?.states(names)
    }

    #[test]
    fn states_and_jobs_are_read_as_systemctl_prints_them() {
        let asked = names(&["nginx.service", "hafailover-group@web.target"]);
        let found = states(&asked, SHOWN, JOBS).unwrap().unwrap();
        assert_eq!((found[0].active.as_str(), found[0].job.as_deref()), ("activating", Some("start")));
        assert_eq!((found[1].active.as_str(), found[1].job.as_deref()), ("active", None));
        assert_eq!(found[1].path, "/org/freedesktop/systemd1/unit/hafailover_2dgroup_40web_2etarget");
    }

    #[test]
    fn what_does_not_fit_together_is_not_known() {
        let asked = names(&["nginx.service", "hafailover-group@web.target"]);
        assert_eq!(states(&asked, SHOWN, "75 a.service stop waiting\n"), Ok(None), "its job was over meanwhile");
        for (asked, shown) in [
            (&asked[..1], SHOWN.to_owned()),
            (&asked[..], String::new()),
            (&asked[..], SHOWN.replace("ActiveState=active\n", "ActiveState=\n")),
            (&asked[..], SHOWN.replace("Job=\n", "")),
        ] {
            assert!(matches!(states(asked, &shown, JOBS), Err(BusError::Unreachable(_))), "{shown}");
        }
    }

    #[test]
    fn paths_are_those_of_the_bus_there_and_back() {
        for unit in ["nginx.service", "0x.mount", "dev-disk-by\\x2dlabel-a.swap", "a@b_c.target"] {
            assert_eq!(unit_of(&path_of(unit)).as_deref(), Some(unit));
        }
        assert_eq!(path_of("0x.mount"), "/org/freedesktop/systemd1/unit/_30x_2emount");
        for bad in [
            "",
            "/org/freedesktop/systemd1",
            UNITS,
            "/org/freedesktop/systemd1/unit/a_2",
            "/org/freedesktop/systemd1/unit/_zz",
        ] {
            assert_eq!(unit_of(bad), None, "{bad}");
        }
    }

    #[test]
    fn lists_may_hold_quoted_words() {
        assert_eq!(
            words("a.service \"a\\\\x2db.service\" $'c\\'d.service'"),
            ["a.service", "a\\x2db.service", "c'd.service"]
        );
        assert_eq!(words(""), Vec::<String>::new());
    }

    #[test]
    fn only_systemds_own_answer_is_a_refusal() {
        let failure = |code: i32, said: &str| sort_failure("systemctl", ExitStatus::from_raw(code << 8), said);
        assert!(failure(5, "Failed to start nope.service: Unit nope.service not found.\n").is_no_such_unit());
        assert!(
            failure(1, "Failed to reset failed state of unit nope.service: Unit nope.service not loaded.")
                .is_no_such_unit()
        );
        assert!(matches!(failure(1, "Failed to start a.service: Unit a.service is masked."), BusError::Refused { .. }));
        assert!(matches!(failure(4, "Transaction is destructive"), BusError::Refused { .. }));
        for (code, said) in [(1, "Failed to connect to bus: Connection refused"), (1, ""), (0x7f, "x")] {
            assert!(matches!(failure(code, said), BusError::Unreachable(_)), "{said}");
        }
        assert!(matches!(sort_failure("systemctl", ExitStatus::from_raw(9), ""), BusError::Unreachable(_)), "killed");
    }

    #[tokio::test]
    async fn what_does_not_answer_is_given_up_and_what_fails_says_so() {
        let begun = Instant::now();
        let late = run(&ROOM, "sleep", &["60"], Duration::from_millis(50)).await;
        assert!(matches!(&late, Err(BusError::Unreachable(why)) if why.contains("no answer within")), "{late:?}");
        assert!(begun.elapsed() < Duration::from_secs(30));
        assert_eq!(run(&ROOM, "echo", &["word"], PATIENCE).await, Ok("word\n".into()));
        assert!(matches!(run(&ROOM, "/nonexistent", &[], PATIENCE).await, Err(BusError::Unreachable(_))));
    }

    #[tokio::test]
    async fn a_hundred_questions_at_once_are_few_processes_and_all_are_answered() {
        let places = TempPlaces::new("at-once");
        // Each counts those that run beside it.
        let script = "cd \"$0\" && touch r.$$ && set -- r.* && echo $# && sleep 0.02 && rm r.$$";
        let mut questions = JoinSet::new();
        for _ in 0..100 {
            let run_in = places.run.display().to_string();
            questions.spawn(async move { run(&ROOM, "sh", &["-c", script, &run_in], 6 * PATIENCE).await });
        }
        let counts = questions.join_all().await.into_iter().map(|answer| answer.unwrap().trim().parse::<usize>());
        let most = counts.map(Result::unwrap).max().unwrap();
        assert!((2..=AT_ONCE).contains(&most), "{most}");
    }
}
